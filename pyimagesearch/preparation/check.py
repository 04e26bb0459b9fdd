"""Is a dataset fit to train on? Looks at every photo of it, and changes nothing."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pyimagesearch import config
from pyimagesearch.data import labels_csv
from pyimagesearch.data.decoding import EXTENSIONS, describe_fault, open_photo, photos_below, read_photo
from pyimagesearch.preparation.copying import SHOWN
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.threads import in_threads

FEW = 10  # training photos of a class below which it is said to have few
UNEVEN = 10  # times as many training photos as the smallest class has, from which the largest is told


class CheckedPhoto(NamedTuple):
    """Where a photo belongs: as training takes it, the class is the folder directly below that of the split."""

    path: str
    split: str
    label: str


class Facts(NamedTuple):
    """What is known of a photo's file; only `fault` of one that cannot be read."""

    fault: str | None
    digest: bytes = b""
    kind: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)  # pixels: width, height, as stored


class Finding(NamedTuple):
    """A line of the report, and the first few of the photos or classes that it speaks of."""

    line: str
    examples: Sequence[str] = ()


def check(folder: str, *, workers: int | None = None) -> int:
    """Print what there is to say of the dataset in `folder` and, last, a verdict.

    Problems make training stop or make what it measures wrong: photos that cannot be read, the same photo in two splits
    or in two classes, a class that a split lacks. The rest is worth knowing: few photos of a class, very uneven
    classes, copies of a photo within its class, files that training passes over.

    Parameters
    ----------
    folder : holds training, validation and evaluation, each with a folder a class, and need not be made by
        prepare_dataset; or photos with several labels and their table
    workers : threads; None takes one a core

    Returns
    -------
    the exit status: 0 where it is fit to train on, 1 where there are problems

    Raises
    ------
    UserError : `folder` is no dataset
    """
    table = labels_csv.read_label_table(folder) if os.path.isfile(os.path.join(folder, labels_csv.LABELS_CSV)) else None
    classes, photos = ({}, list_table(folder, table)) if table else list_dataset(folder)
    terminal.info(f"checking the {len(photos):,} photos of {one_line(folder)}...")
    facts = in_threads(inspect_photo, [photo.path for photo in photos], workers, "checking")
    readable = [(photo, fact) for photo, fact in zip(photos, facts, strict=True) if fact.fault is None]
    names = [one_line(os.path.relpath(photo.path, folder)) for photo in photos]

    counts = Counter((photo.split, photo.label) for photo, _ in readable)
    everywhere = sorted({label for labels in classes.values() for label in labels})
    if not terminal.quiet:
        print(terminal.table(table.counts()) if table else _count_table(counts, everywhere))
        for line in _describe(readable):
            terminal.info(line)

    broken = [f"{name}: {fact.fault}" for name, fact in zip(names, facts, strict=True) if fact.fault]
    problems = [] if table else [*_lacking(folder, classes, photos, everywhere)]
    if broken:
        problems.append(Finding(f"{_photos(len(broken))} cannot be read", broken))
    leaks, contradictions, copies = _duplicates(photos, facts, names)
    if leaks:
        problems.append(Finding(f"{_photos(len(leaks))} in more than one split", leaks))
    if contradictions:
        what = "under more than one set of labels" if table else "in more than one class"
        problems.append(Finding(f"{_photos(len(contradictions))} {what}", contradictions))
    notes = [*_one_sided(table)] if table else [*_uneven(counts, everywhere), *_passed_over(folder, classes)]
    if copies:
        what = "with the same labels in the same split" if table else "in the same class and split"
        notes.append(Finding(f"{_photos(len(copies))} more than once {what}", copies))

    for kind, findings in (("note", () if terminal.quiet else notes), ("problem", problems)):
        for finding in findings:
            print(f"[INFO] {kind}: {finding.line}")
            for example in finding.examples[:SHOWN]:
                print(f"  {example}")
            if len(finding.examples) > SHOWN:
                print(f"  and {len(finding.examples) - SHOWN} more")
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    print(
        f"[INFO] verdict: {one_line(folder)} is " + (f"not fit to train on: {count}" if problems else "fit to train on")
    )
    return 1 if problems else 0


def list_table(folder: str, table: labels_csv.LabelTable) -> list[CheckedPhoto]:
    """The photos of a table, their splits or folds, and as one text the labels that they have."""
    rows = zip(table.images, table.splits, table.values.tolist(), strict=True)
    return [
        CheckedPhoto(os.path.join(folder, labels_csv.PHOTOS_FOLDER, image), split, str(has))
        for image, split, has in rows
    ]


def list_dataset(folder: str) -> tuple[dict[str, list[str]], list[CheckedPhoto]]:
    """The class folders of each split that is there, and all photos, as training finds them.

    Raises
    ------
    UserError : `folder` has none of the three splits, or no class folder in any
    """
    splits = [name for name in config.SPLITS if os.path.isdir(os.path.join(folder, name))]
    if not splits:
        what = "has none of the folders " + ", ".join(config.SPLITS) if os.path.isdir(folder) else "is no folder"
        raise UserError(f"{folder} {what}; name a dataset that prepare_dataset.py made, or one of the same layout")
    classes = {name: _class_folders(os.path.join(folder, name)) for name in splits}
    if not any(classes.values()):
        raise UserError(
            f"{folder} has no class folders in {', '.join(splits)}; if its photos are named K_N.jpg, prepare it first: "
            f"--source {folder}"
        )
    photos = [
        CheckedPhoto(path, split, label)
        for split, labels in classes.items()
        for label in labels
        for path in photos_below(os.path.join(folder, split, label))
    ]
    return classes, photos


