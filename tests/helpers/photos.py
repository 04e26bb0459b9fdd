"""Photos drawn for tests, and where the repository is."""

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]


def draw_photo(path: Path, size: tuple[int, int] = (40, 32), colour: tuple[int, int, int] | None = None) -> Path:
    """A noisy photo, unlike any of another name; of `colour` where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(os.fsencode("/".join(path.parts[-3:]))))
    noise = rng.integers(0, 256, (size[1], size[0], 3))
    pixels = noise if colour is None else np.clip(np.array(colour) + (noise - 128) // 4, 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def scene(number: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A drawing of blurred noise, with structure as a photo has."""
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 12)
    return Image.fromarray(cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX))
