"""Photos decoded once: smaller copies of a whole split, in one file that every process of a host maps into its memory.

The file is a header, a table of sizes, and the pixels of all copies, one after another. The header holds a digest of
the photos' names, sizes and modification times: a file that does not fit them is made anew.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Iterator
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from pyimagesearch.data.crops import resize, to, warp_batch
from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.data.decoding import naming_faults, photo_size, read_pixels
from pyimagesearch.data.transforms import to_grey
from pyimagesearch.runtime.errors import UserError, system_message
from pyimagesearch.runtime.files import atomic_write
from pyimagesearch.runtime.threads import in_threads


class DeviceLoader:
    """The batches of a sampler, made on the device from a cache that lies there; otherwise as a PhotoLoader.

    Parameters
    ----------
    dataset : with a cache, and a SquareTransform
    batch_sampler : of Keys
    device : where the cache goes, as a whole

    Raises
    ------
    UserError : the device has too little memory
    """

    def __init__(self, dataset: PhotoDataset, batch_sampler, device: torch.device):
        self.dataset, self.batch_sampler, self.device = dataset, batch_sampler, device
        cache = dataset.cache
        flat, starts = cache.gathered()
        if device.type == "cuda" and flat.nbytes > (free := torch.cuda.mem_get_info(device)[0]):
            raise UserError(
                f"{device} has {free / 1e9:.1f} GB free, and the cache {cache.path} has {flat.nbytes / 1e9:.1f} "
                "GB; choose a smaller --cache-size, or --cache disk"
            )
        self._pixels = torch.from_numpy(flat).to(device)
        self._starts, self._sizes = torch.from_numpy(starts).to(device), torch.from_numpy(cache.sizes).to(device)
        self._labels = torch.from_numpy(dataset.labels).to(device)
        # one number for all photos: what is made of a photo must not depend on its company; a crop is at most a third
        # longer than the photo's shorter side
        self._taps = math.ceil(int(cache.sizes.min(axis=1).max()) * 4 / 3 / dataset.transform.size)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        dataset, transform = self.dataset, self.dataset.transform
        for keys in self.batch_sampler:
            indices = [key.index for key in keys]
            windows = [
                dataset.window(numbers, dataset.cache.full_size(index), tuple(dataset.cache.sizes[index].tolist()))
                for numbers, index in zip(dataset.numbers(keys), indices, strict=True)
            ]
            rows = to(torch.tensor(indices, dtype=torch.int64), self.device)
            images = warp_batch(
                self._pixels, self._starts[rows], self._sizes[rows], windows, transform.size, self._taps
            )
            yield to_grey(images) if transform.channels == 1 else images, self._labels[rows]


def cache_path(root, short_side: int, folder: str | None = None) -> str:
    """Where the copies of the photos in `root` lie: dataset.cache/training-256.pixels for dataset/training."""
    above, split = os.path.split(os.path.realpath(root))
    return os.path.join(folder or f"{above}.cache", f"{split}-{short_side}.pixels")


MAGIC = b"photo cache 1   "  # another number where another version would make other pixels
DIGEST = 16  # bytes
COLUMNS = 4  # of the table, int32: width and height of the copy, width and height of the photo
SPARE = 0.02  # of the disk is left free


class PhotoCache:
    """A cache file, opened.

    Parameters
    ----------
    photos : how many the file has
    rows : which of them this is a cache of, as they index an array

    Attributes
    ----------
    sizes : int64 of shape (photos, 2), width and height of each copy
    starts : int64 of shape (photos,), the row of `flat` with which each begins
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
        self.flat = mapped.view(np.ndarray)  # of which a part is had in less time

    def __reduce__(self):
        """A process that is spawned maps the file itself."""
        return PhotoCache, (self.path, self.photos, self.rows)

    def gathered(self) -> tuple[np.ndarray, np.ndarray]:
        """`flat` and `starts` of these photos alone."""
        if isinstance(self.rows, slice):
            return self.flat, self.starts
        counts = self.sizes.prod(axis=1)
        parts = [self.flat[start : start + count] for start, count in zip(self.starts, counts, strict=True)]
        return np.concatenate(parts), np.cumsum(counts) - counts

    def pixels(self, index: int) -> np.ndarray:
        """The copy of photo `index`: uint8 of shape (height, width, 3), not to be written to."""
        width, height = self.sizes[index]
        start = self.starts[index]
        return self.flat[start : start + width * height].reshape(height, width, 3)

    def full_size(self, index: int) -> tuple[int, int]:
        """Width and height of photo `index` itself."""
        width, height = self.full_sizes[index].tolist()
        return width, height


