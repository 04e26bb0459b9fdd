"""What comes of a run on the test split: what is printed, all pictures, and the page that shows them."""

import os
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from pyimagesearch import config
from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.data.decoding import read_thumbnail
from pyimagesearch.evaluation import html_report, metrics
from pyimagesearch.evaluation.html_report import Mistake, Tile
from pyimagesearch.evaluation.metrics import best_epoch, confusion_counts, most_frequent_confusions
from pyimagesearch.evaluation.pictures.calibration import (
    BINS,
    Bins,
    calibration_bins,
    expected_calibration_error,
    plot_calibration,
)
from pyimagesearch.evaluation.pictures.class_bars import plot_bars
from pyimagesearch.evaluation.pictures.confusion_matrix import plot_confusion_matrix
from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
from pyimagesearch.evaluation.pictures.style import percent
from pyimagesearch.evaluation.pictures.training_curves import plot_history
from pyimagesearch.models.model_card import read_model_card
from pyimagesearch.runtime.errors import one_line
from pyimagesearch.training.run import Run


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


CURVES = os.path.basename(config.PLOT_PATH)
FILES = {
    os.path.basename(config.MODEL_PATH): "the trained model",
    "food_classifier.json": "what inference must know of it; metrics, settings, versions",
    "history.csv": "a row an epoch: losses, accuracies, learning rate, seconds, images per second",
    CURVES: "loss and accuracy over the epochs",
    "classification_report.txt": "scikit-learn's report on the test split",
    "classification_report.json": "the same for programs",
    "classes.png": "precision and recall of each class",
    "labels.png": "ROC AUC and average precision of each label",
    "confusion_matrix.png": "which class was taken for which",
    "mistakes.png": "the most confident mistakes",
    "calibration.png": "confidence against accuracy",
}
MOST_MISTAKES = 16


def report_classes(
    run: Run,
    dataset: PhotoDataset,
    probabilities: np.ndarray,
    losses: np.ndarray,
    photos: Mapping[str, int],
    machine: Mapping[str, str],
) -> None:
    """Print, draw, write and log what the kept model makes of the test split. Rank 0 calls it.

    losses : float of shape (photos,); for the others see write_results
    """
    predictions = probabilities.argmax(axis=1)
    accuracy = float((predictions == dataset.labels).mean())
    figures = {"test_loss": float(losses.mean()), "test_acc": accuracy}
    run.write_facts(**figures)
    print(metrics.write_report(run.output, dataset.labels, predictions, dataset.classes))
    write_results(run.output, dataset, probabilities, run.history, read_model_card(run.output), photos, machine)
    run.log.add_report(len(run.history), dataset, probabilities, **figures)
    lines = closing_lines(run.history, accuracy, len(dataset), run.kept_epoch, run.output)
    print(*lines, sep="\n")


