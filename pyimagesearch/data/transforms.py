"""How pixels become the tensor that a model sees, and back."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pyimagesearch import config
from pyimagesearch.data.crops import NUMBERS, Window, draw_window, warp
from pyimagesearch.data.decoding import ValueRange
from pyimagesearch.data.keyed_randomness import key_of

# the smallest crop as a share of the photo's area, and the largest rotation to either side, in degrees
AUGMENTS = {"tutorial": {"least_area": 0.08, "angle": 90.0}, "light": {"least_area": 0.3, "angle": 0.0}}
# Where images grow: the share of the epochs before the full side (EfficientNetV2: three of four stages,
# https://arxiv.org/abs/2104.00298), and what sides are multiples of, which keeps different shapes few.
GROWING_EPOCHS, SIDE_STEP, SMALLEST_SIDE = 0.75, 16, 32
# Both parameters of the beta distribution of a photo's share: uniform (https://arxiv.org/abs/1905.04899, section 3.2),
# and mostly near 0 and 1 (https://arxiv.org/abs/1710.09412: 0.1 to 0.4 on ImageNet).
MIX_BETA = {"cutmix": 1.0, "mixup": 0.4}


@dataclass(frozen=True)
class SquareTransform:
    """Turns a photo of any size into uint8 pixels of shape (channels, size, size).

    `augment` is a key of AUGMENTS, or None for evaluation; `channels` is 3 for RGB or 1 for grey; `value_range` is that
    of the dataset's photos of more than 8 bits, if it has any. `sides` are those of the first epochs, see
    growing_sides; all others have `size`.
    """

    size: int
    augment: str | None
    channels: int = 3
    value_range: ValueRange | None = None
    sides: tuple[int, ...] = ()

    def at(self, epoch: int) -> "SquareTransform":
        """The transform of one epoch."""
        return replace(self, size=self.sides[epoch], sides=()) if epoch < len(self.sides) else self

    def __call__(self, photo: Image.Image | np.ndarray) -> Tensor:
        """Transform an RGB image, or uint8 pixels of shape (height, width, 3), with random numbers from torch."""
        pixels = np.array(photo)
        square = np.empty((self.size, self.size, self.channels), np.uint8)
        self.write(square, pixels, self.window(torch.rand(NUMBERS, dtype=torch.float64).tolist(), *pixels.shape[1::-1]))
        return torch.from_numpy(square).permute(2, 0, 1)

    def window(self, numbers: Sequence[float], width: int, height: int) -> Window:
        """The part of a photo that NUMBERS uniform random numbers choose."""
        if self.augment is None:
            return Window(0, 0, width, height)
        return draw_window(numbers, width, height, **AUGMENTS[self.augment])

    def reduction(self, numbers: Sequence[float], width: int, height: int) -> int:
        """How many times smaller (1, 2, 4 or 8) the photo may be decoded so that its window still fills the square."""
        if self.augment is None:
            return 1  # torchvision resizes the whole photo
        window = self.window(numbers, width, height)
        return max(times for times in (1, 2, 4, 8) if times == 1 or min(window[2:4]) >= times * self.size)

    def write(self, out: np.ndarray, pixels: np.ndarray, window: Window) -> None:
        """Write the window of `pixels`, (height, width, 3), into `out`, (size, size, channels); both uint8."""
        colours = out if self.channels == 3 else np.empty((self.size, self.size, 3), np.uint8)
        warp(pixels, window, colours)
        if self.channels == 1:
            cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY, dst=out)


def train_transform(
    image_size: int = config.IMAGE_SIZE,
    augment: str = "tutorial",
    channels: int = 3,
    value_range: ValueRange | None = None,
    sides: tuple[int, ...] = (),
) -> SquareTransform:
    """Random augmentation, in one interpolation.

    "tutorial" crops 8 to 100 % of the area, flips, and rotates by up to 90 degrees to either side, as torchvision's
    RandomResizedCrop, RandomHorizontalFlip and RandomRotation(90) do. "light" crops 30 to 100 % and flips, which suits
    photos with an upright position.
    """
    return SquareTransform(image_size, augment, channels, value_range, sides)


def growing_sides(image_size: int, first: float, epochs: int) -> tuple[int, ...]:
    """The side in each epoch before images have their full side; it grows evenly from the share `first` of that."""
    growing = int(GROWING_EPOCHS * epochs) if first < 1 else 0
    sides = [image_size * (first + (1 - first) * epoch / growing) for epoch in range(growing)]
    return tuple(min(image_size, max(SMALLEST_SIDE, SIDE_STEP * round(side / SIDE_STEP))) for side in sides)


def eval_transform(
    image_size: int = config.IMAGE_SIZE, channels: int = 3, value_range: ValueRange | None = None
) -> SquareTransform:
    """As torchvision's Resize((image_size, image_size)), which squeezes the whole photo; pixels differ by at most 1."""
    return SquareTransform(image_size, None, channels, value_range)


