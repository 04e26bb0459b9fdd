"""Suspicious labels: each photo beside a typical one of its class and one of the class that is suggested."""

import math
import os
from collections.abc import Sequence

import numpy as np

from pyimagesearch.evaluation.pictures.style import GREY, INK, VERMILLION, Lettering, new_figure, save

TILE, GAP, CAPTION, COLUMNS = 1.6, 0.12, 0.55, 2  # inches, and issues in a row


def plot_label_issues(path: str | os.PathLike, issues: Sequence[Sequence[tuple[np.ndarray, str, str]]]) -> None:
    """Draw each issue as three photos side by side, the first of them in a frame.

    issues : at least one; of each photo uint8 of shape (height, width, 3), and two lines below it
    """
    figure, columns = new_figure(), min(COLUMNS, len(issues))
    block, row = 3 * TILE + 5 * GAP, TILE + CAPTION + GAP
    width, height = columns * block, math.ceil(len(issues) / columns) * row
    figure.set_size_inches(width, height)
    lettering = Lettering([line for photos in issues for _, *lines in photos for line in lines])
    for number, photos in enumerate(issues):
        for place, (photo, *lines) in enumerate(photos):
            left, top = number % columns * block + place * (TILE + GAP) + GAP, height - number // columns * row - GAP
            axes = figure.add_axes((left / width, (top - TILE) / height, TILE / width, TILE / height))
            axes.imshow(photo)
            axes.set_aspect("equal", adjustable="datalim")
            axes.set(xticks=[], yticks=[], facecolor="#F2F2F2")
            axes.spines[:].set(color=GREY if place else VERMILLION, linewidth=1 if place else 3)
            for down, line, color in zip((-7, -19), lines, (INK, GREY), strict=True):
                axes.annotate(
                    lettering.fit(line, 8.5, TILE), (0, 0), (0, down), xycoords="axes fraction", va="top", color=color,
                    textcoords="offset points", fontproperties=lettering.font(8.5), parse_math=False,
                )  # fmt: skip
    save(figure, path)
