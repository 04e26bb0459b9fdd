"""How accurate the model is if it answers only when it is confident enough: numbers and a picture."""

import os
from collections.abc import Sequence

import numpy as np

from pyimagesearch.evaluation.pictures.style import BLUE, GREY, INK, PALE, new_figure, percent, save

LEAST = (0.5, 0.7, 0.9, 0.95)  # the confidences that are marked


def answered_at(confidences, right, least: Sequence[float] = LEAST) -> list[tuple[float, int, float, float]]:
    """For each of `least`: it, how many photos have at least this confidence, their share, their accuracy or NaN.

    confidences, right : of the predictions, shape (N,); a confidence that is NaN is below any
    """
    answered = [(one, np.asarray(right)[np.asarray(confidences) >= one]) for one in least]
    return [
        (one, len(some), len(some) / len(right), float(some.mean()) if len(some) else np.nan) for one, some in answered
    ]


def plot_risk_coverage(path: str | os.PathLike, confidences, right) -> None:
    """Draw the accuracy among the most confident photos over their share of all, N at least 1, with marks at LEAST."""
    confidences, right = np.nan_to_num(confidences), np.asarray(right)
    order = np.argsort(-confidences, kind="stable")
    falling, photos = confidences[order], np.arange(1, len(order) + 1)
    last = np.append(falling[:-1] != falling[1:], True)  # equally confident photos are answered together
    accuracy = (right[order].cumsum() / photos)[last]
    figure = new_figure(5.6, 5.2, layout="constrained")
    from matplotlib.ticker import PercentFormatter

    axes = figure.subplots()
    axes.axhline(right.mean(), linestyle=":", color=GREY, label=f"all photos, {percent(right.mean())} right")
    axes.plot(photos[last] / len(photos), accuracy, color=BLUE, linewidth=1.8)
    for (least, count, share, among), marker in zip(answered_at(confidences, right), "osD^", strict=True):
        label = f"confidence of {least:.0%} or more: {percent(share)} of the photos"
        label += f", {percent(among)} right" if count else ""
        axes.plot(share, among, marker, color=INK, markersize=7, markeredgecolor="white", label=label, zorder=3)
    axes.set(xlim=(0, 1.02), xlabel="share of the photos that are answered", ylabel="share of right answers")
    axes.set_ylim(min(accuracy.min(), 0.95) - 0.02, 1.02)
    axes.set_title("Accuracy of the most confident answers", loc="left", weight="bold")
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.grid(color=PALE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False)
    save(figure, path)
