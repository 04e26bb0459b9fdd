"""A CSV file as source: each row names a photo and says for each label, 0 or 1, whether the photo has it."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.data.labels_csv import LABELS_CSV, PHOTOS_FOLDER, LabelTable, read_csv
from pyimagesearch.preparation.source import Kind, Source, Split, Unusable, look_at, one_place, walk_photos
from pyimagesearch.preparation.splitting import SplitRates, assign_groups, check_rates
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "a table of labels",
    "a CSV file with an id, columns of 0 and 1, and perhaps a patient for each photo",
    "add rows, and the photos that they name to the folder of --images",
    has_splits=False,
)
VALUES = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # as pandas writes them, in any case


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by name."""

    id: str
    labels: Sequence[str] | None = None  # None: all other columns of only 0 and 1
    group: str | None = None  # None: each photo is a group


@dataclass
class TableSource(Source):
    """The photos that a table names. `classes` are the labels; the one split is the folder of all photos."""

    table_path: str = ""
    columns: Columns = Columns("")
    rates: SplitRates = field(default_factory=SplitRates)
    rows: dict[str, tuple[str, list[int]]] = field(default_factory=dict)  # by target: group and values

    @property
    def origin(self) -> str:
        return self.table_path

    @property
    def settings(self) -> dict:
        return {"group column": self.columns.group, **asdict(self.rates)}

    def texts(self) -> dict[str, str]:
        return {LABELS_CSV: self.label_table().text()}

    def check_complete(self) -> list[str]:
        values = self.label_table().values
        unused = [name for name, positives in zip(self.classes, values.sum(axis=0), strict=True) if not positives]
        return [f"no split has a photo of: {', '.join(map(one_line, unused))}"] * bool(unused)

    def table(self) -> str:
        made = self.label_table()
        if parted := made.parted_groups():
            raise UserError(f"the group {parted[0]} is in two splits")
        of = "" if self.columns.group is None else f" of {one_line(self.columns.group)}"
        checked = f"checked: none of the {len(set(made.groups))} groups{of} is in two splits"
        return f"{terminal.table(made.counts())}\n[INFO] {checked}"

    def label_table(self) -> LabelTable:
        """The labels.csv of the dataset: the photos that are left, each with its split or fold."""
        targets = [photo.target for photo in self.splits[0].photos]
        groups = [self.rows[target][0] for target in targets]
        values = np.array([self.rows[target][1] for target in targets], np.uint8).reshape(-1, len(self.classes))
        images = [target.replace(os.sep, "/") for target in targets]
        return LabelTable(self.classes, images, groups, assign_groups(groups, self.rates, self.table_path), values)


def read(path: str | os.PathLike, images: str | os.PathLike, columns: Columns, rates: SplitRates) -> TableSource:
    """Read the table at `path` and find its photos in the folder `images`; no photo is opened."""
    check_rates(rates.shares)
    path, images = os.fspath(path), os.fspath(images)
    if not os.path.isdir(images):
        raise UserError(f"{images} is not a folder; --images names the folder that holds the photos of {path}")
    header, lines = read_csv(path)
    header = [name.strip() for name in header]
    lines = [(line, [cell.strip() for cell in cells]) for line, cells in lines]
    lines = [(line, cells) for line, cells in lines if any(cells)]  # spreadsheets may end with rows of commas
    _check_columns(header, columns, path)
    labels, others = _labels(header, lines, columns, path)
    split = Split(PHOTOS_FOLDER, images, len(lines))
    source = TableSource(images, labels, [split], KIND, table_path=path, columns=columns, rates=rates)
    if others:
        source.notes.append(f"columns that are no labels: {', '.join(others)}")
    if columns.group is None:
        source.notes.append("no --group-column: each photo is a group of its own")
    _add_photos(source, header, lines)
    return source


def _check_columns(header: list[str], columns: Columns, path: str) -> None:
    found = f"{path} has the columns {', '.join(map(repr, header))}"
    wanted = [columns.id, *(columns.labels or ()), *([columns.group] if columns.group is not None else [])]
    if twice := [name for name, count in Counter(wanted).items() if count > 1]:
        raise UserError(f"the column {twice[0]!r} is named twice; id, group and each label are columns of their own")
    if absent := [name for name in wanted if name not in header]:
        raise UserError(f"{found}; expected {', '.join(map(repr, absent))} too")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise UserError(f"{found}: {twice[0]!r} twice")


def _labels(header: list[str], lines: list[tuple[int, list[str]]], columns: Columns, path: str) -> tuple[list, list]:
    """The names of the labels, and those of the other columns, with the first value that makes each no label."""
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
            f"{path} has no column of only 0 and 1 besides {columns.id}: {', '.join(others) or 'no other at all'}; "
            "name the labels with --label-columns"
        )
    return labels, others


def _add_photos(source: TableSource, header: list[str], lines: list[tuple[int, list[str]]]) -> None:
    """Make each row a photo of `source`, or reject it."""
    (split,), name_of_table = source.splits, os.path.basename(source.table_path)
    files = sorted(os.path.relpath(path, source.folder) for path in walk_photos(source.folder, EXTENSIONS))
    named: dict[str, list[str]] = {}  # the files that an id may mean
    for path in files:
        named.setdefault(os.path.splitext(path)[0], []).append(path)
    named |= {path: [path] for path in files}
    usable: dict[str, list[tuple]] = {}  # by photo: (line, photo, (group, values))
    for line, cells in lines:
        name = dict(zip(header, cells, strict=False)).get(source.columns.id, "")
        with split.rejecting(os.path.join(source.folder, name), f"{name_of_table}, line {line}: "):
            photo, content = _parse_row(source, named, header, cells)
            usable.setdefault(one_place(photo.target), []).append((line, photo, content))
    for rows in usable.values():
        first_line, first, content = rows[0]
        repeated, fault = rows, f"lines {', '.join(str(line) for line, _, _ in rows)} disagree"
        if all(other == content for _, _, other in rows):
            split.photos.append(first)
            source.rows[first.target] = content
            repeated, fault = rows[1:], f"the same as line {first_line}"
        for line, photo, _ in repeated:
            split.reject(os.path.join(source.folder, photo.target), f"{name_of_table}, line {line}: {fault}")
    if unnamed := len(files) - len(source.rows):
        source.notes.append(f"{unnamed} of the {len(files)} photos in {source.folder} have no usable row")


def _parse_row(source: TableSource, named: dict[str, list[str]], header: list[str], cells: list[str]) -> tuple:
    """The photo of a row, and (group, values)."""
    columns = source.columns
    if len(cells) != len(header):
        raise Unusable(f"{len(cells)} columns, where the header has {len(header)}")
    row = dict(zip(header, cells, strict=True))
    for name in (columns.id, columns.group):
        if name is not None and not row[name]:
            raise Unusable(f"{name} is empty")
    for name in source.classes:
        if row[name].lower() not in VALUES:
            raise Unusable(f"{name} is {row[name]!r}, expected 0 or 1")
    found = named.get(row[columns.id].replace("/", os.sep), [])
    if len(found) != 1:
        raise Unusable(f"{' and '.join(found)} have that name" if found else "no photo of that name")
    photo = look_at(os.path.join(source.folder, found[0]), found[0], 0)
    group = photo.target if columns.group is None else row[columns.group]
    return photo, (group, [VALUES[row[name].lower()] for name in source.classes])
