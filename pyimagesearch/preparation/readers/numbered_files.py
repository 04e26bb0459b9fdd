"""The raw layout of Food-11: `training|validation|evaluation/K_N.ext`, K the number of the class."""

import os
import re
from collections.abc import Sequence

from imutils import paths

from pyimagesearch import config
from pyimagesearch.preparation.readers.class_names import check_numbering, read_classes
from pyimagesearch.preparation.source import Kind, Source, Split, Unusable, find_splits, look_at, one_place, walk_photos
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "photos named K_N",
    f"photos named K_N.jpg, K the number of the class, in {', '.join(config.SPLITS)}",
    "add some, named K_N.jpg with K the number of the class",
)
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
    classes = read_classes(folder)
    names = (name for split in find_splits(folder).values() for name in os.listdir(split))
    check_numbering({int(match[1]) for match in map(PHOTO_NAME.fullmatch, names) if match}, classes, folder)
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
    taken: dict[str, str] = {}
    for path in listed:
        name = os.path.basename(path)
        with split.rejecting(path):
            if not (match := PHOTO_NAME.fullmatch(name)):
                raise Unusable("not named K_N.ext, K the number of its class")
            if (label := int(match[1])) >= len(classes):
                raise Unusable(f"there is no class {label}: the classes are 0 to {len(classes) - 1}")
            photo = look_at(path, os.path.join(*classes[label].split("/"), name), label)
            first = taken.setdefault(one_place(photo.target), path)
            if first != path:
                raise Unusable(f"{one_line(os.path.relpath(first, folder))} has the same name and class")
            split.photos.append(photo)
    split.rejected.sort()
    return split
