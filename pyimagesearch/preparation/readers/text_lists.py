"""Text lists: train.txt, val.txt and test.txt, each line the path of a photo and its class."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from pyimagesearch.data.decoding import EXTENSIONS, find_splits
from pyimagesearch.preparation.readers.class_names import NAME_LIMIT, check_class_names, fault_of_class, read_classes
from pyimagesearch.preparation.source import (
    CLASS_LIST,
    Kind,
    Source,
    Split,
    Unusable,
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
# a path in quotes, or one that ends like a photo, or all but the last field; then commas, tabs or blanks; the class
LINE = re.compile(
    r"""(?: "(?P<double>(?:[^"]|"")*)" | '(?P<single>[^']*)' | (?P<photo>.*(?:KINDS)) | (?P<other>.*[^\s,]) )
    [\s,]+ (?P<label>\S.*)""".replace("KINDS", "|".join(map(re.escape, EXTENSIONS))),
    re.VERBOSE | re.IGNORECASE,
)
NUMBER = re.compile("[0-9]{1,9}")
SEVERAL = re.compile(r"[0-9]+([\s,]+[0-9]+)+")


class Line(NamedTuple):
    """A usable line of a list."""

    place: str  # "train.txt:1"
    given: str  # the path as it is written there
    path: str
    label: str

    @property
    def number(self) -> int:
        return int(self.place.rpartition(":")[2])


def found(folder: str) -> bool:
    """Whether `folder` has a list of training photos under a usual name."""
    return "training" in find_splits(folder, ".txt")


def read(folder: str, root: str | None = None) -> Source:
    """The photos in the lists of `folder`, see read_lists."""
    return read_lists(find_splits(folder, ".txt"), root)


def read_lists(lists: Mapping[str, str], root: str | None = None) -> Source:
    """List the photos that text lists name, in the order of their lines; no photo is opened.

    Blank lines and lines that begin with # are skipped. A photo keeps its file name in the dataset, unless an earlier
    line of the same list and class has the same name: then a hash of its path is appended. So lines that are added at
    the end change no name.

    lists : by split, with training; a classes.txt beside that list has the class names by number. Without it, the
        classes are the numbers that occur, or the sorted names
    root : the folder where paths begin; None is the folder of each list
    """
    splits = [Split(name, path) for name, path in lists.items()]
    lines = [_read_lines(split, root) for split in splits]
    folder = os.path.dirname(lists["training"]) or os.curdir
    classes, label_of = _classes(folder, [line.label for of_split in lines for line in of_split])
    if not classes:
        raise UserError(f"{lists['training']} has no line with a path and a class; {KIND.advice}")

    places: dict[str, dict[int, str]] = defaultdict(dict)  # by photo: the first line for each of its classes
    for line in (line for of_split in lines for line in of_split):
        with suppress(Unusable):  # rejected below
            places[line.path].setdefault(label_of(line.label), line.place)
    for split, of_split in zip(splits, lines, strict=True):
        _fill(split, of_split, classes, label_of, places)
        split.rejected.sort(key=lambda rejected: int(rejected.path.rpartition(":")[2]))
    return Source(folder, classes, splits, KIND)


def _read_lines(split: Split, root: str | None) -> list[Line]:
    """The usable lines of a split's list; the others are rejected."""
    try:
        with open(split.folder, encoding="utf-8-sig") as file:
            texts = file.read().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{split.folder} is not UTF-8 text (byte {error.start}); {KIND.advice}") from None
    except OSError as error:
        raise UserError(f"cannot read the list {split.folder}: {error.strerror}") from None
    base = os.path.dirname(split.folder) if root is None else root
    lines = []
    for number, text in enumerate(map(str.strip, texts), 1):
        if not text or text.startswith("#"):
            continue
        split.found += 1
        place = f"{split.folder}:{number}"
        with split.rejecting(place):
            given, label = _parse(text)
            lines.append(Line(place, given, os.path.normpath(os.path.join(base, given)), label))
    return lines


def _parse(text: str) -> tuple[str, str]:
    """The path and the class in a line."""
    match = LINE.fullmatch(text)
    label = match["label"].rstrip(", \t") if match else ""
    if len(label) > 1 and label[0] == label[-1] and label[0] in "\"'":
        label = label[1:-1].strip()
    if not match or not label or label.strip("\"'").lower().endswith(EXTENSIONS):
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
    if SEVERAL.fullmatch(label):
        raise Unusable(f"{one_line(path)}: several classes, {label}; expected one")
    return path, label


def _classes(folder: str, labels: Sequence[str]) -> tuple[list[str], Callable[[str], int]]:
    """The class names, and a function from the class in a line to its index, which raises Unusable."""
    numbers = [int(label) for label in labels if NUMBER.fullmatch(label)]
    if os.path.lexists(os.path.join(folder, CLASS_LIST)):
        classes = read_classes(folder)
        known = {str(number): number for number in range(len(classes))} | {name: i for i, name in enumerate(classes)}
        fault = f"neither one of the names in {CLASS_LIST} nor a number from 0 to {len(classes) - 1}"
    elif 2 * len(numbers) > len(labels):
        width = len(str(max(numbers)))  # with leading zeros the names sort like the numbers
        occurring = sorted(set(numbers))
        classes = [f"{number:0{width}}" for number in occurring]
        known = {str(number): i for i, number in enumerate(occurring)}
        fault = "not a whole number from 0 on, as most are"
    else:
        classes = sorted({label for label in labels if not fault_of_class(label)})
        if classes:
            check_class_names(classes, folder)
        known = {name: i for i, name in enumerate(classes)}
        fault = "a name that no class folder can have"

    def label_of(label: str) -> int:
        if label not in known and NUMBER.fullmatch(label):
            label = str(int(label))
        if label not in known:
            raise Unusable(f"the class {one_line(label)!r} is {fault}")
        return known[label]

    return classes, label_of


def _fill(
    split: Split,
    lines: Sequence[Line],
    classes: Sequence[str],
    label_of: Callable[[str], int],
    places: Mapping[str, Mapping[int, str]],
) -> None:
    """Make each line a photo of `split`, or reject it."""
    seen: dict[str, int] = {}
    taken: set[str] = set()
    for line in lines:
        with split.rejecting(line.place, f"{one_line(line.given)}: "):
            label = label_of(line.label)
            if len(places[line.path]) > 1:
                named = (f"{classes[label]} in {os.path.basename(place)}" for label, place in places[line.path].items())
                raise Unusable(f"it has several classes, {' and '.join(named)}")
            if line.path in seen:
                raise Unusable(f"line {seen[line.path]} has it too")
            seen[line.path] = line.number
            split.photos.append(look_at(line.path, _target(classes[label], line, taken), label))


def _target(name: str, line: Line, taken: set[str]) -> str:
    """A path of its own for the photo below its split's folder, added to `taken`."""
    file_name, tries = os.path.basename(line.path), 0
    given = os.path.normpath(line.given).replace(os.sep, "/")
    while one_place(target := os.path.join(*name.split("/"), file_name)) in taken:
        stem, suffix = os.path.splitext(os.path.basename(line.path))
        digest = hashlib.blake2b(f"{given}{tries or ''}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        while len(os.fsencode(file_name := f"{stem}-{digest}{suffix}")) > NAME_LIMIT:
            stem = stem[:-1]
        tries += 1
    taken.add(one_place(target))
    return target
