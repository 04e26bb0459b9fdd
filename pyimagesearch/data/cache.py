"""Photos decoded once: smaller copies of a whole split, in one file that every process of a host maps into its memory.

The file is a header, a table of sizes, and the pixels of all copies, one after another. The header holds a digest of
the photos' names, sizes and modification times: a file that does not match is rebuilt.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyimagesearch.data.crops import copy_to, pack, resize, warp_batch
from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.data.decoding import Size, photo_size, read_checked, read_pixels
from pyimagesearch.data.transforms import to_grey
from pyimagesearch.runtime.errors import UserError, system_message
from pyimagesearch.runtime.files import atomic_write
from pyimagesearch.runtime.threads import in_threads

MAGIC = b"photo cache 1   "  # the number changes when a new version would write other pixels
DIGEST = 16  # bytes
COLUMNS = 4  # of the table, int32: width and height of the copy, width and height of the photo
SPARE = 0.02  # the share of the disk that stays free
SPARE_OF_GPU = 0.5  # for the model, its gradients and, the most, the activations of a batch; and for packing a cache


class PhotoCache:
    """An open cache file of `photos` photos, of which this dataset has the `rows`.

    sizes, full_sizes : int64 and int32 of shape (rows, 2), width and height of each copy and of its photo
    starts : int64 of shape (rows,), the index in `flat` of each copy's first pixel
    flat : uint8 of shape (pixels of all copies, 3), mapped: what is not read takes no memory
    """

    def __init__(self, path: str, photos: int, rows: np.ndarray | slice = slice(None)):
        self.path, self.photos, self.rows = path, photos, rows
        table = np.fromfile(path, "<i4", photos * COLUMNS, offset=len(MAGIC) + DIGEST).reshape(photos, COLUMNS)
        sizes = table[:, :2].astype(np.int64)
        ends = np.cumsum(sizes.prod(axis=1))
        self.sizes, self.full_sizes = sizes[rows], table[rows, 2:].copy()
        self.starts = (ends - sizes.prod(axis=1))[rows]
        mapped = np.memmap(path, np.uint8, "r", _offset(photos), (int(ends[-1]), 3))
        self.flat = mapped.view(np.ndarray)  # slicing an array is faster than slicing a memmap

    def __reduce__(self):
        """A spawned process maps the file itself."""
        return PhotoCache, (self.path, self.photos, self.rows)

    def gathered(self) -> tuple[np.ndarray, np.ndarray]:
        """`flat` and `starts` of the `rows` alone."""
        if isinstance(self.rows, slice):
            return self.flat, self.starts
        counts = self.sizes.prod(axis=1)
        parts = [self.flat[start : start + count] for start, count in zip(self.starts, counts, strict=True)]
        return np.concatenate(parts), np.cumsum(counts) - counts

    def pixels(self, index: int) -> np.ndarray:
        """The copy of a photo: uint8 of shape (height, width, 3), read-only."""
        width, height = self.sizes[index]
        start = self.starts[index]
        return self.flat[start : start + width * height].reshape(height, width, 3)

    def full_size(self, index: int) -> Size:
        """The size of the photo itself."""
        width, height = self.full_sizes[index].tolist()
        return width, height


def cache_path(root, short_side: int, folder: str | None = None) -> str:
    """The cache of the photos in `root`: dataset.cache/training-256.pixels for dataset/training."""
    above, split = os.path.split(os.path.realpath(root))
    return os.path.join(folder or f"{above}.cache", f"{split}-{short_side}.pixels")


def open_cache(dataset: PhotoDataset, path: str, short_side: int) -> PhotoCache:
    """Open the cache of a dataset, and build it first where `path` is missing or does not match the photos.

    The shorter side of each copy has `short_side` pixels; no photo is enlarged. The parts of a dataset share one cache.
    A failure leaves `path` as it was.
    """
    whole = dataset if dataset.whole is None else dataset.whole
    digest = _digest(whole, short_side)
    try:
        with open(path, "rb") as file:
            matches = file.read(len(MAGIC) + DIGEST) == MAGIC + digest
    except FileNotFoundError:
        matches = False
    except OSError as error:
        fault = system_message(error)
        raise UserError(f"cannot read the cache {path}: {fault}; remove it, or use --cache none") from None
    try:
        if not matches:
            _build(whole, path, short_side, digest)
    except OSError as error:
        fault, advice = system_message(error), "name another --cache-dir, or use --cache none"
        raise UserError(f"cannot write the cache {path}: {fault}; {advice}") from None
    return PhotoCache(path, len(whole), dataset.rows)


def _offset(photos: int) -> int:
    """The byte at which the pixels begin."""
    return len(MAGIC) + DIGEST + 4 * COLUMNS * photos


def _digest(dataset: PhotoDataset, short_side: int) -> bytes:
    settings = f"{short_side} {dataset.fingerprint()}" + f" {dataset.value_range}" * (dataset.value_range is not None)
    digest = hashlib.blake2b(settings.encode(), digest_size=DIGEST)
    status: Any = np.empty((len(dataset), 2), "<i8")
    for index in range(len(dataset)):
        found = read_checked(os.stat, dataset.path(index))
        status[index] = found.st_size, found.st_mtime_ns
    digest.update(status)
    return digest.digest()


def _build(dataset: PhotoDataset, path: str, short_side: int, digest: bytes) -> None:
    indices = range(len(dataset))
    # on all cores: the other processes of this host wait
    full_sizes = np.array(in_threads(lambda i: read_checked(photo_size, dataset.path(i)), indices, None, "sizes"))
    scale = np.minimum(1, short_side / full_sizes.min(axis=1))
    sizes = np.maximum(1, np.round(full_sizes * scale[:, None])).astype(np.int64)
    ends = 3 * np.cumsum(sizes.prod(axis=1)) + _offset(len(dataset))
    _check_room(path, int(ends[-1]), len(dataset))

    with atomic_write(path) as file:
        # reserved before the first photo, so that a full disk fails here and not in a process that reads the map
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, int(ends[-1]))
        file.write(MAGIC + digest + np.hstack([sizes, full_sizes]).astype("<i4").tobytes())
        one_writes = Lock()

        def add(index: int) -> None:
            width, height = sizes[index].tolist()
            pixels = read_checked(read_pixels, dataset.path(index), dataset.value_range)
            if pixels.shape[:2] != (height, width):
                pixels = resize(pixels, width, height)
            with one_writes:
                file.seek(int(ends[index]) - pixels.size)
                file.write(np.ascontiguousarray(pixels))

        in_threads(add, indices, None, f"cache of {dataset.title}")


def _check_room(path: str, needed: int, photos: int) -> None:
    """Raise UserError where the file would not fit on its disk."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    disk = shutil.disk_usage(folder)
    if needed > (free := disk.free - SPARE * disk.total):
        raise UserError(
            f"the cache of {photos:,} photos needs {needed / 1e6:,.0f} MB in {folder}, which has "
            f"{max(free, 0) / 1e6:,.0f} MB to spare; make room, name another --cache-dir, or choose a smaller "
            "--cache-size or --cache none"
        )


