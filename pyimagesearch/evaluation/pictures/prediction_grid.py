"""Photos in a grid, each above its prediction."""

import contextlib
import math
import os
from collections.abc import Sequence

import numpy as np

from pyimagesearch.evaluation.pictures.style import BLUE, GREY, INK, VERMILLION, Lettering, new_figure, percent, save


def plot_predictions(
    path: str | os.PathLike,
    photos: Sequence[np.ndarray],
    truths: Sequence[str | None],
    predictions: Sequence[str | None],
    confidences: Sequence[float | str],
    show: bool = False,
) -> None:
    """Draw photos in a grid, each above prediction, confidence and truth; wrong ones have a cross and a thick frame.

    photos : 1 to 64 arrays of dtype uint8 and shape (height, width, 3), of any sizes
    truths, predictions : None if the true class is unknown, or the model unsure: neither cross nor check is drawn
    confidences : a probability each, or a text
    show : also open a window, if there is a display, and wait until it is closed
    """
    if not len(photos):
        raise ValueError("there is no photo to draw")
    cards = list(zip(photos, truths, predictions, confidences, strict=True))
    figure = new_figure()
    _draw_cards(figure, cards)
    save(figure, path)
    if show:
        _show(cards)


def _draw_cards(figure, cards: list[tuple]) -> None:
    tile, gap, caption = 2.6, 0.2, 0.68  # inches
    columns = math.ceil(math.sqrt(len(cards)))
    rows = math.ceil(len(cards) / columns)
    width, height = columns * (tile + gap) + gap, rows * (tile + caption + gap)
    figure.set_size_inches(width, height)
    lettering = Lettering([name for _, *names, _ in cards for name in names if name is not None])
    for position, card in enumerate(cards):
        row, column = divmod(position, columns)
        left, top = gap + column * (tile + gap), height - gap - row * (tile + caption + gap)
        axes = figure.add_axes((left / width, (top - tile) / height, tile / width, tile / height))
        _draw_card(axes, card, lettering, tile)


def _draw_card(axes, card: tuple, lettering: Lettering, tile: float) -> None:
    photo, truth, prediction, confidence = card
    confidence = confidence if isinstance(confidence, str) else percent(confidence)
    axes.imshow(photo)
    axes.set_aspect("equal", adjustable="datalim")  # a photo that is not square gets a square background
    axes.set(xticks=[], yticks=[], facecolor="#F2F2F2")
    shown = "unsure" if prediction is None else prediction
    lines = [("Prediction", shown), ("Confidence", confidence), ("Truth", truth)]
    for number, (head, text) in enumerate((head, text) for head, text in lines if text is not None):
        style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        down = -8 - 13 * number
        axes.annotate(head, (0, 0), (0, down), color=GREY, size=9, **style)
        fitted = lettering.fit(text, 9.5, inches=tile - 0.85)
        style["fontproperties"] = lettering.font(9.5)
        axes.annotate(fitted, (0, 0), (60, down), color=INK, parse_math=False, **style)
    judged = truth is not None and prediction is not None
    wrong = judged and truth != prediction
    color = VERMILLION if wrong else BLUE if judged else GREY
    axes.spines[:].set(color=color, linewidth=5 if wrong else 1)
    if judged:
        _stamp(axes, wrong, color)


def _stamp(axes, wrong: bool, color: str) -> None:
    """Draw a cross or a check in the corner of a photo, as strokes: not every font has them."""
    from matplotlib.path import Path

    check = Path([(-1, 0), (-0.3, -0.7), (1, 0.8)])
    cross = Path([(-1, -1), (1, 1), (-1, 1), (1, -1)], [Path.MOVETO, Path.LINETO] * 2)
    style = {"transform": axes.transAxes, "color": color, "markeredgecolor": "white"}
    axes.plot(0.92, 0.92, marker="o", markersize=20, **style)
    stroke = {"markersize": 10, "markeredgewidth": 2.4, "fillstyle": "none", **style}
    axes.plot(0.92, 0.92, marker=cross if wrong else check, **stroke)


def _show(cards: list[tuple]) -> None:
    """Draw the cards in a window and wait until it is closed. Without a display or its toolkit do nothing."""
    # without a display each toolkit fails in its own way (ImportError, TclError, RuntimeError ...), and the picture is
    # in its file already: no reason to stop
    with contextlib.suppress(Exception):
        from matplotlib import pyplot

        figure = pyplot.figure()
        if figure.canvas.required_interactive_framework:
            _draw_cards(figure, cards)
            pyplot.show()
        pyplot.close(figure)
