"""The end of a run: how good the model is on the test split, as text, as pictures, and as one page, report.html."""

import base64
import io
import os
import platform
import shlex
import statistics
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from torch import nn

from pyimagesearch import config
from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.data.decoding import read_thumbnail
from pyimagesearch.evaluation import metrics
from pyimagesearch.evaluation.evaluate import predict_split
from pyimagesearch.evaluation.pictures import calibration
from pyimagesearch.evaluation.pictures.class_bars import plot_bars
from pyimagesearch.evaluation.pictures.confusion_matrix import plot_confusion_matrix
from pyimagesearch.evaluation.pictures.label_issues import plot_label_issues
from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
from pyimagesearch.evaluation.pictures.risk_coverage import answered_at, plot_risk_coverage
from pyimagesearch.evaluation.pictures.style import DPI, percent
from pyimagesearch.evaluation.pictures.training_curves import plot_history
from pyimagesearch.evaluation.reporting.label_issues import LABEL_ISSUES, LabelIssues
from pyimagesearch.evaluation.reporting.temperature import fit_temperature
from pyimagesearch.models.objectives import objective_of
from pyimagesearch.preparation.source import SplitPlan, first_few, plan_flags
from pyimagesearch.preparation.staging import read_marker
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import one_line
from pyimagesearch.runtime.files import write_json, write_text
from pyimagesearch.runtime.threads import available_cores

FILES = {
    os.path.basename(config.MODEL_PATH): "the trained model",
    "food_classifier.json": "what inference must know of it; metrics, settings, versions",
    "history.csv": "one row per epoch: losses, accuracies, learning rate, seconds, images per second",
    os.path.basename(config.PLOT_PATH): "loss and accuracy over the epochs",
    "classification_report.txt": "scikit-learn's report on the test split",
    metrics.REPORT_JSON: "the same for programs",
    "classes.png": "precision and recall of each class",
    "labels.png": "ROC AUC and average precision of each label",
    "confusion_matrix.png": "which class was taken for which",
    "mistakes.png": "the most confident mistakes",
    "calibration.png": "confidence against accuracy",
    "risk_coverage.png": "accuracy if only confident predictions count",
    LABEL_ISSUES: "every label with a score, the most suspicious first; for prepare_dataset.py --exclude",
    "label_issues.png": "the most suspicious labels, each photo beside typical ones",
}
PICTURES = {name for name in FILES if name.endswith(".png")} - {os.path.basename(config.PLOT_PATH)}
MOST_MISTAKES = 16
FEW = 50  # training photos of a class; fewer are named as a limit
THUMBNAIL = 320  # pixels of its longer side
CSS_DPI = 96
WIDE = 700  # CSS pixels
History = Sequence[Mapping[str, float]]  # a row per epoch, at least one, with the columns of history.csv


@dataclass(frozen=True)
class Results:
    """The predictions for the test split, and how good they are.

    probabilities : float32 of shape (photos, classes), calibrated, with 0 for NaN
    metrics : test_loss, of the logits as they are, and test_acc; with several labels test_auc, test_ap and test_f1,
        None if not measurable; else test_ece, the expected calibration error, and test_ece_uncalibrated
    text, numbers : the classification report to print, and for programs
    validated : the probabilities for the validation split
    thresholds : of several labels, one each: the lowest probability at which it is predicted
    temperature : see fit_temperature; None if the probabilities are not calibrated
    uncalibrated : of one class per photo, the bins of confidence before calibration
    """

    probabilities: np.ndarray
    metrics: dict[str, float | None]
    text: str
    numbers: dict
    validated: np.ndarray
    thresholds: list[float] | None = None
    temperature: float | list[float] | None = None
    uncalibrated: calibration.Bins | None = None


