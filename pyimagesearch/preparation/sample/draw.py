"""Draws the built-in sample: photos of the eleven classes of food, in the raw layout of Food-11, with a classes.txt."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from pyimagesearch import config
from pyimagesearch.preparation.sample.photo import draw_photo
from pyimagesearch.runtime import launcher, terminal
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import read_json, write_json, write_text
from pyimagesearch.runtime.threads import available_cores

MARKER = "sample.json"  # in the sample: the seed and the counts that it was drawn with


def draw_sample(
    dest: str | os.PathLike, *, seed: int = 0, counts: Sequence[int] = (160, 16, 20), workers: int | None = None
) -> dict[str, int]:
    """Draw the sample into the folder `dest`, whole or not at all; return the number of photos in each split.

    `counts` are the photos per class in each split. Equal arguments give equal bytes (with the same versions of NumPy
    and Pillow). A sample of this seed and these counts is kept; a folder that holds anything else is refused.
    Workers are spawned processes (default: one per core): a calling script must guard its main().
    """
    dest = os.path.realpath(dest)
    marker: dict = {"seed": seed, "counts": dict(zip(config.SPLITS, counts, strict=True))}
    if not _is_drawn(dest, marker):
        partial = f"{dest}.partial"
        _discard_leftover(partial)
        classes = range(len(config.CLASSES))
        photos = [(partial, seed, split, c, n) for split in range(3) for n in range(counts[split]) for c in classes]
        try:
            write_json(os.path.join(partial, MARKER), marker)  # first: it shows that the folder is ours
            write_text(os.path.join(partial, "classes.txt"), "".join(f"{name}\n" for name in config.CLASSES))
            _draw_files(photos, workers or available_cores())
            if os.path.isdir(dest):
                os.rmdir(dest)  # it is empty; Windows cannot rename onto a folder
            os.rename(partial, dest)
        except BaseException:  # Ctrl-C too
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return {split: count * len(config.CLASSES) for split, count in marker["counts"].items()}


def _draw_files(photos: list[tuple], workers: int) -> None:
    # spawned, because a fork of a process that runs threads (torch, tqdm) can hang
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        drawn = map(_draw_file, photos) if workers == 1 else pool.map(_draw_file, photos, chunksize=4)
        with terminal.make_bar("drawing", len(photos)) as bar:
            for _ in drawn:
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_file(photo: tuple[str, int, int, int, int]) -> None:
    folder, seed, split, class_index, number = photo
    path = os.path.join(folder, config.SPLITS[split], f"{class_index}_{number}.jpg")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draw_photo(class_index, np.random.default_rng((seed, split, class_index, number))).save(path, quality=88)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    launcher.end_after(multiprocessing.parent_process().join)  # type: ignore[union-attr]


def _is_drawn(dest: str, marker: dict) -> bool:
    """Whether `dest` holds the sample of `marker`; UserError if it holds something else."""
    if os.path.lexists(dest) and not os.path.isdir(dest):
        raise UserError(f"{dest} is a file, expected a folder for the sample: move it away or name another folder")
    found = _read_marker(dest)
    if found is None and os.path.isdir(dest) and os.listdir(dest):
        raise UserError(f"{dest} holds files that are not the sample: move them away or name another folder")
    if found not in (None, marker):
        have, want = (f"seed {m['seed']} with counts {json.dumps(m['counts'])}" for m in (found, marker))
        raise UserError(f"{dest} holds a sample of {have}, expected {want}: delete it or name another folder")
    return found == marker


def _discard_leftover(partial: str) -> None:
    """Delete what a killed run left; its marker shows that it is ours."""
    folder = os.path.isdir(partial) and not os.path.islink(partial)
    if folder and (_read_marker(partial) is not None or not os.listdir(partial)):
        shutil.rmtree(partial)
    elif os.path.lexists(partial):
        raise UserError(f"{partial} is in the way and was not left by an earlier drawing of the sample: move it away")


def _read_marker(folder: str) -> dict | None:
    """The seed and counts in the marker of `folder`; None if there is no marker that this module wrote."""
    return read_json(os.path.join(folder, MARKER), ("seed", "counts"))
