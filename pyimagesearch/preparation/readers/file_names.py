"""Labels in the names of files: the raw layout of Food-11, `K_N.ext` with K the number of the class, or a pattern."""

import os
import re
import shlex
import unicodedata
from collections.abc import Sequence

from imutils import paths

from pyimagesearch import config
from pyimagesearch.data.decoding import EXTENSIONS, find_splits, is_hidden
from pyimagesearch.preparation.options import TABLE_SUFFIXES
from pyimagesearch.preparation.readers import class_names
from pyimagesearch.preparation.source import Kind, Source, Split, Unusable, look_at, walk_photos
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "photos named K_N",
    f"photos named K_N.jpg, K the number of the class, in {', '.join(config.SPLITS)}",
    "add some, named K_N.jpg with K the number of the class",
)
LABELLED = Kind(
    "photos labelled by --label-pattern",
    "photos with their class in their path, which --label-pattern reads",
    "add some whose paths --label-pattern matches",
)
# the named patterns; as any pattern, each is matched against a whole path below the source or its split
PATTERNS = {
    "prefix": r"(?:.*/)?(?P<label>[^/]+?)[-_. ]+\(?[0-9]+\)?\.[^./]+",  # great_pyrenees_105.jpg, cat.12.jpg
    "suffix": r"(?:.*/)?[0-9]+[-_. ]+(?P<label>[^/]+)\.[^./]+",  # 12_kitchen.jpg
    "parent": r"(?:.*/)?(?P<label>[^/]+)/[^/]+",
    "top": r"(?P<label>[^/]+)/.+",
}
PHOTO_NAME = re.compile(r"([0-9]+)_[0-9]+\.[A-Za-z]+")


def found(folder: str) -> bool:
    """Whether a split of `folder` has a photo named K_N.ext directly in it."""
    return any(
        PHOTO_NAME.fullmatch(name) and name.lower().endswith(paths.image_types)
        for split in find_splits(folder).values()
        for name in os.listdir(split)
    )


def read(folder: str) -> Source:
    """List the photos in the splits of `folder`; its classes.txt, if any, replaces config.CLASSES."""
    classes = class_names.read_classes(folder)
    if classes is None:
        class_names.check_class_names(config.CLASSES, "config.CLASSES")
        classes = list(config.CLASSES)
    names = (name for split in find_splits(folder).values() for name in os.listdir(split))
    class_names.check_numbering({int(match[1]) for match in map(PHOTO_NAME.fullmatch, names) if match}, classes, folder)
    splits = [read_split(path, classes, name) for name, path in find_splits(folder).items()]
    return Source(folder, classes, splits, KIND)


def read_split(folder: str | os.PathLike, classes: Sequence[str], name: str | None = None) -> Split:
    """List the photos below `folder`, sorted by path; no photo is opened. `name` defaults to that of the folder."""
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder; expected one with photos named K_N.jpg in it")
    split = Split(name or os.path.basename(folder), folder)
    listed = sorted(walk_photos(folder, paths.image_types, split))  # as paths.list_images, but not hidden ones
    split.found = len(listed)
    for path in listed:
        name = os.path.basename(path)
        with split.rejecting(path):
            if not (match := PHOTO_NAME.fullmatch(name)):
                raise Unusable("not named K_N.ext, K the number of its class")
            if (label := int(match[1])) >= len(classes):
                raise Unusable(f"there is no class {label}: the classes are 0 to {len(classes) - 1}")
            split.add(look_at(path, os.path.join(*classes[label].split("/"), name), label))
    split.rejected.sort()
    return split


def read_labelled(folder: str, pattern: str) -> Source:
    """List the photos below `folder`, each with the class that `pattern` reads from its path; splits are as usual.

    pattern : one of PATTERNS, or a regular expression with a group `label`, for the whole path below the source or,
        where it has splits, below its split, with "/" between the parts
    """
    regex = _compiled(pattern)
    splits = [Split(name, path) for name, path in (find_splits(folder) or {"training": folder}).items()]
    labelled = []
    for split in splits:
        for path in sorted(walk_photos(split.folder, EXTENSIONS, split)):
            split.found += 1
            with split.rejecting(path):
                labelled.append((split, path, _label_in(_below(path, split.folder), regex)))
    if not labelled:
        example = next((f"{path}: {reason}" for split in splits for path, reason in split.rejected), "it has no photo")
        raise UserError(f"--label-pattern {pattern} reads no class in {folder}: {example}")
    numbers = {name: number for number, name in enumerate(sorted({label for *_, label in labelled}))}
    class_names.check_class_names(list(numbers), f"--label-pattern {pattern}")
    for split, path, label in labelled:
        with split.rejecting(path):
            inner = _below(path, split.folder).removeprefix(f"{label}/")
            split.add(look_at(path, os.path.join(*label.split("/"), *inner.split("/")), numbers[label]))
    for split in splits:
        split.rejected.sort()
    return Source(folder, list(numbers), splits, LABELLED)


def _compiled(pattern: str) -> re.Pattern:
    try:
        regex = re.compile(PATTERNS.get(pattern, pattern))
    except re.error as error:
        raise UserError(f"--label-pattern {pattern} is not a regular expression: {error}") from None
    if "label" not in regex.groupindex:
        names = ", ".join(PATTERNS)
        raise UserError(f"--label-pattern {pattern} has no group (?P<label>...); give it one, or take one of {names}")
    return regex


def _label_in(path: str, regex: re.Pattern) -> str:
    """The class in the path of a photo; raises Unusable if there is none."""
    if not (match := regex.fullmatch(path)):
        raise Unusable("--label-pattern does not match its path")
    label = unicodedata.normalize("NFC", match["label"] or "")
    if fault := class_names.fault_of_class(label):
        raise Unusable(f"--label-pattern reads the class {label!r}, which cannot be used: {fault}")
    return label


def _below(path: str, folder: str) -> str:
    return os.path.relpath(path, folder).replace(os.sep, "/")


def tables_in(folder: str) -> list[str]:
    """The CSV files in `folder`, sorted."""
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(TABLE_SUFFIXES))
    return [os.path.join(folder, name) for name in names if not is_hidden(name)]


def suggestion(folder: str) -> str:
    """The end of a refusal: a table in `folder`, or the named pattern that fits the names of its photos; or ""."""
    if tables := tables_in(folder):
        name = one_line(os.path.basename(tables[0]))
        return f"; if {name} names the photos and their classes, give that file as --source"
    tops = find_splits(folder).values() or [folder]
    paths_below = sorted(_below(path, top) for top in tops for path in walk_photos(top, EXTENSIONS))
    for name in ("prefix", "suffix"):
        matches = [match for match in map(re.compile(PATTERNS[name]).fullmatch, paths_below) if match]
        first = {match["label"]: os.path.basename(match[0]) for match in reversed(matches)}
        if 1 < len(first) <= len(matches) / 2 and len(matches) >= 0.9 * len(paths_below):
            read = ", ".join(f"{one_line(label)} from {one_line(first[label])}" for label in sorted(first)[:3])
            return (
                f"; if the classes are in the file names, --label-pattern {name} reads {read}: python "
                f"prepare_dataset.py --source {shlex.quote(folder)} --label-pattern {name}"
            )
    return ""
