"""Class folders: `<split>/<class>/...` under the usual names of splits, or `<class>/...` without any."""

import os
from collections.abc import Iterable, Iterator, Sequence

from imutils import paths

from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.preparation.readers import numbered_files, text_lists
from pyimagesearch.preparation.source import (
    Kind,
    Rejected,
    Source,
    Split,
    check_classes,
    find_splits,
    hidden,
    look_at,
    unlisted,
)
from pyimagesearch.runtime.errors import UserError

KIND = Kind("class folders", "a folder a class, in train, val and test or without splits", "add some")


def found(folder: str) -> bool:
    """Whether there are class folders in the splits of `folder`, or right in it and no text lists beside them."""
    if numbered_files.found(folder):
        return False
    named, others = _split_and_other_folders(folder)
    return any(_with_photos(named.values())) or (any(others) and not text_lists.found(folder))


def read(folder: str) -> Source:
    """List the photos in the class folders of `folder`, at any depth; without splits all are training photos.

    A class is what a folder with a photo is called in any split. Names that begin with a dot are passed over.

    Raises
    ------
    UserError : `folder` has both splits and class folders, or a class has a name that cannot be used
    """
    named, others = _split_and_other_folders(folder)
    if others and named and not (len(named) > 1 and any(_with_photos(named.values()))):
        raise UserError(
            f"{folder} holds {', '.join(sorted(map(os.path.basename, named.values())))}, as splits are called, beside "
            f"the class folder{'s' * (len(others) > 1)} {', '.join(map(os.path.basename, others[:3]))}"
            f"{', ...' * (len(others) > 3)}; move or rename one of them"
        )
    folders = named or {"training": folder}
    classes = sorted({os.path.basename(path) for path in _with_photos(folders.values())})
    check_classes(classes, folder)
    return Source(folder, classes, [_read_split(name, path, classes) for name, path in folders.items()], KIND)


def _split_and_other_folders(folder: str) -> tuple[dict[str, str], list[str]]:
    """The folders in `folder` that are called as splits are, and others that hold photos."""
    named = find_splits(folder)
    return named, [path for path in _with_photos([folder]) if path not in named.values()]


def _with_photos(folders: Iterable[str]) -> Iterator[str]:
    """The folders right in `folders` that hold a photo at any depth."""
    for folder in folders:
        yield from (path for path in _folders_in(folder) if any(_photos_below(path)))


def _folders_in(folder: str) -> list[str]:
    return sorted(entry.path for entry in os.scandir(folder) if entry.is_dir() and not hidden(entry.name))


def _photos_below(folder: str) -> Iterator[str]:
    return (path for path in paths.list_files(folder, EXTENSIONS) if not hidden(path[len(folder) :]))


def _read_split(name: str, folder: str, classes: Sequence[str]) -> Split:
    """List the photos in the class folders of `folder`, sorted by path, and what is left out; no photo is opened."""
    split, labels = Split(name, folder, 0, [], []), {name: label for label, name in enumerate(classes)}
    for parent in _folders_in(folder):
        listed = sorted(_photos_below(parent))
        split.found += len(listed)
        split.rejected += unlisted(parent, EXTENSIONS)
        if not listed:
            split.rejected.append(Rejected(parent, "a folder without photos"))
        for path in listed:
            photo, fault = look_at(path, os.path.relpath(path, folder), labels[os.path.basename(parent)])
            if photo:
                split.photos.append(photo)
            else:
                split.rejected.append(Rejected(path, fault))
    for entry in os.scandir(folder):
        if entry.is_file() and entry.name.lower().endswith(EXTENSIONS) and not hidden(entry.name):
            split.found += 1
            split.rejected.append(Rejected(entry.path, "not in a class folder"))
    split.rejected.sort()
    return split
