"""Where a photo is read, and which rank sees it when.

The training stream is a pure function of (seed, epoch, global batch size): epoch e visits the photos in a permutation
drawn from (seed, e); global batch k is positions kB to (k+1)B of it, the last one as short as it is; each rank takes
its share of each; and photo i's augmentation draws from a generator keyed by (seed, e, i).
"""

import atexit
import hashlib
import os
import signal
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from pyimagesearch import config, distributed
from pyimagesearch.augmentation import keyed_randomness
from pyimagesearch.errors import UserError
from pyimagesearch.photos import read_photo

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


class Key(NamedTuple):
    """What a sampler hands to the dataset: which photo, and of which epoch its augmentation is."""

    epoch: int
    index: int


class Unreadable(NamedTuple):
    """In place of a batch: the line that says which photo could not be read. An exception would arrive from a worker
    with its traceback as text."""

    message: str


class PhotoFolder(Dataset):
    """A folder of class folders, as torchvision.datasets.ImageFolder lists it: classes and photos sorted by name.

    Parameters
    ----------
    root : the folder; each folder in it is a class, and photos may lie at any depth below
    transform : from a PIL image (RGB) to what the model sees; its random numbers are keyed by (seed, epoch, index)
    seed : of the augmentation
    limit : at most so many photos of each class, the first by name; None takes all

    Attributes
    ----------
    classes : the names, sorted; class_to_idx : their indices
    labels : int64 array of shape (photos,); targets : the same as a list, as ImageFolder has it

    Raises
    ------
    UserError : `root` is missing, has no class folder, or a class folder without a photo
    """

    def __init__(self, root, transform, *, seed: int = 0, limit: int | None = None):
        self.root, self.transform, self.seed = os.fspath(root), transform, seed
        self.classes = _class_folders(self.root)
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        found = [photos_below(os.path.join(self.root, name))[:limit] for name in self.classes]
        for name, paths in zip(self.classes, found, strict=True):
            if not paths:
                raise UserError(
                    f"{os.path.join(self.root, name)} has no photo ({', '.join(EXTENSIONS)}); add some, or remove the "
                    "class from every split"
                )
        self.labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found])
        # one buffer of bytes in place of a list of str: forked workers would copy the pages of objects that they count
        names = [os.fsencode(os.path.relpath(path, self.root)) for paths in found for path in paths]
        self._ends = np.cumsum([len(name) for name in names])
        self._names = np.frombuffer(b"".join(names), np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> list[int]:
        return self.labels.tolist()

    @property
    def samples(self) -> list[tuple[str, int]]:
        return [(self.path(index), label) for index, label in enumerate(self.targets)]

    imgs = samples

    def path(self, index: int) -> str:
        """The path of photo `index`."""
        start = self._ends[index - 1] if index else 0
        return os.path.join(self.root, os.fsdecode(self._names[start : self._ends[index]].tobytes()))

    def fingerprint(self) -> str:
        """Equal for two folders that give the same photos the same indices and labels."""
        parts = (self._names, self._ends.astype("<i8"), self.labels.astype("<i8"), "\n".join(self.classes).encode())
        digest = hashlib.blake2b(digest_size=8)
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    def __getitem__(self, key: Key | int) -> tuple[Tensor, int]:
        """(transformed photo, label) of an index, which stands for epoch 0, or of a Key."""
        epoch, index = key if isinstance(key, tuple) else (0, range(len(self))[key])
        path = self.path(index)
        try:
            photo = read_photo(path)
        except Exception as error:  # Pillow's readers of broken files raise nearly anything
            raise UserError(f"cannot read {path}: {error}; remove or replace it") from error
        with keyed_randomness(self.seed, epoch, index):
            return self.transform(photo), int(self.labels[index])

    def __getitems__(self, keys: Sequence[Key]) -> list | Unreadable:
        """The items of a batch, for DataLoader; see Unreadable."""
        try:
            return [self[key] for key in keys]
        except UserError as error:
            return Unreadable(str(error))

    def collate(self, items: list | Unreadable):
        """(images, labels) of a batch; of an empty one, tensors with no rows and the shape and dtype of the others."""
        if isinstance(items, Unreadable):
            return items
        if items:
            return default_collate(items)
        blank = Image.new("RGB", (config.IMAGE_SIZE, config.IMAGE_SIZE))
        with keyed_randomness(self.seed):
            images, labels = default_collate([(self.transform(blank), 0)])
        return images[:0], labels[:0]


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


def photos_below(folder: str) -> list[str]:
    """The photos in `folder`, in the order of ImageFolder: folders sorted by path, then files by name.

    Links to folders are followed, but none to a folder that the walk has come through: it would go round for ever.
    """
    found = []
    start = os.path.realpath(folder)
    above = {folder: {start, *map(str, Path(start).parents)}}  # of each folder to come, the folders it lies in
    for parent, folders, names in os.walk(folder, followlinks=True):
        through = above.pop(parent) | {os.path.realpath(parent)}
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in through]
        above.update((os.path.join(parent, name), through) for name in folders)
        found += [(parent, name) for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    return [os.path.join(parent, name) for parent, name in sorted(found)]


def check_same_classes(training: PhotoFolder, *others: PhotoFolder) -> None:
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


class GlobalBatchSampler:
    """The batches of one rank: its share of each global batch of each epoch's permutation.

    Every pass over it is one epoch, and the next pass is the next epoch; `set_position` goes to any epoch and step.

    Parameters
    ----------
    size : photos in the dataset
    global_batch : photos that all ranks see together in one step
    seed : of the permutations
    """

    def __init__(self, size: int, global_batch: int, *, seed: int = 0):
        self.size, self.global_batch, self.seed = size, global_batch, seed
        self.epoch = self.step = 0
        self._drawn: tuple[int, np.ndarray] | None = None

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return -(-self.size // self.global_batch)

    def set_position(self, epoch: int, step: int = 0) -> None:
        """Let the next pass be epoch `epoch` from its step `step` on, both counted from 0."""
        self.epoch, self.step = epoch, step

    def order(self, epoch: int) -> np.ndarray:
        """Epoch `epoch`'s permutation: int64 of shape (size,). The last that was asked for is kept, for `batch`."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.size)
        return self._drawn[1]

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """The indices of the photos that all ranks see together in one step."""
        return self.order(epoch)[step * self.global_batch : (step + 1) * self.global_batch]

    def count(self, step: int) -> int:
        """How many photos all ranks see together in step `step`."""
        return min(self.global_batch, self.size - step * self.global_batch)

    @property
    def fewest(self) -> int:
        """The rows of the smallest share that any rank gets in a step."""
        return min(self.count(0), self.count(self.steps - 1)) // distributed.world_size()

    def __len__(self) -> int:
        return self.steps - self.step

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, first = self.epoch, self.step
        self.epoch, self.step = epoch + 1, 0
        order = self.order(epoch)
        for step in range(first, self.steps):
            batch = order[step * self.global_batch : (step + 1) * self.global_batch]
            yield [Key(epoch, index) for index in batch[distributed.share(len(batch))].tolist()]


class WholeBatchSampler:
    """The batches of one rank in evaluation: every world-size-th batch of the dataset in its own order.

    Whole batches go round the ranks, so a photo is computed in the company of the same photos for any world size, and
    each is seen exactly once. `indices` lists this rank's photos in the order in which they come.
    """

    def __init__(self, size: int, batch: int):
        starts = range(0, size, batch)[distributed.rank() :: distributed.world_size()]
        self.batches = [range(start, min(start + batch, size)) for start in starts]

    @property
    def indices(self) -> list[int]:
        return [index for batch in self.batches for index in batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self.batches:
            yield [Key(0, index) for index in batch]


class PhotoLoader(DataLoader):
    """A DataLoader that raises UserError, in this process and on one line, for a photo that cannot be read."""

    _ending = None

    def __iter__(self):
        batches = super().__iter__()
        if self.num_workers and self._ending is None:
            # when this loader goes, by the garbage collector or at exit, its workers must be asked to go while their
            # queues are open: the SIGTERM that would follow is one that they ignore, and Python would wait for ever
            self._ending = weakref.finalize(self, batches._shutdown_workers)
            atexit.register(self._ending)
        for batch in batches:
            if isinstance(batch, Unreadable):
                raise UserError(batch.message)
            yield batch


def get_dataloader(
    rootDir,
    transforms,
    bs: int,
    shuffle: bool = True,
    *,
    seed: int = 0,
    workers: int | None = None,
    limit: int | None = None,
) -> tuple[PhotoFolder, DataLoader]:
    """The dataset in `rootDir` and a loader of its batches.

    Parameters
    ----------
    rootDir : a folder with one folder a class
    transforms : any torchvision.transforms.Compose that works on PIL images
    bs : with `shuffle`, the global batch size, of which this rank gets its share; without, the size of a batch
    shuffle : True for training, in the order that `seed` and the epoch give; False for the order of the dataset
    seed : of the order and of the augmentation
    workers : processes that read photos, 0 for none; None takes a third of the cores this rank may use, since a
        training script has three loaders
    limit : at most so many photos of each class

    Returns
    -------
    dataset : PhotoFolder
    loader : yields (images, labels): what `transforms` gives, stacked, and int64 of shape (rows,)

    Raises
    ------
    UserError : see PhotoFolder; from the loader, a photo that cannot be read, by its path
    """
    dataset = PhotoFolder(rootDir, transforms, seed=seed, limit=limit)
    sampler = GlobalBatchSampler(len(dataset), bs, seed=seed) if shuffle else WholeBatchSampler(len(dataset), bs)
    workers = distributed.cores_of_rank() // 3 if workers is None else workers
    loader = PhotoLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=dataset.collate,
        num_workers=workers,
        pin_memory=config.DEVICE.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # else DataLoader draws a seed for its workers from the global one
    )
    return dataset, loader


def share_workers(workers: int | None) -> tuple[int, int]:
    """(for the training loader, for an evaluation loader) of `workers` processes; None is one a core of this rank."""
    total = distributed.cores_of_rank() if workers is None else workers
    evaluation = total // 4
    return total - evaluation, evaluation


def _leave_signals_to_the_parent(worker: int) -> None:
    """A terminal sends Ctrl-C to the whole process group, but the rank still needs its batch to stop at a step."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
