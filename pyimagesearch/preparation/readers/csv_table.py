"""A CSV file as source: each row names a photo, and its class or, in columns of 0 and 1, its labels.

What the columns hold decides which of them is what, unless flags name them. Two or more columns of 0 and 1 are labels,
of which a photo may have several. Otherwise one column is the class of each photo: a single column of 0 and 1 makes two
classes.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from pyimagesearch.data.copies import equal_files
from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.data.labels_csv import LABELS_CSV, PHOTOS_FOLDER, UNKNOWN, LabelTable, read_csv
from pyimagesearch.preparation.readers import text_lists
from pyimagesearch.preparation.readers.class_names import read_classes
from pyimagesearch.preparation.source import (
    RATE_FLAGS,
    Kind,
    Photo,
    Source,
    Split,
    Unusable,
    commonest_reason,
    look_at,
    one_place,
    walk_photos,
    without_photos,
)
from pyimagesearch.preparation.splitting import SplitRates, assign_groups, check_rates, joined
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line

SEVERAL = Kind(
    "a table of labels",
    "a CSV file with an id, columns of 0 and 1, and perhaps a patient for each photo",
    "add rows, or name the folder of their photos with --images",
    has_splits=False,
)
SINGLE = SEVERAL._replace(
    name="a table of classes", layout="a CSV file with an id and a class for each photo", has_splits=True
)
# cells of labels, as pandas writes them, in any case
ZERO, ONE, BLANK, MINUS_ONE = ("0", "0.0", "false"), ("1", "1.0", "true"), ("", "nan"), ("-1", "-1.0")
VALUES = {**dict.fromkeys(ZERO, 0), **dict.fromkeys(ONE, 1)}
LABEL_CELLS = {*VALUES, *BLANK, *MINUS_ONE}
UNCERTAIN = {"ignore": UNKNOWN, "zero": 0, "one": 1}  # what --uncertain makes of -1


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by name; None: recognised by what they hold."""

    id: str | None = None
    labels: Sequence[str] | None = None  # of 0 and 1
    group: str | None = None  # None: each photo is a group
    label: str | None = None  # of classes; also by number, from 1 on
    uncertain: str | None = None  # of UNCERTAIN; None: "ignore", if some label is 0


@dataclass
class TableSource(Source):
    """The photos that a table names."""

    table_path: str = ""
    columns: Columns = Columns()
    rates: SplitRates = field(default_factory=SplitRates)

    @property
    def origin(self) -> str:
        return self.packed or self.table_path

    @property
    def settings(self) -> dict:
        groups = {"group column": self.columns.group, **asdict(self.rates), "way to draw splits": "by class"}
        return {} if self.kind.has_splits else groups

    def relative(self, path: str) -> str:
        is_row = path.startswith(f"{self.table_path}:")
        return os.path.basename(path) if is_row else super().relative(path)


