"""The source layouts that prepare_dataset can read: the raw Food-11 one, `training|validation|evaluation/K_N.ext`."""

import ntpath
import os
import re
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from imutils import paths

from pyimagesearch import config
from pyimagesearch.errors import UserError, one_line

CLASS_LIST = "classes.txt"
NAME_LIMIT = 255  # bytes of one folder name on common file systems
PHOTO_NAME = re.compile(r"([0-9]+)_[0-9]+\.[A-Za-z]+")
_EXPECTED = "expected photos named K_N.jpg, K the number of the class"
# kinds of image that imutils.paths.list_images does not list: said to be left out, lest they are missed later
OTHER_IMAGES = (".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".webp")


class Photo(NamedTuple):
    """A photo to be copied: where it lies, where it belongs below its split's folder, and how to know it again."""

    path: str
    target: str
    label: int
    size: int  # bytes
    mtime_ns: int


class Rejected(NamedTuple):
    """A file that is left out, and why."""

    path: str
    reason: str


@dataclass
class Split:
    """One split of a source: `found` counts the images that were listed, whatever became of them."""

    name: str
    folder: str
    found: int
    photos: list[Photo]
    rejected: list[Rejected]


@dataclass
class Source:
    """A folder of photos as it was read; the order of `classes` is the numbering of the labels."""

    folder: str
    classes: list[str]
    splits: list[Split]

    @property
    def rejected(self) -> list[Rejected]:
        """What was left out of all splits, each path relative to the source's folder and with "/" between its parts."""
        return [
            Rejected(os.path.relpath(path, self.folder).replace(os.sep, "/"), reason)
            for split in self.splits
            for path, reason in split.rejected
        ]


def read_source(folder: str | os.PathLike) -> Source:
    """List the photos of a source in the raw Food-11 layout, sorted by path; no photo is opened.

    Parameters
    ----------
    folder : holds training, validation and evaluation, with files K_N.ext in which K is the number of the class; a
        file classes.txt in it takes the place of config.CLASSES

    Raises
    ------
    UserError : the folder or a split is missing, or classes.txt cannot be used
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise UserError(_where_to_get(folder))
    if missing := [name for name in config.SPLITS if not os.path.isdir(os.path.join(folder, name))]:
        raise UserError(
            f"{folder} has no folder {' and no folder '.join(missing)}; expected {', '.join(config.SPLITS)} in it, "
            "each with photos named K_N.jpg, K the number of the class"
        )
    classes = read_classes(folder)
    return Source(folder, classes, [read_split(os.path.join(folder, name), classes) for name in config.SPLITS])


def _where_to_get(folder: str) -> str:
    what = "is not a folder" if os.path.lexists(folder) else "does not exist"
    return (
        f"the source {folder} {what}; Food-11 can be had from EPFL (mmspg.epfl.ch) and on Kaggle (vermaavi/food11; "
        f"trolukovich/food11-image-dataset has it in class folders), and must lie as {config.DATA_PATH}/"
        f"{'|'.join(config.SPLITS)}/K_N.jpg with K the number of the class, 0 to {len(config.CLASSES) - 1}; name "
        "another folder with --source, or use --sample for a drawn one"
    )


def read_classes(folder: str | os.PathLike) -> list[str]:
    """The names in the classes.txt of `folder`, one a line, blanks and empty lines ignored, else config.CLASSES.

    Raises
    ------
    UserError : the file cannot be read, or a name cannot be the name of a folder in the dataset: see check_classes
    """
    path = os.path.join(folder, CLASS_LIST)
    if not os.path.lexists(path):
        check_classes(config.CLASSES, "config.CLASSES")
        return list(config.CLASSES)
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file.read().split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); expected one class name a line") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected one class name a line") from None
    names = [name for name in names if name]
    check_classes(names, path)
    return names


def check_classes(names: Sequence[str], origin: str) -> None:
    """Raise UserError, which names `origin`, unless each of `names` can be a class folder of its own in the dataset.

    "Noodles/Pasta" makes nested folders, of which ImageFolder takes the top one for the class. So two names must differ
    in their top folder, and by more than case, which some file systems do not tell apart.
    """
    if not names:
        raise UserError(f"{origin} names no class; expected one name a line")
    tops: dict[str, str] = {}
    for name in names:
        if fault := _fault_of_class(name):
            raise UserError(f"{origin}: the class name {name!r} cannot be used: {fault}")
        top = _folded(name.split("/")[0])
        if tops.setdefault(top, name) is not name:
            both = f"{tops[top]!r} and {name!r}"
            raise UserError(
                f"{origin} has {both}, which would share one folder in the dataset; let the parts before any '/' "
                "differ, and by more than case"
            )


def _fault_of_class(name: str) -> str | None:
    parts = name.split("/")
    if "\\" in name:
        return "it has a backslash"
    if name.startswith("/") or ntpath.splitdrive(name)[0]:
        return "it is an absolute path"
    if any(not part.strip() for part in parts):
        return "a part of it is empty"
    if any(part.startswith(".") for part in parts):
        return "a part of it begins with a dot, as hidden folders and '..' do"
    if any(part != part.strip() or part.endswith(".") for part in parts):
        return "a part of it begins or ends with a blank or ends with a dot"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "it has a control character"
    if any(len(part.encode()) > NAME_LIMIT for part in parts):
        return f"a part of it is longer than {NAME_LIMIT} bytes"
    return None


def _folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def read_split(folder: str | os.PathLike, classes: Sequence[str]) -> Split:
    """List the photos below `folder`, sorted by path, and what cannot be one of them; no photo is opened.

    Files and folders whose names begin with a dot are passed over.

    Raises
    ------
    UserError : there is no such folder
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder; {_EXPECTED} in one")
    listed = sorted(path for path in paths.list_images(folder) if not _hidden(path[len(folder) :]))
    split = Split(os.path.basename(folder), folder, len(listed), [], list(_unlisted(folder)))
    taken: dict[str, str] = {}
    for path in listed:
        photo, fault = _photo(path, classes)
        if photo:
            first = taken.setdefault(_one_place(photo.target), path)
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
    try:
        status = os.stat(path)
    except OSError as error:
        return None, "a link that leads nowhere" if os.path.islink(path) else f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return None, "not a regular file"
    if not status.st_size:
        return None, "empty"
    if not os.access(path, os.R_OK):
        return None, "cannot be read: Permission denied"
    target = os.path.join(*classes[label].split("/"), name)
    return Photo(path, target, label, status.st_size, status.st_mtime_ns), None


def _one_place(target: str) -> str:
    """Equal for targets that are one file where Windows and macOS keep their files: they ignore case."""
    return _folded(target) if sys.platform in ("win32", "darwin") else target


def _unlisted(folder: str) -> Iterator[Rejected]:
    """What imutils passes over in silence although someone may take it for a photo or a folder of photos."""
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in folders:
            path = os.path.join(parent, name)
            if name.lower().endswith((*paths.image_types, *OTHER_IMAGES)):
                yield Rejected(path, "a folder, not a photo")
            elif os.path.islink(path):
                yield Rejected(path, "a link to a folder, which is not followed")
        for name in names:
            if name.lower().endswith(OTHER_IMAGES) and not _hidden(name):
                known = ", ".join(kind[1:] for kind in paths.image_types)
                yield Rejected(os.path.join(parent, name), f"of a kind that is not read; {known} are")
    for error in unreadable:
        yield Rejected(error.filename, f"cannot be listed: {error.strerror}")


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split(os.sep))


