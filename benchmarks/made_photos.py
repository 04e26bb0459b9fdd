"""Photos for the benchmarks: given ones, resized, or drawn ones with the file size of real photos."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pyimagesearch.data.decoding import photos_below
from pyimagesearch.runtime.threads import available_cores

CLASSES = 11  # as Food-11


def make_folder(folder, count: int, side: int, given=None, *, flat: bool = False) -> Path:
    """Write `count` JPEGs of `side` pixels on the short side, in folders of 11 classes.

    given : a folder of photos to resize, in turn; those that have the size are copied. None: textures are drawn
    flat : all in one folder, as K_N.jpg for class number K, as in Food-11
    """
    folder = Path(folder)
    sources = photos_below(os.fspath(given)) if given else []
    if given and not sources:
        raise SystemExit(f"error: there is no photo below {given}")
    names = [f"{number % CLASSES}_{number}.jpg" for number in range(count)]
    paths = [folder / name if flat else folder / f"class{name.partition('_')[0]:>02}" / name for name in names]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    chosen = [sources[number % len(sources)] if sources else None for number in range(count)]
    with ThreadPoolExecutor(available_cores()) as pool:  # numpy and Pillow work outside the interpreter's lock
        list(pool.map(partial(_make, side), paths, chosen, range(count)))
    return folder


def make_dataset(folder, counts: tuple[int, int, int], side: int, given=None) -> Path:
    """A prepared dataset with `counts` photos in training, validation and evaluation."""
    for name, count in zip(("training", "validation", "evaluation"), counts, strict=True):
        make_folder(Path(folder, name), count, side, given)
    return Path(folder)


def _make(side: int, path: Path, source: str | None, seed: int) -> None:
    if source is None:
        draw(side, seed).save(path, quality=90)
        return
    with Image.open(source) as photo:
        if photo.format == "JPEG" and min(photo.size) == side:
            path.write_bytes(Path(source).read_bytes())
            return
        scale = side / min(photo.size)
        size = [max(side, round(length * scale)) for length in photo.size]
        photo.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, quality=90)


def draw(side: int, seed: int) -> Image.Image:
    """Coloured noise at all scales, weaker at finer ones, as in photos; its JPEG has about as many bytes per pixel."""
    rng = np.random.default_rng(seed)
    pixels, cells = np.full((side, side, 3), 128.0), 4
    while cells <= side:
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += (np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC), float) - 128) * (2.2 / cells**0.72)
        cells *= 2
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