@dataclass
class LabelSource(TableSource):
    """Photos with several labels. `classes` are the labels; the one split is the folder of all photos."""

    rows: dict[str, tuple[str, list[int]]] = field(default_factory=dict)  # by target: group and values
    _made: LabelTable | None = None

    def texts(self) -> dict[str, str]:
        return {LABELS_CSV: self.label_table().text()}

    def check_complete(self) -> list[str]:
        (split,) = self.splits
        if not split.photos:
            why = self.why_rejected(split)
            raise UserError(f"{self.table_path} names no usable photo in {self.folder}{why}; {self.kind.advice}")
        had = (self.label_table().values == 1).any(axis=0)
        return without_photos(name for name, has in zip(self.classes, had, strict=True) if not has)

    def table(self) -> str:
        made = self.label_table()
        of = "" if self.columns.group is None else f" of {one_line(self.columns.group)}"
        checked = f"checked: none of the {len(set(made.groups))} groups{of} is in two splits"
        return f"{terminal.table(made.counts())}\n[INFO] {checked}"

    def label_table(self) -> LabelTable:
        """The labels.csv of the dataset: the photos that are left, each with its split or fold."""
        if self._made and len(self._made.images) == len(self.splits[0].photos):
            return self._made
        targets = [photo.target for photo in self.splits[0].photos]
        groups = [self.rows[target][0] for target in targets]
        values = np.array([self.rows[target][1] for target in targets], np.int8).reshape(-1, len(self.classes))
        images = [target.replace(os.sep, "/") for target in targets]
        origin = f"{self.table_path}{self.why_rejected(self.splits[0])}"
        together = joined(groups, [photo.path for photo in self.splits[0].photos], self.copies)
        splits = assign_groups(together, values, self.rates, origin)
        self._made = LabelTable(self.classes, images, groups, splits, values)
        return self._made

    def label_of(self, photo: Photo) -> str:
        marks = {UNKNOWN: "{}?", 1: "{}"}
        values = zip(self.classes, self.rows[photo.target][1], strict=True)
        return "; ".join(marks[value].format(name) for name, value in values if value) or "no label"


@dataclass
class Table:
    """The content of a CSV file, and the photos below a folder."""

    path: str
    folder: str
    header: list[str]
    lines: list[tuple[int, list[str]]]  # the number of each row's last line, and its cells

    def __post_init__(self):
        whole = [cells for _, cells in self.lines if len(cells) == len(self.header)]
        if not whole:
            line, cells = self.lines[0]
            raise UserError(f"{self.path}, line {line} has {len(cells)} columns, and the header {len(self.header)}")
        self.cells = dict(zip(self.header, zip(*whole, strict=True), strict=True))
        self.distinct = {name: {cell.lower() for cell in set(cells)} for name, cells in self.cells.items()}
        self.moved: dict[str, str] = {}  # names that are no paths below the folder, and the photos that they mean
        start = len(os.path.join(self.folder, ""))
        self.files = sorted(path[start:].replace(os.sep, "/") for path in walk_photos(self.folder, EXTENSIONS))
        self.paths: dict[str, list[str]] = defaultdict(list)
        names = defaultdict(list)
        for path in self.files:
            for name in {path, os.path.splitext(path)[0]}:
                self.paths[name].append(path)
                names[os.path.basename(name)].append(path)
        self.named = names | self.paths  # a path counts before a name in any folder

    def find(self, name: str) -> list[str]:
        """The photos that `name` may mean: a path with its suffix or without, in the folder or in one of its folders.

        Of a path on another machine it is the longest end that is a path here.
        """
        if found := self.named.get(name):
            return found
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        ends = ["/".join(parts[begin:]) for begin in range(len(parts)) if ".." not in parts]
        return next((self.paths[end] for end in ends if end in self.paths), [])

    def row(self, cells: list[str], *filled: str | None) -> dict[str, str]:
        """The cells of a row by column, if those of the columns `filled` are not empty."""
        if len(cells) != len(self.header):
            raise Unusable(f"{len(cells)} columns, where the header has {len(self.header)}")
        row = dict(zip(self.header, cells, strict=True))
        for name in filled:
            if name is not None and not row[name]:
                raise Unusable(f"{name} is empty")
        return row

    def photo(self, name: str) -> str:
        """The path below the folder of the one photo that `name` means."""
        if len(found := self.find(name)) != 1:
            raise Unusable(f"{' and '.join(found)} have that name" if found else "no photo of that name")
        if name not in self.named:
            self.moved[name] = found[0]
        return found[0].replace("/", os.sep)

    def listing(self, names: Iterable[str] | None = None) -> str:
        """Columns, by default all, with what each seems to hold."""
        return text_lists.column_list({name: self.cells[name] for name in names or self.header})

    def is_label(self, name: str) -> bool:
        """Whether a column holds only 0, 1, -1 and empty cells, and some 0 or 1."""
        return bool(name) and not self.distinct[name].isdisjoint(VALUES) and self.distinct[name] <= LABEL_CELLS


