"""Text lists: train.txt, val.txt and test.txt, each line the path of a photo and its class."""

import csv
import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pyimagesearch import config
from pyimagesearch.data.decoding import EXTENSIONS, find_splits
from pyimagesearch.preparation.readers import class_names
from pyimagesearch.preparation.source import (
    Kind,
    Source,
    Split,
    Unusable,
    commonest_reason,
    look_at,
    not_read,
    one_place,
)
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "text lists",
    "train.txt, val.txt and test.txt with a path and a class per line",
    "add lines; paths begin in the folder of their list, or in --root",
    walked=False,
)
# a path in quotes, or one that ends like a photo, or all but the last field; then commas, tabs or blanks; the rest
LINE = re.compile(
    r"""(?: "(?P<double>(?:[^"]|"")*)" | '(?P<single>[^']*)' | (?P<photo>.*(?:KINDS)) | (?P<other>.*[^\s,;]) )
    (?P<gap>[\s,;]+) (?P<rest>\S.*)""".replace("KINDS", "|".join(map(re.escape, EXTENSIONS))),
    re.VERBOSE | re.IGNORECASE,
)
NUMBER = re.compile(r"(-?[0-9]{1,9})(?:\.0+)?")  # pandas writes 1.0 where a column has an empty cell
HEADER = re.compile(r"[^./\\]*[^\W\d_][^./\\]*")  # the name of a column
SPLIT_OF = {alias: split for split, aliases in config.SPLIT_NAMES.items() for alias in aliases}


class Line(NamedTuple):
    """A usable line of a list, or row of a table."""

    split: str
    place: str  # "train.txt:1"
    given: str  # the path as it is written there
    path: str
    label: str
    group: str = ""


def found(folder: str) -> bool:
    """Whether `folder` has a list of training photos under a usual name."""
    return "training" in find_splits(folder, ".txt")


def read_lists(lists: Mapping[str, str], root: str | None = None, label_column: str | None = None) -> Source:
    """List the photos that text lists name, in the order of their lines; no photo is opened.

    Blank lines and lines that begin with # are skipped; a first line without a photo may name the columns. A photo
    keeps its file name in the dataset, unless an earlier line of the same list and class has the same name: then a hash
    of its path is appended. So lines that are added at the end change no name.

    lists : by split, with training
    root : the folder where paths begin; None is the folder of each list
    label_column : the column of the class, by name or by number from 1 on; needed if there are more than two
    """
    splits = {name: Split(name, path) for name, path in lists.items()}
    read = [_read_rows(split, label_column is not None) for split in splits.values()]
    header, all_rows = read[0][0], [row for _, rows in read for row in rows]
    columns = _columns(header, [cells for _, _, cells in all_rows])
    label = 1 if label_column is None and len(columns) <= 2 else column_number(label_column or "", list(columns))
    if not label:  # nor the first column, the path
        raise unclear_class(lists["training"], columns)
    by_split = [position for position, cells in enumerate(columns.values()) if len(lists) == 1 and are_splits(cells)]
    lines = []
    for split, place, cells in all_rows:
        base = os.path.dirname(split.folder) if root is None else root
        with split.rejecting(place, cells[0]):
            if len(cells) != len(columns):
                raise Unusable(f"{len(cells)} columns, where most lines have {len(columns)}")
            name = SPLIT_OF[cells[by_split[0]].lower()] if by_split else split.name
            path = os.path.normpath(os.path.join(base, cells[0]))
            lines.append(Line(name, place, cells[0], path, cells[label]))
    notes = [f"the first line names the columns: {', '.join(header)}"] if header else []
    if len(columns) > 2:
        notes.append(f"classes from column {list(columns)[label]!r} of {column_list(columns)}")
    classes = fill(lists["training"], splits, lines, KIND, class_names.read_classes(os.path.dirname(lists["training"])))
    return Source(os.path.dirname(lists["training"]) or os.curdir, classes, list(splits.values()), KIND, notes=notes)


