"""How pixels become the tensor a model sees, and back."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pyimagesearch import config
from pyimagesearch.data.crops import NUMBERS, Window, draw_window, warp

# the least area of a crop as a share of the photo's, and the most degrees that it is turned either way
AUGMENTS = {"tutorial": {"least_area": 0.08, "angle": 90.0}, "light": {"least_area": 0.3, "angle": 0.0}}


@dataclass(frozen=True)
class SquareTransform:
    """From a photo of any size to pixels of shape (channels, size, size), dtype uint8: see train_transform.

    channels : 3 for RGB, 1 for grey
    """

    size: int
    augment: str | None
    channels: int = 3

    def __call__(self, photo: Image.Image | np.ndarray) -> Tensor:
        """The square of a PIL image (RGB), or of uint8 pixels of shape (height, width, 3); torch draws the numbers."""
        pixels = np.array(photo)
        square = np.empty((self.size, self.size, self.channels), np.uint8)
        self.write(square, pixels, self.window(torch.rand(NUMBERS, dtype=torch.float64).tolist(), *pixels.shape[1::-1]))
        return torch.from_numpy(square).permute(2, 0, 1)

    def window(self, numbers: Sequence[float], width: int, height: int) -> Window:
        """The part of a photo of `width` x `height` pixels that NUMBERS uniform random `numbers` choose."""
        if self.augment is None:
            return Window(0, 0, width, height)
        return draw_window(numbers, width, height, **AUGMENTS[self.augment])

    def reduction(self, numbers: Sequence[float], width: int, height: int) -> int:
        """How much smaller, 2, 4 or 8 times, the photo could be and still have more pixels in the window that `numbers`
        choose than the square has. In evaluation 1: what torchvision resizes is the photo itself."""
        if self.augment is None:
            return 1
        window = self.window(numbers, width, height)
        return max(times for times in (1, 2, 4, 8) if times == 1 or min(window[2:4]) >= times * self.size)

    def write(self, out: np.ndarray, pixels: np.ndarray, window: Window) -> None:
        """Write what `window` shows of `pixels`, (height, width, 3), into `out`, (size, size, channels), both uint8."""
        if self.channels == 3:
            warp(pixels, window, out)
        else:
            colours = np.empty((self.size, self.size, 3), np.uint8)
            warp(pixels, window, colours)
            cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY, dst=out)


def train_transform(
    image_size: int = config.IMAGE_SIZE, augment: str = "tutorial", channels: int = 3
) -> SquareTransform:
    """From a photo of any size to uint8 pixels of shape (channels, image_size, image_size), at random.

    augment : "tutorial" crops 8 to 100 % of the area, flips, and rotates by up to 90 degrees either way, as
        torchvision's RandomResizedCrop, RandomHorizontalFlip and RandomRotation(90) do, but in one interpolation;
        "light" crops 30 to 100 % and flips, which suits photos that have an upright position
    """
    return SquareTransform(image_size, augment, channels)


def eval_transform(image_size: int = config.IMAGE_SIZE, channels: int = 3) -> SquareTransform:
    """From a photo of any size to uint8 pixels of shape (channels, image_size, image_size), squeezed, as torchvision's
    Resize((image_size, image_size)) does it, to one step of 255."""
    return SquareTransform(image_size, None, channels)


def to_grey(images: Tensor) -> Tensor:
    """OpenCV's grey of RGB `images`: uint8 of shape (rows, 1, height, width), of (rows, 3, height, width)."""
    shares = (0.299, 0.587, 0.114)
    return sum(share * images[:, c : c + 1] for c, share in enumerate(shares)).round().to(torch.uint8)


def normalize(images: Tensor) -> Tensor:
    """What a model sees of `images`: float32 with mean 0 and standard deviation 1 for ImageNet's photos.

    Parameters
    ----------
    images : uint8 of shape (..., 3, height, width), or (..., 1, height, width) of grey, on any device; fastest in the
        channels_last layout, which the result has
    """
    last = images.movedim(-3, -1)
    # a row of pixels at a time: an operation on three channels at a time is too short for the CPU's vectors
    scale, shift = _scale_and_shift(last.shape[-1], last.shape[-2], images.device)
    rows = last.reshape(*last.shape[:-2], len(scale)).float()
    return torch.addcmul(shift, rows, scale, out=rows).view(last.shape).movedim(-1, -3)


@functools.cache
def _scale_and_shift(channels: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """normalize's constants for a row of pixels; kept, because to bring them to a GPU is to wait for it."""
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (config.MEAN, config.STD))
    if channels == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    return tuple(values.float().repeat(width).to(device) for values in (1 / (255 * std), -mean / std))


def denormalize(images: Tensor) -> np.ndarray:
    """The photos that normalised `images` show.

    Parameters
    ----------
    images : float of shape (..., 3, height, width), or (..., 1, height, width) of grey, as normalize gives them, on any
        device

    Returns
    -------
    uint8 of shape (..., height, width, 3), rounded and clipped to 0..255 (a bare astype wraps 256 round to 0)
    """
    last = images.detach().float().cpu().movedim(-3, -1)
    scale, shift = _scale_and_shift(last.shape[-1], 1, last.device)
    pixels = ((last - shift) / scale).round().clamp(0, 255).to(torch.uint8)
    return pixels.expand(*pixels.shape[:-1], 3).numpy()


def to_device(images: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both on `device`, without waiting for the copy, images in the channels_last layout that convolutions like.

    images : pixels of dtype uint8, which travel as such and are normalised on the device; or float, normalised already
    """
    images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
    if images.dtype == torch.uint8:
        images = normalize(images)
    return images, labels.to(device, non_blocking=True)
