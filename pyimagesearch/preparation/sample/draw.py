"""Draws the built-in sample: pictures of the eleven kinds of food, in the raw layout of Food-11.

<dest>/training/0_0.jpg ...  <dest>/validation/...  <dest>/evaluation/...   named CLASS_NUMBER.jpg
<dest>/classes.txt           the names of the classes, one a line
<dest>/sample.json           the seed and the counts that the sample was drawn with
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from pyimagesearch import config
from pyimagesearch.preparation.sample import market, meals, snacks
from pyimagesearch.preparation.sample.brush import Brush
from pyimagesearch.preparation.sample.table import photograph, table
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import write_json, write_text
from pyimagesearch.runtime.threads import available_cores

MARKER = "sample.json"
PARTIAL_SUFFIX = ".partial"
# the kinds that each class of config.CLASSES is drawn in
DISHES = (
    (snacks.loaf, snacks.baguettes, snacks.slices),
    (snacks.cheese, snacks.milk, snacks.camembert),
    (snacks.cake, snacks.donuts, snacks.cupcake),
    (snacks.fried_eggs, snacks.boiled_eggs),
    (snacks.carton_of_fries, snacks.plate_of_fries, snacks.drumsticks),
    (meals.grilled_steak, meals.raw_steak, meals.sausages),
    (meals.spaghetti, meals.noodle_bowl),
    (meals.rice_bowl, meals.fried_rice, meals.onigiri),
    (market.fish, market.prawns, market.crab),
    (meals.cream_soup, meals.broth),
    (market.harvest, market.one_kind),
)
SIDES = (200, 320)  # shortest and longest side of a picture, in pixels
SUPERSAMPLING = 2  # drawn so many times larger, then reduced: smooth edges
JPEG_QUALITY = 88
FILES_PER_TASK = 4  # a worker's errand: long enough to be worth the call, short enough to stop soon after Ctrl-C


class _Picture(NamedTuple):
    """One file of the sample."""

    folder: str
    seed: int
    split: int
    class_index: int
    number: int


def draw_sample(
    dest: str | os.PathLike, *, seed: int = 0, counts: Sequence[int] = (160, 16, 20), workers: int | None = None
) -> dict[str, int]:
    """Draw the sample into the folder `dest`, whole or not at all.

    With the same versions of NumPy and Pillow, the bytes of a picture depend on the seed and on its split, class and
    number alone. The sample grows in `<dest>.partial`, which takes the name `dest` when it is complete; what a killed
    run left there is thrown away. A sample of this seed and these counts that is there already is left as it is.

    Parameters
    ----------
    dest : the folder to make; it may exist if it is empty
    seed : int, 0 or more
    counts : images per class in training, validation and evaluation
    workers : processes that draw; by default one per core that this process may use, and 1 draws in this process.
        With more than 1 the calling script must guard its main(), as the workers are spawned.

    Returns
    -------
    images per split, as {"training": 440, "validation": 110, "evaluation": 132}

    Raises
    ------
    UserError : `dest`, or `<dest>.partial`, holds something else; it is not touched
    OSError : the disk is full, the folder cannot be written, ...; no `dest` is made
    """
    dest = os.path.realpath(dest)
    marker = {"seed": seed, "counts": dict(zip(config.SPLITS, counts, strict=True))}
    images = {split: count * len(config.CLASSES) for split, count in marker["counts"].items()}
    if _is_drawn(dest, marker):
        return images
    partial = dest + PARTIAL_SUFFIX
    _discard_leftover(partial)
    try:
        write_json(os.path.join(partial, MARKER), marker)
        write_text(os.path.join(partial, "classes.txt"), "".join(f"{name}\n" for name in config.CLASSES))
        _draw_files(_pictures(partial, seed, counts), workers or available_cores())
        if os.path.isdir(dest):
            os.rmdir(dest)  # it is empty; Windows renames onto no folder
        os.rename(partial, dest)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return images


def draw_photo(class_index: int, rng: np.random.Generator) -> Image.Image:
    """One picture of class `class_index` (its place in config.CLASSES), everything in it by the chance of `rng`.

    Returns an RGB image with sides of SIDES[0] to SIDES[1] pixels.
    """
    width, height = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    large = (SUPERSAMPLING * width, SUPERSAMPLING * height)
    image = table(rng, width, height).resize(large, Image.Resampling.BILINEAR)
    x, y = (side / 2 + rng.normal(0, 0.05) * min(large) for side in large)
    unit = min(large) / 2 * rng.uniform(0.8, 1.02)
    lamp = rng.uniform(0, 2 * np.pi)
    brush = Brush(image, rng, (float(np.cos(lamp)), float(np.sin(lamp))), x, y, unit, turn=rng.uniform(0, 2 * np.pi))
    kinds = DISHES[class_index]
    kinds[rng.integers(len(kinds))](brush)
    return photograph(rng, image.reduce(SUPERSAMPLING))


def _is_drawn(dest: str, marker: dict) -> bool:
    """Whether `dest` holds the sample of `marker`; UserError if it holds something else."""
    if not os.path.lexists(dest):
        return False
    if not os.path.isdir(dest):
        raise UserError(f"{dest} is a file, expected a folder for the sample: move it away or name another folder")
    found = _read_marker(dest)
    if found == marker:
        return True
    if found is not None:
        raise UserError(
            f"{dest} holds a sample of {_told(found)}, expected {_told(marker)}: delete it or name another folder"
        )
    if os.listdir(dest):
        raise UserError(f"{dest} holds files that are not the sample: move them away or name another folder")
    return False


def _discard_leftover(partial: str) -> None:
    """Throw away what a killed run left; the marker, which is written first, tells that it is no one else's."""
    if not os.path.lexists(partial):
        return
    if not os.path.isdir(partial) or os.path.islink(partial) or (os.listdir(partial) and _read_marker(partial) is None):
        raise UserError(f"{partial} is in the way and was not left by an earlier drawing of the sample: move it away")
    shutil.rmtree(partial)


