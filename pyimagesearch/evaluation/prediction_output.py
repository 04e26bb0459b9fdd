"""Predictions as a table, as a CSV file and as pictures; and the confusions of a split as a table."""

import csv
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import Tensor

from pyimagesearch.data.datasets import NO_LABEL, SEPARATOR
from pyimagesearch.data.decoding import describe_fault, read_thumbnail
from pyimagesearch.data.transforms import denormalize
from pyimagesearch.evaluation.metrics import confusion_counts, most_frequent_confusions
from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
from pyimagesearch.evaluation.predict import UNSURE, Prediction
from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import atomic_write

ROWS = 100  # of the table on the terminal, if a CSV file has them all
PAGE = 25  # photos in a picture
THUMBNAIL = 400  # pixels, the longer side of a photo in it
WIDEST = 25  # classes of which a terminal can show a confusion matrix
CONFUSIONS = 20  # that are listed if it cannot
Names = Sequence[str]


def print_predictions(predictions: Sequence[Prediction], top_k: int, csv_path: str | None) -> None:
    """Print the table, of the first ROWS photos only if a CSV file has all, and how many photos there are."""
    shown = predictions if csv_path is None else predictions[:ROWS]
    print(prediction_table(shown, top_k))
    if len(shown) < len(predictions):
        print(f"and {len(predictions) - len(shown):,} more")
    unreadable = sum(bool(one.error) for one in predictions)
    note = f", {unreadable:,} of them unreadable" if unreadable else ""
    print(f"[INFO] {len(predictions):,} photos{note}", flush=True)


def prediction_table(predictions: Sequence[Prediction], top_k: int) -> str:
    """A line per photo: its path, and the `top_k` classes or all its labels, with probabilities, or the error."""
    if any(one.probabilities for one in predictions):
        rows = [["path", "labels"], *([one_line(one.path), one_line(one.text)] for one in predictions)]
        return terminal.table(rows, left={0, 1})
    rows = [["path", *_column_names(predictions, top_k, " ")]]
    rows += [[one_line(one.path), *([one.error] if one.error else _cells(one, ".1%"))] for one in predictions]
    return terminal.table(rows, left={0, *range(1, 2 * top_k, 2), 2 * top_k + 1})


def _column_names(predictions: Sequence[Prediction], top_k: int, joint: str) -> list[str]:
    numbers = ["", *(f"{joint}{place}" for place in range(2, top_k + 1))]
    names = [f"{name}{number}" for number in numbers for name in ("prediction", "confidence")]
    return names + ["answer"] * any(one.answer for one in predictions)


def _cells(one: Prediction, form: str) -> list[str]:
    pairs = zip(one.classes, one.confidences, strict=True)
    cells = [cell for name, share in pairs for cell in (one_line(name), format(share, form))]
    return cells + [one_line(one.answer)] * bool(cells and one.answer)


def write_predictions(
    path: str, predictions: Sequence[Prediction], top_k: int = 1, truths: Names = (), labels: Names = ()
) -> None:
    """Write a CSV file with a row per photo, whole or not at all, and print where it is.

    truths : the true class of each photo, for a column of its own
    labels : of a model of several labels: a column has the predicted ones, and one per label its probability
    """
    head = ["path", "truth"] if truths else ["path"]
    head += ["labels", *labels] if labels else _column_names(predictions, top_k, "_")
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*head, "error"])
        for number, one in enumerate(predictions):
            row = [one.path, *truths[number : number + 1]]
            if labels:
                row += [SEPARATOR.join(one.classes), *(f"{share:.6f}" for share in one.probabilities)]
            else:
                row += _cells(one, ".6f")
            row += [""] * (len(head) - len(row))
            writer.writerow([one_line(cell) for cell in (*row, one.error)])
    print(f"[INFO] predictions: {one_line(path)}", flush=True)