def check_complete(source: Source) -> list[str]:
    """The classes of which no split has a photo.

    Raises
    ------
    UserError : a split has no photo at all, or none of a class that another split has: training would refuse that
    """
    counts = {split.name: Counter(photo.label for photo in split.photos) for split in source.splits}
    for split in source.splits:
        if not split.photos:
            raise UserError(f"{split.folder} has no usable photo{_left_out(split)}; {_EXPECTED}")
    largest = max(counts, key=lambda name: len(counts[name]))
    for split in source.splits:
        if lacking := sorted(set(counts[largest]) - set(counts[split.name])):
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise UserError(
                f"{split.folder} has no usable photo of class {source.classes[lacking[0]]!r}{more} ({largest} has "
                f"{len(counts[largest])} classes, {split.name} {len(counts[split.name])}){_left_out(split)}; add some, "
                f"named {lacking[0]}_N.jpg, or remove the class from every split"
            )
    return [name for label, name in enumerate(source.classes) if label not in counts[largest]]


def _left_out(split: Split) -> str:
    if not split.rejected:
        return ""
    path, reason = split.rejected[0]
    return f", {len(split.rejected)} left out ({os.path.relpath(path, split.folder)}: {reason})"


def check_none_rejected(source: Source) -> None:
    """Raise UserError, which names the first few, when anything was left out of the source."""
    if rejected := source.rejected:
        first = "; ".join(f"{path}: {reason}" for path, reason in rejected[:3])
        more = f"; and {len(rejected) - 3} more" if len(rejected) > 3 else ""
        count = f"{len(rejected)} files" if len(rejected) > 1 else "a file"
        raise UserError(f"{source.folder} has {count} that cannot be used, which --strict forbids: {first}{more}")