def read(path: str | os.PathLike, images: str | os.PathLike | None, columns: Columns, rates: SplitRates) -> TableSource:
    """Read the table at `path` and find its photos in the folder `images`, by default its own; no photo is opened."""
    check_rates(rates.shares)
    path = os.fspath(path)
    images = os.fspath(images or os.path.dirname(path) or os.curdir)
    if not os.path.isdir(images):
        raise UserError(f"{images} is not a folder; --images names the folder that holds the photos of {path}")
    header, lines = read_csv(path)
    if any(cell.strip().lower().endswith(EXTENSIONS) for cell in header):  # a photo: there is no header
        lines.insert(0, (1, header))
        header = [str(number + 1) for number in range(len(header))]
    header = [name.strip() for name in header]
    lines = [(line, [cell.strip() for cell in cells]) for line, cells in lines]
    lines = [(line, cells) for line, cells in lines if any(cells)]  # spreadsheets may end with rows of commas
    if columns.label is not None and (number := text_lists.column_number(columns.label, header)) is not None:
        columns = replace(columns, label=header[number])
    _check_columns(header, columns, path)
    table = Table(path, images, header, lines)
    columns = replace(columns, id=_id_column(table, columns.id))
    labels = [name for name in header if name not in (columns.id, columns.group) and table.is_label(name)]
    source: TableSource
    if columns.labels is not None or (columns.label is None and len(labels) > 1):
        source = _read_labels(table, replace(columns, labels=columns.labels or labels), rates)
    else:
        source = _read_classes(table, columns, rates)
    for name, photo in list(table.moved.items())[:1]:
        source.notes.append(f"{len(table.moved):,} names mean the photo at their end, as {name} means {photo}")
    used = {photo.path for split in source.splits for photo in split.photos}
    if unnamed := len(table.files) - len(used):
        source.notes.append(f"{unnamed} of the {len(table.files)} photos in {images} have no usable row")
    return source


def _check_columns(header: list[str], columns: Columns, path: str) -> None:
    found = f"{path} has the columns {', '.join(map(repr, header))}"
    named = (columns.id, *(columns.labels or ()), columns.label, columns.group)
    wanted = [name for name in named if name is not None]
    if twice := [name for name, count in Counter(wanted).items() if count > 1]:
        raise UserError(f"the column {twice[0]!r} is named twice; id, group and each label are columns of their own")
    if absent := [name for name in wanted if name not in header]:
        raise UserError(f"{found}; expected {', '.join(map(repr, absent))} too")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise UserError(f"{found}: {twice[0]!r} twice")


def _id_column(table: Table, named: str | None) -> str:
    """The column that names the most photos; those of names with a suffix come first, as numbers may occur as names."""
    likely = [name for name in table.header if any(cell.endswith(EXTENSIONS) for cell in table.distinct[name])]
    columns = [named] if named is not None else likely or table.header
    found = {name: [table.find(cell) for cell in table.cells[name]] for name in columns}
    counts = {name: len({photos[0] for photos in found[name] if photos}) for name in columns}
    most = max(columns, key=lambda name: counts[name])
    if not counts[most]:
        what = f"{table.path} names no photo in {table.folder}: {table.listing()}"
        raise UserError(f"{what}; give --images, the folder of the photos")
    if rivals := [name for name in columns if 2 * counts[name] > counts[most] and found[name] != found[most]]:
        raise UserError(f"{most!r} and {rivals[0]!r} of {table.path} both name photos; choose one with --id-column")
    return most


# --- several labels per photo -----------------------------------------------------------------------------------------


