"""A table as a source: a CSV file in which each row names a photo and says of each label, 0 or 1, whether it has it."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

from pyimagesearch.data import labels_csv
from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.data.labels_csv import PHOTOS_FOLDER, LabelTable, read_csv
from pyimagesearch.preparation.source import Kind, Photo, Rejected, Source, Split, hidden, look_at, one_place
from pyimagesearch.preparation.splitting import SplitRates, assign_groups, check_rates
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "a table of labels",
    "a CSV file with an id, columns of 0 and 1, and perhaps a patient for each photo",
    "add rows, and the photos that they name to the folder of --images",
)
Line = tuple[int, list[str]]  # its number in the file, and its cells
VALUES = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # as pandas writes them, in any case


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are meant. `labels` None: all others that hold nothing but 0 and 1; `group` None: each
    photo is a group of its own."""

    id: str
    labels: Sequence[str] | None = None
    group: str | None = None


@dataclass
class TableSource(Source):
    """The photos that a table names. `classes` are the labels; the one split is the folder of all photos.

    Attributes
    ----------
    table : the path of the CSV file
    rows : for each photo, by its target, its group and its values
    """

    table: str = ""
    columns: Columns = Columns("")
    sides: SplitRates = field(default_factory=SplitRates)
    rows: dict[str, tuple[str, list[int]]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return self.table

    @property
    def settings(self) -> dict:
        return {"group column": self.columns.group, **asdict(self.sides)}

    def lists(self) -> dict[str, str]:
        return {labels_csv.LABELS_CSV: self.labelled().text()}

    def labelled(self) -> LabelTable:
        """The table of the dataset, of the photos that are left, each with its side.

        Raises
        ------
        UserError : there are fewer groups than sides
        """
        targets = [photo.target for photo in self.splits[0].photos]
        groups = [self.rows[target][0] for target in targets]
        values = np.array([self.rows[target][1] for target in targets], np.uint8).reshape(-1, len(self.classes))
        images = [target.replace(os.sep, "/") for target in targets]
        return LabelTable(self.classes, images, groups, assign_groups(groups, self.sides, self.table), values)


def read(path: str | os.PathLike, images: str | os.PathLike, columns: Columns, sides: SplitRates) -> TableSource:
    """Read the table at `path` and find its photos in the folder `images`; no photo is opened.

    A photo is the file that an id names, as it is or without its suffix. Rows that cannot be used are rejected.

    Raises
    ------
    UserError : the table cannot be read, lacks a column, or no column can be a label; `images` is no folder; the sides
        leave nothing for training
    """
    check_rates(sides.rates)
    path, images = os.fspath(path), os.fspath(images)
    if not os.path.isdir(images):
        raise UserError(f"{images} is not a folder; --images names the one in which the photos of {path} lie")
    header, lines = read_csv(path)
    header = [name.strip() for name in header]
    lines = [(line, [cell.strip() for cell in cells]) for line, cells in lines]
    lines = [(line, cells) for line, cells in lines if any(cells)]  # spreadsheets end in rows of commas
    _check_columns(header, columns, path)
    labels, others = _labels(header, lines, columns, path)
    split = Split(PHOTOS_FOLDER, images, len(lines), [], [])
    source = TableSource(images, labels, [split], KIND, table=path, columns=columns, sides=sides)
    if others:
        source.notes.append(f"columns that are no labels: {', '.join(others)}")
    if columns.group is None:
        source.notes.append("no --group-column: each photo is a group of its own")
    _take_rows(source, header, lines)
    return source


def _check_columns(header: list[str], columns: Columns, path: str) -> None:
    there = f"{path} has the columns {', '.join(map(repr, header))}"
    wanted = [columns.id, *(columns.labels or ()), *([columns.group] if columns.group is not None else [])]
    if twice := [name for name, count in Counter(wanted).items() if count > 1]:
        raise UserError(f"the column {twice[0]!r} is named twice; id, group and each label are columns of their own")
    if absent := [name for name in wanted if name not in header]:
        raise UserError(f"{there}; expected {', '.join(map(repr, absent))} too")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise UserError(f"{there}: {twice[0]!r} twice")


def _labels(header: list[str], lines: Sequence[Line], columns: Columns, path: str) -> tuple[list[str], list[str]]:
    """The names of the labels, and of the columns that are none, those with why that nobody named."""
    if columns.labels is not None:
        named = {columns.id, columns.group, *columns.labels}
        return list(columns.labels), [name for name in header if name not in named]
    labels, others = [], []
    for column, name in enumerate(header):
        if name in (columns.id, columns.group):
            continue
        cells = ((line, row[column]) for line, row in lines if column < len(row))
        if odd := next(((line, cell) for line, cell in cells if cell.lower() not in VALUES or not name), None):
            others.append(f"{name} (line {odd[0]}: {odd[1]!r})")
        else:
            labels.append(name)
    if not labels:
        raise UserError(
            f"{path} has no column of 0 and 1 alone besides {columns.id}: {', '.join(others) or 'no other at all'}; "
            "name the labels with --label-columns"
        )
    return labels, others


class _Row(NamedTuple):
    line: int
    photo: Photo
    group: str
    values: list[int]


def _take_rows(source: TableSource, header: list[str], lines: Sequence[Line]) -> None:
    """Let each row become a photo of `source`, or be rejected."""
    files = _Files(source.folder)
    usable: dict[str, list[_Row]] = {}  # by photo
    for line, cells in lines:
        row, fault = _row(source, files, header, line, cells)
        if row:
            usable.setdefault(one_place(row.photo.target), []).append(row)
        else:
            name = dict(zip(header, cells, strict=False)).get(source.columns.id, "")
            _reject(source, name, line, fault)
    for rows in usable.values():
        first = rows[0]
        if all(row[2:] == first[2:] for row in rows):
            source.splits[0].photos.append(first.photo)
            source.rows[first.photo.target] = first.group, first.values
            repeated, fault = rows[1:], f"the same as line {first.line}"
        else:
            repeated, fault = rows, f"lines {', '.join(str(row.line) for row in rows)} disagree"
        for row in repeated:
            _reject(source, row.photo.target, row.line, fault)
    if unnamed := len(files.paths) - len(source.rows):
        source.notes.append(f"{unnamed} of the {len(files.paths)} photos in {source.folder} have no usable row")


def _reject(source: TableSource, name: str, line: int, fault: str) -> None:
    path = os.path.join(source.folder, name)
    source.splits[0].rejected.append(Rejected(path, f"{os.path.basename(source.table)}, line {line}: {fault}"))


def _row(
    source: TableSource, files: "_Files", header: list[str], line: int, cells: list[str]
) -> tuple[_Row | None, str | None]:
    """The row, and the reason why it cannot be used: one of them is None."""
    columns = source.columns
    if len(cells) != len(header):
        return None, f"{len(cells)} columns, where the header has {len(header)}"
    row = dict(zip(header, cells, strict=True))
    for name in (columns.id, columns.group):
        if name is not None and not row[name]:
            return None, f"{name} is empty"
    for name in source.classes:
        if row[name].lower() not in VALUES:
            return None, f"{name} is {row[name]!r}, expected 0 or 1"
    photo, fault = files.find(row[columns.id])
    if fault:
        return None, fault
    group = photo.target if columns.group is None else row[columns.group]
    return _Row(line, photo, group, [VALUES[row[name].lower()] for name in source.classes]), None


class _Files:
    """The photos in a folder, to be found by their path in it, with its suffix or without."""

    def __init__(self, folder: str):
        self.folder = folder
        self.paths: set[str] = set()
        self.by_stem: dict[str, list[str]] = {}
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not hidden(name)]
            for name in names:
                stem, suffix = os.path.splitext(os.path.relpath(os.path.join(parent, name), folder))
                if suffix.lower() in EXTENSIONS and not hidden(name):
                    self.paths.add(stem + suffix)
                    self.by_stem.setdefault(stem, []).append(stem + suffix)

    def find(self, name: str) -> tuple[Photo | None, str | None]:
        """The photo that `name` is, and the reason why it is none: one of them is None."""
        name = name.replace("/", os.sep)
        found = [name] if name in self.paths else sorted(self.by_stem.get(name, []))
        if len(found) != 1:
            return None, f"{' and '.join(found)} have that name" if found else "no photo of that name"
        return look_at(os.path.join(self.folder, found[0]), found[0], 0)


def unused_labels(source: TableSource) -> list[str]:
    """The labels that no photo has.

    Raises
    ------
    UserError : there are fewer groups than sides
    """
    values = source.labelled().values
    return [name for name, positives in zip(source.classes, values.sum(axis=0), strict=True) if not positives]


def count_rows_table(source: TableSource) -> str:
    """The photos and the groups of each side (column), how many of its photos have each label, and that no group is on
    two sides.

    Raises
    ------
    UserError : a group is on two sides
    """
    made = source.labelled()
    if parted := made.parted_groups():
        raise UserError(f"the group {parted[0]} is on two sides")
    of = "" if source.columns.group is None else f" of {one_line(source.columns.group)}"
    checked = f"checked: none of the {len(set(made.groups))} groups{of} is on two sides"
    return f"{terminal.table(made.counts())}\n[INFO] {checked}"