def _offset(photos: int) -> int:
    """Where the pixels begin, in bytes."""
    return len(MAGIC) + DIGEST + 4 * COLUMNS * photos


def open_cache(dataset: PhotoDataset, path: str, short_side: int) -> PhotoCache:
    """The cache of `dataset` in the file `path`, which is made first where it is missing, or not of these photos.

    A dataset that is a part of another one shares the cache of that.

    Parameters
    ----------
    short_side : pixels of the shorter side of each copy; no photo is enlarged

    Raises
    ------
    UserError : a photo cannot be read, or the file cannot be written; there is no new file then
    """
    whole = dataset.whole
    digest = _digest(whole, short_side)
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC) + DIGEST) == MAGIC + digest:
                return PhotoCache(path, len(whole), dataset.rows)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(
            f"cannot read the cache {path}: {system_message(error)}; remove it, or use --cache none"
        ) from None
    try:
        _build(whole, path, short_side, digest)
    except OSError as error:
        raise UserError(
            f"cannot write the cache {path}: {system_message(error)}; name another --cache-dir, or use --cache none"
        ) from None
    return PhotoCache(path, len(whole), dataset.rows)


def _digest(dataset: PhotoDataset, short_side: int) -> bytes:
    digest = hashlib.blake2b(f"{short_side} {dataset.fingerprint()}".encode(), digest_size=DIGEST)
    status = np.empty((len(dataset), 2), "<i8")
    for index in range(len(dataset)):
        found = _read(os.stat, dataset.path(index))
        status[index] = found.st_size, found.st_mtime_ns
    digest.update(status)
    return digest.digest()


def _read(function, path: str):
    """`function(path)`; whatever a photo's reader raises becomes UserError."""
    with naming_faults(path):
        return function(path)


def _build(dataset: PhotoDataset, path: str, short_side: int, digest: bytes) -> None:
    what = f"cache of {os.path.basename(dataset.root)}"
    indices = range(len(dataset))
    # on all cores: the other processes of this host wait
    full_sizes = np.array(in_threads(lambda index: _read(photo_size, dataset.path(index)), indices, None, "sizes"))
    scale = np.minimum(1, short_side / full_sizes.min(axis=1))
    sizes = np.maximum(1, np.round(full_sizes * scale[:, None])).astype(np.int64)
    ends = 3 * np.cumsum(sizes.prod(axis=1)) + _offset(len(dataset))
    _check_room(path, int(ends[-1]), len(dataset))

    with atomic_write(path) as file:
        # before the first photo, so that a disk that fills up meanwhile is met here and not by a process that reads
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, int(ends[-1]))
        file.write(MAGIC + digest + np.hstack([sizes, full_sizes]).astype("<i4").tobytes())
        one_writes = Lock()

        def add(index: int) -> None:
            width, height = sizes[index].tolist()
            pixels = _read(read_pixels, dataset.path(index))
            if pixels.shape[:2] != (height, width):
                pixels = resize(pixels, width, height)
            with one_writes:
                file.seek(int(ends[index]) - pixels.size)
                file.write(np.ascontiguousarray(pixels))

        in_threads(add, indices, None, what)


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