def write_results(
    output: str | os.PathLike,
    dataset: PhotoDataset,
    probabilities: np.ndarray,
    history: Sequence[Mapping[str, float]],
    facts: Mapping,
    photos: Mapping[str, int],
    machine: Mapping[str, str],
) -> None:
    """Write every picture and report.html into the folder `output`.

    Parameters
    ----------
    dataset : the test split, at least one photo
    probabilities : float of shape (photos, classes), in the order of the dataset; NaN counts as 0
    history : as in reporting.write_history, at least one epoch
    facts : of the model, see run.read_facts
    photos : how many each split has, by its name
    machine : what the model was trained on, by the name of each fact
    """
    probabilities = np.nan_to_num(probabilities)
    labels, predictions = np.asarray(dataset.labels), probabilities.argmax(axis=1)
    counts = confusion_counts(labels, predictions, len(dataset.classes))
    bins = calibration_bins(probabilities.max(axis=1), predictions == labels)
    mistakes = confident_mistakes(dataset, probabilities)

    plot_history(os.path.join(output, CURVES), history)
    plot_bars(os.path.join(output, "classes.png"), dataset.classes, counts.sum(axis=1), precision_and_recall(counts))
    plot_confusion_matrix(os.path.join(output, "confusion_matrix.png"), counts, dataset.classes)
    plot_calibration(os.path.join(output, "calibration.png"), bins)
    drawn = ["classes.png", "confusion_matrix.png", "calibration.png"]
    if mistakes:
        drawn.append("mistakes.png")
        shown, _, truths, said, confidences = zip(*mistakes, strict=True)
        plot_predictions(os.path.join(output, "mistakes.png"), shown, truths, said, confidences)
    remove_others(output, drawn)

    figures = metrics.report_figures(labels, predictions, dataset.classes)
    html_report.write_page(
        os.path.join(output, "report.html"),
        "Training report",
        f"{facts['architecture']}, {len(dataset.classes):,} classes, {facts['image_size']} pixels, in {output}",
        _tiles(counts, history, facts, photos),
        [
            curves(output, history),
            _classes(output, dataset.classes, figures),
            _confusions(output, counts, dataset.classes),
            _mistakes(mistakes),
            _calibration(output, bins),
            making(facts, machine),
            files(output),
        ],
    )


def remove_others(output: str | os.PathLike, drawn: Sequence[str]) -> None:
    """Remove from the folder `output` the pictures of an earlier run that this one, with those `drawn`, has none of."""
    for name in FILES:
        path = os.path.join(output, name)
        if name.endswith(".png") and name not in (CURVES, *drawn) and os.path.exists(path):
            os.unlink(path)


