"""Which labels look wrong.

The margin of a label is the logit of the given class less the largest other: see models.objectives. Training photos are
judged by its mean over the epochs, the area under the margin (Pleiss et al. 2020, https://arxiv.org/abs/2001.10528): a
wrong label is learned late, by heart. The other splits are judged by the kept model, which was not trained on them
(confident learning's normalized margin, Northcutt et al. 2021, https://arxiv.org/abs/1911.00068).
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from scipy.special import expit

from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.runtime.errors import one_line
from pyimagesearch.runtime.files import atomic_write

LABEL_ISSUES = "label_issues.csv"
COLUMNS = ("split", "path", "given", "suggested", "score", "reason", "drop", "new_label")  # the last two for a person
REASONS = ("", "doubtful: the suggested label is preferred", "looks wrong: far below the other photos of its label")
LOOKS_WRONG = 2  # position in REASONS
FAR = 3.5  # robust standard deviations: the limit of Iglewicz and Hoaglin (1993) for the modified z-score
SHOWN = 20  # in the picture
Margins = tuple[np.ndarray, np.ndarray]  # of each label, NaN if unknown; and the value that comes next to it, or before


def predicted_margins(objective, probabilities: np.ndarray, labels: np.ndarray) -> Margins:
    """The margins of a split that was not trained on."""
    shares = torch.from_numpy(probabilities).double().clamp(1e-30, 1 - 1e-15)
    margins, rivals = objective.margins(shares.log() if labels.ndim == 1 else shares.logit(), torch.from_numpy(labels))
    return margins.numpy(), rivals.numpy()


def find_outliers(margins: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Where a margin is negative and FAR below the median of those with the same `given` label: bool.

    It is far by the deviation of that label's margins, and of all: a few alike photos hardly deviate.
    """
    centre, spread = np.zeros((2, len(margins)))
    for rows in np.split(np.argsort(given, kind="stable"), np.cumsum(np.bincount(given))[:-1]):
        if len(rows):
            centre[rows] = np.median(margins[rows])
            spread[rows] = np.median(np.abs(margins[rows] - centre[rows]))
    of_all = np.median(np.abs(margins - centre)) if len(margins) else 0
    spread = 1.4826 * np.maximum(spread, of_all)  # the standard deviation, where margins are normal
    return (margins < 0) & (margins < centre - FAR * spread)


class LabelIssues:
    """The labels of all photos, each that is known: those that look wrong first, both parts from the lowest score on.

    columns : of all labels the number of the dataset, the photo there, given and suggested label as positions in
        `names` (2j + v is value v of label j of several), score (sigmoid of the margin), position in REASONS
    """

    def __init__(self, folder: str, datasets: Mapping[str, PhotoDataset], margins: Sequence[Margins]):
        """folder : what paths are relative to; datasets : by split, training first; margins : of each of them"""
        self.folder, self.splits, self.datasets = folder, list(datasets), list(datasets.values())
        self.names, first, parts = self.datasets[0].classes, np.zeros(1, np.int64), []
        if self.datasets[0].labels.ndim > 1:
            first = 2 * np.arange(len(self.names))
            self.names = [f"{no}{name}" for name in self.names for no in ("no ", "")]
        for number, (margin, rivals) in enumerate(margins):
            known = np.isfinite(margin)
            given, suggested = ((v.astype(np.int64) + first)[known] for v in (self.datasets[number].labels, rivals))
            margin, photos = margin[known], np.nonzero(known)[0]
            level = (margin < 0) + 1 * find_outliers(margin, given)
            parts.append((np.full(len(photos), number), photos, given, suggested, expit(margin).round(6), level))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        order = np.lexsort((columns[4], columns[5] != LOOKS_WRONG))
        self.columns = [column[order].tolist() for column in columns]

    def found(self) -> str:
        """How many labels look wrong, in words."""
        return f"{self.columns[-1].count(LOOKS_WRONG) or 'none'} of {len(self.columns[-1]):,} look wrong"

    def write(self, output: str) -> None:
        """Write the table of all labels."""
        roots = [os.path.relpath(dataset.root, self.folder) for dataset in self.datasets]
        with atomic_write(os.path.join(output, LABEL_ISSUES), "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for number, photo, given, suggested, score, level in zip(*self.columns, strict=True):
                path = os.path.join(roots[number], self.datasets[number].name(photo)).replace(os.sep, "/")
                row = [self.splits[number], path, self.names[given], self.names[suggested], f"{score:.6f}"]
                writer.writerow([*map(one_line, row), REASONS[level], "", ""])

    def shown(self) -> Iterator[list[tuple[str, str, str]]]:
        """For the first SHOWN doubtful labels three photos, each with two lines: its own, and the typical ones of the
        given and the suggested label. They have the highest score in training ("" if there is none)."""
        typical = {given: photo for number, photo, given, *_ in zip(*self.columns, strict=True) if number == 0}
        for number, photo, given, suggested, score, level in islice(zip(*self.columns, strict=True), SHOWN):
            own = f"labelled {self.names[given]}", f"score {score:.2f}, {self.splits[number]}"
            likes = [(given, "a typical photo"), (suggested, "suggested: a typical photo")]
            if level:
                yield [(self.datasets[number].path(photo), *own)] + [
                    (self.datasets[0].path(typical[label]) if label in typical else "", self.names[label], line)
                    for label, line in likes
                ]
