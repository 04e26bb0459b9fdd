"""Metrics of a split's predictions: confusions, thresholds, ROC AUC, classification reports; and which epoch is best.

Where photos may have several labels, `truths` are 0, 1 and UNKNOWN, `probabilities` from 0 to 1, of shape (photos,
labels). Every figure is over the truths that are known. A label that no photo has, or that all have, cannot be ranked:
it has no ROC AUC and is left out of the means over labels (macro). Micro averages pool the decisions on all labels.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pyimagesearch.data.labels_csv import UNKNOWN
from pyimagesearch.runtime.errors import one_line

REPORT_JSON = "classification_report.json"
SHARES = ("precision", "recall", "f1-score")  # scikit-learn's names of what a report says of a class
KINDS = ("roc_auc", "average_precision", "f1")
AVERAGES = ("accuracy", "macro avg", "weighted avg")  # scikit-learn's names of the rows below the classes


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """The epoch, counted from 1, with the highest val_acc or, where there is one, val_auc.

    Of equal epochs it is the one with the lowest val_loss, then the earliest. NaN is worse than any number. Raises
    ValueError if the history is empty.
    """

    def goodness(row):
        values = row.get("val_auc", row["val_acc"]), -row["val_loss"]
        return [-math.inf if math.isnan(value) else value for value in values]

    return int(max(history, key=goodness)["epoch"])  # max keeps the first of equals


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of photos whose most probable class is right; with several labels, the mean over the photos
    of their share of decisions at 0.5 that are."""
    if labels.ndim == 1:
        return float((probabilities.argmax(axis=1) == labels).mean())
    known = labels != UNKNOWN
    weights = known * labels.shape[1] / known.sum(axis=1, keepdims=True).clip(min=1)  # all 1 where all are known
    return float((((probabilities >= 0.5) == labels) * weights).mean())


def classification_report(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], thresholds: Sequence[float] | None = None
) -> tuple[str, dict]:
    """The report on a split as text and as numbers: class_report, or label_report where there are `thresholds`."""
    probabilities = np.nan_to_num(probabilities)
    if thresholds is None:
        return class_report(labels, probabilities.argmax(axis=1), classes)
    numbers = measure_labels(labels, probabilities, classes, thresholds)
    return label_report(numbers), numbers


def class_report(targets, predictions, classes: Sequence[str]) -> tuple[str, dict]:
    """scikit-learn's classification report as text and as a dictionary: a row per class, in order, then AVERAGES.

    targets and predictions are positions in `classes`, of shape (N,), N at least 1. The dictionary's keys are names,
    and a class may be called "accuracy", or equal another once its odd bytes are escaped: " (class)" is appended then.
    A class without photos has None, and the averages leave it out.
    """
    from sklearn import metrics

    names, keys = [one_line(name) for name in classes], []
    for name in names:
        while name in keys or name in AVERAGES:
            name += " (class)"
        keys.append(name)
    settings = {"labels": range(len(names)), "zero_division": 0}
    text = metrics.classification_report(targets, predictions, target_names=names, **settings)
    numbers = metrics.classification_report(targets, predictions, target_names=keys, output_dict=True, **settings)
    return _without_absent(text, numbers, keys)


def _without_absent(text: str, numbers: dict, keys: Sequence[str]) -> tuple[str, dict]:
    """The report with None or "no photo" for classes without photos, which the macro average leaves out.

    The weighted average counts such a class 0 times as it is.
    """
    lines, measured = text.split("\n"), [numbers[key] for key in keys if numbers[key]["support"]]
    if len(measured) == len(keys):
        return text, numbers
    macro = {kind: float(np.mean([row[kind] for row in measured])) for kind in SHARES}
    numbers["macro avg"] |= macro
    for number, key in enumerate(keys, 2):  # below the head and a blank line
        if not numbers[key]["support"]:
            numbers[key] |= dict.fromkeys(SHARES)
            lines[number] = f"{lines[number][:-40]}{'no photo':>40}"  # four columns of 10 characters
    average = len(keys) + 4
    lines[average] = f"{lines[average][:-40]}{''.join(f'{macro[kind]:10.2f}' for kind in SHARES)}{lines[average][-10:]}"
    return "\n".join(lines), numbers


def confusion_counts(targets, predictions, classes: int) -> np.ndarray:
    """How many photos of each class (rows) were predicted as each class (columns), int64."""
    # scikit-learn's confusion_matrix prints a warning if there is a single class
    cells = np.asarray(targets, dtype=np.int64) * classes + np.asarray(predictions, dtype=np.int64)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def most_frequent_confusions(counts: np.ndarray, most: int = 10) -> list[tuple[int, int]]:
    """(truth, prediction) of the `most` largest counts off the diagonal, largest first, without zeros."""
    wrong = counts - np.diag(np.diag(counts))
    cells = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [divmod(int(cell), len(counts)) for cell in cells if wrong.flat[cell]]


def precision_and_recall(targets, predictions, classes: int) -> dict[str, np.ndarray]:
    """Of each class; the precision of one that was never predicted, and both of one without photos, are NaN."""
    from sklearn.metrics import precision_recall_fscore_support as measure

    precision, recall, *_ = measure(targets, predictions, labels=range(classes), zero_division=np.nan)
    precision = np.where(np.isnan(recall), np.nan, precision)
    return {"precision": precision, "recall": recall}


