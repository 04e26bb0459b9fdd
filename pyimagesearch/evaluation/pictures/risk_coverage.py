"""How accurate the model is if it answers only when it is confident enough: numbers and a picture."""

import os

import numpy as np

from pyimagesearch.evaluation.pictures.style import BLUE, GREY, INK, PALE, new_figure, percent, save

LEAST = (0.5, 0.7, 0.9, 0.95)  # the confidences that are marked


def answered_at(confidences: np.ndarray, right: np.ndarray) -> list[tuple[float, int, float, float]]:
    """For each of LEAST that any photo reaches: it, and how many photos do, their share of all, and their accuracy."""
    answered = [(least, right[confidences >= least]) for least in LEAST]
    return [(least, len(some), len(some) / len(right), float(some.mean())) for least, some in answered if len(some)]


def plot_risk_coverage(path: str | os.PathLike, confidences: np.ndarray, right: np.ndarray) -> None:
    """Draw the accuracy among the most confident photos, at least one, over their share of all, with marks at LEAST."""
    order = np.argsort(-confidences, kind="stable")
    falling, photos = confidences[order], np.arange(1, len(order) + 1)
    last = np.append(falling[:-1] != falling[1:], True)  # equally confident photos are answered together
    accuracy = (right[order].cumsum() / photos)[last]
    figure = new_figure(5.6, 5.2, layout="constrained")
    from matplotlib.ticker import PercentFormatter

    axes = figure.subplots()
    axes.axhline(right.mean(), linestyle=":", color=GREY, label=f"all photos, {percent(right.mean())} right")
    axes.plot(photos[last] / len(photos), accuracy, color=BLUE, linewidth=1.8)
    for (least, _, share, among), marker in zip(answered_at(confidences, right), "osD^", strict=False):
        label = f"confidence of {least:.0%} or more: {percent(share)} of the photos, {percent(among)} right"
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