def _class_folders(split: str) -> list[str]:
    with os.scandir(split) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def inspect_photo(path: str) -> Facts:
    """What is known of the photo at `path`, which is wholly decoded here."""
    try:
        with open_photo(path) as image:
            kind, mode, size = image.format, image.mode, image.size
        read_photo(path)
        digest = hashlib.blake2b(digest_size=16)
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except Exception as error:  # Pillow's readers of broken files raise nearly anything
        return Facts(describe_fault(error))
    return Facts(None, digest.digest(), kind, mode, size)


def _count_table(counts: Counter, classes: Sequence[str]) -> str:
    rows = [["class", *config.SPLITS]]
    rows += [[one_line(name), *(f"{counts[split, name]}" for split in config.SPLITS)] for name in classes]
    totals = [sum(counts[split, name] for name in classes) for split in config.SPLITS]
    return terminal.table([*rows, ["total", *map(str, totals)]])


def _describe(readable: Sequence[tuple[CheckedPhoto, Facts]]) -> Iterator[str]:
    if not readable:
        return
    sizes = sorted((fact.size for _, fact in readable), key=lambda size: (size[0] * size[1], size))
    least, median, most = (f"{size[0]} x {size[1]}" for size in (sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    yield f"pixels: {least} the smallest, {median} the median, {most} the largest"
    for name in ("kind", "mode"):
        of_each = Counter(getattr(fact, name) for _, fact in readable).most_common()
        yield f"{name}s: " + ", ".join(f"{count:,} {value}" for value, count in of_each)


def _lacking(folder: str, classes: dict[str, list[str]], photos, everywhere: Sequence[str]) -> Iterator[Finding]:
    """The splits that are not there, and the classes that a split lacks."""
    found = {(photo.split, photo.label) for photo in photos}
    for split in config.SPLITS:
        if split not in classes:
            yield Finding(f"there is no folder {one_line(os.path.join(folder, split))}")
            continue
        lacking = []
        for name in (name for name in everywhere if (split, name) not in found):
            alike = [other for other in classes[split] if other.casefold() == name.casefold() and other != name]
            why = "the folder has no photo" if name in classes[split] else "no folder"
            why += f", but there is {alike[0]!r}" if alike else ""
            lacking.append(f"{name!r}: {why}")
        if lacking:
            yield Finding(f"{split} lacks {len(lacking)} of {len(everywhere)} classes", lacking)


def _duplicates(photos: Sequence[CheckedPhoto], facts: Sequence[Facts], names: Sequence[str]) -> tuple[list[str], ...]:
    """The photos whose bytes are there more than once: in several splits, else in several classes, else in one."""
    places: dict[bytes, list[int]] = {}
    for index, fact in enumerate(facts):
        if fact.fault is None:
            places.setdefault(fact.digest, []).append(index)
    leaks, contradictions, copies = [], [], []
    for same in places.values():
        if len(same) == 1:
            continue
        several_splits = len({photos[index].split for index in same}) > 1
        several_classes = len({photos[index].label for index in same}) > 1
        kind = leaks if several_splits else contradictions if several_classes else copies
        kind.append(" = ".join(names[index] for index in same[:SHOWN]) + (" = ..." if len(same) > SHOWN else ""))
    return leaks, contradictions, copies


def _one_sided(table: labels_csv.LabelTable) -> Iterator[Finding]:
    """The labels that no photo of a split or fold has, or each: nothing can be measured of them there."""
    splits = np.array(table.splits)
    for side in table.sides:
        share = table.values[splits == side].mean(axis=0)
        shares = zip(table.labels, share.tolist(), strict=True)
        if found := [f"{name!r}: {'each' if has else 'none'}" for name, has in shares if has in (0, 1)]:
            yield Finding(f"{side} has no ROC AUC of {len(found)} labels, which each photo has or none", found)


def _uneven(counts: Counter, classes: Sequence[str]) -> Iterator[Finding]:
    """What is to be said of how many training photos the classes have."""
    training = {name: counts[config.SPLITS[0], name] for name in classes}
    if len(classes) == 1:
        yield Finding(f"there is one class, {classes[0]!r}: a classifier has nothing to tell apart")
    if few := [f"{name!r}: {count}" for name, count in training.items() if 0 < count < FEW]:
        have = "have" if len(few) > 1 else "has"
        yield Finding(f"{len(few)} of {len(classes)} classes {have} fewer than {FEW} training photos", few)
    smallest, largest = (choose(training, key=training.get) for choose in (min, max))
    if 0 < training[smallest] * UNEVEN <= training[largest]:
        yield Finding(
            f"very uneven classes: {training[largest]} training photos of {largest!r}, {training[smallest]} "
            f"of {smallest!r}"
        )


def _passed_over(folder: str, classes: dict[str, list[str]]) -> Iterator[Finding]:
    """The files of a split that training does not look at, by their kind."""
    for split in classes:
        top = os.path.join(folder, split)
        kinds: Counter = Counter()
        for parent, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in (name for name in names if not name.startswith(".")):
                kind = os.path.splitext(name)[1].lower()
                if kind not in EXTENSIONS:
                    kinds[kind or "no ending"] += 1
                elif parent == top:
                    kinds["photos in no class folder"] += 1
        if kinds:
            of_each = ", ".join(f"{count:,} ({one_line(kind)})" for kind, count in kinds.most_common(SHOWN))
            yield Finding(f"{split} has files that training passes over: {of_each}")


def _photos(count: int) -> str:
    return f"{count:,} photo{'s' if count > 1 else ''}"