def measurable(truths: np.ndarray) -> np.ndarray:
    """bool of shape (labels,): whether some photo has the label and another is known not to."""
    return (truths == 1).any(axis=0) & (truths == 0).any(axis=0)


def _of_known(truths: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """The truths that are known, of shape (rows,), and the same rows of `others`."""
    return [column[truths != UNKNOWN] for column in (truths, *others)]


def macro_auc(truths: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean ROC AUC of the measurable labels; NaN if there is none, or if a probability is not finite."""
    from sklearn.metrics import roc_auc_score

    columns = measurable(truths)
    if not columns.any() or not np.isfinite(probabilities).all():
        return math.nan
    pairs = zip(truths.T[columns], probabilities.T[columns], strict=True)
    return float(np.mean([roc_auc_score(*_of_known(*pair)) for pair in pairs]))


def best_thresholds(truths: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """For each label the lowest probability at which it is predicted, chosen for the highest F1; 0.5 if not measurable.

    It lies midway between two neighbouring probabilities, so that rounding changes no decision; of equally good ones it
    is the highest.
    """
    columns = zip(measurable(truths), truths.T, probabilities.T, strict=True)
    return [_best_threshold(*_of_known(*column)) if ranked else 0.5 for ranked, *column in columns]


def _best_threshold(truths: np.ndarray, probabilities: np.ndarray) -> float:
    order = np.argsort(-probabilities, kind="stable")
    falling = np.append(probabilities[order].astype(np.float64), 0)
    right = truths[order].cumsum()
    f1 = 2 * right / (np.arange(1, len(order) + 1) + right[-1])  # if the first 1, 2, ... photos have it
    f1[falling[:-1] == falling[1:]] = -1  # no threshold separates equals
    last = int(f1.argmax())
    return float(falling[last] + falling[last + 1]) / 2


def measure_labels(
    truths: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], thresholds: Sequence[float]
) -> dict:
    """scikit-learn's metrics of one split; None stands for what cannot be measured.

    Returns {"labels": {name: numbers}, "macro": numbers, "micro": numbers, "one class only": [name], "photos": int,
    "unknown": int}, with numbers of the keys KINDS and "positives", and for each label "threshold".
    """
    decided = probabilities >= np.asarray(thresholds)
    rows = {}
    for label, *column, threshold in zip(labels, truths.T, probabilities.T, decided.T, thresholds, strict=True):
        row = {**_ranking_metrics(*column), "threshold": threshold, "positives": int((column[0] == 1).sum())}
        rows[one_line(label)] = row
    measured = [row for row in rows.values() if row["roc_auc"] is not None]
    macro = {kind: float(np.mean([row[kind] for row in measured])) if measured else None for kind in KINDS}
    positives = {"positives": int((truths == 1).sum())}
    return {
        "labels": rows,
        "macro": macro | positives,
        "micro": _ranking_metrics(truths.ravel(), probabilities.ravel(), decided.ravel()) | positives,
        "one class only": [name for name, row in rows.items() if row["roc_auc"] is None],
        "photos": len(truths),
        "unknown": int((truths == UNKNOWN).sum()),
    }


def _ranking_metrics(truths: np.ndarray, probabilities: np.ndarray, decided: np.ndarray) -> dict[str, float | None]:
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    if not measurable(truths):
        return dict.fromkeys(KINDS)
    truths, probabilities, decided = _of_known(truths, probabilities, decided)
    scores = (roc_auc_score, probabilities), (average_precision_score, probabilities), (f1_score, decided)
    return {kind: float(score(truths, of)) for kind, (score, of) in zip(KINDS, scores, strict=True)}


def label_report(numbers: dict) -> str:
    """What measure_labels returned, as a table with a row per label."""
    averages = {"macro average": numbers["macro"], "micro average": numbers["micro"]}
    width = max(map(len, [*numbers["labels"], *averages]))
    lines = [f"{'':{width}}  ROC AUC  average precision      F1  threshold  positives"]
    for rows in (numbers["labels"], averages):
        lines.append("")
        for name, row in rows.items():
            auc, precision, f1 = ("-" if row[kind] is None else f"{row[kind]:.4f}" for kind in KINDS)
            threshold = f"{row['threshold']:.4f}" if "threshold" in row else ""
            lines.append(f"{name:>{width}}  {auc:>7}  {precision:>17}  {f1:>6}  {threshold:>9}  {row['positives']:>9}")
    lines += ["", f"{numbers['photos']} photos; a threshold is where F1 was highest on validation"]
    return "\n".join(lines + left_out(numbers)) + "\n"


def left_out(numbers: dict) -> list[str]:
    """A line for what measure_labels left out, and why: unknown labels, and each label that cannot be measured."""
    rows = numbers["labels"]
    decisions = numbers["photos"] * len(rows)
    unknown = f"{numbers['unknown']:,} of the {decisions:,} labels of all photos are not known: no figure counts them"
    photo = "photo of which it is known" if numbers["unknown"] else "photo"
    return [unknown] * bool(numbers["unknown"]) + [
        f"{'Every' if rows[name]['positives'] else 'No'} {photo} has {name}: it is left out of the macro average"
        for name in numbers["one class only"]
    ]