def to_grey(images: Tensor) -> Tensor:
    """OpenCV's grey of RGB images: uint8 of shape (rows, 3, height, width) becomes (rows, 1, height, width)."""
    red, green, blue = images.split(1, dim=1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).round().to(torch.uint8)


def normalize(images: Tensor) -> Tensor:
    """uint8 of shape (..., 3 or 1, height, width) as float32 with ImageNet's mean at 0 and standard deviation at 1.

    Fastest in the channels_last layout, which the result has.
    """
    last = images.movedim(-3, -1)
    # a row of pixels at a time: an operation on three channels at a time is too short for the CPU's vectors
    scale, shift = _scale_and_shift(last.shape[-1], last.shape[-2], images.device)
    rows = last.reshape(*last.shape[:-2], len(scale)).float()
    return torch.addcmul(shift, rows, scale, out=rows).view(last.shape).movedim(-1, -3)


@functools.cache  # bringing the constants to a GPU would wait for it
def _scale_and_shift(channels: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The constants of normalize for a row of `width` pixels."""
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (config.MEAN, config.STD))
    if channels == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    scale, shift = (values.float().repeat(width).to(device) for values in (1 / (255 * std), -mean / std))
    return scale, shift


def denormalize(images: Tensor) -> np.ndarray:
    """The inverse of normalize: uint8 of shape (..., height, width, 3), also for grey images."""
    last = images.detach().float().cpu().movedim(-3, -1)
    scale, shift = _scale_and_shift(last.shape[-1], 1, last.device)
    pixels = ((last - shift) / scale).round().clamp(0, 255).to(torch.uint8)  # a bare cast wraps 256 round to 0
    return pixels.expand(*pixels.shape[:-1], 3).numpy()


class MixedLabels(NamedTuple):
    """The labels of mixed photos: `share` of what counts is each photo's own label, the rest its partner's."""

    own: Tensor
    partner: Tensor
    share: float

    def tensor_split(self, parts: int) -> list["MixedLabels"]:
        pairs = zip(self.own.tensor_split(parts), self.partner.tensor_split(parts), strict=True)
        return [MixedLabels(own, partner, self.share) for own, partner in pairs]


class Mixing(NamedTuple):
    """Mixes a share of all batches, by "cutmix", "mixup", or "both", one of the two in each."""

    kind: str
    batches: float

    def draw(self, *key: int) -> tuple[str, float, float, float] | None:
        """How the batch of `key`, (seed, epoch, step), is mixed: kind, share, and CutMix's place; None: not at all."""
        random = np.random.default_rng(key_of(*key))
        if random.random() >= self.batches:
            return None
        kind = random.choice(sorted(MIX_BETA)) if self.kind == "both" else self.kind
        return kind, random.beta(MIX_BETA[kind], MIX_BETA[kind]), random.random(), random.random()


def mix_pairs(images: Tensor, labels: Tensor, drawn: tuple, kept: slice) -> tuple[Tensor, MixedLabels]:
    """The `kept` rows of a normalised batch whose rows 2j and 2j + 1 are mixed with each other, see Mixing.draw.

    The last of an odd number is mixed with itself. A pixel follows from its two photos to the last bit, wherever it is.
    """
    kind, share, *centre = drawn
    partners = (torch.arange(len(images), device=images.device) ^ 1).clamp(max=len(images) - 1)[kept]
    mixed = images[kept].clone()
    if kind == "mixup":
        mixed = mixed * share + images[partners] * (1 - share)  # torch.lerp may round by the place in memory
    else:
        side, half = images.shape[-1], math.sqrt(1 - share) / 2
        top, left = (max(0, round(side * (at - half))) for at in centre)
        bottom, right = (min(side, round(side * (at + half))) for at in centre)
        mixed[..., top:bottom, left:right] = images[partners, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / side**2  # less was replaced where the square leaves the image
    return mixed, MixedLabels(labels[kept], labels[partners], share)


def to_device(images: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch on `device`, see _copied. A GPU copies it while it computes the steps that are queued before it."""
    if device.type != "cuda" or images.is_cuda:
        return _copied(images, labels, device)
    computing, copying = torch.cuda.current_stream(device), _copy_stream(device)
    with torch.cuda.stream(copying):
        batch = _copied(images, labels, device)
    computing.wait_stream(copying)
    for tensor in batch:
        tensor.record_stream(computing)  # its memory is not used again before the step is done
    return batch


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _copied(images: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Copy a batch to `device` without waiting, images in channels_last; uint8 images are normalised there."""
    no_wait = device.type != "mps"  # https://github.com/pytorch/pytorch/issues/189690: it may copy freed memory
    images = images.to(device, non_blocking=no_wait, memory_format=torch.channels_last)
    if images.dtype == torch.uint8:
        images = normalize(images)
    return images, labels.to(device, non_blocking=no_wait)
