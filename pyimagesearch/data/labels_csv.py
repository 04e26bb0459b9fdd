"""labels.csv, the table of a multi-label dataset: each photo's group and split, and which labels it has."""

import csv
import io
import os
import re
from dataclasses import dataclass

import numpy as np

from pyimagesearch import config
from pyimagesearch.runtime.errors import UserError, one_line

LABELS_CSV = "labels.csv"
PHOTOS_FOLDER = "images"  # the folder of the photos, beside the table
FIRST_COLUMNS = ["image", "group", "split"]  # after them one column of 0 and 1 a label
FOLD = re.compile(r"fold-([1-9][0-9]*)")
_, VALIDATION, EVALUATION = config.SPLITS


@dataclass
class LabelTable:
    """The photos of a multi-label dataset, in the order of the file.

    Attributes
    ----------
    labels : their names
    images : the paths of the photos below the folder of photos, with "/" between their parts
    groups : for each photo what must not be parted, a patient say
    splits : for each photo "training", "validation" or "evaluation"; where there are folds "fold-1", "fold-2", ... or
        "evaluation"
    values : uint8 of 0 and 1, of shape (photos, labels)
    """

    labels: list[str]
    images: list[str]
    groups: list[str]
    splits: list[str]
    values: np.ndarray

    @property
    def folds(self) -> int:
        """How many there are; 0 where there are splits instead."""
        return sum(FOLD.fullmatch(name) is not None for name in set(self.splits))

    @property
    def sides(self) -> list[str]:
        """The names of the splits, or of the folds and "evaluation", in their order."""
        return [*(f"fold-{fold + 1}" for fold in range(self.folds)), EVALUATION] if self.folds else list(config.SPLITS)

    def rows(self, split: str, fold: int | None = None) -> np.ndarray:
        """The rows of a split, int64. With `fold` k validation is fold k, and training all folds but k."""
        splits = np.array(self.splits)
        if fold is None or split == EVALUATION:
            return np.flatnonzero(splits == split)
        held_out = splits == f"fold-{fold}"
        return np.flatnonzero(held_out if split == VALIDATION else ~held_out & (splits != EVALUATION))

    def parted_groups(self) -> list[str]:
        """The groups that are on two sides, sorted: there must be none."""
        sides: dict[str, str] = {}
        photos = zip(self.groups, self.splits, strict=True)
        return sorted({group for group, side in photos if sides.setdefault(group, side) != side})

    def counts(self) -> list[list[str]]:
        """The rows of a table with a column a side: its photos, its groups, and its photos that have each label."""
        splits, groups = np.array(self.splits), np.array(self.groups)
        sides = [splits == side for side in self.sides]
        return [
            ["", *self.sides],
            ["photos", *(str(side.sum()) for side in sides)],
            ["groups", *(str(len(set(groups[side]))) for side in sides)],
            *(
                [one_line(name), *(str(has[side].sum()) for side in sides)]
                for name, has in zip(self.labels, self.values.T, strict=True)
            ),
        ]

    def text(self) -> str:
        """What the file holds."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*FIRST_COLUMNS, *self.labels])
        for *first, values in zip(self.images, self.groups, self.splits, self.values.tolist(), strict=True):
            writer.writerow([*first, *values])
        return text.getvalue()


def read_label_table(folder: str | os.PathLike) -> LabelTable:
    """The table of the multi-label dataset in `folder`, checked.

    Raises
    ------
    UserError : it cannot be read, is no such table, lacks a split, or has a group on two sides
    """
    path = os.path.join(folder, LABELS_CSV)
    header, rows = read_csv(path, ",")
    first, labels = header[: len(FIRST_COLUMNS)], header[len(FIRST_COLUMNS) :]
    if first != FIRST_COLUMNS or not labels or len(set(labels)) < len(labels):
        raise UserError(
            f"{path} has the columns {', '.join(header)}; expected {', '.join(FIRST_COLUMNS)} and then one a label"
        )
    for line, row in rows:
        if len(row) != len(header) or not {*row[len(first) :]} <= {"0", "1"}:
            raise UserError(f"{path}, line {line}: expected {', '.join(first)} and {len(labels)} labels of 0 or 1")
        if row[2] not in config.SPLITS and not FOLD.fullmatch(row[2]):
            raise UserError(f"{path}, line {line}: no split {row[2]!r}; expected {', '.join(config.SPLITS)} or fold-K")
    images, groups, splits = ([row[column] for _, row in rows] for column in range(3))
    table = LabelTable(labels, images, groups, splits, np.array([row[len(first) :] for _, row in rows], np.uint8))
    if parted := table.parted_groups():
        raise UserError(f"{path} has the group {parted[0]!r} in two splits; prepare the dataset again")
    if differing := sorted(set(table.sides) ^ set(splits)):
        raise UserError(f"{path}: expected photos in each of {', '.join(table.sides)}; {differing[0]} is amiss")
    return table


def read_csv(path: str | os.PathLike, delimiter: str | None = None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV file, and its other rows, each with the number of the line on which it ends.

    UTF-8, with a byte order mark or without; empty lines are passed over.

    delimiter : None takes a comma, semicolon or tab, whichever the header has most of

    Raises
    ------
    UserError : the file cannot be read or is not CSV, or has no row but the header
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = delimiter or max(",;\t", key=file.readline().count)
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
        raise UserError(f"{path} has no row{' but its header' if rows else ''}; expected a header, and a row a photo")
    return rows[0][1], rows[1:]
