"""The photos of one split: where they lie, what they show, and how they become the items of a batch."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from pyimagesearch import config
from pyimagesearch.data import decoding
from pyimagesearch.data.crops import Window
from pyimagesearch.data.decoding import Reduction, Size, ValueRange, photos_below, read_checked
from pyimagesearch.data.keyed_randomness import keyed_numbers, keyed_randomness
from pyimagesearch.data.labels_csv import LABELS_CSV, PHOTOS_FOLDER, UNKNOWN, read_label_table
from pyimagesearch.data.transforms import SquareTransform
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line, system_message
from pyimagesearch.runtime.threads import in_threads

SEPARATOR, NO_LABEL = "; ", "no label"  # how several labels are shown, and none
SAMPLE = 1000  # photos of a split of which photo_facts reads 4 KB, and sampled_range the values


class Key(NamedTuple):
    """What a sampler passes to the dataset: which photo, and the epoch of its augmentation."""

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs


class Unreadable(NamedTuple):
    """Replaces a batch in which a photo cannot be read: an exception would arrive from a worker with its traceback."""

    message: str


class PhotoDataset(Dataset):
    """Photos with their labels.

    root, names : the folder of the photos, and the path of each below it
    labels : a row per photo: int64 of shape (photos,), or float32 of 0, 1 and UNKNOWN of shape (photos, classes)
    transform : a SquareTransform, or anything that makes a tensor of an RGB PIL image; seeded by (seed, epoch, index)
    title : the name of these photos in a progress bar
    """

    def __init__(self, root, names: Sequence[str], labels: np.ndarray, classes: list[str], transform, *, seed: int = 0):
        self.root, self.transform, self.seed = os.fspath(root), transform, seed
        self.title = os.path.basename(os.path.abspath(self.root))
        self.classes, self.labels = classes, labels
        self.class_to_idx = {name: index for index, name in enumerate(classes)}
        self.cache: Any = None  # a PhotoCache (its module imports this one), or None to read the photos' own files
        self.whole: PhotoDataset | None = None  # the dataset that this one is a part of, if any
        self.rows: np.ndarray | slice = slice(None)  # its rows in the arrays of `whole`
        # one buffer of bytes, not a list of str: workers would copy the pages of objects whose references they count
        encoded = [os.fsencode(name) for name in names]
        self._ends = np.cumsum([len(name) for name in encoded])
        self._names = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._names[start : self._ends[index]].tobytes())

    def path(self, index: int) -> str:
        return os.path.join(self.root, self.name(index))

    def fingerprint(self) -> str:
        """Equal for two datasets with the same photos, by name, at the same indices with the same labels."""
        labels = self.labels.astype(self.labels.dtype.newbyteorder("<"))
        classes = "\n".join(self.classes).encode(errors="surrogateescape")
        digest = hashlib.blake2b(digest_size=8)
        parts: Any = self._names, self._ends.astype("<i8"), labels, classes
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    def pixels(self, index: int, reduction: Reduction | None = None) -> tuple[np.ndarray, Size]:
        """A photo as uint8 of shape (height, width, 3), reduced or from the cache; and its full size."""
        if self.cache is not None:
            return self.cache.pixels(index), self.cache.full_size(index)
        return read_checked(decoding.read_reduced, self.path(index), reduction, self.value_range)

    @property
    def value_range(self) -> ValueRange | None:
        return getattr(self.transform, "value_range", None)

    def sampled_range(self) -> ValueRange | None:
        """The range that holds those of all photos of more than 8 bits, of at most SAMPLE, evenly chosen; else None."""
        sample = map(self.path, range(0, len(self), -(-len(self) // SAMPLE)))
        deep = [path for path in sample if read_checked(decoding.is_deep, path)]
        if not deep:
            return None
        lows, highs = np.transpose(in_threads(partial(read_checked, decoding.own_range), deep, None, "value range"))
        low, high = float(lows.min()), float(highs.max())
        terminal.info(f"values of {low:g} to {high:g} in photos of more than 8 bits become 0 to 255 (--value-range)...")
        return low, high

    def numbers(self, keys: Sequence[Key]) -> list[list[float]]:
        """The random numbers of each key, see keyed_numbers."""
        epochs, indices = np.array(keys, np.int64).reshape(-1, 2).T
        return keyed_numbers(self.seed, epochs, indices).tolist()

    def window(self, numbers: Sequence[float], full_size: Size, pixels_size: Size) -> Window:
        """The transform's window of a photo, in pixels of its copy: every cache shows the same part of a photo."""
        window = self.transform.window(numbers, *full_size)
        return window.scaled(pixels_size[0] / full_size[0], pixels_size[1] / full_size[1])

    def __getitem__(self, key: Key | int) -> tuple[Tensor, int | Tensor]:
        """The transformed photo and its label; a plain index stands for epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, range(len(self))[key])
        label = self.labels[index]
        label = int(label) if label.ndim == 0 else torch.from_numpy(label)
        if isinstance(self.transform, SquareTransform):
            return self._squares([Key(epoch, index)])[0], label
        photo = Image.fromarray(self.pixels(index)[0])
        with keyed_randomness(self.seed, epoch, index):
            return self.transform(photo), label

    def _squares(self, keys: Sequence[Key]) -> Tensor:
        """uint8 of shape (rows, channels, size, size), in the channels_last layout, so that no pixel is moved twice."""
        transform = self.transform.at(keys[0].epoch if keys else 0)  # a batch is of one epoch
        squares = np.empty((len(keys), transform.size, transform.size, transform.channels), np.uint8)
        for square, key, numbers in zip(squares, keys, self.numbers(keys), strict=True):
            pixels, full_size = self.pixels(key.index, partial(transform.reduction, numbers))
            transform.write(square, pixels, self.window(numbers, full_size, pixels.shape[1::-1]))
        return torch.from_numpy(squares).permute(0, 3, 1, 2)

    def __getitems__(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor] | list | Unreadable:
        """The images and labels of a batch, or a list of its items, for `collate`."""
        try:
            if isinstance(self.transform, SquareTransform):
                return self._squares(keys), torch.from_numpy(self.labels[[key.index for key in keys]])
            return [self[key] for key in keys]
        except UserError as error:
            return Unreadable(str(error))

    def collate(self, items: tuple[Tensor, Tensor] | list | Unreadable):
        """(images, labels) of a batch; an empty batch has no rows, and the shape and dtype of the others."""
        batch = self._batch(items)
        for part in batch if get_worker_info() else ():
            if isinstance(part, Tensor):
                part.share_memory_()  # else the thread that sends it would: what fails there is lost without a word
        return batch

    def _batch(self, items: tuple[Tensor, Tensor] | list | Unreadable):
        if isinstance(items, tuple):
            return items
        if items:
            return default_collate(items)
        blank = Image.new("RGB", (config.IMAGE_SIZE, config.IMAGE_SIZE))
        with keyed_randomness(self.seed):
            images = default_collate([self.transform(blank)])
        return images[:0], torch.from_numpy(self.labels[:0])


class PhotoFolder(PhotoDataset):
    """A folder of class folders, read as torchvision.datasets.ImageFolder does: classes and photos sorted by name.

    Photos may lie at any depth below a class folder.

    classes : those of training, where this is another split, which may lack some; None: the folders
    limit : keep at most this many photos per class, the first by name
    """

    def __init__(self, root, transform, *, classes: list[str] | None = None, seed: int = 0, limit: int | None = None):
        root = os.fspath(root)
        folders = _class_folders(root)
        names_of = [unicodedata.normalize("NFC", name) for name in folders]  # the same on every file system
        found = [photos_below(os.path.join(root, name))[:limit] for name in folders]
        if classes is None:
            classes = sorted(set(names_of))
            for name, paths in zip(folders, found, strict=True):
                if not paths:
                    folder = os.path.join(root, name)
                    raise UserError(f"{folder} has no photo; add some, or remove the class from every split")
        numbers = {unicodedata.normalize("NFC", name): number for number, name in enumerate(classes)}
        if unknown := [name for name, paths in zip(names_of, found, strict=True) if paths and name not in numbers]:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise UserError(
                f"{root} has the class {unknown[0]!r}{more}, which is none of the {len(classes)} classes of training; "
                "add its photos to training, or move its folder away"
            )
        if not any(found):
            raise UserError(f"{root} has no photo of the {len(classes)} classes of training")
        labels = np.repeat([numbers.get(name, 0) for name in names_of], [len(paths) for paths in found])
        start = len(os.path.join(root, ""))
        names = [path[start:] for paths in found for path in paths]
        super().__init__(root, names, labels, classes, transform, seed=seed)

    @property
    def targets(self) -> list[int]:
        """The labels as a list, as in ImageFolder."""
        return self.labels.tolist()

    @property
    def samples(self) -> list[tuple[str, int]]:
        return [(self.path(index), label) for index, label in enumerate(self.targets)]

    imgs = samples


def _class_folders(root: str) -> list[str]:
    try:
        names = [os.path.basename(path) for path in decoding.folders_in(root)]
    except OSError as error:
        raise UserError(
            f"cannot read the dataset folder {root}: {error.strerror}; make it with prepare_dataset.py, which draws "
            "missing splits, or name another with --data"
        ) from None
    if not names:
        raise UserError(f"{root} has no class folder; expected one folder per class, as prepare_dataset.py makes them")
    return names


class PhotoTable(PhotoDataset):
    """The photos of one split of a multi-label dataset, in the order of its labels.csv.

    folder : the dataset, with the table and the folder of photos
    fold : which fold is validation, counted from 1, where the table has folds
    limit : keep at most this many photos per label, and without any; a photo with several labels is kept while one of
        them has fewer
    """

    def __init__(
        self, folder, split: str, transform, *, fold: int | None = None, seed: int = 0, limit: int | None = None
    ):
        table = read_label_table(folder)
        if fold is None and table.folds:
            raise UserError(f"{folder} has {table.folds} folds; choose one with --fold, or --fold all")
        if fold is not None and fold > table.folds:
            raise UserError(f"{folder} has no fold {fold}: it was prepared with {table.folds or 'no'} folds")
        root, labels = os.path.join(folder, PHOTOS_FOLDER), table.values.astype(np.float32)
        rows = table.rows(split, fold)
        if limit is not None:
            rows = rows[_first_of_each(table.values[rows], limit)]
        super().__init__(root, [table.images[row] for row in rows], labels[rows], table.labels, transform, seed=seed)
        self.title, self.rows = split, rows
        self.whole = PhotoDataset(root, table.images, labels, table.labels, transform, seed=seed)


def _first_of_each(values: np.ndarray, limit: int) -> list[int]:
    """The rows to keep: at least the first `limit` of each label, and of those without any."""
    has = values == 1
    kinds = np.column_stack([has, ~has.any(axis=1)])
    kept, rows = np.zeros(kinds.shape[1], np.int64), []
    for row, has in enumerate(kinds):
        if (kept[has] < limit).any():
            kept += has
            rows.append(row)
    return rows


def open_split(
    root, transform, *, classes: list[str] | None = None, fold: int | None = None, seed: int = 0,
    limit: int | None = None,
) -> PhotoDataset:  # fmt: skip
    """The split `root`, such as "dataset/training": class folders, or those rows of dataset/labels.csv.

    A folder of another usual name, such as dataset/train, is found too. `classes` : see PhotoFolder.
    """
    root = os.fspath(root)
    folder, split = os.path.split(root)
    if split in config.SPLITS and not os.path.isdir(root):
        if os.path.isfile(os.path.join(folder, LABELS_CSV)):
            table = PhotoTable(folder, split, transform, fold=fold, seed=seed, limit=limit)
            if classes not in (None, table.classes):
                raise UserError(
                    f"{folder} has other labels ({', '.join(table.classes)}) than training ({', '.join(classes)})"
                )
            return table
        root = decoding.find_splits(folder).get(split, root) if os.path.isdir(folder) else root
    if fold is not None:
        raise UserError(f"{folder} has class folders and no folds; leave --fold out")
    dataset = PhotoFolder(root, transform, classes=classes, seed=seed, limit=limit)
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    if absent := [dataset.classes[number] for number in np.flatnonzero(counts == 0)]:
        shown = ", ".join(map(one_line, absent[:3])) + ", ..." * (len(absent) > 3)
        terminal.info(f"{root} has no photo of {len(absent)} of {len(dataset.classes)} classes: {shown}")
    return dataset


def truths_of(labels: np.ndarray, classes: list[str]) -> list[str]:
    """The text of each row of PhotoDataset's labels: its class, or its labels, or NO_LABEL; unknown ones have a "?"."""
    if labels.ndim == 1:
        return [classes[label] for label in labels]
    shown = {0: "", 1: "{}", UNKNOWN: "{}?"}
    rows = ([shown[value].format(name) for name, value in zip(classes, has, strict=True)] for has in labels)
    return [SEPARATOR.join(filter(None, row)) or NO_LABEL for row in rows]


def photo_facts(dataset: PhotoDataset) -> dict[str, object]:
    """What distributed.check_same compares of a split's photos: also the content of at most SAMPLE, evenly chosen."""
    facts: dict[str, object] = {"the number of photos": len(dataset), "the classes": dataset.classes}
    facts["the fingerprint of names and labels"] = dataset.fingerprint()
    step, sizes = -(-len(dataset) // SAMPLE), hashlib.blake2b(digest_size=8)
    for index in range(len(dataset)):
        try:
            size = os.path.getsize(dataset.path(index))
            if index % step == 0:
                with open(dataset.path(index), "rb") as file:
                    file.seek(size // 2)  # behind the headers, which may be alike
                    content = hashlib.blake2b(file.read(4096), digest_size=4).hexdigest()
                facts[f"the content of {dataset.name(index)}"] = f"{size:,} bytes ({content}...)"
        except OSError as error:
            raise UserError(f"cannot read a photo: {system_message(error)}") from None
        sizes.update(b"%d," % size)
    facts["the fingerprint of sizes"] = sizes.hexdigest()
    return {f"{name} in {dataset.title}": fact for name, fact in facts.items()}