def assess(model: nn.Module, objective, valLoader, testLoader, *, calibrate: bool = True) -> Results:
    """Predict the test split and measure the predictions. Every rank calls this.

    On validation the temperature is fitted (`calibrate`), and the thresholds of several labels are chosen.
    """
    testDS, valDS = testLoader.dataset, valLoader.dataset
    temperature = thresholds = uncalibrated = None
    val_logits, _ = predict_split(model, valLoader, objective, as_logits=True)
    if calibrate:
        temperature = fit_temperature(val_logits, valDS.labels)
    calibrated = objective_of({"task": objective.task, "temperature": temperature or 1.0})
    validated = _probabilities(calibrated, val_logits)
    if testDS.labels.ndim > 1:
        thresholds = metrics.best_thresholds(valDS.labels, validated)
    logits, losses = predict_split(model, testLoader, objective, as_logits=True)
    probabilities = _probabilities(calibrated, logits)
    measured: dict[str, float | None] = {
        "test_loss": float(losses.mean()), "test_acc": metrics.accuracy(testDS.labels, probabilities),
    }  # fmt: skip
    text, numbers = metrics.classification_report(testDS.labels, probabilities, testDS.classes, thresholds)
    if thresholds is not None:
        auc, precision, f1 = (numbers["macro"][kind] for kind in metrics.KINDS)
        measured |= {"test_auc": auc, "test_ap": precision, "test_f1": f1}
        validation = metrics.measure_labels(valDS.labels, validated, valDS.classes, thresholds)
        numbers = {"evaluation": numbers, "validation": validation}
    else:
        uncalibrated = _bins(testDS.labels, _probabilities(objective, logits)) if calibrate else None
        for name, bins in (("test_ece", _bins(testDS.labels, probabilities)), ("test_ece_uncalibrated", uncalibrated)):
            measured |= {} if bins is None else {name: calibration.expected_calibration_error(bins)}
    return Results(probabilities, measured, text, numbers, validated, thresholds, temperature, uncalibrated)


def _probabilities(objective, logits: np.ndarray) -> np.ndarray:
    return np.nan_to_num(objective.probabilities(torch.from_numpy(logits)).numpy())


def _bins(labels: np.ndarray, probabilities: np.ndarray) -> calibration.Bins:
    return calibration.calibration_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def write_report(
    output: str, results: Results, issues: LabelIssues, history: History, card: dict, machine: dict
) -> None:
    """Print the classification report; write it, the labels, all pictures and report.html into the folder `output`.

    issues : of training, validation and test; machine : see machine_facts
    """
    dataset = issues.datasets[-1]
    print(results.text)
    write_text(os.path.join(output, "classification_report.txt"), results.text)
    write_json(os.path.join(output, metrics.REPORT_JSON), results.numbers)
    plot_history(os.path.join(output, os.path.basename(config.PLOT_PATH)), history)
    for name in PICTURES:  # an earlier run, perhaps of another task, may have left them
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(output, name))
    draw = _draw_classes if results.thresholds is None else _draw_labels
    shown = draw(output, results, dataset)
    issues.write(output)
    if suspicious := [[(_thumbnail(path), one, two) for path, one, two in photos] for photos in issues.shown()]:
        plot_label_issues(os.path.join(output, "label_issues.png"), suspicious)
    photos = {split: len(dataset.labels) for split, dataset in zip(issues.splits, issues.datasets, strict=True)}
    counts = [photo_counts(dataset).tolist() for dataset in issues.datasets]
    write_page(
        os.path.join(output, "report.html"), classes=dataset.classes, total=len(dataset.labels),
        metrics=results.metrics, history=history, best=history[metrics.best_epoch(history) - 1],
        seconds=sum(row["seconds"] for row in history), images_per_second=images_per_second(history), photos=photos,
        splits=", ".join(f"{count:,} {split}" for split, count in photos.items()), card=card, machine=machine,
        settings=settings_in_force(card["training"]),
        counts=(("", *photos), list(zip(dataset.classes, *counts, strict=True))), found=issues.found(),
        facts=data_facts(issues.folder, issues.datasets[0]), suspicious=suspicious, **shown,
    )  # fmt: skip


def photo_counts(dataset: PhotoDataset) -> np.ndarray:
    """How many photos have each class or label."""
    several, classes = dataset.labels.ndim > 1, len(dataset.classes)
    return (dataset.labels == 1).sum(axis=0) if several else np.bincount(dataset.labels, minlength=classes)


def data_facts(folder: str, trained: PhotoDataset) -> dict[str, str]:
    """What prepared.json records of the dataset in `folder`, and the classes with few photos to learn from."""
    counted = sorted(zip(photo_counts(trained).tolist(), trained.classes, strict=True))
    few = ", ".join(first_few([f"{name} ({count})" for count, name in counted if count < FEW])) or "no class"
    facts = {f"fewer than {FEW} training photos": few}
    if (made := read_marker(folder)) is None:
        return facts | {"source": f"{folder}, which prepare_dataset.py did not make"}
    plan = SplitPlan(**made["drawing"]) if made.get("drawing") else None
    together = "in one split" if plan and plan.near_copies else "not known: prepare_dataset.py --check finds them"
    facts |= {"source": made["source"], "splits": plan_flags(plan), "near copies": together}
    return facts | {"corrections": made.get("corrections") or "none"}