def draw_results(path: str, predictions: Sequence[Prediction], truths: Sequence[str], images: Tensor) -> None:
    """Print each prediction with its truth and draw all in a picture at `path`, and in a window if there is a display.

    images : the photos, normalised, float of shape (photos, channels, height, width)
    """
    for truth, one in zip(truths, predictions, strict=True):
        print(f"{one_line(one.path)}: Ground Truth: {truth}, Predicted: {one.text}")
    names, confidences = captions(predictions)
    right = sum(truth == name for truth, name in zip(truths, names, strict=True))
    unsure = f", {names.count(None)} unsure" if None in names else ""
    print(f"[INFO] {right} of {len(names)} right{unsure}: {path}", flush=True)
    plot_predictions(path, list(denormalize(images)), truths, names, confidences, show=True)


def captions(predictions: Sequence[Prediction]) -> tuple[Sequence[str | None], Sequence[float | str]]:
    """The prediction and the confidence to write below each photo; see plot_predictions."""
    if not any(one.probabilities for one in predictions):
        answers = [None if one.answer == UNSURE else one.prediction for one in predictions]
        return answers, [one.confidence for one in predictions]
    names = [SEPARATOR.join(one.classes) or NO_LABEL for one in predictions]
    return names, [SEPARATOR.join(f"{share:.0%}" for share in one.confidences) for one in predictions]


def page_path(output: str, page: int = 1, pages: int = 1) -> str:
    """The path of picture `page`, counted from 1, of `pages`: numbered if there are several."""
    number = f"-{page:0{max(3, len(str(pages)))}}" if pages > 1 else ""
    return os.path.join(output, f"predictions{number}.png")


def draw_pages(output: str, predictions: Sequence[Prediction], pages: int) -> str:
    """Draw the readable photos, PAGE in each of at most `pages` pictures; return the line that says where they are.

    Pictures of an earlier run in the folder `output` that were not drawn anew are removed: they show other photos.
    """
    readable = [one for one in predictions if not one.error]
    drawn = readable[: pages * PAGE]
    sheets = [drawn[start : start + PAGE] for start in range(0, len(drawn), PAGE)]
    paths = [page_path(output, page, len(sheets)) for page in range(1, len(sheets) + 1)]
    with ThreadPoolExecutor(distributed.cores_of_rank()) as pool:
        for path, sheet in zip(paths, sheets, strict=True):
            photos = list(pool.map(_thumbnail, (one.path for one in sheet)))
            plot_predictions(path, photos, [None] * len(sheet), *captions(sheet))
    for name in os.listdir(output):
        path = os.path.join(output, name)
        if re.fullmatch(r"predictions(-\d{3,})?\.png", name) and path not in paths:
            os.unlink(path)
    if not paths:
        return "[INFO] no picture: no photo could be read"
    last = f" to {os.path.basename(paths[-1])}" if len(paths) > 1 else ""
    rest = f", of the first {len(drawn):,} photos; --pages all draws the rest" if len(drawn) < len(readable) else ""
    return f"[INFO] pictures: {one_line(paths[0])}{last}{rest}"


def _thumbnail(path: str) -> np.ndarray:
    try:
        return read_thumbnail(path, THUMBNAIL)
    except Exception as error:  # it was readable a moment ago
        raise UserError(f"{path} changed during the prediction: {describe_fault(error)}") from None


def confusion_table(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> str:
    """The confusion matrix, a row per true class; of more than WIDEST classes the most frequent confusions instead."""
    names = [one_line(name) for name in classes]
    counts = confusion_counts(labels, predictions, len(names))
    if len(names) <= WIDEST:
        rows = [[f"{number} {name}", *map(str, counts[number])] for number, name in enumerate(names)]
        return terminal.table([["truth, prediction", *map(str, range(len(names)))], *rows])
    most = most_frequent_confusions(counts, CONFUSIONS)
    rows = [[names[row], names[column], str(counts[row, column])] for row, column in most]
    return terminal.table([["truth", "prediction", "photos"], *rows], left=(0, 1))