def fill(
    origin: str, splits: dict[str, Split], lines: Sequence[Line], kind: Kind, names: Sequence[str] | None
) -> list[str]:
    """Make each line a photo of its split, or reject it; returns the classes.

    splits : those of the lists; others that occur are added
    names : of the classes, by number; None: the classes are the numbers that occur, or the names
    """
    classes, label_of, fault = _classes(origin, [line.label for line in lines], names)
    lists = list(splits.values())
    if not classes:
        why = commonest_reason([rejected for split in lists for rejected in split.rejected])
        raise UserError(f"{origin} has no line with a path and a class{why}; {kind.advice}")
    places: dict[str, dict[int, str]] = defaultdict(dict)  # by photo: the first line for each of its classes
    of_split: dict[str, list[Line]] = {name: [] for name in splits}
    for line in lines:
        of_split.setdefault(line.split, []).append(line)
        if line.label in label_of:
            places[line.path].setdefault(label_of[line.label], line.place)
    for name in sorted(of_split, key=config.SPLITS.index):
        splits[name] = split = splits.pop(name) if name in splits else Split(name, lists[0].folder)
        split.found = len(of_split[name]) + len(split.rejected)
        first: dict[str, str] = {}  # by photo: its first line in this split
        taken: set[str] = set()
        for line in of_split[name]:
            with split.rejecting(line.place, "" if line.place == line.path else line.given):
                if line.label not in label_of:
                    raise Unusable(f"the class {one_line(line.label)!r} is {fault}")
                if len(places[line.path]) > 1:
                    each = (f"{classes[i]} in {os.path.basename(place)}" for i, place in places[line.path].items())
                    raise Unusable(f"it has several classes, {' and '.join(each)}")
                if first.setdefault(line.path, line.place) != line.place:
                    raise Unusable(f"{os.path.basename(first[line.path])} has it too")
                label = label_of[line.label]
                split.photos.append(look_at(line.path, _target(classes[label], line, taken), label))
        split.rejected.sort(key=lambda rejected: re.sub("[0-9]+", lambda number: number[0].zfill(9), rejected.path))
    return classes


def _read_rows(split: Split, several: bool) -> tuple[list[str], list[tuple[Split, str, list[str]]]]:
    """The names of the columns, if the first line has them; and split, place and cells of each usable line of a list.

    several : there are further columns, so that blanks separate them too
    """
    try:
        with open(split.folder, encoding="utf-8-sig") as file:
            texts = file.read().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{split.folder} is not UTF-8 text (byte {error.start}); {KIND.advice}") from None
    except OSError as error:
        raise UserError(f"cannot read the list {split.folder}: {error.strerror}") from None
    lines = [(number, text) for number, text in enumerate(map(str.strip, texts), 1) if text and text[0] != "#"]
    header: list[str] = []
    rows = []
    first = lines[0][1] if lines else ""
    names = [name.strip() for name in first.split(next((mark for mark in ",;\t" if mark in first), None))]
    if len(lines) > 1 and len(names) > 1 and all(map(HEADER.fullmatch, names)):
        header = names
        del lines[0]
    for number, text in lines:
        place = f"{split.folder}:{number}"
        with split.rejecting(place):
            rows.append((split, place, _parse(text, several)))
    return header, rows


def _parse(text: str, several: bool) -> list[str]:
    """The path in a line, and the cells after it: one, the class, unless there are more columns."""
    match = LINE.fullmatch(text)
    cells = _split_rest(match["gap"], match["rest"], several) if match else []
    if not match or not any(cells) or cells[0].strip("\"'").lower().endswith(EXTENSIONS):
        raise Unusable(f"no class after the path: {one_line(text)}")
    quoted = (match["double"] or "").replace('""', '"') or match["single"]
    path = quoted or match["photo"] or match["other"] or ""
    name = os.path.basename(path)
    if not name.lower().endswith(EXTENSIONS):
        raise Unusable(f"{one_line(path)}: {not_read(EXTENSIONS)}")
    if name.startswith("."):
        raise Unusable(f"{one_line(path)}: begins with a dot, as hidden files do")
    if "\0" in path:
        raise Unusable(f"{one_line(path)}: no file has such a name")
    return [path, *cells]


def _split_rest(gap: str, rest: str, several: bool) -> list[str]:
    """The cells of `rest`, which `gap` separates from the path; a class of several words is one cell."""
    words = rest.split()
    if delimiter := next((mark for mark in ",;\t" if mark in gap), None):
        try:
            words = next(csv.reader([rest.rstrip(", ;\t")], delimiter=delimiter, skipinitialspace=True))
        except csv.Error as error:
            raise Unusable(f"not to be split at {delimiter!r}: {error}") from None
    elif not several and not all(map(NUMBER.fullmatch, words)):
        words = [rest]
    cells = (word.strip() for word in words)
    return [
        cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'" else cell for cell in cells
    ]