def _read_labels(table: Table, columns: Columns, rates: SplitRates) -> LabelSource:
    split, labels = Split(PHOTOS_FOLDER, table.folder, len(table.lines)), list(columns.labels or ())
    source = LabelSource(table.folder, labels, [split], SEVERAL)
    source.table_path, source.columns, source.rates = table.path, columns, rates
    if others := [name for name in table.header if name not in (columns.id, columns.group, *labels)]:
        source.notes.append(f"columns that are no labels: {table.listing(others)}")
    if columns.group is None:
        source.notes.append("no --group-column: each photo is a group of its own")
    source.notes += _unknown_labels(table, columns)
    _add_photos(source, table)
    return source


def _unknown_labels(table: Table, columns: Columns) -> list[str]:
    """What to tell of the labels that are -1 or empty."""
    counts = Counter(cell.lower() for name in columns.labels or () for cell in table.cells[name])
    zero, minus_one, blank = (sum(counts[cell] for cell in cells) for cells in (ZERO, MINUS_ONE, BLANK))
    if minus_one and not zero and columns.uncertain is None:
        raise UserError(
            f"the labels of {table.path} are 1 or -1 and never 0; if -1 means that a photo does not have the label, "
            "give --uncertain zero, and if it means not known, --uncertain ignore"
        )
    taken = {"zero": "0", "one": "1"}.get(columns.uncertain or "", "not known (--uncertain)")
    notes = [f"{minus_one:,} labels are -1, taken as {taken}"] * (minus_one > 0)
    return notes + [f"{blank:,} labels are empty, not known"] * (blank > 0)


def _add_photos(source: LabelSource, table: Table) -> None:
    """Make each row a photo of `source`, or reject it."""
    (split,), name_of_table, columns = source.splits, os.path.basename(table.path), source.columns
    values = {**VALUES, **dict.fromkeys(BLANK, UNKNOWN)}
    values |= dict.fromkeys(MINUS_ONE, UNCERTAIN[columns.uncertain or "ignore"])
    usable: dict[str, list[tuple]] = {}  # by photo: (line, photo, (group, values))
    at = table.header.index(columns.id or "")
    for line, cells in table.lines:
        path = os.path.join(source.folder, *cells[at : at + 1])
        with split.rejecting(path, f"{name_of_table}, line {line}"):
            photo, content = _parse_row(source, table, values, cells)
            usable.setdefault(one_place(photo.target), []).append((line, photo, content))
    for rows in usable.values():
        first_line, first, content = rows[0]
        fault, agree = f"the same as line {first_line}", all(other == content for _, _, other in rows)
        if agree:
            split.photos.append(first)
            source.rows[first.target] = content
        else:
            fault = f"lines {', '.join(str(line) for line, _, _ in rows)} disagree"
        for line, photo, _ in rows[agree:]:
            split.reject(os.path.join(source.folder, photo.target), f"{name_of_table}, line {line}: {fault}")


def _parse_row(source: LabelSource, table: Table, values: Mapping[str, int], cells: list[str]) -> tuple:
    """The photo of a row, and (group, values)."""
    columns = source.columns
    row = table.row(cells, columns.id, columns.group)
    for name in source.classes:
        if row[name].lower() not in values:
            raise Unusable(f"{name} is {row[name]!r}, expected 0 or 1")
    labels = [values[row[name].lower()] for name in source.classes]
    if set(labels) == {UNKNOWN}:
        raise Unusable("none of its labels is known")
    target = table.photo(row[columns.id or ""])
    photo = look_at(os.path.join(source.folder, target), target, 0)
    return photo, (photo.target if columns.group is None else row[columns.group], labels)


# --- one class per photo ----------------------------------------------------------------------------------------------


