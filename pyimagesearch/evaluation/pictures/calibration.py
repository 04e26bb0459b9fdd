"""How well the model's confidence agrees with its accuracy: a number and a picture."""

import os
from typing import NamedTuple

import numpy as np

from pyimagesearch.evaluation.pictures.style import BLUE, GREY, INK, ORANGE, PALE, new_figure, save

BINS = 15


class Bins(NamedTuple):
    """Photos by confidence, in BINS bins: bin m, counted from 1, holds those above (m - 1) / BINS and up to m / BINS.

    confidence and accuracy are the means of a bin, NaN in an empty one.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration_bins(confidences, right) -> Bins:
    """Sort photos into bins by the probability of the predicted class, shape (N,); NaN counts as 0.

    right : bool of shape (N,): whether the prediction was right
    """
    confidences = np.nan_to_num(np.asarray(confidences, dtype=np.float64))
    bins = np.digitize(confidences, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (confidences, np.asarray(right)))
    confidence, accuracy = (np.where(counts, total / np.maximum(counts, 1), np.nan) for total in sums)
    return Bins(counts, confidence, accuracy)


def expected_calibration_error(bins: Bins) -> float:
    """The mean over photos of |accuracy - confidence| of their bin; NaN without photos.

    As in Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, 2017, equation 3, with its 15 bins.
    """
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(bins.counts * gaps) / bins.counts.sum()) if bins.counts.any() else float("nan")


def plot_calibration(path: str | os.PathLike, bins: Bins, before: Bins | None = None) -> None:
    """Draw each bin's accuracy over its confidence with a 95% interval, and its photos; `before` calibration too."""
    figure = new_figure(5.6, 5.8, layout="constrained")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot([0, 1], [0, 1], ":", color=GREY, label="confidence and accuracy agree")
    title = f"Expected calibration error {expected_calibration_error(bins):.1%}"
    if before is not None:
        title += f", before {expected_calibration_error(before):.1%}"
        above.plot(before.confidence, before.accuracy, "s--", color=ORANGE, markersize=5, label="before calibration")
        below.stairs(before.counts, np.linspace(0, 1, BINS + 1), color=ORANGE, linewidth=1.5, zorder=3)
    _draw_accuracies(above, bins)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right predictions")
    above.set_title(title, loc="left", weight="bold")
    above.legend(loc="upper left", frameon=False)
    below.bar((np.arange(BINS) + 0.5) / BINS, bins.counts, 0.94 / BINS, color=BLUE)
    below.set(xlabel="confidence", ylabel="photos")
    below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True, min_n_ticks=1))
    for axes in (above, below):
        axes.set_axisbelow(True)
        axes.grid(color=PALE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    above.yaxis.set_major_formatter(PercentFormatter(1, 0))
    below.xaxis.set_major_formatter(PercentFormatter(1, 0))
    save(figure, path)


def _draw_accuracies(axes, bins: Bins) -> None:
    from scipy.stats import binomtest

    some = bins.counts > 0
    counts, confidence, accuracy = (values[some] for values in bins)
    tests = [binomtest(round(share * count), count) for share, count in zip(accuracy, counts, strict=True)]
    low, high = np.transpose([test.proportion_ci(0.95, method="wilson") for test in tests])
    axes.vlines(confidence, low, high, color=INK, linewidth=1.2, zorder=3)
    label = "the model, with 95% intervals"
    axes.plot(confidence, accuracy, "o-", color=BLUE, markersize=7, markeredgecolor="white", label=label, zorder=4)
