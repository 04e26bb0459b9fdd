"""How good the answers to several yes-or-no questions a photo are: ROC AUC, average precision, thresholds, the report.

A label that no photo of a split has, or that every one has, can be ranked neither well nor badly: it is named, and left
out of the means over labels (macro). The micro averages take all decisions on all labels for one question.
"""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from pyimagesearch.runtime.errors import one_line
from pyimagesearch.runtime.files import write_json, write_text

REPORT_JSON = "classification_report.json"
KINDS = ("roc_auc", "average_precision", "f1")


def measurable(truths: np.ndarray) -> np.ndarray:
    """bool of shape (labels,): whether some photo has the label and another has not.

    truths : 0 and 1, of shape (photos, labels)
    """
    positives = truths.sum(axis=0)
    return (positives > 0) & (positives < len(truths))


def macro_auc(truths: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean ROC AUC of the labels that have one; not a number where none has, or where a probability is none.

    truths, probabilities : of shape (photos, labels)
    """
    from sklearn.metrics import roc_auc_score

    known = measurable(truths)
    if not known.any() or not np.isfinite(probabilities).all():
        return math.nan
    return float(roc_auc_score(truths[:, known], probabilities[:, known], average="macro"))


def best_thresholds(truths: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """For each label the probability from which on a photo is said to have it, that which gives the highest F1.

    It lies midway between two neighbouring probabilities, so that rounding changes no decision; of equally good ones it
    is the highest. A label that no photo or every photo has gets 0.5.

    truths, probabilities : of shape (photos, labels)
    """
    columns = zip(measurable(truths), truths.T, probabilities.T, strict=True)
    return [_best_threshold(*column) if known else 0.5 for known, *column in columns]


def _best_threshold(truths: np.ndarray, probabilities: np.ndarray) -> float:
    order = np.argsort(-probabilities, kind="stable")
    falling = np.append(probabilities[order].astype(np.float64), 0)
    right = truths[order].cumsum()
    f1 = 2 * right / (np.arange(1, len(order) + 1) + right[-1])  # when the first 1, 2, ... photos are said to have it
    f1[falling[:-1] == falling[1:]] = -1  # no threshold parts equals
    last = int(f1.argmax())
    return float(falling[last] + falling[last + 1]) / 2


def measure_labels(
    truths: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], thresholds: Sequence[float]
) -> dict:
    """Everything that is measured of one split, by scikit-learn; None stands for what cannot be measured.

    Parameters
    ----------
    truths, probabilities : 0 and 1, and between them, of shape (photos, labels)
    labels, thresholds : one name and one threshold a label

    Returns
    -------
    {"labels": {name: figures}, "macro": figures, "micro": figures, "one class only": [name, ...], "photos": int}, where
    figures have the keys KINDS and "positives", and a label's "threshold" too
    """
    said = probabilities >= np.asarray(thresholds)
    known = measurable(truths)
    names = [one_line(label) for label in labels]
    figures = {
        name: {
            **(_figures(truths[:, n], probabilities[:, n], said[:, n]) if known[n] else dict.fromkeys(KINDS)),
            "threshold": thresholds[n],
            "positives": int(truths[:, n].sum()),
        }
        for n, name in enumerate(names)
    }
    measured = [figures[name] for n, name in enumerate(names) if known[n]]
    pooled = truths.ravel(), probabilities.ravel(), said.ravel()
    positives = {"positives": int(truths.sum())}
    return {
        "labels": figures,
        "macro": {kind: float(np.mean([one[kind] for one in measured])) if measured else None for kind in KINDS}
        | positives,
        "micro": (_figures(*pooled) if measurable(pooled[0]) else dict.fromkeys(KINDS)) | positives,
        "one class only": [name for n, name in enumerate(names) if not known[n]],
        "photos": len(truths),
    }


def _figures(truths: np.ndarray, probabilities: np.ndarray, said: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    measures = (roc_auc_score, probabilities), (average_precision_score, probabilities), (f1_score, said)
    return {kind: float(function(truths, of)) for kind, (function, of) in zip(KINDS, measures, strict=True)}


def write_label_report(output: str | os.PathLike, evaluation: dict, validation: dict) -> str:
    """Write what `measure` gave of these splits into the folder `output`; return the text, which is of the first.

    classification_report.txt holds the text, classification_report.json both under their names.
    """
    text = label_report_table(evaluation)
    write_text(os.path.join(output, "classification_report.txt"), text)
    write_json(os.path.join(output, REPORT_JSON), {"evaluation": evaluation, "validation": validation})
    return text


def label_report_table(figures: dict) -> str:
    """What `measure` gave, as a table with a row a label."""
    averages = {"macro average": figures["macro"], "micro average": figures["micro"]}
    width = max(map(len, [*figures["labels"], *averages]))
    lines = [f"{'':{width}}  ROC AUC  average precision      F1  threshold  positives"]
    for rows in (figures["labels"], averages):
        lines.append("")
        for name, row in rows.items():
            auc, precision, f1 = ("-" if row[kind] is None else f"{row[kind]:.4f}" for kind in KINDS)
            threshold = f"{row['threshold']:.4f}" if "threshold" in row else ""
            lines.append(f"{name:>{width}}  {auc:>7}  {precision:>17}  {f1:>6}  {threshold:>9}  {row['positives']:>9}")
    lines += ["", f"{figures['photos']} photos; a threshold is where F1 was highest on validation"]
    lines += [why_left_out(figures, name) for name in figures["one class only"]]
    return "\n".join(lines) + "\n"


def why_left_out(figures: dict, name: str) -> str:
    """Why the label `name` has no ROC AUC in `figures`, which `measure` gave."""
    who = "Every photo has" if figures["labels"][name]["positives"] else "No photo has"
    return f"{who} {name}: it is left out of the macro average"


AVERAGES = ("accuracy", "macro avg", "weighted avg")  # what scikit-learn calls the rows below the classes


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """The epoch, counted from 1, with the highest val_acc; of equals the one of lowest val_loss, then the earliest.

    Where there is a val_auc, that in place of val_acc. A value that is not a number is worse than any number. Raises
    ValueError where the history has no epoch.
    """

    def goodness(row):
        values = row.get("val_auc", row["val_acc"]), -row["val_loss"]
        return [-math.inf if math.isnan(value) else value for value in values]

    return int(max(history, key=goodness)["epoch"])  # max keeps the first of equals


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


def confusion_counts(targets, predictions, classes: int) -> np.ndarray:
    """How many photos of each class (rows) were taken for each class (columns): int64 of shape (classes, classes).

    targets, predictions : integers from 0 to classes - 1, shape (N,)
    """
    cells = np.asarray(targets, dtype=np.int64) * classes + np.asarray(predictions, dtype=np.int64)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def most_frequent_confusions(counts: np.ndarray, most: int = 10) -> list[tuple[int, int]]:
    """(truth, prediction) of the `most` largest counts beside the diagonal, largest first; a cell of no photos never.

    counts : as of confusion_counts
    """
    wrong = counts - np.diag(np.diag(counts))
    cells = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [divmod(int(cell), len(counts)) for cell in cells if wrong.flat[cell]]
