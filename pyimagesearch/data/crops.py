"""Crop, flip and rotation in one interpolation: how a part of a photo becomes the square that a model sees.

A Window is that part in pixels of the photo, so it means the same for the photo's file, for a smaller copy in a cache,
and for a photo on a GPU. `warp` cuts one out of an array, `warp_batch` many out of a tensor.
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
warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # a cache is only read
ATTEMPTS = 10  # at a crop that fits, as in torchvision
NUMBERS = 2 * ATTEMPTS + 4  # uniform random numbers per window
LOG_RATIOS = math.log(3 / 4), math.log(4 / 3)  # logarithm of a crop's width / height


class Window(NamedTuple):
    """A part of a photo, in pixels from its upper left corner (float in a scaled photo).

    It is flipped left to right, then rotated by `angle` degrees counter-clockwise about its centre, with black corners.
    """

    left: float
    top: float
    width: float
    height: float
    flip: bool = False
    angle: float = 0.0

    def scaled(self, across: float, down: float) -> "Window":
        """The same part of a copy that is `across` times as wide and `down` times as high."""
        left, top, width, height, flip, angle = self
        return Window(left * across, top * down, width * across, height * down, flip, angle)


def draw_window(numbers: Sequence[float], width: int, height: int, *, least_area: float, angle: float) -> Window:
    """A random window with the distribution of torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomRotation.

    `numbers` are NUMBERS uniform draws from [0, 1); `width` and `height` are the photo's; `least_area` is the smallest
    crop as a share of the photo; the rotation is uniform from -angle to angle degrees.
    """
    *attempts, across, down, flip, turn = numbers
    for size, shape in zip(attempts[::2], attempts[1::2], strict=True):
        area = width * height * (least_area + (1 - least_area) * size)
        ratio = math.exp(LOG_RATIOS[0] + (LOG_RATIOS[1] - LOG_RATIOS[0]) * shape)
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = int(across * (width - crop_width + 1)), int(down * (height - crop_height + 1))
            break
    else:  # a very long photo: the largest allowed crop from its centre
        lowest, highest = map(math.exp, LOG_RATIOS)
        crop_width = min(width, round(height * highest))
        crop_height = min(height, round(width / lowest))
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return Window(left, top, crop_width, crop_height, flip < 0.5, (2 * turn - 1) * angle)


def affine_matrices(windows: Sequence[Window], size: int) -> np.ndarray:
    """The maps M from a square of `size` pixels to the photo, one per window: float64 of shape (windows, 2, 3).

    The point (x, y) of the square shows M[:, :2] @ (x, y) + M[:, 2]; the centre of the first pixel is at 0.5.
    """
    left, top, width, height, flip, angle = np.array(windows, np.float64).reshape(-1, 6).T
    turns = [(math.cos(turn), math.sin(turn)) for turn in np.radians(angle).tolist()]  # numpy's differ by processor
    cosine, sine = np.array(turns).reshape(-1, 2).T
    across, down = np.where(flip, -width, width) / size, height / size
    linear = np.array([[across * cosine, across * -sine], [down * sine, down * cosine]]).transpose(2, 0, 1)
    linear = linear.copy()  # contiguous, so that numpy multiplies each with the same function for one and for many
    centre = np.stack([left + width / 2, top + height / 2], axis=1)
    return np.concatenate([linear, (centre - linear @ np.full(2, size / 2))[:, :, None]], axis=2)


def warp(pixels: np.ndarray, window: Window, out: np.ndarray) -> None:
    """Write the window of `pixels`, (height, width, 3), into `out`, (size, size, 3); both uint8.

    An upright window of whole pixels is resized as torchvision resizes a PIL image; pixels differ by at most 1. Any
    other takes one bilinear interpolation, after a blur where it is larger than `out`.
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
    (matrix,) = affine_matrices([window], size)
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # for OpenCV the centre of the first pixel is at 0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # OpenCV warps four channels faster than three
    four = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    four = cv2.warpAffine(four, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    cv2.cvtColor(four, cv2.COLOR_RGBA2RGB, dst=out)
    if window.angle:
        _blacken_corners(out, window.angle)


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize `pixels`, uint8 of shape (height, width, channels), with antialiasing."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    tensor = F.interpolate(tensor, (height, width), mode="bilinear", antialias=True)
    return tensor[0].permute(1, 2, 0).numpy()


def _without_detail(part: np.ndarray, window: Window, size: int) -> tuple[np.ndarray, Window]:
    """Remove the detail of `part` that is too fine for `size` pixels; returns the new part and the window in it.

    Pillow's antialiasing kernel is a triangle of 2 f pixels, where f is the reduction, and so has the variance f^2 / 6;
    that of bilinear interpolation is 1 / 6. A blur of three pixels adds the difference up to f = 2; above, `part` is
    halved first.
    """
    while min(window.width, window.height) >= 2 * size:
        height, width = part.shape[0] // 2, part.shape[1] // 2
        part = cv2.resize(part[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        window = window.scaled(0.5, 0.5)
    sides = [min(((extent / size) ** 2 - 1) / 12, 1 / 3) for extent in (window.width, window.height)]
    if max(sides) > 0:
        # the kernel (k, 1 - 2k, k) has the variance 2k; OpenCV takes the sigma of the Gaussian with these values
        sigmas = [math.sqrt(-0.5 / math.log(k / (1 - 2 * k))) if 0 < k < 1 / 3 else 1e3 * (k > 0) for k in sides]
        kernel = [3 if k > 0 else 1 for k in sides]
        part = cv2.GaussianBlur(part, kernel, sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REPLICATE)
    return part, window


def _blacken_corners(out: np.ndarray, angle: float) -> None:
    """Blacken the pixels of the square `out` whose centres lie outside the same square rotated by `angle`."""
    size, bits = len(out), 8
    far = 2 * size
    # the area beyond one edge; half a pixel farther out, because OpenCV fills the pixels on the border too
    edge = np.array([(size / 2 + 0.5, -far), (size / 2 + 0.5, far), (far, far), (far, -far)])
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    quarter_turns = np.array([[[c, -s], [s, c]], [[-s, -c], [c, -s]], [[-c, s], [-s, -c]], [[s, c], [-c, s]]])
    beyond = edge @ quarter_turns + (size / 2 - 0.5)
    for corners in np.rint(beyond * (1 << bits)).astype(np.int32):
        cv2.fillConvexPoly(out, corners, (0, 0, 0), shift=bits)


def warp_batch(
    pixels: Tensor, starts: Tensor, sizes: Tensor, windows: Sequence[Window], size: int, taps: int
) -> Tensor:
    """Cut `windows` out of photos that lie one after another in `pixels`, all at once, on the device of `pixels`.

    Where a window is larger than the square, a pixel is the mean of taps x taps bilinear samples, spaced so that they
    blur as much as `warp` does: the two differ by interpolation only. A window of n times the square needs n taps, to
    skip no pixel. The result is uint8 of shape (rows, 3, size, size), in the channels_last layout.

    pixels : int32 of shape (pixels of all photos,), see pack
    starts : int64 of shape (rows,), the index in `pixels` of the first pixel of each row's photo
    sizes : int64 of shape (rows, 2), the width and height of that photo
    """
    device = pixels.device
    edges = np.array(windows, np.float32).reshape(-1, 6)[:, :4]
    rows = np.hstack([affine_matrices(windows, size).reshape(-1, 6).astype(np.float32), edges])
    parameters = copy_to(torch.from_numpy(rows), device)
    linear, offset = parameters[:, :6].reshape(-1, 2, 3).split([2, 1], dim=2)
    corner, extent = parameters[:, None, None, 6:8], parameters[:, None, None, 8:]
    steps = torch.arange(size, device=device) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    square = torch.stack([x, y], dim=-1).reshape(1, -1, 2)
    centres = (square @ linear.mT + offset.mT).reshape(-1, size, size, 2) - corner
    inside = ((centres >= 0) & (centres <= extent)).all(dim=-1, keepdim=True)
    # taps that are g apart have the variance g^2 (taps^2 - 1) / 12; it must equal that of _without_detail's blur
    shrunk = ((extent / size).square() - 1).clamp(min=0)
    gaps = (2 * shrunk / max(taps * taps - 1, 1)).sqrt()
    total = torch.zeros(len(windows), size, size, 3, device=device)
    places = torch.arange(taps, device=device) - (taps - 1) / 2
    for aside in torch.cartesian_prod(places, places):
        points = (centres + aside * gaps).clamp(min=torch.zeros_like(extent), max=extent)
        total += _bilinear(pixels, starts, sizes, points + corner - 0.5)
    return total.div_(taps * taps).mul_(inside).round_().to(torch.uint8).permute(0, 3, 1, 2)


def pack(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Copy uint8 pixels of shape (pixels, 3) to `device`, as int32 of shape (pixels,): to gather one is faster."""
    return F.pad(torch.from_numpy(pixels).to(device), (0, 1)).view(torch.int32)[:, 0]


def _bilinear(pixels: Tensor, starts: Tensor, sizes: Tensor, points: Tensor) -> Tensor:
    """Each row's photo at `points`, (rows, size, size, 2), where the centre of the first pixel is at 0."""
    most = (sizes - 1)[:, None, None]
    low = points.floor()
    share = points - low
    low = low.long()
    at = [torch.minimum((low + step).clamp(min=0), most) for step in (0, 1)]
    starts, widths = starts[:, None, None], sizes[:, 0, None, None]

    def corner(across: int, down: int) -> Tensor:
        gathered = pixels[starts + at[down][..., 1] * widths + at[across][..., 0]]
        return gathered[..., None].view(torch.uint8)[..., :3].float()

    upper = torch.lerp(corner(0, 0), corner(1, 0), share[..., :1])
    lower = torch.lerp(corner(0, 1), corner(1, 1), share[..., :1])
    return torch.lerp(upper, lower, share[..., 1:])


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device` without waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
