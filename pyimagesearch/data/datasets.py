"""The photos of one split: where each lies, what it shows, and how it becomes an item of a batch."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from pyimagesearch import config
from pyimagesearch.data.crops import Window
from pyimagesearch.data.decoding import EXTENSIONS, naming_faults, photos_below, read_enough
from pyimagesearch.data.keyed_randomness import keyed_numbers, keyed_randomness
from pyimagesearch.data.labels_csv import LABELS_CSV, PHOTOS_FOLDER, read_label_table
from pyimagesearch.data.transforms import SquareTransform
from pyimagesearch.runtime.errors import UserError


class Key(NamedTuple):
    """What a sampler hands to the dataset: which photo, and of which epoch its augmentation is."""

    epoch: int
    index: int


class Unreadable(NamedTuple):
    """In place of a batch: the line that says which photo could not be read. An exception would arrive from a worker
    with its traceback as text."""

    message: str


class PhotoDataset(Dataset):
    """Photos with their labels.

    Parameters
    ----------
    root : the folder in which they lie
    names : the path of each below `root`
    labels : an array with a row for each: int64 of shape (photos,), or float32 of shape (photos, classes)
    classes : the names of the classes
    transform : a SquareTransform, or anything that makes a tensor of a PIL image (RGB); its random numbers are keyed by
        (seed, epoch, index)
    seed : of the augmentation

    Attributes
    ----------
    cache : a caching.PhotoCache from which the pixels come, None for the photos' own files
    whole, rows : the dataset of which this one is a part, and which part, as it indexes an array: itself, and all
    """

    def __init__(self, root, names: Sequence[str], labels: np.ndarray, classes: list[str], transform, *, seed: int = 0):
        self.root, self.transform, self.seed = os.fspath(root), transform, seed
        self.title = os.path.basename(self.root)
        self.classes, self.labels = classes, labels
        self.class_to_idx = {name: index for index, name in enumerate(classes)}
        self.cache, self.rows = None, slice(None)
        # one buffer of bytes in place of a list of str: forked workers would copy the pages of objects that they count
        encoded = [os.fsencode(name) for name in names]
        self._ends = np.cumsum([len(name) for name in encoded])
        self._names = np.frombuffer(b"".join(encoded), np.uint8)

    @property
    def whole(self) -> "PhotoDataset":
        return self

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """The path of photo `index`."""
        start = self._ends[index - 1] if index else 0
        return os.path.join(self.root, os.fsdecode(self._names[start : self._ends[index]].tobytes()))

    def fingerprint(self) -> str:
        """Equal for two datasets that give the same photos, by name, the same indices and labels."""
        labels = self.labels.astype(self.labels.dtype.newbyteorder("<"))
        classes = "\n".join(self.classes).encode(errors="surrogateescape")
        digest = hashlib.blake2b(digest_size=8)
        for part in (self._names, self._ends.astype("<i8"), labels, classes):
            digest.update(part)
        return digest.hexdigest()

    def pixels(
        self, index: int, reduction: Callable[[int, int], int] = lambda width, height: 1
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Photo `index` as uint8 of shape (height, width, 3), and the (width, height) of its file, which may be larger.

        reduction : see photos.read_enough; a cache's copies are as they are

        Raises
        ------
        UserError : it cannot be read
        """
        if self.cache is not None:
            return self.cache.pixels(index), self.cache.full_size(index)
        path = self.path(index)
        with naming_faults(path):
            return read_enough(path, reduction)

    def numbers(self, keys: Sequence[Key]) -> list[list[float]]:
        """The random numbers of each key, see augmentation.keyed_numbers."""
        epochs, indices = np.array(keys, np.int64).reshape(-1, 2).T
        return keyed_numbers(self.seed, epochs, indices).tolist()

    def window(self, numbers: Sequence[float], full_size: tuple[int, int], pixels_size: tuple[int, int]) -> Window:
        """What the transform draws for a photo of `full_size`, in the pixels of its copy of `pixels_size`, so that each
        cache shows the same part of it; both (width, height)."""
        window = self.transform.window(numbers, *full_size)
        if full_size == pixels_size:
            return window
        return window.scaled(pixels_size[0] / full_size[0], pixels_size[1] / full_size[1])

    def __getitem__(self, key: Key | int) -> tuple[Tensor, int | Tensor]:
        """(transformed photo, label) of an index, which stands for epoch 0, or of a Key."""
        epoch, index = key if isinstance(key, tuple) else (0, range(len(self))[key])
        label = self.labels[index]
        label = int(label) if label.ndim == 0 else torch.from_numpy(label)
        if isinstance(self.transform, SquareTransform):
            return self._squares([Key(epoch, index)])[0], label
        photo = Image.fromarray(self.pixels(index)[0])
        with keyed_randomness(self.seed, epoch, index):
            return self.transform(photo), label

    def _squares(self, keys: Sequence[Key]) -> Tensor:
        """uint8 of shape (rows, channels, size, size), in the channels_last layout: no pixel is moved twice."""
        side, channels = self.transform.size, self.transform.channels
        squares = np.empty((len(keys), side, side, channels), np.uint8)
        for square, key, numbers in zip(squares, keys, self.numbers(keys), strict=True):
            pixels, full_size = self.pixels(key.index, partial(self.transform.reduction, numbers))
            self.transform.write(square, pixels, self.window(numbers, full_size, pixels.shape[1::-1]))
        return torch.from_numpy(squares).permute(0, 3, 1, 2)

    def __getitems__(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor] | list | Unreadable:
        """(images, labels) of a batch, or a list of its items, for DataLoader; see Unreadable."""
        try:
            if isinstance(self.transform, SquareTransform):
                return self._squares(keys), torch.from_numpy(self.labels[[key.index for key in keys]])
            return [self[key] for key in keys]
        except UserError as error:
            return Unreadable(str(error))

    def collate(self, items: tuple[Tensor, Tensor] | list | Unreadable):
        """(images, labels) of a batch; of an empty one, tensors with no rows and the shape and dtype of the others."""
        if isinstance(items, tuple):
            return items
        if items:
            return default_collate(items)
        blank = Image.new("RGB", (config.IMAGE_SIZE, config.IMAGE_SIZE))
        with keyed_randomness(self.seed):
            images = default_collate([self.transform(blank)])
        return images[:0], torch.from_numpy(self.labels[:0])


