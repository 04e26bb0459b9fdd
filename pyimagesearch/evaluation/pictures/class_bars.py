"""Bars for each class: precision and recall, or ROC AUC and average precision."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from pyimagesearch.evaluation.pictures.style import BLUE, GREY, INK, ORANGE, PALE, Lettering, new_figure, percent, save

MOST, COLUMN = 120, 40  # classes in a picture, and in each of its columns


def plot_bars(
    path: str | os.PathLike, classes: Sequence[str], supports: Sequence[int], series: Mapping[str, np.ndarray]
) -> None:
    """Draw a row per class with one bar for each of `series`, the class with the lowest mean on top.

    Up to 40 classes make one column, up to 120 three; of more, the 120 lowest are drawn.

    supports : the number of photos of each class, which is written behind its name
    series : one or two, by their name in the legend: shares from 0 to 1 of shape (classes,); NaN is drawn as a dash,
        and a class with nothing else is at the bottom
    """
    values = np.array(list(series.values()), dtype=np.float64)
    defined = np.isfinite(values)
    means = np.where(defined, values, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
    order = np.argsort(np.where(defined.any(axis=0), means, np.inf), kind="stable")[:MOST]
    columns = math.ceil(len(order) / COLUMN)
    rows = math.ceil(len(order) / columns)
    lettering = Lettering(classes)
    size, row, longest, wide = (10, 0.36, 2.2, 3.9) if columns == 1 else (8, 0.28, 1.9, 2.6)  # points, then inches
    counts = [f"{count:,}" if count else "no photo" for count in supports]
    names = [f"{lettering.fit(classes[index], size, longest)}  ({counts[index]})" for index in order]
    margin = max(lettering.inches(name, size) for name in names) + 0.15
    width, height = columns * (margin + wide + 0.45), rows * row
    figure = new_figure(width, height)
    for column in range(columns):
        part = slice(column * rows, (column + 1) * rows)
        left = margin + column * (margin + wide + 0.45)
        axes = figure.add_axes((left / width, 0, wide / width, 1))
        _draw_rows(axes, values[:, order[part]], list(series), size)
        style = {"fontproperties": lettering.font(size), "parse_math": False}
        axes.set_yticks(range(len(names[part])), names[part], **style)
        axes.set_ylim(rows - 0.4, -0.6)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), ncols=len(series), frameon=False, alignment="left",
        title=f"the {MOST} lowest of {len(classes):,} classes" if len(classes) > MOST else "",
        loc="lower left", bbox_to_anchor=(margin / width, 1 + 0.05 / height), borderaxespad=0,
    )  # fmt: skip
    save(figure, path, bbox_inches="tight", pad_inches=0.15)


def _draw_rows(axes, values: np.ndarray, labels: Sequence[str], size: float) -> None:
    from matplotlib.ticker import PercentFormatter

    thick = 0.76 / len(labels)
    places = np.arange(values.shape[1])
    for number, (label, shares, color) in enumerate(zip(labels, values, (BLUE, ORANGE)[: len(labels)], strict=True)):
        middles = places + (number - (len(labels) - 1) / 2) * thick
        axes.barh(middles, np.nan_to_num(shares), thick * 0.92, color=color, label=label)
        for middle, share in zip(middles, shares, strict=True):
            style = {"size": 0.72 * size, "va": "center_baseline", "color": INK if math.isfinite(share) else GREY}
            text = percent(share) if math.isfinite(share) else "-"
            axes.annotate(text, (np.nan_to_num(share), middle), (3, 0), textcoords="offset points", **style)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.tick_params(length=0, labelsize=size)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(GREY)
