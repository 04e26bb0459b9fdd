"""Class folders: `<split>/<class>/...` under the usual names of splits, or `<class>/...` without any."""

import os
from collections.abc import Iterable, Iterator, Sequence

from pyimagesearch.data.decoding import EXTENSIONS, is_photo
from pyimagesearch.preparation.readers import numbered_files, text_lists
from pyimagesearch.preparation.readers.class_names import check_class_names
from pyimagesearch.preparation.source import Kind, Source, Split, find_splits, folders_in, look_at, walk_photos
from pyimagesearch.runtime.errors import UserError

KIND = Kind("class folders", "a folder per class, in train, val and test or without splits", "add some")


def found(folder: str) -> bool:
    """Whether there are class folders in the splits of `folder`, or directly in it without text lists beside them."""
    if numbered_files.found(folder):
        return False
    named, others = _split_and_other_folders(folder)
    return any(_with_photos(named.values())) or (any(others) and not text_lists.found(folder))


def read(folder: str) -> Source:
    """List the photos in the class folders of `folder`, at any depth; without splits all are training photos.

    The classes are the names of all folders with a photo, in any split. Hidden files and folders are skipped.
    """
    named, others = _split_and_other_folders(folder)
    if others and named and not (len(named) > 1 and any(_with_photos(named.values()))):
        splits = ", ".join(sorted(map(os.path.basename, named.values())))
        some = ", ".join(map(os.path.basename, others[:3]))
        raise UserError(
            f"{folder} holds {splits}, named like splits, beside the class folder{'s' * (len(others) > 1)} {some}; "
            "move or rename one of them"
        )
    folders = named or {"training": folder}
    classes = sorted({os.path.basename(path) for path in _with_photos(folders.values())})
    check_class_names(classes, folder)
    return Source(folder, classes, [_read_split(name, path, classes) for name, path in folders.items()], KIND)


def _split_and_other_folders(folder: str) -> tuple[dict[str, str], list[str]]:
    """The folders in `folder` that are named like splits, and the others that hold photos."""
    named = find_splits(folder)
    return named, [path for path in _with_photos([folder]) if path not in named.values()]


def _with_photos(folders: Iterable[str]) -> Iterator[str]:
    """The folders directly in `folders` that hold a photo at any depth."""
    for folder in folders:
        yield from (path for path in folders_in(folder) if any(walk_photos(path, EXTENSIONS)))


def _read_split(name: str, folder: str, classes: Sequence[str]) -> Split:
    """List the photos in the class folders of `folder`, sorted by path; no photo is opened."""
    split = Split(name, folder)
    for parent in folders_in(folder):
        listed = sorted(walk_photos(parent, EXTENSIONS, split))
        split.found += len(listed)
        if not listed:
            split.reject(parent, "a folder without photos")
            continue
        label = classes.index(os.path.basename(parent))
        for path in listed:
            with split.rejecting(path):
                split.photos.append(look_at(path, os.path.relpath(path, folder), label))
    for entry in os.scandir(folder):
        if entry.is_file() and is_photo(folder, entry.name):
            split.found += 1
            split.reject(entry.path, "not in a class folder")
    split.rejected.sort()
    return split