class PhotoFolder(PhotoDataset):
    """A folder of class folders, as torchvision.datasets.ImageFolder lists it: classes and photos sorted by name.

    Parameters
    ----------
    root : the folder; each folder in it is a class, and photos may lie at any depth below
    limit : at most so many photos of each class, the first by name; None takes all
    transform, seed : see PhotoDataset

    Attributes
    ----------
    labels : int64 of shape (photos,); targets : the same as a list, as ImageFolder has it

    Raises
    ------
    UserError : `root` is missing, has no class folder, or a class folder without a photo
    """

    def __init__(self, root, transform, *, seed: int = 0, limit: int | None = None):
        root = os.fspath(root)
        classes = _class_folders(root)
        found = [photos_below(os.path.join(root, name))[:limit] for name in classes]
        for name, paths in zip(classes, found, strict=True):
            if not paths:
                raise UserError(
                    f"{os.path.join(root, name)} has no photo ({', '.join(EXTENSIONS)}); add some, or remove the "
                    "class from every split"
                )
        labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found])
        start = len(os.path.join(root, ""))
        names = [path[start:] for paths in found for path in paths]
        super().__init__(root, names, labels, classes, transform, seed=seed)

    @property
    def targets(self) -> list[int]:
        return self.labels.tolist()

    @property
    def samples(self) -> list[tuple[str, int]]:
        return [(self.path(index), label) for index, label in enumerate(self.targets)]

    imgs = samples


def _class_folders(root: str) -> list[str]:
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"cannot read the dataset folder {root}: {error.strerror}; make it with prepare_dataset.py or name another "
            "with --data"
        ) from None
    if not names:
        raise UserError(f"{root} has no class folder; expected one folder a class, as prepare_dataset.py makes them")
    return names


def check_same_classes(training: PhotoDataset, *others: PhotoDataset) -> None:
    """Raise UserError unless every split has training's classes: a missing one would shift the indices of the rest."""
    for other in others:
        for one, two in ((training, other), (other, training)):
            if absent := sorted(set(one.classes) - set(two.classes)):
                raise UserError(
                    f"{two.root} has no folder for class {absent[0]!r}"
                    + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
                    + f" ({one.root} has {len(one.classes)} classes, {two.root} {len(two.classes)}); add its photos, "
                    "or remove the class from every split"
                )


SEPARATOR, NO_LABEL = "; ", "no label"  # how several labels are told, and none


class PhotoTable(PhotoDataset):
    """Photos that may have several labels each, in the order of the table.

    Parameters
    ----------
    folder : the dataset: it holds the table and the folder of the photos
    split : "training", "validation" or "evaluation"
    fold : where the table has folds, which of them, counted from 1, is validation
    limit : pass over a photo when as many are taken that have each of its labels, or none as it; None takes all
    transform, seed : see PhotoDataset

    Attributes
    ----------
    labels : float32 of 0 and 1, of shape (photos, classes)
    whole, rows : all photos of the table, of whatever split, and int64 of shape (photos,): which of them these are

    Raises
    ------
    UserError : the table cannot be read, or `fold` does not go with it
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
        self.rows, self.title = rows, split
        self._whole = PhotoDataset(root, table.images, labels, table.labels, transform, seed=seed)

    @property
    def whole(self) -> PhotoDataset:
        return self._whole


def _first_of_each(values: np.ndarray, limit: int) -> list[int]:
    """The rows, in their order, that have a label, or none at all, of which fewer than `limit` were taken before."""
    kinds = np.column_stack([values, ~values.any(axis=1)]).astype(bool)
    taken, rows = np.zeros(kinds.shape[1], np.int64), []
    for row, having in enumerate(kinds):
        if (taken[having] < limit).any():
            taken += having
            rows.append(row)
    return rows


def truths_of(labels: np.ndarray, classes: list[str]) -> list[str]:
    """What photos of these labels, see PhotoDataset, show, as it is told: a class, or labels, or none."""
    if labels.ndim == 1:
        return [classes[label] for label in labels]
    return [SEPARATOR.join(np.array(classes)[has > 0]) or NO_LABEL for has in labels]


def open_split(root, transform, *, fold: int | None = None, seed: int = 0, limit: int | None = None) -> PhotoDataset:
    """The split `root`, "dataset/training" say: class folders, or those rows of dataset/labels.csv.

    Raises
    ------
    UserError : see PhotoFolder and PhotoTable; or `fold` is given for class folders
    """
    folder, split = os.path.split(os.fspath(root))
    if split in config.SPLITS and not os.path.isdir(root) and os.path.isfile(os.path.join(folder, LABELS_CSV)):
        return PhotoTable(folder, split, transform, fold=fold, seed=seed, limit=limit)
    if fold is not None:
        raise UserError(f"{folder} has class folders and no folds; leave --fold out")
    return PhotoFolder(root, transform, seed=seed, limit=limit)
