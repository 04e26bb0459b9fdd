"""Crop, flip and rotation in one interpolation, as by torchvision's three transforms, for a photo and for a batch."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from pyimagesearch.data.crops import NUMBERS, Window, affine_matrices, draw_window, pack, resize, warp, warp_batch

SIZE = 64
WIDTH, HEIGHT = 400, 300


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """A photo without edges, different everywhere: a wrong position shows, another interpolation hardly does."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [128 + 90 * np.sin(x / 60 + y / 90), 128 + 90 * np.cos(y / 50), 40 + 0.5 * x]
    return np.stack(waves, axis=-1).astype(np.uint8)


def cut(pixels: np.ndarray, window: Window, size: int = SIZE) -> np.ndarray:
    out = np.full((size, size, 3), 77, np.uint8)
    warp(pixels, window, out)
    return out.astype(int)


def composed(pixels: np.ndarray, window: Window, size: int = SIZE) -> np.ndarray:
    """The tutorial's three passes, with this window's parameters."""
    left, top, width, height, flip, angle = window
    image = TF.resized_crop(Image.fromarray(pixels), top, left, height, width, [size, size])
    image = TF.hflip(image) if flip else image
    return np.asarray(TF.rotate(image, angle)).astype(int)


def batched(pixels: np.ndarray, windows: list[Window], size: int = SIZE, taps: int = 1) -> np.ndarray:
    flat = pack(pixels.reshape(-1, 3), torch.device("cpu"))
    sizes = torch.tensor([pixels.shape[1::-1]]).repeat(len(windows), 1)
    images = warp_batch(flat, torch.zeros(len(windows), dtype=torch.int64), sizes, windows, size, taps)
    assert images.dtype == torch.uint8 and images.is_contiguous(memory_format=torch.channels_last)
    return images.permute(0, 2, 3, 1).numpy().astype(int)


def interior(angle: float, size: int = SIZE, margin: float = 1.5) -> np.ndarray:
    """The pixels that lie inside the rotated square, by more than `margin` pixels."""
    y, x = np.mgrid[0:size, 0:size] + 0.5 - size / 2
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.maximum(abs(cosine * x - sine * y), abs(sine * x + cosine * y)) < size / 2 - margin


# larger and smaller than the square, by more than two, unequally, at a corner; upright, flipped, rotated both ways
WINDOWS = [
    Window(left, top, width, height, flip, angle)
    for left, top, width, height in (
        (37, 21, 120, 140), (0, 0, 400, 300), (100, 50, 30, 40), (360, 270, 40, 30), (8, 3, 70, 64),
    )
    for flip, angle in ((False, 0.0), (True, 0.0), (False, 30.0), (True, -77.7), (True, 90.0))
]  # fmt: skip


@pytest.mark.parametrize("window", WINDOWS)
def test_one_interpolation_agrees_with_the_three_passes(smooth, window):
    ours, theirs = cut(smooth, window), composed(smooth, window)
    inside, outside = interior(window.angle), ~interior(window.angle, margin=-1.5)
    assert np.abs(ours - theirs)[inside].max() <= (12 if window.angle else 1)  # they rotate to the nearest pixel
    assert abs((ours - theirs)[inside].mean()) < 0.6
    assert not ours[outside].any() and not theirs[outside].any()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("taps", [1, 3])
def test_a_batch_on_the_device_agrees_with_one_photo_at_a_time(smooth, window, taps):
    ours, theirs = batched(smooth, [window], taps=taps)[0], cut(smooth, window)
    inside, outside = interior(window.angle), ~interior(window.angle, margin=-1.5)
    assert np.abs(ours - theirs)[inside].max() <= 4
    assert abs((ours - theirs)[inside].mean()) < 0.6
    assert not ours[outside].any()


def test_the_pixels_of_a_photo_do_not_depend_on_the_rest_of_its_batch(smooth):
    together = batched(smooth, WINDOWS, taps=2)
    alone = [batched(smooth, [window], taps=2)[0] for window in WINDOWS]
    assert np.array_equal(together, alone)
    assert batched(smooth, []).shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("width, height", [(64, 64), (73, 73), (97, 64), (110, 128), (50, 50), (250, 190)])
@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_a_batch_on_the_device_keeps_as_much_detail_as_one_photo_at_a_time(width, height, angle):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    window = Window(20, 30, width, height, angle=angle)
    ours, theirs = batched(noise, [window], taps=math.ceil(max(width, height) / SIZE))[0], cut(noise, window)
    inside = interior(angle)
    assert ours[inside].std() == pytest.approx(theirs[inside].std(), rel=0.15)
    assert np.corrcoef(ours[inside].ravel(), theirs[inside].ravel())[0, 1] > 0.8


