"""The raw layout of Food-11: `training|validation|evaluation/K_N.ext`, K the number of the class."""

import os
import re
from collections.abc import Sequence

from imutils import paths

from pyimagesearch import config
from pyimagesearch.preparation.source import (
    Kind,
    Photo,
    Rejected,
    Source,
    Split,
    find_splits,
    hidden,
    look_at,
    one_place,
    read_classes,
    unlisted,
)
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "photos named K_N",
    f"photos named K_N.jpg, K the number of the class, in {', '.join(config.SPLITS)}",
    "add some, named K_N.jpg with K the number of the class",
)
PHOTO_NAME = re.compile(r"([0-9]+)_[0-9]+\.[A-Za-z]+")


def found(folder: str) -> bool:
    """Whether a split of `folder` has a photo named K_N.ext right in it."""
    return any(
        PHOTO_NAME.fullmatch(name) and name.lower().endswith(paths.image_types)
        for split in find_splits(folder).values()
        for name in os.listdir(split)
    )


def read(folder: str) -> Source:
    """List the photos below the splits of `folder`; a file classes.txt in it takes the place of config.CLASSES.

    Raises
    ------
    UserError : classes.txt cannot be used
    """
    classes = read_classes(folder)
    splits = [read_split(path, classes, name) for name, path in find_splits(folder).items()]
    return Source(folder, classes, splits, KIND)


def read_split(folder: str | os.PathLike, classes: Sequence[str], name: str | None = None) -> Split:
    """List the photos below `folder`, sorted by path, and what cannot be one of them; no photo is opened.

    Files and folders whose names begin with a dot are passed over.

    Parameters
    ----------
    name : of the split; None takes the folder's

    Raises
    ------
    UserError : there is no such folder
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder; expected one with photos named K_N.jpg in it")
    listed = sorted(path for path in paths.list_images(folder) if not hidden(path[len(folder) :]))
    rejected = list(unlisted(folder, paths.image_types))
    split = Split(name or os.path.basename(folder), folder, len(listed), [], rejected)
    taken: dict[str, str] = {}
    for path in listed:
        photo, fault = _photo(path, classes)
        if photo:
            first = taken.setdefault(one_place(photo.target), path)
            if first != path:
                fault = f"{one_line(os.path.relpath(first, folder))} has the same name and class"
        if fault:
            split.rejected.append(Rejected(path, fault))
        else:
            split.photos.append(photo)
    split.rejected.sort()
    return split


def _photo(path: str, classes: Sequence[str]) -> tuple[Photo | None, str | None]:
    """The photo at `path`, and the reason why it is none: one of them is None."""
    name = os.path.basename(path)
    match = PHOTO_NAME.fullmatch(name)
    if not match:
        return None, "not named K_N.ext, K the number of its class"
    label = int(match[1])
    if label >= len(classes):
        return None, f"there is no class {label}: the classes are 0 to {len(classes) - 1}"
    return look_at(path, os.path.join(*classes[label].split("/"), name), label)