class DeviceLoader:
    """A loader that makes its batches on the device from a cache copied there as a whole.

    `dataset` has a cache and a SquareTransform; `batch_sampler` yields lists of Key.
    """

    def __init__(self, dataset: Any, batch_sampler: Any, device: torch.device):
        self.dataset, self.batch_sampler, self.device = dataset, batch_sampler, device
        cache = dataset.cache
        flat, starts = cache.gathered()
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            if (needed := 4 * len(flat)) > (room := max(free - SPARE_OF_GPU * total, 0)):
                raise UserError(
                    f"the cache {cache.path} needs {needed / 1e9:.1f} GB, and {device} has {room / 1e9:.1f} GB for it: "
                    f"{free / 1e9:.1f} GB are free, and half of {total / 1e9:.1f} GB is kept for the model; choose a "
                    "smaller --cache-size, or --cache disk"
                )
        self._pixels = pack(flat, device)
        self._starts, self._sizes = torch.from_numpy(starts).to(device), torch.from_numpy(cache.sizes).to(device)
        self._labels = torch.from_numpy(dataset.labels).to(device)
        self._longest_crop = int(cache.sizes.min(axis=1).max()) * 4 / 3  # of any photo, see crops.LOG_RATIOS

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def begin(self) -> None:
        """As PhotoLoader's; there are no workers here."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        dataset, cache = self.dataset, self.dataset.cache
        for keys in self.batch_sampler:
            transform = dataset.transform.at(keys[0].epoch if keys else 0)
            # one number for all photos, so that a photo's pixels do not depend on the rest of its batch
            taps = math.ceil(self._longest_crop / transform.size)
            indices = [key.index for key in keys]
            sizes_of_keys = cache.full_sizes[indices].tolist(), cache.sizes[indices].tolist()
            windows = list(map(dataset.window, dataset.numbers(keys), *sizes_of_keys))
            rows = copy_to(torch.tensor(indices, dtype=torch.int64), self.device)
            starts, sizes = self._starts[rows], self._sizes[rows]
            images = warp_batch(self._pixels, starts, sizes, windows, transform.size, taps)
            yield to_grey(images) if transform.channels == 1 else images, self._labels[rows]
