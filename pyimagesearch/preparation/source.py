"""What is known of a source: its splits, their photos, and the files that are left out."""

import os
import re
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from pyimagesearch import config
from pyimagesearch.data.decoding import EXTENSIONS, is_hidden, is_photo
from pyimagesearch.data.labels_csv import read_csv
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line

RATE_FLAGS = {"evaluation": "--test-rate", "validation": "--val-rate"}
CLASS_LIST = "classes.txt"
FEW = 5  # training photos of a class; fewer are reported
DROP = dict.fromkeys(("1", "1.0", "x", "yes", "true"), True) | dict.fromkeys(("", "0", "0.0", "no", "false"), False)
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
    _taken: dict[str, str] = field(default_factory=dict)  # by place in the dataset: the path of its photo

    def add(self, photo: Photo) -> None:
        """Take `photo`; raises Unusable if another has its place in the dataset."""
        first = self._taken.setdefault(one_place(photo.target), photo.path)
        if first != photo.path:
            raise Unusable(f"{one_line(os.path.relpath(first, self.folder))} has the same name and class")
        self.photos.append(photo)

    def reject(self, path: str, reason: str) -> None:
        self.rejected.append(Rejected(path, reason))

    @contextmanager
    def rejecting(self, path: str, given: str = "") -> Iterator[None]:
        """Reject `path` if the block raises Unusable; `given`, how a list names it, stands before the reason."""
        try:
            yield
        except Unusable as error:
            self.reject(path, f"{one_line(given)}: {error}" if given else str(error))


@dataclass
class SplitPlan:
    """How the missing splits of a source were drawn, see splitting.draw_missing. Written to prepared.json."""

    rates: dict[str, float]  # by split
    seed: int
    moved: dict[str, str]  # by target with "/": the split of each photo that `rates` and `seed` put elsewhere
    near_copies: bool = False  # whether they are kept in one split, as copies of equal bytes always are


@dataclass
class Source:
    """The photos of a source; the order of `classes` is the numbering of the labels."""

    folder: str
    classes: list[str]
    splits: list[Split]
    kind: Kind
    plan: SplitPlan | None = None
    notes: list[str] = field(default_factory=list)  # printed with the summary
    packed: str | None = None  # the archive, or what else was unpacked into `folder`
    copies: list[list[str]] = field(default_factory=list)  # the paths of photos with equal bytes
    corrections: str | None = None  # what correct_labels changed; in prepared.json

    @property
    def origin(self) -> str:
        """The path by which messages name the source."""
        return self.packed or self.folder

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

    def conflicts(self) -> list[tuple[int, str, str]]:
        """The photos with equal bytes in several classes: the number of each such group, the path and the class."""
        photo_of = {photo.path: photo for split in self.splits for photo in split.photos}
        groups = ([photo_of[path] for path in group if path in photo_of] for group in self.copies)
        several = [group for group in groups if len({self.label_of(photo) for photo in group}) > 1]
        return [
            (number, self.relative(photo.path), self.label_of(photo))
            for number, group in enumerate(several, 1)
            for photo in group
        ]

    def label_of(self, photo: Photo) -> str:
        return self.classes[photo.label]

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
        """Raise UserError if the photos are no dataset; returns lines on small and missing classes."""
        counts = self.class_counts()
        trained = counts["training"]
        for split in self.splits:
            here, rejected = counts[split.name], self.why_rejected(split)
            given = self.kind.walked and os.path.isdir(split.folder) and split.found and not self._is_drawn(split)
            if given and split.name != "training" and not here.keys() & trained:
                raise UserError(
                    f"{split.folder} has no usable photo of a class of training{rejected}; if its photos have no "
                    f"labels, move it away: {split.name} is then drawn from training, and distributed_inference.py "
                    "--images predicts them"
                )
            if not here:
                raise UserError(f"{self._part(split)} has no usable photo{rejected}; {self.kind.advice}")
            self._check_has(self.splits[0], here, split)
            if self._is_drawn(split):
                self._check_has(split, trained, self.splits[0])
        if len(trained) == 1:
            raise UserError(f"{self.origin} has photos of one class, {next(iter(trained))!r}; expected at least two")
        return self._small_classes(counts)

    def _is_drawn(self, split: Split) -> bool:
        return self.plan is not None and split.name in {"training", *self.plan.rates}

    def _part(self, split: Split) -> str:
        """The photos of `split`, in a message."""
        return f"{f'the {split.name} part of ' * self._is_drawn(split)}{split.folder}"

    def _check_has(self, split: Split, classes: Iterable[str], other: Split) -> None:
        """Raise UserError unless `split` has photos of all `classes`, which `other` has."""
        here = {self.classes[photo.label] for photo in split.photos}
        if missing := [name for name in classes if name not in here]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            others = "remove the files that are left out, so that others are drawn"
            advice = others if self._is_drawn(split) and split.rejected else self.kind.advice
            raise UserError(
                f"{self._part(split)} has no usable photo of class {missing[0]!r}{more}, which {other.name} has"
                f"{self.why_rejected(split)}; {advice}, or remove the class"
            )

    def _small_classes(self, counts: Mapping[str, Counter]) -> list[str]:
        """Lines on the classes that a split lacks, or of which it has few photos."""
        training, lines = counts["training"], []
        for split, count in counts.items():
            if missing := [one_line(name) for name in training if not count[name]]:
                which = ", ".join(first_few(missing))
                lines.append(f"{split} has no photo of {len(missing)} of {len(training)} classes: {which}")
        few = [one_line(name) for name in training if training[name] < FEW or 1 in (c[name] for c in counts.values())]
        if few:
            lines.append(f"fewer than {FEW} training photos, or one in another split: {', '.join(first_few(few))}")
        return lines + without_photos(name for name in self.classes if name not in training)

    def why_rejected(self, split: Split) -> str:
        """See commonest_reason."""
        return commonest_reason(split.rejected, self.relative)

    def class_counts(self) -> dict[str, Counter]:
        """By split: how many photos each class has."""
        return {split.name: Counter(self.classes[photo.label] for photo in split.photos) for split in self.splits}

    def table(self) -> str:
        """The table of counts that ends a preparation."""
        return class_table(self.classes, self.class_counts())


