"""Copies among photos: files of equal bytes, and near copies (resized, recompressed, of a burst)."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np

from pyimagesearch.data.decoding import read_reduced
from pyimagesearch.runtime.threads import in_threads

T = TypeVar("T")
SIDE = 32  # pixels of the square whose lowest 8 x 8 frequencies are the hash
# bits of 64 in which near copies differ at most. Of 155 photos of groceries, recompressed (quality 20) or resized (to a
# quarter) ones differed in 4 or fewer, 15 % brighter ones in 6; of all 1.7 million pairs of 1,856 such photos 6 were
# that near, each of one scene, and the first of two scenes at 12
NEAR = 6
FLAT = 2  # standard deviation of the grey levels of a photo of one colour
BLOCK = 256  # hashes that are compared with all others at a time


def equal_files(sizes: Mapping[str, int], workers: int | None = None) -> list[list[str]]:
    """The groups of files with equal bytes, given their sizes in bytes; only files of one size are read."""
    paths = [path for group in _alike(sizes, sizes.values()) for path in group]
    return _alike(paths, in_threads(_digest_of_file, paths, workers, "looking for copies"))


def _alike(items: Iterable[T], keys: Iterable[Hashable]) -> list[list[T]]:
    """The items of each key that several have."""
    groups = defaultdict(list)
    for item, key in zip(items, keys, strict=True):
        groups[key].append(item)
    return [group for group in groups.values() if len(group) > 1]


def digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _digest_of_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return digest(file.read())
    except OSError:
        return os.fsencode(path)  # like no other


def near_files(paths: Sequence[str], workers: int | None = None) -> list[list[str]]:
    """The groups of photos that are near copies; unreadable ones are in none."""
    hashes = in_threads(_hash_of_file, paths, workers, "looking for near copies")
    return [[paths[index] for index in group] for group in near_groups(hashes)]


def _hash_of_file(path: str) -> int | None:
    try:
        return perceptual_hash(read_reduced(path, lambda width, height: 8 if min(width, height) >= 8 * SIDE else 1)[0])
    except Exception:  # Pillow raises nearly any exception for a broken file
        return None


def perceptual_hash(pixels: np.ndarray) -> int | None:
    """64 bits of uint8 RGB pixels, nearly the same for near copies: ImageHash's phash, by OpenCV.

    None for a photo that is too small, or of one colour: only noise would be hashed.
    """
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if grey.std() < FLAT or min(pixels.shape[:2]) < SIDE // 2:
        return None
    low = cv2.dct(grey.astype(np.float32))[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def near_groups(hashes: Sequence[int | None]) -> list[list[int]]:
    """The groups of indices whose hashes differ in at most NEAR bits, directly or by way of others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    indices = [index for index, found in enumerate(hashes) if found is not None]
    unique, which = np.unique(np.array([hashes[index] for index in indices], np.uint64), return_inverse=True)
    signs = np.unpackbits(unique.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1
    near = [np.empty((0, 2), np.int64)]
    for start in range(0, len(unique), BLOCK):  # 64 less the sum of products is twice the number of bits that differ
        products = signs[start : start + BLOCK] @ signs[start:].T
        near.append(np.argwhere(products >= 64 - 2 * NEAR) + start)
    first, second = np.concatenate(near).T
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(unique), len(unique)))
    return _alike(indices, connected_components(links, directed=False)[1][which])
