"""How predictions are told: as a table, as a CSV file, as pictures; and a split's report with its confusions."""

import csv
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pyimagesearch.data.datasets import NO_LABEL, SEPARATOR
from pyimagesearch.data.decoding import describe_fault, read_thumbnail
from pyimagesearch.evaluation.metrics import confusion_counts, most_frequent_confusions
from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
from pyimagesearch.evaluation.predict import Prediction
from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import atomic_write

ROWS = 100  # of the table on the terminal, where a CSV file has them all
PAGE = 25  # photos on a picture
THUMBNAIL = 400  # pixels, the longer side of a photo on it
WIDEST = 25  # classes of which a terminal can show a confusion matrix
CONFUSIONS = 20  # that are listed where it cannot


def prediction_table(predictions: Sequence[Prediction], top_k: int) -> str:
    """A line a photo: its path, each of the `top_k` classes, or all its labels, with probabilities, or an error."""
    if any(one.probabilities for one in predictions):
        rows = [["path", "labels"], *([one_line(one.path), one_line(one.said)] for one in predictions)]
        return terminal.table(rows, left={0, 1})
    rows = [["path", "prediction", "confidence"]]
    for place in range(2, top_k + 1):
        rows[0] += [f"prediction {place}", f"confidence {place}"]
    for one in predictions:
        said = [(one_line(name), f"{share:.1%}") for name, share in zip(one.classes, one.confidences, strict=True)]
        rows.append([one_line(one.path), *([one.error] if one.error else [cell for pair in said for cell in pair])])
    return terminal.table(rows, left={0, *range(1, 2 * top_k, 2)})


def write_predictions(
    path: str,
    predictions: Sequence[Prediction],
    top_k: int = 1,
    truths: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> None:
    """Write one row a photo, as CSV, whole or not at all; a photo that could not be read has an error and no class.

    truths : the true class of each, for a column of its own
    labels : of the model, where photos may have several: there is a column of those that a photo is said to have, and
        one of each label's probability
    """
    head = ["path"] if truths is None else ["path", "truth"]
    head += ["prediction", "confidence"] if labels is None else ["labels", *labels]
    for place in range(2, top_k + 1):
        head += [f"prediction_{place}", f"confidence_{place}"]
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*head, "error"])
        for number, one in enumerate(predictions):
            row = [one.path] if truths is None else [one.path, truths[number]]
            if labels is not None:
                row += [SEPARATOR.join(one.classes), *(f"{share:.6f}" for share in one.probabilities)]
            else:
                for name, confidence in zip(one.classes, one.confidences, strict=True):
                    row += [name, f"{confidence:.6f}"]
            row += [""] * (len(head) - len(row))
            writer.writerow([one_line(cell) for cell in (*row, one.error)])


# --- pictures --------------------------------------------------------------------------------------------------------


def page_path(output: str, page: int = 1, pages: int = 1) -> str:
    """Where page `page`, counted from 1, of `pages` pictures is: numbered where there are several."""
    number = f"-{page:0{max(3, len(str(pages)))}}" if pages > 1 else ""
    return os.path.join(output, f"predictions{number}.png")


def draw_pages(output: str, predictions: Sequence[Prediction], pages: int) -> str:
    """Draw the photos that could be read, PAGE on a picture and at most `pages` pictures, into the folder `output`.

    Pictures that an earlier run left there and this one did not draw anew are removed: they show other photos.

    Returns
    -------
    the line that says where they are

    Raises
    ------
    UserError : a photo cannot be read any more
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


def captions(predictions: Sequence[Prediction]) -> tuple[list[str], list[float | str]]:
    """The prediction and the confidence that stand below each photo, see cards.plot_predictions."""
    if not any(one.probabilities for one in predictions):
        return [one.prediction for one in predictions], [one.confidence for one in predictions]
    names = [SEPARATOR.join(one.classes) or NO_LABEL for one in predictions]
    return names, [SEPARATOR.join(f"{share:.0%}" for share in one.confidences) for one in predictions]


def _thumbnail(path: str) -> np.ndarray:
    try:
        return read_thumbnail(path, THUMBNAIL)
    except Exception as error:  # it could be read a moment ago
        raise UserError(f"{path} changed while it was looked at: {describe_fault(error)}") from None


# --- a split ---------------------------------------------------------------------------------------------------------


def confusion_table(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> str:
    """The confusion matrix: a row is a true class, a column a prediction. Of more than WIDEST classes the most frequent
    confusions, which fit a terminal.

    labels, predictions : integers of shape (photos,): positions in `classes`
    """
    names = [one_line(name) for name in classes]
    counts = confusion_counts(labels, predictions, len(names))
    if len(names) <= WIDEST:
        rows = [[f"{number} {name}", *map(str, counts[number])] for number, name in enumerate(names)]
        return terminal.table([["truth, prediction", *map(str, range(len(names)))], *rows])
    most = most_frequent_confusions(counts, CONFUSIONS)
    rows = [[names[truth], names[said], str(counts[truth, said])] for truth, said in most]
    return terminal.table([["truth", "prediction", "photos"], *rows], left=(0, 1))