def _columns(header: Sequence[str], rows: Sequence[list[str]]) -> dict[str, tuple[str, ...]]:
    """The columns of the rows that are as long as most, by their names in `header` or by their numbers from 1 on."""
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 2
    names = header if len(header) == width else [str(number + 1) for number in range(width)]
    return dict(zip(names, zip(*(cells for cells in rows if len(cells) == width), strict=True), strict=False))


def column_number(wanted: str, names: Sequence[str]) -> int | None:
    """The position in `names` of a column that is given by its name or by its number from 1 on; None without it."""
    if wanted in names:
        return names.index(wanted)
    return int(wanted) - 1 if re.fullmatch("[1-9][0-9]{,3}", wanted) and int(wanted) <= len(names) else None


def column_list(columns: Mapping[str, Sequence[str]]) -> str:
    """The names of columns with what each holds, for a message."""
    return ", ".join(f"{one_line(name)!r} ({_what_it_holds(cells)})" for name, cells in columns.items())


def _what_it_holds(cells: Sequence[str]) -> str:
    distinct = dict.fromkeys(cell for cell in cells if cell)
    if len(distinct) < 4:
        return " or ".join(map(one_line, distinct)) or "empty"
    if all(map(NUMBER.fullmatch, distinct)):
        numbers = [int(float(cell)) for cell in distinct]
        return f"{len(distinct):,} numbers from {min(numbers)} to {max(numbers)}"
    return f"{len(distinct):,} values such as {one_line(next(iter(distinct)))}"


def unclear_class(path: str, columns: Mapping[str, Sequence[str]]) -> UserError:
    """The error if it is not clear which of `columns` is the class; the first has the photos."""
    photos, *others = columns.values() or [()]
    advice = "name the column of the class with --label-column, or its number"
    if len(set(photos)) < len(photos) and sum(all(map(NUMBER.fullmatch, cells)) for cells in others) >= 4:
        advice = "it looks like a table of boxes, several rows per photo: crop the boxes, or list each photo once"
    return UserError(f"{path} has {len(columns)} columns: {column_list(columns)}; {advice}")


def are_splits(values: Iterable[str]) -> bool:
    """Whether all values are usual names of splits."""
    return {value.lower() for value in values} <= SPLIT_OF.keys()


def _classes(origin: str, labels: Sequence[str], names: Sequence[str] | None) -> tuple[list[str], dict[str, int], str]:
    """The class names, the index of the class that each usable label means, and what the other labels are."""
    named = {label: unicodedata.normalize("NFC", label) for label in {*labels}}
    numbers = {label: int(match[1]) for label in named if (match := NUMBER.fullmatch(label))}
    if names is not None:
        classes, count = list(names), len(names)
        class_names.check_numbering(
            {numbers[label] for label in numbers.keys() - {*names}}, names, os.path.dirname(origin)
        )
        known = {label: number for label, number in numbers.items() if 0 <= number < count}
        fault = f"neither one of the {count} names of classes nor a number from 0 to {count - 1}"
    elif 2 * sum(label in numbers for label in labels) > len(labels):
        index_of = {number: index for index, number in enumerate(sorted({*numbers.values()}))}
        width = len(str(max(index_of)))  # with leading zeros the names sort like the numbers
        classes = [f"{number:0{width}}" for number in index_of]
        known = {label: index_of[number] for label, number in numbers.items()}
        fault = "not a whole number, as most are"
    else:
        classes, known = sorted({name for name in named.values() if not class_names.fault_of_class(name)}), {}
        fault = "a name that no class folder can have"
    if classes:
        class_names.check_class_names(classes, origin)
    number_of = {name: number for number, name in enumerate(classes)}
    return classes, known | {label: number_of[name] for label, name in named.items() if name in number_of}, fault


def _target(name: str, line: Line, taken: set[str]) -> str:
    """A path of its own for the photo below its split's folder, added to `taken`."""
    file_name, tries = os.path.basename(line.path), 0
    while one_place(target := os.path.join(*name.split("/"), file_name)) in taken:
        stem, suffix = os.path.splitext(os.path.basename(line.path))
        given = os.path.normpath(line.given).replace(os.sep, "/")
        digest = hashlib.blake2b(f"{given}{tries or ''}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        while len(os.fsencode(file_name := f"{stem}-{digest}{suffix}")) > class_names.NAME_LIMIT:
            stem = stem[:-1]
        tries += 1
    taken.add(one_place(target))
    return target
