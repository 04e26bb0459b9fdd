"""Class folders: `<split>/<class>/...` under the usual names of splits, or `<class>/...` without any."""

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from pyimagesearch.data.decoding import EXTENSIONS, find_splits, folders_in, is_photo
from pyimagesearch.preparation.readers import file_names, text_lists
from pyimagesearch.preparation.readers.class_names import check_class_names, read_classes
from pyimagesearch.preparation.source import CLASS_LIST, Kind, Source, Split, first_few, look_at, walk_photos
from pyimagesearch.runtime.errors import UserError

KIND = Kind("class folders", "a folder per class, in train, val and test or without splits", "add some")
# folders of a split (bullet_train too, which alone is a class) or of any photos
HARDLY_CLASS = re.compile(
    r"(?:.*[-_. ])?(train|val|test|eval|pred)(?:ing|id|idation|uation|iction)?(?:[-_. ]?(?:set|images?|imgs?|photos?))?"
    r"|images?|imgs?|photos?|pictures?|data|masks?|annotations?",
    re.IGNORECASE,
)


def found(folder: str) -> bool:
    """Whether there are class folders in the splits of `folder`, or directly in it without text lists beside them."""
    if file_names.found(folder):
        return False
    named, others = _split_and_other_folders(folder)
    return any(_with_photos(named.values())) or (any(others) and not text_lists.found(folder))


def read(folder: str) -> Source:
    """List the photos in the class folders of `folder`, at any depth; without splits all are training photos."""
    named, others = _split_and_other_folders(folder)
    if others and named and not (len(named) > 1 and any(_with_photos(named.values()))):
        shown = ", ".join(sorted(map(os.path.basename, named.values())))
        some = ", ".join(map(os.path.basename, others[:3]))
        raise UserError(
            f"{folder} holds {shown}, named like splits, beside the class folder{'s' * (len(others) > 1)} {some}; "
            "move or rename one of them"
        )
    folders = _inside_wrappers(named) or {"training": folder}
    tops = list(_with_photos(folders.values()))
    _check_are_classes(folder, tops)
    class_of, notes = _classes(folder, {os.path.basename(path) for path in tops})
    walked = [os.path.relpath(folders[name], folder) for name in named if folders[name] != named[name]]
    notes += [f"its class folders are in {' and '.join(walked)}"] * bool(walked)
    classes = sorted(set(class_of.values()))
    check_class_names(classes, folder)
    splits = [_read_split(name, path, classes, class_of) for name, path in folders.items()]
    return Source(folder, classes, splits, KIND, notes=notes)


def only_way(folder: str, classes: Collection[str] = ()) -> str:
    """The folder below `folder` where splits, lists or several folders of photos are, if only one way leads there.

    classes : names of folders that are not gone into
    """
    inner = folder
    while not _has_photos(inner) and len(below := list(_with_photos([inner]))) == 1:
        if _has_photos(below[0]) or os.path.islink(below[0]) or os.path.basename(below[0]) in classes:
            break
        inner = below[0]
        if find_splits(inner) or find_splits(inner, ".txt"):
            break
    return inner


def _inside_wrappers(named: Mapping[str, str]) -> dict[str, str]:
    """The folder of each split's class folders: train/images where it holds all of them."""
    tops = {name: [os.path.basename(path) for path in _with_photos([folder])] for name, folder in named.items()}
    classes = {top for several in tops.values() if len(several) > 1 for top in several}
    return {name: only_way(folder, classes) for name, folder in named.items()}


