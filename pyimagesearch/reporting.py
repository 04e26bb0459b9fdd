"""The numbers of a run: its history, its best epoch, the classification report, the lines at its end."""

import csv
import math
import os
import statistics
from collections.abc import Mapping, Sequence

from pyimagesearch.errors import one_line
from pyimagesearch.files import atomic_write, write_json, write_text

# of photos with several labels "val_auc" too, the macro ROC AUC
HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds", "images_per_s")
AVERAGES = ("accuracy", "macro avg", "weighted avg")  # what scikit-learn calls the rows below the classes


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
        columns = [*HISTORY_COLUMNS, *(["val_auc"] if "val_auc" in history[0] else [])]
        writer.writerow(columns)
        for row in history:
            writer.writerow([int(row["epoch"])] + [repr(float(row[name])) for name in columns[1:]])


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """The epoch, counted from 1, with the highest val_acc; of equals the one of lowest val_loss, then the earliest.

    Where there is a val_auc, that in place of val_acc. A value that is not a number is worse than any number. Raises
    ValueError where the history has no epoch.
    """

    def goodness(row):
        values = row.get("val_auc", row["val_acc"]), -row["val_loss"]
        return [-math.inf if math.isnan(value) else value for value in values]

    return int(max(history, key=goodness)["epoch"])  # max keeps the first of equals


def training_seconds(history: Sequence[Mapping[str, float]]) -> float:
    """What all epochs took, training and validation, those before a --resume too."""
    return sum(row["seconds"] for row in history)


def images_per_second(history: Sequence[Mapping[str, float]]) -> float:
    """The photos of whole epochs over the time that training alone took.

    An epoch whose last step was done before it was resumed trained on nothing, and is left out; 0 where none is left.
    """
    rates = [row["images_per_s"] for row in history if row["images_per_s"] > 0]
    return statistics.harmonic_mean(rates) if rates else 0.0  # each epoch has the same photos


def closing_lines(
    history: Sequence[Mapping[str, float]], accuracy: float, photos: int, epoch: int, output: str | os.PathLike
) -> list[str]:
    """The five lines at a run's end: accuracy, best epoch, time, images per second, where the files are.

    Parameters
    ----------
    history : as in write_history, at least one epoch
    accuracy : on the test split, between 0 and 1, of `photos` photos
    epoch : whose model was kept, counted from 1
    output : the folder of the files
    """
    best = best_epoch(history)
    name, column = ("ROC AUC", "val_auc") if "val_auc" in history[0] else ("accuracy", "val_acc")
    value = next(row[column] for row in history if row["epoch"] == best)
    return [
        f"[INFO] test accuracy: {accuracy:.4f} of {photos:,} photos, by the model of epoch {epoch}",
        f"[INFO] best epoch: {best} of {len(history)}, validation {name} {value:.4f}",
        f"[INFO] time: {duration(training_seconds(history))}",
        f"[INFO] images/s: {images_per_second(history):,.1f} in training",
        f"[INFO] files: {one_line(output)}; begin with {one_line(os.path.join(output, 'report.html'))}",
    ]


def duration(seconds: float) -> str:
    """`seconds` as a person says them, in the two largest units: "4.2 s", "6 min 12 s", "1 h 3 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def write_report(output: str | os.PathLike, targets, predictions, classes: Sequence[str]) -> str:
    """Write scikit-learn's classification report, as text and as JSON, into the folder `output`; return the text.

    Parameters
    ----------
    output : the folder of classification_report.txt and classification_report.json (see report_figures)
    targets, predictions : integers, shape (N,), N at least 1: positions in `classes`
    classes : one name a class; a class without a sample has its row, of support 0

    Raises ValueError for no sample and for unequal numbers of targets and predictions.
    """
    text = report_text(targets, predictions, classes)
    write_text(os.path.join(output, "classification_report.txt"), text)
    write_json(os.path.join(output, "classification_report.json"), report_figures(targets, predictions, classes))
    return text


def report_text(targets, predictions, classes: Sequence[str]) -> str:
    """scikit-learn's classification report; see write_report."""
    return _report(targets, predictions, [one_line(name) for name in classes])


def report_figures(targets, predictions, classes: Sequence[str]) -> dict:
    """scikit-learn's classification report as its dictionary: first a row a class, in their order, then AVERAGES.

    It is keyed by names, and a class may be called "accuracy", or as another is once its odd bytes are escaped: where a
    name is taken, " (class)" is added. Parameters as of write_report.
    """
    keys = []
    for name in map(one_line, classes):
        while name in keys or name in AVERAGES:
            name += " (class)"
        keys.append(name)
    return _report(targets, predictions, keys, output_dict=True)


def _report(targets, predictions, names: Sequence[str], **settings):
    """names : without undecodable bytes of a folder's name, which could not be written as UTF-8"""
    from sklearn.metrics import classification_report

    return classification_report(
        targets, predictions, labels=range(len(names)), target_names=names, zero_division=0, **settings
    )
