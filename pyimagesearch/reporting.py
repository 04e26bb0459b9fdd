"""History, reports and pictures. matplotlib and scikit-learn are imported when something is drawn or reported.

One style for all pictures: white ground, the colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), which
colour-blind people tell apart, and nothing said by colour alone. pyplot, with its global state, is only for the window.
"""

import contextlib
import csv
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyimagesearch.errors import one_line
from pyimagesearch.files import atomic_write, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds", "images_per_s")

BLUE, VERMILLION, INK, GREY, PALE = "#0072B2", "#D55E00", "#222222", "#767676", "#DDDDDD"
DPI = 150


def write_history(path: str | os.PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Write the history as CSV, one row an epoch, every float in full: reading it back gives the same numbers.

    Parameters
    ----------
    path : where the file is to be
    history : one mapping an epoch with the keys HISTORY_COLUMNS: epochs count from 1, losses are means over samples,
        accuracies are shares between 0 and 1
    """
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HISTORY_COLUMNS)
        for row in history:
            writer.writerow([int(row["epoch"])] + [repr(float(row[name])) for name in HISTORY_COLUMNS[1:]])


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """The epoch, counted from 1, with the highest val_acc; of equals the one of lowest val_loss, then the earliest.

    A value that is not a number is worse than any number. Raises ValueError where the history has no epoch.
    """

    def goodness(row):
        return [-math.inf if math.isnan(value) else value for value in (row["val_acc"], -row["val_loss"])]

    return int(max(history, key=goodness)["epoch"])  # max keeps the first of equals


def plot_history(path: str | os.PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Draw loss and accuracy over the epochs side by side, training dashed, validation solid, the best epoch starred.

    Parameters
    ----------
    path : where the PNG is to be
    history : as in write_history, at least one epoch; values that are not finite leave a gap in their curve
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    epochs = [row["epoch"] for row in history]
    best = history[epochs.index(best_epoch(history))]
    figure = _figure(10, 4.2, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, quantity, title in ((loss, "loss", "Loss"), (accuracy, "acc", "Accuracy")):
        # a curve of one point is invisible without its marker, one of 300 is a caterpillar with them
        lines = {"linewidth": 1.8, "markersize": 3.5, "marker": "o" if len(epochs) <= 30 else None}
        train, val = f"train_{quantity}", f"val_{quantity}"
        axes.plot(epochs, [row[train] for row in history], "--", color=BLUE, label="training", **lines)
        axes.plot(epochs, [row[val] for row in history], "-", color=VERMILLION, label="validation", **lines)
        axes.axvline(best["epoch"], color=GREY, linewidth=1, linestyle=":", zorder=0)
        star = {"color": INK, "markersize": 13, "markeredgecolor": "white", "zorder": 3}
        label = f"best epoch: {best['epoch']}  (validation loss {best['val_loss']:.4g}, accuracy {best['val_acc']:.1%})"
        axes.plot(best["epoch"], best[val], "*", label=label, **star)
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axes.set_title(title, loc="left", weight="bold")
        axes.set_xlabel("epoch")
        axes.grid(color=PALE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    accuracy.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    _save(figure, path)


def write_report(output: str | os.PathLike, targets, predictions, classes: Sequence[str]) -> str:
    """Write scikit-learn's classification report, as text and as JSON, into the folder `output`; return the text.

    Parameters
    ----------
    output : the folder of classification_report.txt and classification_report.json (scikit-learn's dictionary)
    targets, predictions : integers, shape (N,), N at least 1: positions in `classes`
    classes : one name a class; a class without a sample has its row, of support 0

    Raises ValueError for no sample and for unequal numbers of targets and predictions.
    """
    text = report_text(targets, predictions, classes)
    write_text(os.path.join(output, "classification_report.txt"), text)
    figures = _report(targets, predictions, classes, output_dict=True)
    write_json(os.path.join(output, "classification_report.json"), figures)
    return text


def report_text(targets, predictions, classes: Sequence[str]) -> str:
    """scikit-learn's classification report; see write_report."""
    return _report(targets, predictions, classes)


def _report(targets, predictions, classes: Sequence[str], **settings):
    from sklearn.metrics import classification_report

    names = [one_line(name) for name in classes]  # undecodable bytes of a folder's name could not be written as UTF-8
    return classification_report(
        targets, predictions, labels=range(len(names)), target_names=names, zero_division=0, **settings
    )


def plot_confusion_matrix(path: str | os.PathLike, targets, predictions, classes: Sequence[str]) -> None:
    """Draw the confusion matrix: a row is a true class, a column a prediction, the colour a cell's share of its row.

    Up to 40 classes the counts stand in the cells, up to 15 the shares too; a cell of no photos stays empty. Behind the
    name of each row is its number of photos.

    Parameters
    ----------
    path : where the PNG is to be
    targets, predictions : integers, shape (N,): positions in `classes`
    classes : one name a class, in any script
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.ticker import PercentFormatter

    cells = np.asarray(targets, dtype=np.int64) * len(classes) + np.asarray(predictions, dtype=np.int64)
    counts = np.bincount(cells, minlength=len(classes) ** 2).reshape(len(classes), len(classes))
    photos = counts.sum(axis=1)
    shares = counts / np.maximum(photos, 1)[:, None]

    # inches: room for two lines in a cell, then for one, then just for the names' lines; more than 120 share 20 inches
    cell = max(0.68, 3.4 / len(classes)) if len(classes) <= 15 else 0.4 if len(classes) <= 40 else 0.165
    side = min(cell * len(classes), 20)
    figure = _figure(side, side)
    axes = figure.add_axes((0, 0, 1, 1))  # the labels lie outside of the figure; _save widens it to hold them
    shades = LinearSegmentedColormap.from_list("shares", ["white", "#9CCAE6", BLUE, "#00304D"])
    # the square root in the norm keeps a few percent, which is what confusions are, visible beside the diagonal
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
    _save(figure, path, bbox_inches="tight", pad_inches=0.15)


def _write_counts(axes: "Axes", counts: np.ndarray, shares: np.ndarray, cell: float, with_shares: bool) -> None:
    size = min(10, 100 * cell / len(str(counts.max())))  # points at which the longest count fits into a cell
    centred = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for row, column in np.argwhere(counts):
        share = shares[row, column]
        style = {**centred, "color": "white" if share > 0.35 else INK}
        axes.annotate(f"{counts[row, column]}", (column, row), (0, 5 * with_shares), size=size, **style)
        if with_shares:
            axes.annotate(_percent(share), (column, row), (0, -8), size=7.5, **style)


def _percent(share: float) -> str:
    """`share` in whole percent, where only nothing is 0% and only all is 100%."""
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _label_classes(axes: "Axes", classes: Sequence[str], photos: np.ndarray, cell: float) -> None:
    lettering = _Lettering(classes)
    size = 10 if cell > 0.3 else 8
    step = math.ceil(len(classes) / 120)  # where there are more, every second (third, ...) class is named
    ticks = np.arange(0, len(classes), step)
    names = [lettering.fit(classes[tick], size, inches=2.6) for tick in ticks]
    widest = max(lettering.inches(name, size) for name in names)
    slope = 0 if widest < 0.9 * cell else 45 if cell > 0.3 else 90
    style = {"fontproperties": lettering.font(size), "parse_math": False}
    axes.set_yticks(ticks, [f"{name}  ({photos[tick]:,})" for name, tick in zip(names, ticks, strict=True)], **style)
    sloped = {"ha": "right", "rotation_mode": "anchor"} if slope == 45 else {}
    axes.set_xticks(ticks, names, rotation=slope, **sloped, **style)
    axes.set_xlabel("prediction", weight="bold")
    axes.set_ylabel("truth", weight="bold")
    if step == 1:  # a grid finer than the names would lie over the cells as a veil
        axes.set_xticks(ticks[1:] - 0.5, minor=True)
        axes.set_yticks(ticks[1:] - 0.5, minor=True)
        axes.grid(which="minor", color=PALE, linewidth=0.6 if cell > 0.3 else 0.3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(GREY)


def plot_predictions(
    path: str | os.PathLike,
    photos: Sequence[np.ndarray],
    truths: Sequence[str | None],
    predictions: Sequence[str],
    confidences: Sequence[float],
    show: bool = False,
) -> None:
    """Draw photos in a grid, each above its prediction, confidence and truth; a wrong one is crossed, its frame thick.

    Parameters
    ----------
    path : where the PNG is to be
    photos : 1 to 64 arrays of dtype uint8 and shape (height, width, 3), of any sizes
    truths : the true class of each; None where nobody knows, and then neither cross nor check is drawn
    predictions : the predicted class of each
    confidences : the model's probability of that prediction, between 0 and 1
    show : also open it in a window, if there is a display, and wait until the person closes it

    Raises ValueError for no photo and for unequal numbers of photos, truths, predictions and confidences.
    """
    if not len(photos):
        raise ValueError("there is no photo to draw")
    cards = list(zip(photos, truths, predictions, confidences, strict=True))
    figure = _figure()
    _draw_cards(figure, cards)
    _save(figure, path)
    if show:
        _show(cards)


def _draw_cards(figure: "Figure", cards: list[tuple]) -> None:
    tile, gap, caption = 2.6, 0.2, 0.68  # inches
    columns = math.ceil(math.sqrt(len(cards)))
    rows = math.ceil(len(cards) / columns)
    width, height = columns * (tile + gap) + gap, rows * (tile + caption + gap)
    figure.set_size_inches(width, height)
    lettering = _Lettering([name for _, *names, _ in cards for name in names if name is not None])
    for position, card in enumerate(cards):
        row, column = divmod(position, columns)
        left, top = gap + column * (tile + gap), height - gap - row * (tile + caption + gap)
        axes = figure.add_axes((left / width, (top - tile) / height, tile / width, tile / height))
        _draw_card(axes, card, lettering, tile)


def _draw_card(axes: "Axes", card: tuple, lettering: "_Lettering", tile: float) -> None:
    photo, truth, prediction, confidence = card
    axes.imshow(photo)
    axes.set_aspect("equal", adjustable="datalim")  # a photo that is not square lies on a square ground
    axes.set(xticks=[], yticks=[], facecolor="#F2F2F2")
    lines = [("Prediction", prediction), ("Confidence", _percent(confidence)), ("Truth", truth)]
    for number, (head, text) in enumerate((head, text) for head, text in lines if text is not None):
        style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        down = -8 - 13 * number
        axes.annotate(head, (0, 0), (0, down), color=GREY, size=9, **style)
        fitted = lettering.fit(text, 9.5, inches=tile - 0.85)
        style["fontproperties"] = lettering.font(9.5)
        axes.annotate(fitted, (0, 0), (60, down), color=INK, parse_math=False, **style)
    wrong = truth not in (None, prediction)
    color = GREY if truth is None else VERMILLION if wrong else BLUE
    axes.spines[:].set_color(color)
    axes.spines[:].set_linewidth(5 if wrong else 1)
    if truth is not None:
        _stamp(axes, wrong, color)


def _stamp(axes: "Axes", wrong: bool, color: str) -> None:
    """Put a cross or a check into the corner of a photo, drawn as strokes: no font is asked for them."""
    from matplotlib.path import Path

    check = Path([(-1, 0), (-0.3, -0.7), (1, 0.8)])
    cross = Path([(-1, -1), (1, 1), (-1, 1), (1, -1)], [Path.MOVETO, Path.LINETO] * 2)
    style = {"transform": axes.transAxes, "color": color, "markeredgecolor": "white"}
    axes.plot(0.92, 0.92, marker="o", markersize=20, **style)
    pen = {"markersize": 10, "markeredgewidth": 2.4, "fillstyle": "none"}
    axes.plot(0.92, 0.92, marker=cross if wrong else check, **pen, **style)


def _show(cards: list[tuple]) -> None:
    """Draw the cards in a window and wait until it is closed. Without a display, or without its toolkit, do nothing."""
    # each toolkit fails in its own way where there is no display (ImportError, TclError, RuntimeError ...), and the
    # picture is in its file already: none of that is a reason to stop
    with contextlib.suppress(Exception):
        from matplotlib import pyplot

        figure = pyplot.figure()
        if figure.canvas.required_interactive_framework:
            _draw_cards(figure, cards)
            pyplot.show()
        pyplot.close(figure)


class _Lettering:
    """How names of any script are drawn: with whichever installed fonts have their characters.

    A character that no font has, or that cannot be printed, becomes its escape (``\\u9762``): still readable by someone
    who needs to know, where a row of empty boxes is not.
    """

    def __init__(self, names: Sequence[str]):
        from matplotlib import font_manager

        self.families, self.missing = ["DejaVu Sans"], {character for name in names for character in name}
        self.missing -= self._characters("DejaVu Sans")
        # normal ones only: for a weight that a family lacks, matplotlib complains on the terminal
        fonts = [font for font in font_manager.fontManager.ttflist if (font.weight, font.style) == (400, "normal")]
        families = {font.name for font in fonts} - {"Last Resort High-Efficiency"}  # it has every character, as a box
        for family in sorted(families, key=lambda family: ("Sans" not in family, family)):
            if not self.missing:
                break
            found = self.missing & self._characters(family)
            if found:
                self.families.append(family)
                self.missing -= found

    @staticmethod
    def _characters(family: str) -> set[str]:
        from matplotlib import font_manager

        font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=family)))
        return {chr(code) for code in font.get_charmap() if code >= 32}  # below are a new line and other controls

    def font(self, size: float) -> "FontProperties":
        from matplotlib.font_manager import FontProperties

        return FontProperties(family=self.families, size=size)

    def inches(self, text: str, size: float) -> float:
        from matplotlib.textpath import text_to_path

        return text_to_path.get_text_width_height_descent(text, self.font(size), ismath=False)[0] / 72

    def fit(self, name: str, size: float, inches: float) -> str:
        """`name` as it can be drawn, its middle left out where it would be wider than `inches`."""
        text = "".join(ascii(c)[1:-1] if c in self.missing else c for c in name)
        fitted, kept = text, len(text)
        while self.inches(fitted, size) > inches:
            kept -= 1
            fitted = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        return fitted


def _figure(width: float = 1, height: float = 1, **settings) -> "Figure":
    """A new white figure of this size in inches, that no window and no pyplot knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", **settings)


def _save(figure: "Figure", path: str | os.PathLike, **settings) -> None:
    with atomic_write(path) as file:
        # without the name of the software the same picture is the same bytes
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}, **settings)
