"""What is known of a source: its splits, their photos, and the files that are left out."""

import os
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from pyimagesearch import config
from pyimagesearch.data.decoding import EXTENSIONS, is_hidden, is_photo
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line

# common names of the three splits, in any case: of folders, or of files with a suffix
SPLIT_NAMES = {
    "training": ("training", "train"),
    "validation": ("validation", "valid", "val"),
    "evaluation": ("evaluation", "eval", "testing", "test"),
}
RATE_FLAGS = {"evaluation": "--test-rate", "validation": "--val-rate"}
CLASS_LIST = "classes.txt"
SHOWN = 5  # files that are printed before "and N more"


class Unusable(Exception):
    """A file, a line or a row cannot be used; the text is the reason in rejected.csv."""


class Kind(NamedTuple):
    """A kind of source."""

    name: str
    layout: str  # what it looks like
    advice: str  # how to add photos
    walked: bool = True  # photos are searched for in its folder; False: a list names them
    has_splits: bool = True  # False: each row of a table is assigned to a split, see splitting.assign_groups


class Photo(NamedTuple):
    """A photo to copy."""

    path: str
    target: str  # its path below the folder of its split in the dataset
    label: int
    size: int  # bytes
    mtime_ns: int


class Rejected(NamedTuple):
    """A file that is left out, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{one_line(self.path)}: {self.reason}"


@dataclass
class Split:
    """One split of a source; `found` counts all images that were listed, used or rejected."""

    name: str  # one of config.SPLITS
    folder: str  # of its photos, or the list that names them
    found: int = 0
    photos: list[Photo] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, path: str, reason: str) -> None:
        self.rejected.append(Rejected(path, reason))

    @contextmanager
    def rejecting(self, path: str, prefix: str = "") -> Iterator[None]:
        """Reject `path` if the block raises Unusable; `prefix` stands before the reason."""
        try:
            yield
        except Unusable as error:
            self.reject(path, f"{prefix}{error}")


@dataclass
class SplitPlan:
    """How the missing splits of a source were drawn, see splitting.draw_missing. Written to prepared.json."""

    rates: dict[str, float]  # by split
    seed: int
    moved: dict[str, str]  # by target with "/": the split of each photo that `rates` and `seed` put elsewhere


@dataclass
class Source:
    """The photos of a source; the order of `classes` is the numbering of the labels."""

    folder: str
    classes: list[str]
    splits: list[Split]
    kind: Kind
    plan: SplitPlan | None = None
    notes: list[str] = field(default_factory=list)  # printed with the summary

    @property
    def origin(self) -> str:
        """The path by which messages name the source."""
        return self.folder

    @property
    def settings(self) -> dict:
        """What prepared.json records besides classes and plan, and a later run must repeat to update the dataset."""
        return {}

    def texts(self) -> dict[str, str]:
        """The text files of the dataset, by file name."""
        return {CLASS_LIST: "".join(f"{name}\n" for name in self.classes)}

    @property
    def rejected(self) -> list[Rejected]:
        """The rejected files of all splits, by their paths relative to the source."""
        return [Rejected(self.relative(path), reason) for split in self.splits for path, reason in split.rejected]

    def relative(self, path: str) -> str:
        """`path` relative to the source's folder, with "/" between its parts."""
        with suppress(ValueError):  # on another drive of Windows
            path = os.path.relpath(path, self.folder)
        return path.replace(os.sep, "/")

    def summary(self) -> str:
        """One line: the kind of source, and how missing splits are drawn."""
        line = f"{one_line(self.origin)} holds {self.kind.name}"
        if self.plan:
            drawn = " and ".join(name for name in config.SPLITS if name in self.plan.rates)
            line += f"; {drawn} drawn by {plan_flags(self.plan)}"
        return "; ".join([line, *map(one_line, self.notes)])

    def check_none_rejected(self) -> None:
        """Raise UserError if any file was rejected."""
        if rejected := self.rejected:
            count = f"{len(rejected)} files" if len(rejected) > 1 else "a file"
            first = "; ".join(first_few(rejected, 3))
            raise UserError(f"{self.origin} has {count} that cannot be used, which --strict forbids: {first}")

    def check_complete(self) -> list[str]:
        """Return the classes without any photo; raise UserError if a split is empty or lacks a class of another."""
        counts = self.class_counts()
        largest = max(counts, key=lambda name: len(counts[name]))
        for split in self.splits:
            drawn = self.plan is not None and split.name in {"training", *self.plan.rates}
            what = f"{f'the {split.name} part of ' * drawn}{split.folder} has no usable photo"
            if not split.photos:
                raise UserError(f"{what}{self._first_rejected(split)}; {self.kind.advice}")
            if missing := [name for name in self.classes if name in counts[largest] and name not in counts[split.name]]:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                advice = "remove the files that are left out, so that others are drawn" if drawn else self.kind.advice
                raise UserError(
                    f"{what} of class {missing[0]!r}{more} ({largest} has {len(counts[largest])} classes, {split.name} "
                    f"{len(counts[split.name])}){self._first_rejected(split)}; {advice}, or remove the class"
                )
        return [name for name in self.classes if name not in counts[largest]]

    def _first_rejected(self, split: Split) -> str:
        if not split.rejected:
            return ""
        path, reason = split.rejected[0]
        return f", {len(split.rejected)} left out ({self.relative(path)}: {reason})"

    def class_counts(self) -> dict[str, Counter]:
        """By split: how many photos each class has."""
        return {split.name: Counter(self.classes[photo.label] for photo in split.photos) for split in self.splits}

    def table(self) -> str:
        """The table of counts that ends a preparation."""
        return class_table(self.classes, self.class_counts())


