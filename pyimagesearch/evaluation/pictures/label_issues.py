"""Suspicious labels: each photo beside a typical one of its class and one of the class that is suggested."""

import math
import os
from collections.abc import Sequence

import numpy as np

from pyimagesearch.evaluation.pictures.style import GREY, INK, VERMILLION, Lettering, new_figure, save

TILE, GAP, CAPTION, COLUMNS = 1.6, 0.12, 0.55, 2  # inches, and suspicious photos in a row


def plot_label_issues(path: str | os.PathLike, issues: Sequence[Sequence[tuple[np.ndarray | None, str, str]]]) -> None:
    """Draw each issue as three photos side by side, the first of them in a frame.

    issues : at least one; of each photo (height, width, 3) of uint8, or None if there is none, and two lines below it
    """
    figure = new_figure()
    block, row = 3 * (TILE + GAP) + 2 * GAP, TILE + CAPTION + GAP
    columns = min(COLUMNS, len(issues))
    width, height = columns * block, math.ceil(len(issues) / columns) * row + GAP
    figure.set_size_inches(width, height)
    lettering = Lettering([line for photos in issues for _, *lines in photos for line in lines])
    for number, photos in enumerate(issues):
        down, across = divmod(number, columns)
        bottom = height - GAP - down * row - TILE
        for place, (photo, *lines) in enumerate(photos):
            left = across * block + place * (TILE + GAP) + GAP
            axes = figure.add_axes((left / width, bottom / height, TILE / width, TILE / height))
            _draw_photo(axes, photo, lines, lettering, framed=place == 0)
    save(figure, path)


def _draw_photo(axes, photo: np.ndarray | None, lines: Sequence[str], lettering: Lettering, *, framed: bool) -> None:
    if photo is not None:
        axes.imshow(photo)
        axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[], facecolor="#F2F2F2")
    axes.spines[:].set(color=VERMILLION if framed else GREY, linewidth=3 if framed else 1)
    for number, (line, color) in enumerate(zip(lines, (INK, GREY), strict=True)):
        axes.annotate(
            lettering.fit(line, 8.5, TILE), (0, 0), (0, -7 - 12 * number), xycoords="axes fraction",
            textcoords="offset points", va="top", color=color, fontproperties=lettering.font(8.5), parse_math=False,
        )  # fmt: skip
