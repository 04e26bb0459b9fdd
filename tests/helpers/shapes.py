"""A drawn multi-label set: overlapping shapes, each a label, of patients with several images on one ground."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

LABELS = ["disc", "square", "cross"]


def draw_shapes(folder: Path, patients: int = 24, images: int = 4, seed: int = 0) -> Path:
    """`folder`/photos/<id>.png and `folder`/labels.csv (id, disc, square, cross, patient); returns the table's path."""
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True)
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *LABELS, "patient"])
        for patient in range(patients):
            ground = tuple(rng.integers(90, 160, 3).tolist())
            for number in range(rng.integers(1, 2 * images)):
                values = rng.random(3) < [0.5, 0.4, 0.3]
                name = f"{patient:02}-{number}"
                _draw(ground, values, rng).save(folder / "photos" / f"{name}.png")
                writer.writerow([name, *values.astype(int), f"P{patient:02}"])
    return folder / "labels.csv"


def _draw(ground: tuple, values: np.ndarray, rng: np.random.Generator) -> Image.Image:
    photo = Image.new("RGB", (40, 40), ground)
    pen = ImageDraw.Draw(photo)
    for label in rng.permutation(np.flatnonzero(values)):  # the last lies on top
        x, y = rng.integers(10, 30, 2).tolist()
        box = (x - 9, y - 9, x + 9, y + 9)
        if label == 0:
            pen.ellipse(box, fill=(250, 40, 40))
        elif label == 1:
            pen.rectangle(box, fill=(40, 40, 250))
        else:
            pen.line((x - 9, y, x + 9, y), fill=(250, 250, 250), width=5)
            pen.line((x, y - 9, x, y + 9), fill=(250, 250, 250), width=5)
    return photo
