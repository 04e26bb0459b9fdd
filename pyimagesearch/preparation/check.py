"""--check: is a dataset fit to train on? Looks at each of its photos, and changes nothing."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pyimagesearch import config
from pyimagesearch.data import copies, decoding, labels_csv
from pyimagesearch.data.labels_csv import LabelTable
from pyimagesearch.preparation.readers.csv_table import LabelSource
from pyimagesearch.preparation.source import FEW, SHOWN, Source, class_table, print_first
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import atomic_write
from pyimagesearch.runtime.threads import in_threads

FLAT = 8  # of 255: photos whose pixels, but for 1 % at each end, differ less are noted
NEAR_COPIES = "-near-copies.png"  # after the name of the dataset
ROWS, COLUMNS, THUMBNAIL = 40, 4, 180  # of that picture: groups, photos of each, pixels
UNEVEN = 10  # ratio of the largest to the smallest class in training, from which it is noted


class CheckedPhoto(NamedTuple):
    """A photo of the dataset, and what its file holds: only the `fault` if it cannot be read."""

    path: str
    name: str  # in messages
    split: str
    label: str  # as training takes it: the folder directly below that of the split
    fault: str | None = None
    digest: bytes = b""
    hash: int | None = None  # see copies.perceptual_hash
    kind: str | None = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)  # pixels: width, height, as stored
    flat: bool = False  # almost all of its pixels have one value
    white: float = 0  # the value of white that it seems to use, if it is grey of more than 8 bits


class Finding(NamedTuple):
    """A line of the report, and the photos or classes that it is about."""

    line: str
    examples: Sequence[str] = ()


def check(folder: str, *, workers: int | None = None) -> int:
    """Check the dataset in `folder` and print a report; returns the exit status: 1 if there are problems, else 0.

    Problems make training stop, or make what it measures wrong; notes are worth knowing. The dataset needs no
    preparation by this project; it holds class folders, or a labels.csv and its photos.
    """
    if os.path.isfile(os.path.join(folder, labels_csv.LABELS_CSV)):
        table = labels_csv.read_label_table(folder)
        names = [os.path.join(labels_csv.PHOTOS_FOLDER, image) for image in table.images]
        rows = zip(names, table.splits, table.values.tolist(), strict=True)
        photos = [CheckedPhoto(os.path.join(folder, name), one_line(name), split, str(v)) for name, split, v in rows]
        return _check(folder, photos, table, workers, [], [])
    folders, photos = list_dataset(folder)
    absent = [os.path.join(folder, split) for split in config.SPLITS if split not in folders]
    problems = [Finding(f"there is no folder {one_line(path)}") for path in absent]
    return _check(folder, photos, folders, workers, problems, [*_ignored(folder)])


def check_source(source: Source, *, workers: int | None = None) -> int:
    """As check, of the photos of a source that was unpacked; splits that it lacks would be drawn."""
    table = source.label_table() if isinstance(source, LabelSource) else None
    listed = [photo for split in source.splits for photo in split.photos]
    splits = table.splits if table else [split.name for split in source.splits for _ in split.photos]
    photos = [
        CheckedPhoto(photo.path, one_line(source.relative(photo.path)), split, source.label_of(photo))
        for photo, split in zip(listed, splits, strict=True)
    ]
    folders = table or {split: [*counts] for split, counts in source.class_counts().items()}
    return _check(
        source.origin, photos, folders, workers, [], _photos([*map(str, source.rejected)], "or files left out")
    )


def _check(
    folder: str, photos: Sequence[CheckedPhoto], labels: LabelTable | Mapping[str, Sequence[str]], workers: int | None,
    problems: list[Finding], notes: list[Finding],
) -> int:  # fmt: skip
    """Look at `photos` and print the report on the dataset or archive `folder`; returns the exit status.

    labels : the table of the photos, or the classes of each split
    """
    shown, table = one_line(folder), labels if isinstance(labels, LabelTable) else None
    terminal.info(f"checking the {len(photos):,} photos of {shown}...")
    photos = in_threads(inspect_photo, photos, workers, "checking")
    readable = [photo for photo in photos if photo.fault is None]
    folders = {} if isinstance(labels, LabelTable) else labels
    classes = sorted({label for several in folders.values() for label in several})
    counts = {split: Counter(photo.label for photo in readable if photo.split == split) for split in config.SPLITS}
    if not terminal.quiet:
        print(terminal.table(table.counts()) if table else class_table(classes, counts))
        for line in _sizes_and_kinds(readable):
            terminal.info(line)

    if table:
        notes += _constant_labels(table)
    else:
        lacking = _missing(folders, photos, classes)
        problems, notes = problems + lacking[0], [*lacking[1], *_uneven(counts["training"], classes), *notes]
    equal: dict[bytes, list[CheckedPhoto]] = {}
    for photo in readable:
        equal.setdefault(photo.digest, []).append(photo)
    leaks, contradictions, repeated = _sorted_out(equal.values(), "=")
    problems += _photos([f"{photo.name}: {photo.fault}" for photo in photos if photo.fault], "cannot be read")
    notes += _photos([*_doubts(readable)], "of hardly any contrast")
    problems += _photos(leaks, "in more than one split")
    problems += _photos(contradictions, "with more than one set of labels" if table else "in more than one class")
    same = "split, with the same labels" if table else "class and split"
    notes += _photos(repeated, f"more than once in the same {same}")
    if not terminal.quiet:
        notes += _near_copies([group[0] for group in equal.values()], same, os.path.abspath(folder) + NEAR_COPIES)
    return _report(shown, problems, () if terminal.quiet else notes)


def _report(shown: str, problems: Sequence[Finding], notes: Sequence[Finding]) -> int:
    for kind, findings in (("note", notes), ("problem", problems)):
        for finding in findings:
            print(f"[INFO] {kind}: {finding.line}")
            print_first(finding.examples)
    verdict = "fit to train on"
    if problems:
        verdict = f"not fit to train on: {len(problems)} problem{'s' * (len(problems) > 1)}"
    print(f"[INFO] verdict: {shown} is {verdict}")
    return 1 if problems else 0


def list_dataset(folder: str) -> tuple[dict[str, list[str]], list[CheckedPhoto]]:
    """The class folders of each split that `folder` has, and all photos."""
    splits = decoding.find_splits(folder) if os.path.isdir(folder) else {}
    if not splits:
        what = "has none of the folders " + ", ".join(config.SPLITS) if os.path.isdir(folder) else "is no folder"
        raise UserError(f"{folder} {what}; name a dataset that prepare_dataset.py made, or one of the same layout")
    folders = {split: list(map(os.path.basename, decoding.folders_in(path))) for split, path in splits.items()}
    if not any(folders.values()):
        raise UserError(
            f"{folder} has no class folders in {', '.join(splits)}; if its photos are named K_N.jpg, prepare it first: "
            f"--source {folder}"
        )
    photos = [
        CheckedPhoto(path, one_line(os.path.relpath(path, folder)), split, unicodedata.normalize("NFC", name))
        for split, names in folders.items()
        for name in names
        for path in decoding.photos_below(os.path.join(splits[split], name))
    ]
    return {split: [unicodedata.normalize("NFC", name) for name in names] for split, names in folders.items()}, photos


def inspect_photo(photo: CheckedPhoto) -> CheckedPhoto:
    """Decode the photo; returns it with what its file holds, which is read once."""
    try:
        file = decoding.read_file(photo.path)
        value_range = decoding.own_range(file) if decoding.is_deep(file) else None
        pixels = decoding.read_pixels(file, value_range)
        with decoding.open_photo(file) as image:
            photo = photo._replace(kind=image.format, mode=image.mode, size=image.size)
    except Exception as error:  # Pillow raises nearly any exception for a broken file
        return photo._replace(fault=decoding.describe_fault(error))
    step = max(1, min(pixels.shape[:2]) // 64)
    spread = np.ptp(np.percentile(pixels[::step, ::step], (1, 99), axis=(0, 1)), axis=0)
    return photo._replace(
        digest=copies.digest(file.getbuffer()),
        hash=copies.perceptual_hash(pixels),
        flat=bool(spread.max() < FLAT),
        white=value_range[1] if value_range else 0,
    )


def _doubts(readable: Sequence[CheckedPhoto]) -> Iterator[str]:
    """The photos whose pixels may not show what is meant, and why."""
    most = max((photo.white for photo in readable), default=0)
    for photo in readable:
        if 0 < 8 * photo.white < most:
            yield f"{photo.name}: dark: its values are below {photo.white:g}, where others reach {most:g}"
        elif photo.flat:
            yield f"{photo.name}: almost all pixels have one value"


def _sizes_and_kinds(readable: Sequence[CheckedPhoto]) -> Iterator[str]:
    if not readable:
        return
    sizes = sorted((photo.size for photo in readable), key=lambda size: (size[0] * size[1], size))
    smallest, median, largest = (f"{size[0]} x {size[1]}" for size in (sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    yield f"pixels: smallest {smallest}, median {median}, largest {largest}"
    for name in ("kind", "mode"):
        of_each = Counter(getattr(photo, name) for photo in readable).most_common()
        yield f"{name}s: " + ", ".join(f"{count:,} {value}" for value, count in of_each)


def _missing(
    folders: Mapping[str, Sequence[str]], photos: Sequence[CheckedPhoto], classes: Sequence[str]
) -> tuple[list[Finding], list[Finding]]:
    """The problems and the notes of classes that a split lacks."""
    problems, notes = list[Finding](), list[Finding]()
    found = {(photo.split, photo.label) for photo in photos}
    if len(classes) == 1:
        problems.append(Finding(f"there is only one class, {classes[0]!r}: nothing to classify"))
    for split, here in folders.items():
        missing = []
        for name in (name for name in classes if (split, name) not in found):
            alike = [other for other in here if other.casefold() == name.casefold() and other != name]
            why = "the folder has no photo" if name in here else "no folder"
            missing.append(f"{name!r}: {why}" + (f", but there is {alike[0]!r}" if alike else ""))
        if missing:
            wrong = split == "training" or len(missing) == len(classes)
            findings = problems if wrong else notes
            findings.append(Finding(f"{split} lacks {len(missing)} of {len(classes)} classes", missing))
    return problems, notes


def _near_copies(firsts: Sequence[CheckedPhoto], same: str, picture: str) -> Iterator[Finding]:
    """Photos that look alike, of which `firsts` has one of equal bytes; writes a picture of them."""
    groups = [[firsts[index] for index in group] for group in copies.near_groups([photo.hash for photo in firsts])]
    groups.sort(key=lambda group: len({photo.split for photo in group}) == 1)  # leaks first
    see = ""
    if groups:
        with suppress(OSError):  # a place where nobody can write
            _draw_groups(groups[:ROWS], picture)
            see = f", see {one_line(picture)}"
    places = "more than one split", "more than one class", f"the same {same}"
    for names, where in zip(_sorted_out(groups, "~"), places, strict=True):
        if names:
            yield Finding(f"{len(names):,} group{'s' * (len(names) > 1)} of near copies in {where}{see}", names)


def _draw_groups(groups: Sequence[Sequence[CheckedPhoto]], path: str) -> None:
    """Write a PNG with a row for each group: its first photos, each below the end of its name."""
    sheet = Image.new("RGB", (COLUMNS * (THUMBNAIL + 10), len(groups) * (THUMBNAIL + 20)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, group in enumerate(groups):
        for column, photo in enumerate(group[:COLUMNS]):
            left, top = column * (THUMBNAIL + 10), row * (THUMBNAIL + 20)
            pen.text((left, top), photo.name[-28:].encode("ascii", "replace").decode(), "black")
            sheet.paste(Image.fromarray(decoding.read_thumbnail(photo.path, THUMBNAIL)), (left, top + 14))
    with atomic_write(path) as file:
        sheet.save(file, "PNG")


def _sorted_out(groups: Iterable[Sequence[CheckedPhoto]], sign: str) -> tuple[list[str], list[str], list[str]]:
    """The groups of several photos: in several splits, else in several classes, else in one class and split."""
    leaks: list[str] = []
    contradictions: list[str] = []
    repeated: list[str] = []
    for same in (group for group in groups if len(group) > 1):
        several_splits = len({photo.split for photo in same}) > 1
        several_classes = len({photo.label for photo in same}) > 1
        found = leaks if several_splits else contradictions if several_classes else repeated
        shown = [photo.name for photo in same[:SHOWN]] + ["..."] * (len(same) > SHOWN)
        found.append(f" {sign} ".join(shown))
    return leaks, contradictions, repeated


def _constant_labels(table: LabelTable) -> Iterator[Finding]:
    """The labels that all photos of a split or fold have, or none: they cannot be measured there."""
    splits = np.array(table.splits)
    for split in table.split_names:
        values = table.values[splits == split]
        some = zip(table.labels, (values == 1).any(axis=0), (values == 0).any(axis=0), strict=True)
        if found := [f"{name!r}: {'all' if has else 'none'}" for name, has, lacks in some if not (has and lacks)]:
            count = f"{len(found)} labels" if len(found) > 1 else "a label"
            yield Finding(f"{split} has no ROC AUC for {count}, which all of its photos have, or none", found)


def _uneven(training: Counter, classes: Sequence[str]) -> Iterator[Finding]:
    """Small and uneven classes, given the training photos of each."""
    if few := [f"{name!r}: {training[name]}" for name in classes if 0 < training[name] < FEW]:
        have = "have" if len(few) > 1 else "has"
        yield Finding(f"{len(few)} of {len(classes)} classes {have} fewer than {FEW} training photos", few)
    smallest, largest = (choose(classes, key=lambda name: training[name]) for choose in (min, max))
    if 0 < training[smallest] * UNEVEN <= training[largest]:
        yield Finding(
            f"very uneven classes: {training[largest]} training photos of {largest!r}, {training[smallest]} of "
            f"{smallest!r}"
        )


def _ignored(folder: str) -> Iterator[Finding]:
    """The files in the splits of `folder` that training does not read, counted by suffix."""
    for split, top in decoding.find_splits(folder).items():
        kinds: Counter = Counter()
        for parent, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not decoding.is_hidden(name)]
            for name in (name for name in names if not decoding.is_hidden(name)):
                if not decoding.is_photo(parent, name):
                    kinds[os.path.splitext(name)[1].lower() or "no suffix"] += 1
                elif parent == top:
                    kinds["photos outside class folders"] += 1
        if kinds:
            of_each = ", ".join(f"{count:,} ({one_line(kind)})" for kind, count in kinds.most_common(SHOWN))
            yield Finding(f"{split} has files that are ignored: {of_each}")


def _photos(names: Sequence[str], what: str) -> list[Finding]:
    return [Finding(f"{len(names):,} photo{'s' * (len(names) > 1)} {what}", names)] if names else []