def precision_and_recall(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Of each class, from matrix.confusion_counts; NaN where a class was never predicted, or has no photo."""
    right, predicted, photos = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    return {
        name: np.where(of, right / np.maximum(of, 1), np.nan)
        for name, of in (("precision", predicted), ("recall", photos))
    }


def confident_mistakes(dataset: PhotoDataset, probabilities: np.ndarray) -> list[Mistake]:
    """At most MOST_MISTAKES photos whose prediction is wrong, the most confident first, of equals in their order.

    probabilities : as in write_results
    """
    predictions, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != dataset.labels)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")][:MOST_MISTAKES]
    names = dataset.classes
    return [
        Mistake(
            _small_photo(dataset.path(index)), dataset.path(index),
            names[dataset.labels[index]], names[predictions[index]], float(confidences[index]),
        )
        for index in wrong.tolist()
    ]  # fmt: skip


def _small_photo(path: str) -> np.ndarray:
    """The photo at `path`, at most 400 pixels long; a grey square in place of one that is gone."""
    try:
        return read_thumbnail(path, 400)
    except Exception:  # Pillow's readers of broken files raise nearly anything, and a report needs none of its photos
        return np.full((100, 100, 3), 200, np.uint8)


# --- what the page says ----------------------------------------------------------------------------------------------


def _tiles(counts: np.ndarray, history: Sequence[Mapping], facts: Mapping, photos: Mapping[str, int]) -> list[Tile]:
    right, total = int(np.trace(counts)), int(counts.sum())
    best = metrics.best_epoch(history)
    epoch = facts["metrics"]["epoch"]
    return [
        Tile("Test accuracy", f"{right / total:.1%}", f"{right:,} of {total:,} photos, by the model of epoch {epoch}"),
        Tile("Best epoch", f"{best} of {len(history)}", f"validation accuracy {history[best - 1]['val_acc']:.1%}"),
        *course(history, photos),
    ]


def course(history: Sequence[Mapping], photos: Mapping[str, int]) -> list[Tile]:
    """The tiles that tell of training."""
    seconds = training_seconds(history)
    return [
        Tile("Time", duration(seconds), f"{duration(seconds / len(history))} an epoch"),
        Tile("Images per second", f"{images_per_second(history):,.1f}", "in training"),
        Tile("Photos", f"{sum(photos.values()):,}", ", ".join(f"{count:,} {name}" for name, count in photos.items())),
    ]


def curves(output: str | os.PathLike, history: Sequence[Mapping]) -> str:
    """The section with the picture of plot_history."""
    best = metrics.best_epoch(history)
    row = history[best - 1]
    alt = (
        f"Loss and accuracy over {len(history)} epochs; at the best, {best}, training loss {row['train_loss']:.4g}, "
        f"validation loss {row['val_loss']:.4g}, training accuracy {row['train_acc']:.1%}, validation accuracy "
        f"{row['val_acc']:.1%}"
    )
    return html_report.section("Training", html_report.picture(os.path.join(output, CURVES), alt))


def _classes(output: str | os.PathLike, classes: Sequence[str], figures: Mapping) -> str:
    columns = ("precision", "recall", "f1-score", "support")
    rows = [[name, *map(row.get, columns)] for name, row in zip(classes, figures.values(), strict=False)]
    averages = [[name, *map(figures[name].get, columns)] for name in metrics.AVERAGES[1:]]
    total = averages[0][-1]
    foot = [["accuracy", "", "", figures["accuracy"], total], *averages]
    for row in rows + foot:
        row[-1] = int(row[-1])
    return html_report.section(
        "Classes",
        html_report.picture(
            os.path.join(output, "classes.png"), "Bars of precision and recall of each class, the lowest on top"
        ),
        html_report.table("The test photos of each class", ("class", *columns), rows, foot, numbers=len(columns)),
        beside=len(classes) <= 40,
    )


def _confusions(output: str | os.PathLike, counts: np.ndarray, classes: Sequence[str]) -> str:
    photos = counts.sum(axis=1)
    rows = [
        [classes[truth], classes[said], int(counts[truth, said]), percent(counts[truth, said] / photos[truth])]
        for truth, said in most_frequent_confusions(counts)
    ]
    alt = f"Confusion matrix of {len(classes)} classes: {np.trace(counts):,} of {counts.sum():,} photos right"
    parts = [html_report.picture(os.path.join(output, "confusion_matrix.png"), alt)]
    if rows:
        head = ("truth", "prediction", "photos", "of the class")
        parts.append(html_report.table("The most frequent confusions", head, rows, numbers=2))
    return html_report.section("Confusions", *parts)


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    grid = html_report.mistakes(mistakes) if mistakes else html_report.paragraph("None: every test photo is right.")
    return html_report.section("Most confident mistakes", grid)


def _calibration(output: str | os.PathLike, bins: Bins) -> str:
    error = f"{expected_calibration_error(bins):.1%}"
    return html_report.section(
        "Calibration",
        html_report.picture(
            os.path.join(output, "calibration.png"), f"Reliability diagram; the expected calibration error is {error}"
        ),
        html_report.paragraph(
            f"Of the photos to which a well calibrated model gives 80% confidence, 80% are right. Sorted into {BINS} "
            f"bins of confidence, the test photos' accuracy and mean confidence differ by {error} on average: the "
            "expected calibration error. Where points lie below the dotted line, the model is surer than it should be."
        ),
        beside=True,
    )


def making(facts: Mapping, machine: Mapping[str, str]) -> str:
    """The section with flags, versions and the machine; see write_results."""
    settings, versions, host = (
        html_report.table(caption, (), [(name, _say(value)) for name, value in rows.items()])
        for caption, rows in (("Settings", facts["training"]), ("Versions", facts["versions"]), ("Machine", machine))
    )
    return html_report.section("How it was made", settings, versions + host, beside=True)


def _say(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else "none" if value is None else str(value)


def files(output: str | os.PathLike) -> str:
    """The section that lists FILES, those that are there."""
    sizes = [(name, os.path.join(output, name)) for name in FILES]
    rows = [(name, FILES[name], round(os.path.getsize(path) / 1000)) for name, path in sizes if os.path.exists(path)]
    return html_report.section(
        "Files", html_report.table(f"In {output}", ("file", "what it is", "kB"), rows, numbers=1)
    )