def _check_are_classes(folder: str, tops: Sequence[str]) -> None:
    """Raise UserError if the folders `tops` are named like splits or collections, or hold each other's copies."""
    names = sorted({os.path.basename(path) for path in tops})
    inner = {path: list(map(os.path.basename, _with_photos([path]))) for path in tops if not _has_photos(path)}
    splits = [path for path in sorted(set(map(os.path.dirname, tops))) if path != folder and len(find_splits(path)) > 1]
    ways = map(only_way, sorted(inner, key=lambda path: "train" not in path.lower()))
    likely = next((way for way in (*splits, *ways) if len(list(_with_photos([way]))) > 1), None)
    source = f"; if the classes are in {likely}, give --source {shlex.quote(likely)}" if likely else ""
    kinds = {(match[1] or match[0]).lower() for match in map(HARDLY_CLASS.fullmatch, names) if match}
    if len(kinds) > 1:
        raise UserError(
            f"{folder} has the folders {', '.join(first_few(names))}, which are named like splits or collections of "
            f"photos and not like classes{source or file_names.suggestion(folder)}; or name the splits train, val and "
            "test; or, if these are the classes, give --label-pattern top"
        )
    if len(names) == 1 and (hint := source or file_names.suggestion(folder)):
        raise UserError(f"{folder} has one class folder, {names[0]}, where at least two are expected{hint}")
    for path, below in inner.items():
        if len(same := sorted({*below} & {*names})) > 1:
            raise UserError(
                f"{path} holds folders named as those beside it, {', '.join(first_few(same))}; move it away if it is a "
                f"copy, or give --source {shlex.quote(path)}"
            )
    shared = Counter(name for below in inner.values() for name in below)
    if len(tops) > 1 and len(inner) == len(tops) and len(shared) > 1 and min(shared.values()) > len(tops) / 2:
        raise UserError(
            f"each folder in {folder} holds the same folders, {', '.join(first_few(sorted(shared)))}, and no photo of "
            "its own; if those are the classes, give --label-pattern parent, and if the outer ones are, such as "
            f"{names[0]}, --label-pattern top"
        )


def _classes(folder: str, names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The class of each name of a folder, and what is to be said of it; one Unicode form, NFC, as systems differ."""
    class_of = {name: unicodedata.normalize("NFC", name) for name in sorted(names)}
    notes = []
    if twice := [name for name, count in Counter(class_of.values()).items() if count > 1]:
        notes.append(f"{', '.join(first_few(twice))}: one class, though its folders are spelled in two Unicode forms")
    if (listed := read_classes(folder)) is None:
        return class_of, notes
    numbers = {name: int(name) for name in class_of.values() if name.isdecimal()}
    first = min(numbers.values(), default=0)
    if first < 2 and len(numbers) == len(class_of) and sorted(numbers.values()) == [*range(first, first + len(listed))]:
        notes.append(f"{CLASS_LIST} names the folders {first} to {first + len(listed) - 1}")
        return {name: listed[numbers[one] - first] for name, one in class_of.items()}, notes
    if not {name.split("/")[0] for name in listed} >= set(class_of.values()):
        notes.append(f"{CLASS_LIST} is not used: its {len(listed)} names do not fit the {len(class_of)} class folders")
    return class_of, notes


def _split_and_other_folders(folder: str) -> tuple[dict[str, str], list[str]]:
    """The folders in `folder` that are named like splits, and the others that hold photos."""
    named = find_splits(folder)
    return named, [path for path in _with_photos([folder]) if path not in named.values()]


def _with_photos(folders: Iterable[str]) -> Iterator[str]:
    """The folders directly in `folders` that hold a photo at any depth."""
    for folder in folders:
        yield from (path for path in folders_in(folder) if any(walk_photos(path, EXTENSIONS)))


def _has_photos(folder: str) -> bool:
    """Whether there is a photo directly in `folder`."""
    with os.scandir(folder) as entries:
        return any(entry.is_file() and is_photo(folder, entry.name) for entry in entries)


def _read_split(name: str, folder: str, classes: Sequence[str], class_of: Mapping[str, str]) -> Split:
    """List the photos in the class folders of `folder`, sorted by path; no photo is opened."""
    split = Split(name, folder)
    for parent in folders_in(folder):
        listed = sorted(walk_photos(parent, EXTENSIONS, split))
        split.found += len(listed)
        if not listed:
            split.reject(parent, "a folder without photos")
            continue
        label = class_of[os.path.basename(parent)]
        number, place = classes.index(label), os.path.join(*label.split("/"))
        for path in listed:
            with split.rejecting(path):
                split.add(look_at(path, os.path.join(place, os.path.relpath(path, parent)), number))
    for entry in os.scandir(folder):
        if entry.is_file() and is_photo(folder, entry.name):
            split.found += 1
            split.reject(entry.path, "not in a class folder")
    split.rejected.sort()
    return split
