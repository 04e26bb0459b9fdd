"""Which part of a photo becomes the square that a model sees, and how: crop, flip and rotation in one interpolation.

A Window says which part, in the photo's own pixels, so it means the same whether the photo is read from its file, from
a cache of smaller copies, or lies on a GPU; `warp` cuts one out of an array, `warp_batch` many out of a tensor.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

cv2.setNumThreads(0)  # a worker has one core
warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # a cache's is not, nor is it written to
ATTEMPTS = 10  # at a crop that fits, as torchvision makes them
NUMBERS = 2 * ATTEMPTS + 4  # uniform random numbers that a window is made of
SHAPES = math.log(3 / 4), math.log(4 / 3)  # width / height of a crop


class Window(NamedTuple):
    """A part of a photo, in pixels from its upper left corner; flipped left to right first, then turned by `angle`
    degrees counter-clockwise about its middle, black where it has turned away. float in a scaled photo."""

    left: float
    top: float
    width: float
    height: float
    flip: bool = False
    angle: float = 0.0

    def scaled(self, across: float, down: float) -> "Window":
        """The same part of a photo that is `across` times as wide and `down` times as high."""
        return self._replace(
            left=self.left * across, top=self.top * down, width=self.width * across, height=self.height * down
        )


def draw_window(numbers: Sequence[float], width: int, height: int, *, least_area: float, angle: float) -> Window:
    """A random part of a photo, distributed as torchvision's RandomResizedCrop, RandomHorizontalFlip and RandomRotation
    draw theirs.

    Parameters
    ----------
    numbers : NUMBERS of them, uniform in [0, 1)
    width, height : of the photo, in pixels
    least_area : of the crop, as a share of the photo's
    angle : the rotation is uniform between minus this and this, in degrees
    """
    *attempts, across, down, flip, turn = numbers
    for size, shape in zip(attempts[::2], attempts[1::2], strict=True):
        area = width * height * (least_area + (1 - least_area) * size)
        ratio = math.exp(SHAPES[0] + (SHAPES[1] - SHAPES[0]) * shape)
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = int(across * (width - crop_width + 1)), int(down * (height - crop_height + 1))
            break
    else:  # a very long photo: as much as has an allowed shape, from its middle
        lowest, highest = map(math.exp, SHAPES)
        crop_width = min(width, round(height * highest))
        crop_height = min(height, round(width / lowest))
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return Window(left, top, crop_width, crop_height, flip < 0.5, (2 * turn - 1) * angle)


def source_of(window: Window, size: int) -> np.ndarray:
    """The affine map from the output square to the photo that `window` is of.

    Returns
    -------
    float64 of shape (2, 3): a point (x, y) of the square, 0 to `size`, shows the point M[:, :2] @ (x, y) + M[:, 2] of
    the photo; the middle of the first pixel is at 0.5
    """
    cosine, sine = math.cos(math.radians(window.angle)), math.sin(math.radians(window.angle))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = size / 2
    unflip = -1 if window.flip else 1
    scale = np.array([unflip * window.width / size, window.height / size])
    linear = scale[:, None] * turn
    centre = np.array([window.left + window.width / 2, window.top + window.height / 2])
    return np.column_stack([linear, centre - linear @ (middle, middle)])


def warp(pixels: np.ndarray, window: Window, out: np.ndarray) -> None:
    """Write what `window` shows of `pixels` into `out`. Beyond the edge of the photo its last pixels go on.

    A window of whole pixels that is not turned is resized as torchvision resizes a PIL image, to one step of 255. Any
    other takes one bilinear interpolation, after a blur where it is larger than `out`.

    Parameters
    ----------
    pixels : uint8 of shape (height, width, 3)
    out : uint8 of shape (size, size, 3)
    """
    size = len(out)
    left, top = math.floor(window.left), math.floor(window.top)
    right, bottom = math.ceil(window.left + window.width - 1e-6), math.ceil(window.top + window.height - 1e-6)
    part = pixels[top:bottom, left:right]
    if not window.angle and window[:4] == (left, top, right - left, bottom - top):
        part = resize(part, size, size)
        out[:] = part[:, ::-1] if window.flip else part
        return
    window = window._replace(left=window.left - left, top=window.top - top)
    part, window = _without_detail(part, window, size)
    source = source_of(window, size)
    source[:, 2] += source[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the middle of the first pixel
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # OpenCV warps four channels in less time than three
    four = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    four = cv2.warpAffine(four, source, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    cv2.cvtColor(four, cv2.COLOR_RGBA2RGB, dst=out)
    if window.angle:
        _blacken_corners(out, window.angle)


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """`pixels`, uint8 of shape (old height, old width, channels), as an array of the new size, antialiased."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    tensor = F.interpolate(tensor, (height, width), mode="bilinear", antialias=True)
    return tensor[0].permute(1, 2, 0).numpy()


