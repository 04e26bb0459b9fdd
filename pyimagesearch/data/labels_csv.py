"""labels.csv, the table of a multi-label dataset: the group, the split and the labels of each photo."""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from pyimagesearch import config
from pyimagesearch.runtime.errors import UserError, one_line

LABELS_CSV = "labels.csv"
PHOTOS_FOLDER = "images"  # beside the table
FIRST_COLUMNS = ["image", "group", "split"]  # then one column per label: 0, 1, or empty where it is not known
UNKNOWN = -1  # such a label in memory; it counts neither in the loss nor in any figure
FOLD = re.compile(r"fold-([1-9][0-9]*)")
_, VALIDATION, EVALUATION = config.SPLITS


@dataclass
class LabelTable:
    """The photos of a multi-label dataset, in the order of the file."""

    labels: list[str]  # their names
    images: list[str]  # paths below PHOTOS_FOLDER, with "/" as separator
    groups: list[str]  # what must stay in one split, such as the patient
    splits: list[str]  # "training", "validation" or "evaluation"; with folds "fold-1", "fold-2", ... or "evaluation"
    values: np.ndarray  # int8 of 0, 1 and UNKNOWN, shape (photos, labels)

    @property
    def folds(self) -> int:
        """The number of folds; 0 without folds."""
        return sum(FOLD.fullmatch(name) is not None for name in set(self.splits))

    @property
    def split_names(self) -> list[str]:
        """The three splits; or with folds "fold-1", "fold-2", ... and "evaluation"."""
        return [*(f"fold-{fold + 1}" for fold in range(self.folds)), EVALUATION] if self.folds else list(config.SPLITS)

    def rows(self, split: str, fold: int | None = None) -> np.ndarray:
        """The rows of a split, int64. With a fold, that fold is validation and all other folds are training."""
        splits = np.array(self.splits)
        if fold is None or split == EVALUATION:
            return np.flatnonzero(splits == split)
        held_out = splits == f"fold-{fold}"
        return np.flatnonzero(held_out if split == VALIDATION else ~held_out & (splits != EVALUATION))

    def parted_groups(self) -> list[str]:
        """The groups with photos in more than one split, sorted; there must be none."""
        first: dict[str, str] = {}
        photos = zip(self.groups, self.splits, strict=True)
        return sorted({group for group, split in photos if first.setdefault(group, split) != split})

    def counts(self) -> list[list[str]]:
        """The cells of a table with a column per split: its photos, its groups, and its photos with each label."""
        splits, groups = np.array(self.splits), np.array(self.groups)
        masks = [splits == name for name in self.split_names]
        rows = [["", *self.split_names], ["photos", *(str(mask.sum()) for mask in masks)]]
        rows.append(["groups", *(str(len(set(groups[mask]))) for mask in masks)])
        for name, has in zip(self.labels, self.values.T, strict=True):
            rows.append([one_line(name), *(str((has[mask] == 1).sum()) for mask in masks)])
        return rows

    def text(self) -> str:
        """The content of the file."""
        rows = zip(self.images, self.groups, self.splits, self.values.tolist(), strict=True)
        cells = [[*first, *("" if value == UNKNOWN else value for value in values)] for *first, values in rows]
        return csv_text([*FIRST_COLUMNS, *self.labels], cells)


def read_label_table(folder: str | os.PathLike) -> LabelTable:
    """Read and check the table of the multi-label dataset in `folder`."""
    path = os.path.join(folder, LABELS_CSV)
    header, rows = read_csv(path, ",")
    first, labels = header[: len(FIRST_COLUMNS)], header[len(FIRST_COLUMNS) :]
    if first != FIRST_COLUMNS or not labels or len(set(labels)) < len(labels):
        raise UserError(
            f"{path} has the columns {', '.join(header)}; expected {', '.join(FIRST_COLUMNS)} and then one per label"
        )
    for line, row in rows:
        if len(row) != len(header) or not {*row[len(first) :]} <= {"0", "1", ""}:
            raise UserError(
                f"{path}, line {line}: expected {', '.join(first)} and {len(labels)} labels of 0 or 1, or empty"
            )
        if row[2] not in config.SPLITS and not FOLD.fullmatch(row[2]):
            raise UserError(f"{path}, line {line}: no split {row[2]!r}; expected {', '.join(config.SPLITS)} or fold-K")
    images, groups, splits = ([row[column] for _, row in rows] for column in range(3))
    values = np.array([[cell or str(UNKNOWN) for cell in row[len(first) :]] for _, row in rows], np.int8)
    table = LabelTable(labels, images, groups, splits, values)
    if parted := table.parted_groups():
        raise UserError(f"{path} has the group {parted[0]!r} in two splits; prepare the dataset again")
    expected = table.split_names
    if wrong := sorted(set(expected) ^ set(splits)):
        fault = "is missing" if wrong[0] in expected else "is not one of them"
        raise UserError(f"{path}: expected photos in each of {', '.join(expected)}; {wrong[0]} {fault}")
    return table


def csv_text(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table as CSV. Undecodable bytes of file names are escaped."""
    text = io.StringIO()
    # carriage returns are not quoted by default, though they end a line when it is read
    returns = any("\r" in str(cell) for row in rows for cell in row)
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerows([header, *rows])
    return text.getvalue().encode("utf-8", "backslashreplace").decode()


def read_csv(path: str | os.PathLike, delimiter: str | None = None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV file, and its other rows, each with the number of its last line.

    UTF-8, with or without a byte order mark; empty lines are skipped. Without a `delimiter` it is the comma, semicolon
    or tab that csv.Sniffer finds.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = delimiter or _sniff("".join(islice(file, 20))[: 1 << 16])
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected a CSV file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV: {error}") from None
    if len(rows) < 2:
        raise UserError(f"{path} has no row{' but its header' if rows else ''}; expected a header, and a row per photo")
    return rows[0][1], rows[1:]


def _sniff(sample: str) -> str:
    try:
        return csv.Sniffer().sniff(sample, delimiters=",;\t").delimiter
    except csv.Error:  # a single column, for example
        return ","
