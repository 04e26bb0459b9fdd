"""Text lists: train.txt, val.txt and test.txt with the path of a photo and its class a line."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.preparation.source import (
    CLASS_LIST,
    NAME_LIMIT,
    Kind,
    Rejected,
    Source,
    Split,
    check_classes,
    fault_of_class,
    find_splits,
    look_at,
    not_read,
    one_place,
    read_classes,
)
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "text lists",
    "train.txt, val.txt and test.txt with a path and a class a line",
    "add lines; paths begin in the folder of their list, or in --root",
    walked=False,
)
# a path in quotes, one that ends as photos do, or all but the last field; then commas, tabs or blanks, then the class
LINE = re.compile(
    r"""(?: "(?P<double>(?:[^"]|"")*)" | '(?P<single>[^']*)' | (?P<photo>.*(?:KINDS)) | (?P<other>.*[^\s,]) )
    [\s,]+ (?P<label>\S.*)""".replace("KINDS", "|".join(map(re.escape, EXTENSIONS))),
    re.VERBOSE | re.IGNORECASE,
)
NUMBER = re.compile("[0-9]{1,9}")
SEVERAL = re.compile(r"[0-9]+([\s,]+[0-9]+)+")


class Line(NamedTuple):
    """A line of a list: its number, the path as it is given there, where that leads, and the class."""

    number: int
    given: str
    path: str
    label: str


def found(folder: str) -> bool:
    """Whether `folder` has a list of training photos under a usual name."""
    return "training" in find_splits(folder, ".txt")


def read(folder: str, root: str | None = None) -> Source:
    """The photos in the lists of `folder`, see read_lists."""
    return read_lists(find_splits(folder, ".txt"), root)


def read_lists(lists: Mapping[str, str], root: str | None = None) -> Source:
    """List the photos that text lists name, in the order of their lines; no photo is opened.

    Blank lines and such that begin with # are passed over. A photo keeps its file name in the dataset, unless an
    earlier line of the same list and class has taken it: then a part is added that is made of its path. So lines that
    are added at the end change no name.

    Parameters
    ----------
    lists : the list of each split, training among them; a file classes.txt beside it has the classes by number.
        Without one the classes are the numbers that occur, or the names in their order.
    root : where the paths begin; None is the folder of each list

    Raises
    ------
    UserError : a list or classes.txt cannot be read, no line can be used, or the names of two classes are as one
    """
    splits = [Split(name, path, 0, [], []) for name, path in lists.items()]
    lines = [_read_lines(split, root) for split in splits]
    folder = os.path.dirname(lists["training"]) or os.curdir
    classes, label_of = _classes(folder, [line.label for those in lines for line in those])
    if not classes:
        raise UserError(f"{lists['training']} has no line with a path and a class; {KIND.advice}")

    labels: dict[str, dict[int, str]] = defaultdict(dict)  # of each photo, and in which line it has each first
    for split, those in zip(splits, lines, strict=True):
        for line in those:
            if isinstance(label := label_of(line.label), int):
                labels[line.path].setdefault(label, _place(split, line.number))
    for split, those in zip(splits, lines, strict=True):
        _fill(split, those, classes, label_of, labels)
        split.rejected.sort(key=lambda rejected: int(rejected.path.rpartition(":")[2]))
    return Source(folder, classes, splits, KIND)


def _read_lines(split: Split, root: str | None) -> list[Line]:
    """The lines of a split's list that have a path and a class; the others are noted as rejected."""
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
        parsed = _parse(text)
        if isinstance(parsed, str):
            split.rejected.append(Rejected(_place(split, number), parsed))
        else:
            given, label = parsed
            lines.append(Line(number, given, os.path.normpath(os.path.join(base, given)), label))
    return lines


def _parse(text: str) -> tuple[str, str] | str:
    """(path, class) of a line, or the reason why it has none."""
    match = LINE.fullmatch(text)
    label = match["label"].rstrip(", \t") if match else ""
    if len(label) > 1 and label[0] == label[-1] and label[0] in "\"'":
        label = label[1:-1].strip()
    if not label or label.strip("\"'").lower().endswith(EXTENSIONS):
        return f"no class after the path: {one_line(text)}"
    quoted = (match["double"] or "").replace('""', '"') or match["single"]
    path = quoted or match["photo"] or match["other"] or ""
    name = os.path.basename(path)
    if not name.lower().endswith(EXTENSIONS):
        return f"{one_line(path)}: {not_read(EXTENSIONS)}"
    if name.startswith("."):
        return f"{one_line(path)}: begins with a dot, as hidden files do"
    if "\0" in path:
        return f"{one_line(path)}: no file has such a name"
    if SEVERAL.fullmatch(label):
        return f"{one_line(path)}: several classes, {label}; expected one"
    return path, label


def _classes(folder: str, labels: Sequence[str]) -> tuple[list[str], Callable[[str], int | str]]:
    """The names of the classes, and a function from what a line has for its class to the index, or to a reason why
    there is none."""
    numbers = [int(label) for label in labels if NUMBER.fullmatch(label)]
    if os.path.lexists(os.path.join(folder, CLASS_LIST)):
        classes = read_classes(folder)
        known = {str(number): number for number in range(len(classes))} | {name: i for i, name in enumerate(classes)}
        fault = f"neither one of the names in {CLASS_LIST} nor a number from 0 to {len(classes) - 1}"
    elif 2 * len(numbers) > len(labels):
        width = len(str(max(numbers)))  # with zeros before it a number sorts among names as among numbers
        occurring = sorted(set(numbers))
        classes = [f"{number:0{width}}" for number in occurring]
        known = {str(number): i for i, number in enumerate(occurring)}
        fault = "not a whole number from 0 on, as most are"
    else:
        classes = sorted({label for label in labels if not fault_of_class(label)})
        if classes:
            check_classes(classes, folder)
        known = {name: i for i, name in enumerate(classes)}
        fault = "a name that no class folder can have"

    def label_of(label: str) -> int | str:
        if label not in known and NUMBER.fullmatch(label):
            label = str(int(label))
        return known[label] if label in known else f"the class {one_line(label)!r} is {fault}"

    return classes, label_of


def _fill(
    split: Split,
    lines: Sequence[Line],
    classes: Sequence[str],
    label_of: Callable[[str], int | str],
    labels: Mapping[str, Mapping[int, str]],
) -> None:
    """Sort the lines into the split's photos and what is rejected of them."""
    seen: dict[str, int] = {}
    taken: set[str] = set()
    for line in lines:
        photo, label = None, label_of(line.label)
        if isinstance(label, str):
            fault = label
        elif len(labels[line.path]) > 1:
            places = labels[line.path].items()
            both = " and ".join(f"{classes[number]} in {os.path.basename(place)}" for number, place in places)
            fault = f"it has several classes, {both}"
        elif line.path in seen:
            fault = f"line {seen[line.path]} has it too"
        else:
            seen[line.path] = line.number
            target = _target(classes[label], line, taken)
            photo, fault = look_at(line.path, target, label)
        if photo:
            split.photos.append(photo)
        else:
            split.rejected.append(Rejected(_place(split, line.number), f"{one_line(line.given)}: {fault}"))


def _target(name: str, line: Line, taken: set[str]) -> str:
    """A place of its own for the photo below its split's folder, which becomes one of those taken."""
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


def _place(split: Split, number: int) -> str:
    return f"{split.folder}:{number}"
