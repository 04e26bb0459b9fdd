"""The confusion matrix as a picture, its classes in an order that groups the confusions."""

import math
import os
from collections.abc import Sequence

import numpy as np

from pyimagesearch.evaluation.pictures.style import BLUE, GREY, INK, PALE, Lettering, new_figure, percent, save


def confusion_order(counts: np.ndarray) -> np.ndarray:
    """An order of the classes, int64 of shape (classes,), in which those that are confused are neighbours.

    The classes are clustered by the shares of their photos that are confused, and the leaves of the tree are sorted so
    that neighbours are as close as possible (Bar-Joseph, Gifford, Jaakkola: Fast optimal leaf ordering for hierarchical
    clustering, 2001). Classes that are never confused keep their order.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    classes = len(counts)
    if classes < 3:
        return np.arange(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # the present order decides where confusions do not: it weighs less than one photo of a thousand
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))) / classes
    distances = 1 - (shares + shares.T) / 2 + 1e-3 * apart
    np.fill_diagonal(distances, 0)
    order = leaves_list(linkage(squareform(distances, checks=False), "average", optimal_ordering=True))
    return order[::-1] if order[0] > order[-1] else order


def plot_confusion_matrix(path: str | os.PathLike, counts: np.ndarray, classes: Sequence[str]) -> None:
    """Draw `counts`, of metrics.confusion_counts: a row per true class, a column per prediction, in confusion_order.

    The colour is a cell's share of its row. With up to 40 classes the cells show counts, with up to 15 shares too.
    """
    order = confusion_order(counts)
    counts, classes = counts[np.ix_(order, order)], [classes[index] for index in order]
    photos = counts.sum(axis=1)
    shares = counts / np.maximum(photos, 1)[:, None]

    # inches: space for two lines in a cell, or one, or just for the names; more than 120 classes share 20 inches
    cell = max(0.68, 3.4 / len(classes)) if len(classes) <= 15 else 0.4 if len(classes) <= 40 else 0.165
    side = min(cell * len(classes), 20)
    figure = new_figure(side, side)
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.ticker import PercentFormatter

    axes = figure.add_axes((0, 0, 1, 1))  # the labels are outside the figure; save widens it to hold them
    shades = LinearSegmentedColormap.from_list("shares", ["white", "#9CCAE6", BLUE, "#00304D"])
    # the square root in the norm keeps confusions, which are a few percent, visible beside the diagonal
    image = axes.imshow(shares, cmap=shades, norm=PowerNorm(0.5, 0, 1), interpolation="none")
    if len(classes) <= 40:
        _write_counts(axes, counts, shares, cell, with_shares=len(classes) <= 15)
    if len(classes) > 15:
        thickness = 0.2 / side  # of the colour bar
        beside = figure.add_axes((1 + thickness, 0, thickness, 1))
        figure.colorbar(image, cax=beside, format=PercentFormatter(1, 0), label="share of the row's photos")
    _label_classes(axes, classes, photos, cell)
    right, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(f"{right:,} of {total:,} photos right ({right / max(total, 1):.1%})", loc="left", size=11, pad=10)
    save(figure, path, bbox_inches="tight", pad_inches=0.15)


def _write_counts(axes, counts: np.ndarray, shares: np.ndarray, cell: float, with_shares: bool) -> None:
    size = min(10, 100 * cell / len(str(counts.max())))  # points at which the longest count fits into a cell
    centred = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for row, column in np.argwhere(counts):
        share = shares[row, column]
        style = {**centred, "color": "white" if share > 0.3 else INK}
        axes.annotate(f"{counts[row, column]}", (column, row), (0, 5 * with_shares), size=size, **style)
        if with_shares:
            axes.annotate(percent(share), (column, row), (0, -8), size=7.5, **style)


def _label_classes(axes, classes: Sequence[str], photos: np.ndarray, cell: float) -> None:
    lettering = Lettering(classes)
    size = 10 if cell > 0.3 else 8
    step = math.ceil(len(classes) / 120)  # of more classes every second (third, ...) one is named
    ticks = np.arange(0, len(classes), step)
    names = [lettering.fit(classes[tick], size, inches=2.6) for tick in ticks.tolist()]
    widest = max(lettering.inches(name, size) for name in names)
    slope = 0 if widest < 0.9 * cell else 45 if cell > 0.3 else 90
    style = {"fontproperties": lettering.font(size), "parse_math": False}
    counts = [f"{count:,}" if count else "no photo" for count in photos.tolist()]
    axes.set_yticks(ticks, [f"{name}  ({counts[tick]})" for name, tick in zip(names, ticks, strict=True)], **style)
    sloped = {"ha": "right", "rotation_mode": "anchor"} if slope == 45 else {}
    axes.set_xticks(ticks, names, rotation=slope, **sloped, **style)
    axes.set_xlabel("prediction", weight="bold")
    axes.set_ylabel("truth", weight="bold")
    if step == 1:  # a finer grid would cover the cells
        axes.set_xticks(ticks[1:] - 0.5, minor=True)
        axes.set_yticks(ticks[1:] - 0.5, minor=True)
        axes.grid(which="minor", color=PALE, linewidth=0.6 if cell > 0.3 else 0.3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(GREY)