def _draw_classes(output: str, results: Results, dataset: PhotoDataset) -> dict:
    """Draw the pictures for one class per photo, and return what only their sections of the page show."""
    probabilities, classes = results.probabilities, dataset.classes
    predictions = probabilities.argmax(axis=1)
    counts = metrics.confusion_counts(dataset.labels, predictions, len(classes))
    largest, right = probabilities.max(axis=1), predictions == dataset.labels
    bins = calibration.calibration_bins(largest, right)
    mistakes = confident_mistakes(dataset, probabilities)
    supports = counts.sum(axis=1)
    shares = metrics.precision_and_recall(dataset.labels, predictions, len(classes))
    plot_bars(os.path.join(output, "classes.png"), classes, supports, shares)
    plot_confusion_matrix(os.path.join(output, "confusion_matrix.png"), counts, classes)
    calibration.plot_calibration(os.path.join(output, "calibration.png"), bins, results.uncalibrated)
    plot_risk_coverage(os.path.join(output, "risk_coverage.png"), largest, right)
    if mistakes:
        thumbnails, _, truths, taken_for, confidences = zip(*mistakes, strict=True)
        plot_predictions(os.path.join(output, "mistakes.png"), thumbnails, truths, taken_for, confidences)

    columns = (*metrics.SHARES, "support")
    rows = [[name, *map(row.get, columns)] for name, row in zip(classes, results.numbers.values(), strict=False)]
    foot = [[name, *map(results.numbers[name].get, columns)] for name in metrics.AVERAGES[1:]]
    foot.insert(0, ["accuracy", "", "", results.numbers["accuracy"], foot[0][-1]])
    for row in rows + foot:
        row[-1] = int(row[-1]) or "no photo"
        row[1:-1] = ["-" if share is None else share for share in row[1:-1]]
    return {
        "right": int(np.trace(counts)),
        "by_class": (("class", *columns), rows, foot),
        "confusions": [
            (classes[row], classes[column], int(counts[row, column]), percent(counts[row, column] / supports[row]))
            for row, column in metrics.most_frequent_confusions(counts)
        ],
        "mistakes": mistakes,
        "bins": calibration.BINS,
        "answered": answered_at(largest, right),
    }


def _draw_labels(output: str, results: Results, dataset: PhotoDataset) -> dict:
    """Draw the picture for several labels per photo, and return what only its section of the page shows."""
    numbers = results.numbers["evaluation"]
    labels, heads = numbers["labels"], ("ROC AUC", "average precision", "F1")
    columns = (*metrics.KINDS, "threshold", "positives")
    values = np.array([[row[kind] for kind in metrics.KINDS] for row in labels.values()], np.float64)  # NaN for None
    shares = dict(zip(heads[:2], values.T, strict=False))
    plot_bars(os.path.join(output, "labels.png"), list(labels), [row["positives"] for row in labels.values()], shares)
    rows, foot = (
        [[name, *("-" if row.get(column) is None else row[column] for column in columns)] for name, row in part.items()]
        for part in (labels, {"macro average": numbers["macro"], "micro average": numbers["micro"]})
    )
    return {"by_class": (("label", *heads, *columns[3:]), rows, foot), "left_out": metrics.left_out(numbers)}


def confident_mistakes(dataset: PhotoDataset, probabilities: np.ndarray) -> list[tuple]:
    """(photo, path, truth, prediction, confidence) of the MOST_MISTAKES most confident mistakes, equals in order."""
    predictions, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != dataset.labels)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")][:MOST_MISTAKES]
    paths = [dataset.path(index) for index in wrong.tolist()]
    truths, taken_for = ([dataset.classes[label] for label in some[wrong]] for some in (dataset.labels, predictions))
    return list(zip(map(_thumbnail, paths), paths, truths, taken_for, confidences[wrong].tolist(), strict=True))


def _thumbnail(path: str) -> np.ndarray:
    """The photo at `path`, at most 400 pixels long; a grey square if it is gone."""
    try:
        return read_thumbnail(path, 400)
    except Exception:  # Pillow's readers raise nearly anything, and the report can do without each of its photos
        return np.full((100, 100, 3), 200, np.uint8)


def settings_in_force(training: Mapping) -> list[tuple]:
    """(name, value, what set it) of the run config, those first that the command line or the recipe set."""
    origin = training.get("origin", {})
    rows = [(name.replace("_", " "), training[name], origin.get(name, "")) for name in training if name != "origin"]
    return sorted(rows, key=lambda row: ("command line", "recipe", "").index(row[2]))