@pytest.mark.parametrize("size", [48, 224])
def test_the_maps_of_many_windows_are_those_of_each_window_bit_for_bit(size):
    numbers = np.random.default_rng(0).random((200, NUMBERS)).tolist()
    windows = [draw_window(row, 403, 301, least_area=0.08, angle=90.0).scaled(0.37, 0.41) for row in numbers] + WINDOWS
    for window, matrix in zip(windows, affine_matrices(windows, size), strict=True):
        cosine, sine = math.cos(math.radians(window.angle)), math.sin(math.radians(window.angle))
        scale = np.array([(-1 if window.flip else 1) * window.width / size, window.height / size])
        linear = scale[:, None] * np.array([[cosine, -sine], [sine, cosine]])
        centre = np.array([window.left + window.width / 2, window.top + window.height / 2])
        assert np.array_equal(matrix, np.column_stack([linear, centre - linear @ (size / 2, size / 2)]))
        assert np.array_equal(matrix, affine_matrices([window], size)[0])


def test_packed_pixels_are_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    packed = pack(pixels, torch.device("cpu"))
    assert (packed.shape, packed.dtype) == ((50,), torch.int32)
    assert np.array_equal(packed[:, None].view(torch.uint8)[:, :3].numpy(), pixels)


def test_a_batch_takes_each_row_from_its_own_photo(smooth):
    other = np.ascontiguousarray(255 - smooth[:100, :50])
    flat = pack(np.concatenate([smooth.reshape(-1, 3), other.reshape(-1, 3)]), torch.device("cpu"))
    starts, sizes = torch.tensor([0, WIDTH * HEIGHT]), torch.tensor([[WIDTH, HEIGHT], [50, 100]])
    windows = [Window(0, 0, WIDTH, HEIGHT), Window(0, 0, 50, 100)]
    images = warp_batch(flat, starts, sizes, windows, SIZE, 1).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images[0], batched(smooth, windows[:1])[0])
    assert np.array_equal(images[1], batched(other, windows[1:])[0])


@pytest.mark.parametrize("angle", [0.0, 40.0])
def test_detail_too_fine_for_the_square_becomes_its_mean(angle):
    """A bare interpolation would turn stripes of one pixel into coarse ones."""
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    for width in (100, 128, 200, 330):  # 1.6 to 5.2 times the square
        part = cut(stripes, Window(10, 10, width, width, False, angle))
        inner = part[interior(angle, margin=4)]
        assert abs(inner.mean() - 127.5) < 3
        assert inner.std() < 127.5 * (0.35 if width < 2 * SIZE else 0.2)


def test_a_window_of_fractions_of_pixels_shows_the_same_part_of_a_smaller_copy(smooth):
    copy = resize(smooth, WIDTH // 2, HEIGHT // 2)
    for window in WINDOWS:
        inside = interior(window.angle)
        difference = np.abs(cut(copy, window.scaled(0.5, 0.5)) - cut(smooth, window))[inside]
        assert difference.max() <= 6


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_tiny_photos_are_enlarged(shape):
    white = np.full((*shape, 3), 255, np.uint8)
    window = Window(0, 0, shape[1], shape[0], True, 20.0)
    assert (cut(white, window)[interior(20.0)] == 255).all()
    assert (batched(white, [window])[0][interior(20.0)] == 255).all()


# --- the parameters --------------------------------------------------------------------------------------------------


def drawn(width: int, height: int, count: int = 4000, **limits) -> np.ndarray:
    numbers = np.random.default_rng(0).random((count, NUMBERS))
    return np.array([draw_window(row, width, height, **limits) for row in numbers.tolist()], float)


@pytest.mark.parametrize("width, height", [(400, 300), (90, 400), (30, 30)])
def test_windows_are_distributed_as_torchvisions_crops(width, height):
    ours = drawn(width, height, least_area=0.08, angle=90)
    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)], float)
    theirs = theirs[:, [1, 0, 3, 2]]  # torchvision gives top, left, height, width
    for one, two in zip(ours[:, :4].T, theirs.T, strict=True):
        quantiles = np.linspace(0.02, 0.98, 25)
        assert np.abs(np.quantile(one, quantiles) - np.quantile(two, quantiles)).max() < 0.05 * max(width, height)
    areas = ours[:, 2] * ours[:, 3] / (width * height)
    their_areas = theirs[:, 2] * theirs[:, 3] / (width * height)
    assert areas.mean() == pytest.approx(their_areas.mean(), abs=0.015)


def test_windows_lie_in_the_photo_are_flipped_half_of_the_time_and_rotated_uniformly():
    left, top, width, height, flip, angle = drawn(123, 77, least_area=0.08, angle=90).T
    assert (left >= 0).all() and (top >= 0).all() and (width > 0).all() and (height > 0).all()
    assert (left + width <= 123).all() and (top + height <= 77).all()
    assert left.min() == 0 and (left + width).max() == 123
    assert abs(flip.mean() - 0.5) < 0.04
    assert angle.min() < -88 and angle.max() > 88 and abs(angle.mean()) < 4


def test_the_window_of_a_very_long_photo_is_its_centre():
    assert draw_window([0.999] * NUMBERS, 1000, 10, least_area=0.9, angle=0)[:4] == (493, 0, 13, 10)
    assert draw_window([0.999] * NUMBERS, 10, 1000, least_area=0.9, angle=0)[:4] == (0, 493, 10, 13)