def _without_detail(part: np.ndarray, window: Window, size: int) -> tuple[np.ndarray, Window]:
    """`part` of a photo, and the window of it, without what is too fine for a square of `size` pixels.

    Pillow's antialiasing has a triangle of 2 f pixels, where f is the reduction, and so a variance of f^2 / 6; bilinear
    interpolation has 1 / 6. A blur of three pixels makes up the difference, up to f = 2; above, halving comes first.
    """
    while min(window.width, window.height) >= 2 * size:
        height, width = part.shape[0] // 2, part.shape[1] // 2
        part = cv2.resize(part[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        window = window.scaled(0.5, 0.5)
    sides = [min(((extent / size) ** 2 - 1) / 12, 1 / 3) for extent in (window.width, window.height)]
    if max(sides) > 0:
        # the kernel (k, 1 - 2k, k) has the variance 2k; OpenCV asks for the Gaussian that has these three values
        sigmas = [math.sqrt(-0.5 / math.log(k / (1 - 2 * k))) if 0 < k < 1 / 3 else 1e3 * (k > 0) for k in sides]
        part = cv2.GaussianBlur(
            part, [3 if k > 0 else 1 for k in sides], sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REPLICATE
        )
    return part, window


def _blacken_corners(out: np.ndarray, angle: float) -> None:
    """Black for the pixels of the square `out` whose middles lie outside of that square turned by `angle`."""
    size, bits = len(out), 8
    far = 2 * size
    # all that is beyond one edge; half a pixel farther, because OpenCV fills the pixels on the border too
    edge = np.array([(size / 2 + 0.5, -far), (size / 2 + 0.5, far), (far, far), (far, -far)])
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    quarter_turns = np.array([[[c, -s], [s, c]], [[-s, -c], [c, -s]], [[-c, s], [-s, -c]], [[s, c], [-c, s]]])
    beyond = edge @ quarter_turns + (size / 2 - 0.5)
    for corners in np.rint(beyond * (1 << bits)).astype(np.int32):
        cv2.fillConvexPoly(out, corners, (0, 0, 0), shift=bits)


def warp_batch(
    pixels: Tensor, starts: Tensor, sizes: Tensor, windows: Sequence[Window], size: int, taps: int
) -> Tensor:
    """What `windows` show of photos that lie one after another in one tensor, all at once and where that tensor lies.

    A pixel is the mean of taps x taps bilinear samples where its window is larger than the square, so far apart that
    they blur as much as `warp` does: the two differ by interpolation only.

    Parameters
    ----------
    pixels : uint8 of shape (pixels of all photos, 3)
    starts : int64 of shape (rows,), each photo's first row in `pixels`, on the device of `pixels`
    sizes : int64 of shape (rows, 2), its width and height, likewise
    windows : one a row
    taps : a window n times as wide or high as the square needs n of them, so that they skip no pixel

    Returns
    -------
    uint8 of shape (rows, 3, size, size), in the channels_last layout
    """
    device = pixels.device
    described = np.array([[*source_of(window, size).ravel(), *window[:4]] for window in windows], np.float32)
    described = to(torch.from_numpy(described.reshape(-1, 10)), device)
    linear, offset = described[:, :6].reshape(-1, 2, 3).split([2, 1], dim=2)
    corner, extent = described[:, None, None, 6:8], described[:, None, None, 8:]
    steps = torch.arange(size, device=device) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    square = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    middles = (square @ linear.mT + offset.mT).reshape(-1, size, size, 2) - corner
    inside = ((middles >= 0) & (middles <= extent)).all(dim=-1, keepdim=True)
    # taps with gaps g between them have the variance g^2 (taps^2 - 1) / 12; due is that of _without_detail's blur
    shrunk = ((extent / size).square() - 1).clamp(min=0)
    gaps = (2 * shrunk / max(taps * taps - 1, 1)).sqrt()
    total = torch.zeros(len(windows), size, size, 3, device=device)
    places = torch.arange(taps, device=device) - (taps - 1) / 2
    for aside in torch.cartesian_prod(places, places):
        points = (middles + aside * gaps).clamp(min=torch.zeros_like(extent), max=extent)
        total += _bilinear(pixels, starts, sizes, points + corner - 0.5)
    return total.div_(taps * taps).mul_(inside).round_().to(torch.uint8).permute(0, 3, 1, 2)


def _bilinear(pixels: Tensor, starts: Tensor, sizes: Tensor, points: Tensor) -> Tensor:
    """`pixels` of each row's photo at `points`, float of shape (rows, size, size, 2) with 0 the middle of a pixel."""
    most = (sizes - 1)[:, None, None]
    low = points.floor()
    share = points - low
    low = low.long()
    at = [torch.minimum((low + step).clamp(min=0), most) for step in (0, 1)]
    starts, widths = starts[:, None, None], sizes[:, 0, None, None]

    def corner(across: int, down: int) -> Tensor:
        return pixels[starts + at[down][..., 1] * widths + at[across][..., 0]].float()

    upper = torch.lerp(corner(0, 0), corner(1, 0), share[..., :1])
    lower = torch.lerp(corner(0, 1), corner(1, 1), share[..., :1])
    return torch.lerp(upper, lower, share[..., 1:])


def to(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`; a GPU fetches it without the CPU's waiting."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