def _read_marker(folder: str) -> dict | None:
    """The seed and counts in `folder`'s marker; None where there is none that this module wrote."""
    try:
        with open(os.path.join(folder, MARKER), encoding="utf-8") as file:
            marker = json.load(file)
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and {"seed", "counts"} <= marker.keys() else None


def _told(marker: dict) -> str:
    return f"seed {marker['seed']} with counts {json.dumps(marker['counts'])}"


def _pictures(folder: str, seed: int, counts: Sequence[int]) -> list[_Picture]:
    return [
        _Picture(folder, seed, split, class_index, number)
        for split, count in enumerate(counts)
        for number in range(count)
        for class_index in range(len(config.CLASSES))
    ]


def _draw_files(pictures: list[_Picture], workers: int) -> None:
    """Draw every picture into its folder, in this process or in `workers` processes, which have ended on return."""
    for split in {picture.split for picture in pictures}:
        os.makedirs(os.path.join(pictures[0].folder, config.SPLITS[split]))
    with terminal.make_bar("drawing", len(pictures)) as bar:
        if workers == 1:
            for picture in pictures:
                _draw_file(picture)
                bar.update()
            return
        # spawned, because a fork of a process that runs threads (torch, tqdm) can hang
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
        try:
            for _ in pool.map(_draw_file, pictures, chunksize=FILES_PER_TASK):
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_file(picture: _Picture) -> None:
    rng = np.random.default_rng([picture.seed, picture.split, picture.class_index, picture.number])
    name = f"{picture.class_index}_{picture.number}.jpg"
    path = os.path.join(picture.folder, config.SPLITS[picture.split], name)
    draw_photo(picture.class_index, rng).save(path, quality=JPEG_QUALITY)


def _start_worker() -> None:
    """Ctrl-C, which the terminal sends to all, is the parent's to answer; and no worker outlives the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
