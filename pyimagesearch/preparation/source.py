"""What is known of a source: its splits, their photos, and what of it is left out."""

import ntpath
import os
import stat
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from pyimagesearch import config
from pyimagesearch.runtime.errors import UserError

# what the three splits are usually called, in any case: folders, or files of such a name and a suffix
SPLIT_NAMES = {
    "training": ("training", "train"),
    "validation": ("validation", "valid", "val"),
    "evaluation": ("evaluation", "eval", "testing", "test"),
}
# kinds of image that not all readers list: said to be left out, lest they are missed later
OTHER_IMAGES = (".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".webp")


class Kind(NamedTuple):
    """A kind of source."""

    name: str
    layout: str  # what it looks like
    advice: str  # what to do where it lacks photos
    walked: bool = True  # all that lies in its folder is taken, in place of what a list names


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
    """One split of a source: `found` counts the images that were listed, whatever became of them.

    `name` is one of config.SPLITS; `folder` is where its photos lie, or the list that names them.
    """

    name: str
    folder: str
    found: int
    photos: list[Photo]
    rejected: list[Rejected]


@dataclass
class SplitPlan:
    """How splits that a source lacks were drawn: see splitting.draw_missing."""

    rates: dict[str, float]  # by split
    seed: int
    moved: dict[str, str]  # the split of each photo, by its target with "/", that is not where rates and seed have it


@dataclass
class Source:
    """Photos as they were found; the order of `classes` is the numbering of the labels."""

    folder: str
    classes: list[str]
    splits: list[Split]
    kind: Kind
    drawing: SplitPlan | None = None
    notes: list[str] = field(default_factory=list)  # what a person should know of how it was read

    @property
    def origin(self) -> str:
        """The path that stands for the source."""
        return self.folder

    @property
    def settings(self) -> dict:
        """What a later preparation must have alike, besides classes and drawing, to change the same dataset."""
        return {}

    def lists(self) -> dict[str, str]:
        """The texts that a dataset has beside its photos, by the name of the file."""
        return {CLASS_LIST: "".join(f"{name}\n" for name in self.classes)}

    @property
    def rejected(self) -> list[Rejected]:
        """What was left out of all splits, each path as `relative` gives it."""
        return [Rejected(self.relative(path), reason) for split in self.splits for path, reason in split.rejected]

    def relative(self, path: str) -> str:
        """`path` as it is seen from the source's folder, with "/" between its parts."""
        with suppress(ValueError):  # on another drive of Windows
            path = os.path.relpath(path, self.folder)
        return path.replace(os.sep, "/")


def find_splits(folder: str, suffix: str = "") -> dict[str, str]:
    """The path of each split that `folder` has under one of its usual names, by the name in config.SPLITS.

    Parameters
    ----------
    suffix : "" looks for folders, ".txt" for files train.txt, VAL.TXT, ...

    Raises
    ------
    UserError : two are for one split
    """
    found: dict[str, str] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = entry.name.lower()
        if not name.endswith(suffix) or not (entry.is_file() if suffix else entry.is_dir()):
            continue
        for split in config.SPLITS:
            if name.removesuffix(suffix) in SPLIT_NAMES[split]:
                if split in found:
                    both = f"{os.path.basename(found[split])} and {entry.name}"
                    raise UserError(f"{folder} has both {both} for {split}; keep one of them there")
                found[split] = entry.path
    return {split: found[split] for split in config.SPLITS if split in found}


def look_at(path: str, target: str, label: int) -> tuple[Photo | None, str | None]:
    """The photo at `path`, and the reason why it is none: one of them is None. It is not opened."""
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
    return Photo(path, target, label, status.st_size, status.st_mtime_ns), None


def one_place(target: str) -> str:
    """Equal for targets that are one file where Windows and macOS keep their files: they ignore case."""
    return folded(target) if sys.platform in ("win32", "darwin") else target


def unlisted(folder: str, kinds: tuple[str, ...]) -> Iterator[Rejected]:
    """What imutils, asked for `kinds`, passes over although someone may take it for a photo or a folder of photos."""
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not hidden(name)]
        for name in folders:
            path = os.path.join(parent, name)
            if name.lower().endswith((*kinds, *OTHER_IMAGES)):
                yield Rejected(path, "a folder, not a photo")
            elif os.path.islink(path):
                yield Rejected(path, "a link to a folder, which is not followed")
        for name in names:
            if name.lower().endswith(OTHER_IMAGES) and not name.lower().endswith(kinds) and not hidden(name):
                yield Rejected(os.path.join(parent, name), not_read(kinds))
    for error in unreadable:
        yield Rejected(error.filename, f"cannot be listed: {error.strerror}")


def not_read(kinds: Sequence[str]) -> str:
    """Why a file of another kind is left out."""
    return f"of a kind that is not read; {', '.join(kind[1:] for kind in kinds)} are"


def hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split(os.sep))


CLASS_LIST = "classes.txt"
NAME_LIMIT = 255  # bytes of one folder name on common file systems


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
        if fault := fault_of_class(name):
            raise UserError(f"{origin}: the class name {name!r} cannot be used: {fault}")
        top = folded(name.split("/")[0])
        if top in tops:
            both = f"{tops[top]!r} and {name!r}"
            raise UserError(
                f"{origin} has {both}, which would share one folder in the dataset; let the parts before any '/' "
                "differ, and by more than case"
            )
        tops[top] = name


def fault_of_class(name: str) -> str | None:
    """Why `name` cannot be a class folder; None when it can."""
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


def folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()