def correct_labels(source: Source, tables: Iterable[str]) -> None:
    """Leave out the photos that a person marked in `drop` of these label_issues.csv; put others in their `new_label`.

    A later table may name a photo by the place that an earlier one gave it. If another photo has that, the place is in
    a folder with the name of the former class.
    """
    photos = {_in_dataset(split, photo): (split, photo) for split in source.splits for photo in split.photos}
    labels = {name: n for n, whole in enumerate(source.classes) for name in (whole, whole.split("/")[0])}
    marks, unknown = [mark for table in tables for mark in _marks(table)], []
    for where, path, new in marks:
        if new and (new not in labels or not source.kind.has_splits):
            expected = ", ".join(first_few(source.classes, 20)) if source.kind.has_splits else "several a photo"
            raise UserError(f"{where}: new_label is {new!r}; the labels of {source.origin} are {expected}")
        if path not in photos:
            unknown.append(f"{where}: {path}")
            continue
        split, photo = photos.pop(path)
        if new:
            former, folder = (os.path.join(*source.classes[n].split("/")) for n in (photo.label, labels[new]))
            photo = photo._replace(
                label=labels[new], target=os.path.join(folder, os.path.relpath(photo.target, former))
            )
            while (place := _in_dataset(split, photo)) in photos:
                photo = photo._replace(target=os.path.join(folder, former, os.path.relpath(photo.target, folder)))
            photos[place] = split, photo
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(marks)} marked rows name no photo of {source.origin}: "
            f"{', '.join(first_few(unknown, 3))}; give the flags of that dataset, its --exclude files before these"
        )
    for split in source.splits:
        split.photos = [photo for home, photo in photos.values() if home is split]
    dropped = sum(not new for *_, new in marks)
    source.corrections = f"{dropped} photos left out, {len(marks) - dropped} in another class"
    source.notes.append(source.corrections)


def _in_dataset(split: Split, photo: Photo) -> str:
    """The path of a photo in the dataset, as label_issues.csv has it."""
    return one_place(one_line(unicodedata.normalize("NFC", f"{split.name}/{photo.target.replace(os.sep, '/')}")))


def _marks(table: str) -> list[tuple[str, str, str]]:
    """Of each marked row its place for a message, the photo's path in the dataset, and its new class: "" for none."""
    header, rows = read_csv(table)
    if absent := [name for name in ("path", "drop", "new_label") if name not in header]:
        raise UserError(f"{table} has no column {' and '.join(absent)}; expected a label_issues.csv, marked")
    marks = []
    for line, cells in rows:
        row = {name: unicodedata.normalize("NFC", cell.strip()) for name, cell in zip(header, cells, strict=False)}
        drop, new = row.get("drop", ""), row.get("new_label", "")
        if (dropped := DROP.get(drop.lower())) is None:
            raise UserError(f"{table}, line {line}: drop is {drop!r}; expected 1, x, yes or true, or nothing")
        if dropped or new:
            marks.append((f"{table}, line {line}", one_place(row["path"]), "" if dropped else new))
    if not marks:
        raise UserError(f"{table} has no marked row; put an x in drop, or a class in new_label, and save it")
    return marks


def without_photos(names: Iterable[str]) -> list[str]:
    """The line on classes or labels that no photo has, if there are such."""
    shown = ", ".join(map(one_line, names))
    return [f"no split has a photo of: {shown}"] if shown else []


def commonest_reason(rejected: Sequence[Rejected], relative: Callable[[str], str] = os.path.basename) -> str:
    """How many files are left out, how many of them for the commonest reason, and one of these, for a message."""
    if not rejected:
        return ""
    kinds = [re.sub(r"'[^']*'|\d+", "", reason.rpartition(": ")[2]) for _, reason in rejected]
    kind, count = Counter(kinds).most_common(1)[0]
    path, reason = rejected[kinds.index(kind)]
    alike = "" if count == 1 else "all like " if count == len(rejected) else f"{count} of them like "
    return f", {len(rejected)} left out ({alike}{one_line(relative(path))}: {reason})"


def plan_flags(plan: SplitPlan | None) -> str:
    """The flags that repeat `plan`."""
    if plan is None:
        return "the splits of the source"
    rates = [f"{RATE_FLAGS[name]} {plan.rates[name]}" for name in config.SPLITS if name in plan.rates]
    return " ".join([*rates, f"--seed {plan.seed}", *["--group-near-copies"] * plan.near_copies])


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