def plan_flags(plan: SplitPlan | None) -> str:
    """The flags that repeat `plan`."""
    if plan is None:
        return "the splits of the source"
    rates = [f"{RATE_FLAGS[name]} {plan.rates[name]}" for name in config.SPLITS if name in plan.rates]
    return " ".join([*rates, f"--seed {plan.seed}"])


def class_table(classes: Iterable[str], counts: Mapping[str, Counter]) -> str:
    """A table for the terminal: the photos of each class in each split, with totals; `counts` by split."""
    rows = [[one_line(name), *(str(count[name]) for count in counts.values())] for name in classes]
    return terminal.table([["class", *counts], *rows, ["total", *(str(count.total()) for count in counts.values())]])


def first_few(items: Sequence[object], shown: int = SHOWN) -> list[str]:
    """The first of `items` as text, and "and N more" if there are more."""
    return [*map(str, items[:shown]), *([f"and {len(items) - shown} more"] if len(items) > shown else [])]


def print_first(items: Sequence[object], file: IO | None = None) -> None:
    """Print the first few of `items`, indented, one per line."""
    for line in first_few(items):
        print(f"  {line}", file=file)


def find_splits(folder: str, suffix: str = "") -> dict[str, str]:
    """The paths of the splits in `folder`, by their names in config.SPLITS: folders, or files such as VAL.TXT if
    `suffix` is ".txt"."""
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


def folders_in(folder: str) -> list[str]:
    """The paths of the folders directly in `folder`, sorted, without hidden ones."""
    return sorted(entry.path for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))


def walk_photos(folder: str, suffixes: tuple[str, ...], split: Split | None = None) -> Iterator[str]:
    """Yield each photo below `folder`, see is_photo, in any order; with `suffixes` other than EXTENSIONS only those.

    What a person may take for a photo, but is not yielded, `split` rejects.
    """
    split = split or Split("", folder)
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in folders:
            path = os.path.join(parent, name)
            if name.lower().endswith(EXTENSIONS):
                split.reject(path, "a folder, not a photo")
            elif os.path.islink(path):
                split.reject(path, "a link to a folder, which is not followed")
        for path in (os.path.join(parent, name) for name in names if is_photo(parent, name)):
            if suffixes == EXTENSIONS or path.lower().endswith(suffixes):
                yield path
            else:
                split.reject(path, not_read(suffixes))
    for error in errors:
        split.reject(error.filename, f"cannot be listed: {error.strerror}")


def look_at(path: str, target: str, label: int) -> Photo:
    """The photo at `path`, not opened yet; raises Unusable if it cannot be one."""
    try:
        status = os.stat(path)
    except OSError as error:
        link = os.path.islink(path)
        raise Unusable("a link that leads nowhere" if link else f"cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("not a regular file")
    if not status.st_size:
        raise Unusable("empty")
    if not os.access(path, os.R_OK):
        raise Unusable("cannot be read: Permission denied")
    return Photo(path, target, label, status.st_size, status.st_mtime_ns)


def not_read(suffixes: Sequence[str]) -> str:
    """The reason for rejecting an image with none of `suffixes`."""
    return f"of a kind that is not read; {', '.join(suffix[1:] for suffix in suffixes)} are"


def one_place(target: str) -> str:
    """Equal for targets that are one file on this system: Windows and macOS ignore case."""
    return folded(target) if sys.platform in ("win32", "darwin") else target


def folded(name: str) -> str:
    """Equal for names that any common file system takes for the same."""
    return unicodedata.normalize("NFC", name).casefold()