def _read_classes(table: Table, columns: Columns, rates: SplitRates) -> TableSource:
    if idle := "--folds" if rates.folds else "--uncertain" if columns.uncertain else None:
        raise UserError(f"{idle} is for several labels per photo; name those of {table.path} with --label-columns")
    filled = {name: values - {""} for name, values in table.distinct.items() if values - {""}}
    others = [name for name in filled if name not in (columns.id, columns.group, columns.label)]
    split_column = next((name for name in others if text_lists.are_splits(filled[name])), None)
    label = columns.label or _label_column(table, columns, [name for name in others if name != split_column])
    roles = {"photos": columns.id, "classes": label, "splits": split_column, "groups": columns.group}
    notes = [", ".join(f"{role} from column {name!r}" for role, name in roles.items() if name is not None)]
    if unused := [name for name in others if name not in roles.values()]:
        notes.append(f"columns that are not used: {table.listing(unused)}")

    splits = {"training": Split("training", table.path)}
    lines = []
    at = table.header.index(columns.id or "")
    for number, cells in table.lines:
        place, given = f"{table.path}:{number}", "".join(cells[at : at + 1])
        with splits["training"].rejecting(place, given):
            row = table.row(cells, *roles.values())
            path = os.path.join(table.folder, table.photo(given))
            name = "training" if split_column is None else text_lists.SPLIT_OF[row[split_column].lower()]
            lines.append(text_lists.Line(name, place, given, path, row[label], row.get(columns.group or "", "")))
    same: list[list[str]] = []
    if columns.group is not None and lines:
        same = equal_files({line.path: os.path.getsize(line.path) for line in lines if os.path.isfile(line.path)})
        lines = _split_groups(lines, same, rates, f"{table.path}{commonest_reason(splits['training'].rejected)}")
    kind = SINGLE._replace(has_splits=columns.group is None)
    classes = text_lists.fill(table.path, splits, lines, kind, read_classes(os.path.dirname(table.path)))
    source = TableSource(table.folder, classes, [*splits.values()], kind, notes=notes, copies=same)
    source.table_path, source.columns, source.rates = table.path, columns, rates
    return source


def _label_column(table: Table, columns: Columns, others: Sequence[str]) -> str:
    """The one column among `others` whose values are repeated; of several that say the same, one with names."""
    repeated = [name for name in others if 1 < len(table.distinct[name]) <= max(2, len(table.lines) // 2)]
    likely = repeated or others
    counts = {len(set(table.cells[name])) for name in likely}
    pairs = {len(set(zip(table.cells[likely[0]], table.cells[name], strict=True))) for name in likely}
    if len(counts | pairs) != 1:  # two columns say the same if they have as many values as pairs of values
        raise text_lists.unclear_class(
            table.path, {name: table.cells[name] for name in (columns.id or "", *table.header)}
        )
    names = [name for name in likely if not all(map(text_lists.NUMBER.fullmatch, table.distinct[name]))]
    return [*names, *likely][0]


def _split_groups(
    lines: Sequence[text_lists.Line], same: Sequence[Sequence[str]], rates: SplitRates, origin: str
) -> list[text_lists.Line]:
    """The lines with their splits; those that no line has are drawn from training, each group in one split.

    same : the paths of equal photos, whose groups are taken as one
    """
    given, usual = {line.split for line in lines}, SplitRates().shares
    if idle := [name for name, share in rates.shares.items() if name in given and share != usual[name]]:
        raise UserError(f"{origin} has its {idle[0]} split; leave {RATE_FLAGS[idle[0]]} out")
    training = [line for line in lines if line.split == "training"]
    groups = joined([line.group for line in training], [line.path for line in training], same)
    classes, numbers = np.unique([line.label for line in training], return_inverse=True)
    drawn = iter(assign_groups(groups, np.eye(len(classes))[numbers], rates, origin, given))
    lines = [line._replace(split=next(drawn)) if line.split == "training" else line for line in lines]
    first: dict[str, str] = {}
    for line in lines:
        if first.setdefault(line.group, line.split) != line.split:
            found = f"the group {line.group!r} of {origin} is in {first[line.group]} and {line.split}"
            raise UserError(f"{found}; put it in one, or leave --group-column out")
    return lines
