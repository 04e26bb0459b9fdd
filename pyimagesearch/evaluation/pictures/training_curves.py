"""Loss, accuracy and learning rate over the epochs as a picture."""

import os
from collections.abc import Mapping, Sequence

from pyimagesearch.evaluation.metrics import best_epoch
from pyimagesearch.evaluation.pictures.style import BLUE, GREY, INK, PALE, VERMILLION, new_figure, save


def plot_history(path: str | os.PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Draw loss and accuracy over the epochs, training dashed, validation solid, with a star at the best epoch.

    Beside them are the ROC AUC on validation, if there is one, and the learning rate, if it changes.

    history : a row per epoch, at least one, with the columns of history.csv; values that are not finite leave a gap
    """
    epochs = [row["epoch"] for row in history]
    rates = [row["lr"] for row in history]
    best = history[epochs.index(best_epoch(history))]
    ranked = "val_auc" in best
    widths = [4.4, 4.4, *[4.4] * ranked, 2] if len(set(rates)) > 1 else [5, 5, *[5] * ranked]  # inches
    figure = new_figure(sum(widths), 4.2, layout="constrained")
    from matplotlib.ticker import FuncFormatter

    loss, accuracy, *rest = figure.subplots(1, len(widths), width_ratios=widths)
    # one point is invisible without a marker, and 300 markers hide the curve
    lines = {"linewidth": 1.8, "markersize": 3.5, "marker": "o" if len(epochs) <= 30 else None}
    drawn = [(loss, "loss", "Loss"), (accuracy, "acc", "Accuracy"), *([(rest[0], "auc", "ROC AUC")] if ranked else [])]
    for axes, quantity, title in drawn:
        train, val = f"train_{quantity}", f"val_{quantity}"
        if train in best:
            axes.plot(epochs, [row[train] for row in history], "--", color=BLUE, label="training", **lines)
        axes.plot(epochs, [row[val] for row in history], "-", color=VERMILLION, label="validation", **lines)
        axes.axvline(best["epoch"], color=GREY, linewidth=1, linestyle=":", zorder=0)
        star = {"color": INK, "markersize": 13, "markeredgecolor": "white", "zorder": 3}
        label = f"best epoch: {best['epoch']}  (validation loss {best['val_loss']:.4g}, accuracy {best['val_acc']:.1%}"
        label += f", ROC AUC {best['val_auc']:.4f})" if ranked else ")"
        axes.plot(best["epoch"], best[val], "*", label=label, **star)
        _dress(axes, title, epochs)
    accuracy.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    for axes in rest[ranked:]:
        axes.plot(epochs, rates, color=INK, drawstyle="steps-mid")
        _dress(axes, "Learning rate", epochs)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.3g}"))
        axes.set_ylim(bottom=0)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    save(figure, path)


def _dress(axes, title: str, epochs: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10 if len(title) < 9 else 4, integer=True, min_n_ticks=1))
    axes.set_title(title, loc="left", weight="bold")
    axes.set_xlabel("epoch")
    axes.grid(color=PALE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
