"""How pixels become the tensor a model sees, and back."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torchvision import transforms

from pyimagesearch import config

AUGMENTS = ("tutorial", "light")


def train_transform(image_size: int = config.IMAGE_SIZE, augment: str = "tutorial") -> transforms.Compose:
    """From a PIL image of any size to a normalised float32 tensor of shape (3, image_size, image_size), at random.

    augment : "tutorial" crops 8 to 100 % of the area, flips, and rotates by up to 90 degrees either way; "light" crops
        30 to 100 % and flips, which suits photos that have an upright position
    """
    crop = {
        "tutorial": [
            transforms.RandomResizedCrop(image_size),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(90),
        ],
        "light": [
            transforms.RandomResizedCrop(image_size, scale=(0.3, 1.0)),
            transforms.RandomHorizontalFlip(),
        ],
    }
    return transforms.Compose([*crop[augment], *_to_model()])


def eval_transform(image_size: int = config.IMAGE_SIZE) -> transforms.Compose:
    """From a PIL image of any size to a normalised float32 tensor of shape (3, image_size, image_size), squeezed."""
    return transforms.Compose([transforms.Resize((image_size, image_size)), *_to_model()])


def _to_model() -> list:
    return [transforms.ToTensor(), transforms.Normalize(mean=config.MEAN, std=config.STD)]


def denormalize(images: Tensor) -> np.ndarray:
    """The photos that normalised `images` show.

    Parameters
    ----------
    images : float of shape (..., 3, height, width), normalised with config.MEAN and config.STD, on any device

    Returns
    -------
    uint8 of shape (..., height, width, 3), rounded and clipped to 0..255 (a bare astype wraps 256 round to 0)
    """
    images = images.detach().float().cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.MEAN, config.STD))
    pixels = ((images * std + mean) * 255).round().clamp(0, 255)
    return pixels.to(torch.uint8).movedim(-3, -1).numpy()


def key_of(*numbers: int) -> int:
    """A seed of 64 bits made of several numbers, (seed, epoch, index) for one, with nothing in common between keys."""
    digest = hashlib.blake2b(np.array(numbers, np.int64).tobytes(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


@contextmanager
def keyed_randomness(*numbers: int) -> Iterator[None]:
    """Within the block the random numbers of torch (CPU), numpy and random follow from `numbers` alone.

    Transforms draw from these three global generators, so any of them becomes a function of the key: not of the
    worker, the rank, or what was drawn before. Afterwards each generator goes on where it was.
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
