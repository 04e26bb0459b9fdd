"""Random numbers that follow from a key: the draw of sample i in epoch e is a function of (seed, e, i) alone.

Neither the worker, the rank, the batch nor the order of calls changes it.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from pyimagesearch.data.crops import NUMBERS

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keyed_numbers(seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1) for each row's (seed, epoch, index): float64 of shape (rows, NUMBERS).

    `epochs` and `indices` are int64 of shape (rows,). SplitMix64, as a function of a counter: Guy Steele, Doug Lea and
    Christine Flood, Fast Splittable Pseudorandom Number Generators (2014).
    """
    key = np.zeros(len(indices), np.uint64)
    for part in (np.full_like(indices, seed), epochs, indices):
        key = _mixed(key + part.astype(np.uint64) + GOLDEN)
    counters = key[:, None] + GOLDEN * np.arange(1, NUMBERS + 1, dtype=np.uint64)
    return (_mixed(counters) >> np.uint64(11)) * 2.0**-53


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def key_of(*numbers: int) -> int:
    """A 64-bit seed from several numbers, such as (seed, epoch, index); the seeds of different keys are unrelated."""
    digest = hashlib.blake2b(np.array(numbers, np.int64).tobytes(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


@contextmanager
def keyed_randomness(*numbers: int) -> Iterator[None]:
    """Within the block the random numbers of torch (CPU), numpy and random follow from `numbers` alone.

    Any transform draws from these three global generators. Afterwards each continues where it was.
    """
    key = key_of(*numbers)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(key)  # torch.manual_seed would seed the GPUs too
    np.random.seed(key % 2**32)
    random.seed(key)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