def write_page(path: str | os.PathLike, **values) -> None:
    """Render the template report.html, one page that needs no network, no script and no other file, into `path`."""
    output = os.path.dirname(path)
    present = [name for name in FILES if os.path.exists(os.path.join(output, name))]
    files = [(name, FILES[name], round(os.path.getsize(os.path.join(output, name)) / 1000)) for name in present]
    environment = Environment(
        loader=FileSystemLoader(os.path.dirname(__file__)), autoescape=True, finalize=printable,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": percent, "duration": duration, "jpeg": embedded_jpeg}
    environment.globals["png"] = lambda name: embedded_png(os.path.join(output, name))
    page = environment.get_template("report.html")
    write_text(path, page.render(output=output, files=files, written=time.strftime("%Y-%m-%d at %H:%M %Z"), **values))


def printable(value: object) -> object:
    """`value` as text in which controls and undecodable bytes are escaped; what is HTML already stays as it is."""
    if hasattr(value, "__html__"):
        return value
    value = ("no", "yes")[value] if isinstance(value, bool) else "none" if value is None else value
    # format characters join the letters of some scripts, and act only within the element they are in
    return "".join(c if unicodedata.category(c) == "Cf" else one_line(c) for c in str(value))


def embedded_png(path: str) -> dict:
    """The attributes of an <img> of the PNG at `path`, at most as large as in print."""
    with Image.open(path) as image, open(path, "rb") as file:
        width, height = (round(side * CSS_DPI / DPI) for side in image.size)
        return {"src": _data_uri("png", file.read()), "width": width, "height": height, "wide": width > WIDE}


def embedded_jpeg(photo: np.ndarray) -> str:
    """A small copy of `photo` as the source of an <img>."""
    image, buffer = Image.fromarray(photo), io.BytesIO()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(buffer, "JPEG", quality=85)
    return _data_uri("jpeg", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")


def closing_lines(history: History, measured: dict, photos: int, kept_epoch: int, output: str) -> list[str]:
    """The lines at a run's end: test metrics, best epoch, time, images per second, where the files are.

    measured : Results.metrics, of `photos` test photos; kept_epoch : the epoch of the measured model, counted from 1
    """
    best = metrics.best_epoch(history)
    name, column = ("ROC AUC", "val_auc") if "val_auc" in history[0] else ("accuracy", "val_acc")
    seconds = sum(row["seconds"] for row in history)
    lines = [
        f"[INFO] test accuracy: {measured['test_acc']:.4f} of {photos:,} photos, by the model of epoch {kept_epoch}",
        f"[INFO] best epoch: {best} of {len(history)}, validation {name} {history[best - 1][column]:.4f}",
        f"[INFO] time: {duration(seconds)}",
        f"[INFO] images/s: {images_per_second(history):,.1f} in training",
        f"[INFO] files: {one_line(output)}; begin with {one_line(os.path.join(output, 'report.html'))}",
    ]
    if "test_ece_uncalibrated" in measured:
        after, before = measured["test_ece"], measured["test_ece_uncalibrated"]
        lines.insert(0, f"[INFO] test calibration error: {after:.1%}, and {before:.1%} before calibration")
    if "test_auc" in measured:
        auc = "none" if measured["test_auc"] is None else f"{measured['test_auc']:.4f}"
        lines.insert(0, f"[INFO] test ROC AUC: {auc}, mean over the labels")
    return lines


def images_per_second(history: History) -> float:
    """The photos of whole epochs over the time of training alone.

    An epoch that was resumed after its last step trained on nothing and is left out; 0 if none is left.
    """
    rates = [row["images_per_s"] for row in history if row["images_per_s"] > 0]
    return statistics.harmonic_mean(rates) if rates else 0.0  # each epoch has the same photos


def duration(seconds: float) -> str:
    """`seconds` in their two largest units: "4.2 s", "6 min 12 s", "1 h 3 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def machine_facts(launch: distributed.Launch) -> dict[str, str]:
    """This host and this launch, as the page shows them."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(available_cores()),
        "GPUs": f"{launch.gpus} x {torch.cuda.get_device_name(launch.device)}" if launch.gpus else "none",
        "command": shlex.join(sys.argv),
        "processes": f"{distributed.world_size()} (--parallel {launch.parallel})",
    }


def _processor() -> str:
    try:  # on Linux, where platform knows only the family
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(names, "") or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()
