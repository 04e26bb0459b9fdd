"""What the tests of pictures need: a history, odd names, and eyes for pixels."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers.photos import REPOSITORY
from PIL import Image

from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions

COLUMNS = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds", "images_per_s")
ODD_NAMES = [
    "面包",
    "خبز طازج",
    "🍞 bread",
    "5$ or 6$",
    r"$\frac$",
    "a_b^c{d}",
    "two\nlines",
    "bell\x07",
    "broken \udcff byte",
    "Pan-seared salmon with a lemon and butter sauce, served on wild rice with " + "W" * 180,
    "",
]


def history_of(epochs: int, best: int = 1) -> list[dict]:
    """A history whose best epoch is `best`."""
    rows = []
    for epoch in range(1, epochs + 1):
        nearness = 1 / (1 + abs(epoch - best))
        values = (epoch, 2 / epoch, 1 - 1 / (epoch + 1), 2.5 - nearness, nearness / 1.3, 0.1 / 3, 10 / 3, 1e3 / 7)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def pixels(path: Path) -> np.ndarray:
    """The picture as integers, shape (height, width, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.int16)


def where(path: Path, color: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of the picture's pixels that are almost of this colour, `#RRGGBB`."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.nonzero((np.abs(pixels(path) - wanted) <= 2).all(axis=2))


def assert_nothing_is_cut_off(path: Path) -> None:
    picture = pixels(path)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def draw_one(path: Path, truth: str | None, prediction: str, photo: np.ndarray | None = None, **options) -> Path:
    photo = np.full((60, 60, 3), 200, np.uint8) if photo is None else photo
    plot_predictions(path, [photo], [truth], [prediction], [0.5], **options)
    return path


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", code]
    environment = {**inherited, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
