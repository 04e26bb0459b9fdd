"""One photo: a table, a dish on it, and the light of a camera."""

import numpy as np
from PIL import Image

from pyimagesearch import config
from pyimagesearch.preparation.sample.dishes import DISHES, TABLES
from pyimagesearch.preparation.sample.shapes import Brush

SIDES = (200, 320)  # shortest and longest side, in pixels
SUPERSAMPLING = 2  # drawn at this many times the size, then reduced: smooth edges


def draw_photo(class_index: int, rng: np.random.Generator) -> Image.Image:
    """A random photo (RGB) of a dish of the class at `class_index` in config.CLASSES."""
    size = rng.integers(SIDES[0], SIDES[1] + 1, 2) * SUPERSAMPLING
    image = Image.new("RGB", size.tolist())
    lamp = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(lamp), np.sin(lamp)])
    middle = size / 2 + rng.normal(0, 0.05, 2) * size.min()
    unit = float(size.min() / 2 * rng.uniform(0.8, 1.02))
    brush = Brush(image, rng, light, middle, unit, turn=rng.uniform(0, 360))
    brush.draw(TABLES)
    brush.draw([dish for (name, _), dish in DISHES.items() if name == config.CLASSES[class_index]])
    return expose(rng, image.reduce(SUPERSAMPLING))


def expose(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """`image` as a camera sees it: light that falls off to one side, a warm or cold lamp, exposure, noise."""
    pixels = np.asarray(image, dtype=np.float32)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    turn, warmth = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.03)
    falloff = 1 + rng.uniform(0, 0.16) * (x * np.cos(turn) + y * np.sin(turn)) - rng.uniform(0, 0.12) * (x * x + y * y)
    lamp = rng.uniform(0.86, 1.1) * np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
    grain = rng.uniform(1, 4) * rng.standard_normal((height, width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(pixels * falloff[:, :, None] * lamp + grain, 0, 255).astype(np.uint8))
