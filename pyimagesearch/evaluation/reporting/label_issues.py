"""Which labels look wrong.

The margin of a label is the logit of the given class less the largest other: see models.objectives. Training photos are
judged by its mean over the epochs, the area under the margin (Pleiss et al. 2020, https://arxiv.org/abs/2001.10528): a
wrong label is learned late, by heart. The other splits are judged by the kept model, which was not trained on them
(confident learning's normalized margin, Northcutt et al. 2021, https://arxiv.org/abs/1911.00068).
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.runtime.errors import one_line
from pyimagesearch.runtime.files import atomic_write

LABEL_ISSUES = "label_issues.csv"
SHOWN = 20  # in the picture and on the page
FAR = 3.0  # standard deviations, estimated by the median absolute deviation, from which a low margin is an outlier
WRONG = "looks wrong: far below other photos of its class"
REASONS = ("", "doubtful: the suggested label is preferred", WRONG)  # by level
Margins = tuple[np.ndarray, np.ndarray]  # of each label, NaN if it is not known, and the rival: the value next to it


def predicted_margins(objective, probabilities: np.ndarray, labels: np.ndarray) -> Margins:
    """The margins of a split that was not trained on."""
    given = torch.from_numpy(probabilities).double().clamp(1e-30, 1 - 1e-15)
    logits = given.log() if labels.ndim == 1 else given.logit()
    margins, rivals = objective.margins(logits, torch.from_numpy(labels))
    return margins.numpy(), rivals.numpy()


def find_outliers(margins: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Where a margin is negative and FAR below the median of those with the same `given` label: bool.

    Both the deviation of that label's margins and of all must be exceeded, so a label of a few alike photos does not
    make outliers of them.
    """
    centre, spread = np.zeros(len(margins)), np.zeros(len(margins))
    for code in np.unique(given):
        of_label = given == code
        centre[of_label] = np.median(margins[of_label])
        spread[of_label] = np.median(np.abs(margins - centre)[of_label])
    spread = 1.4826 * np.maximum(spread, np.median(np.abs(margins - centre)))  # of a normal distribution: its sigma
    return (margins < 0) & (margins < centre - FAR * spread)


class LabelIssues:
    """The labels of all photos, one each or each that is known: arrays with an entry per label.

    Those that look wrong come first, then the others, both by their score.

    split, photo : its dataset by number, and the photo there
    given, suggested : what `names` has for it. Where photos may have several labels, name 2j + v is value v of label j
    score : the share of the given label, from 0 to 1, if the model divides between it and the suggested one
    level : position in REASONS
    """

    def __init__(self, folder: str, datasets: Mapping[str, PhotoDataset], margins: Sequence[Margins]):
        """folder : what paths are relative to; datasets : by split, training first; margins : of each of them"""
        self.splits, self.datasets = list(datasets), list(datasets.values())
        self.classes, self.several = self.datasets[0].classes, self.datasets[0].labels.ndim > 1
        self.names = [f"{no}{name}" for name in self.classes for no in ("no ", "")] if self.several else self.classes
        self.roots = [os.path.relpath(dataset.root, folder).replace(os.sep, "/") for dataset in self.datasets]
        self.folder = folder
        parts = [self._labels(number, *pair) for number, pair in enumerate(margins)]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        order = np.lexsort((columns[-2], -columns[-1]))
        self.split, self.photo, self.given, self.suggested, self.score, self.level = (c[order] for c in columns)

    def _labels(self, number: int, margins: np.ndarray, rivals: np.ndarray) -> tuple[np.ndarray, ...]:
        labels = self.datasets[number].labels
        first = 2 * np.arange(len(self.classes)) if self.several else 0
        known = np.isfinite(margins)
        photos = np.nonzero(known)[0]
        given, suggested = ((values.astype(np.int64) + first)[known] for values in (labels, rivals))
        margins = margins[known]
        level = (margins < 0) + find_outliers(margins, given).astype(np.int64)
        score = (1 / (1 + np.exp(-margins))).round(6)
        return np.full(len(photos), number), photos, given, suggested, score, level

    @property
    def wrong(self) -> int:
        """How many labels look wrong."""
        return int((self.level == 2).sum())

    def found(self) -> str:
        """How many labels look wrong, in words."""
        return f"{self.wrong:,} of {len(self.score):,} look wrong" if self.wrong else "none looks wrong"

    def path(self, row: int) -> str:
        number = self.split[row]
        return f"{self.roots[number]}/{self.datasets[number].name(self.photo[row]).replace(os.sep, '/')}"

    def shown(self) -> Iterator[list[tuple[str, str, str]]]:
        """Of each of the first SHOWN doubtful labels three photos, with two lines below each: its own, and a typical one
        of the given and of the suggested label, which is the training photo with the highest score."""
        trained = self.split == 0
        typical = dict(zip(self.given[trained].tolist(), self.photo[trained].tolist(), strict=True))
        for row in np.flatnonzero(self.level[:SHOWN]):
            codes, number = (int(self.given[row]), int(self.suggested[row])), self.split[row]
            labelled = f"labelled {self.names[codes[0]]}", f"score {self.score[row]:.2f}, {self.splits[number]}"
            yield [
                (self.datasets[number].path(self.photo[row]), *labelled),
                *(
                    (self.datasets[0].path(typical[code]) if code in typical else "", self.names[code], like)
                    for code, like in zip(codes, ("a typical photo", "suggested: a typical photo"), strict=True)
                ),
            ]

    def rows(self) -> Iterator[list[str]]:
        """The rows of the file, of text, below its head."""
        yield ["split", "path", *["label"] * self.several, "given", "suggested", "score", "reason", "drop", "new_label"]
        for row in range(len(self.score)):
            codes = self.given[row], self.suggested[row]
            named = [self.names[code] for code in codes]
            if self.several:
                named = [self.classes[codes[0] // 2], *(str(code % 2) for code in codes)]
            reason, score = REASONS[self.level[row]], f"{self.score[row]:.6f}"
            yield [self.splits[self.split[row]], self.path(row), *named, score, reason, "", ""]

    def write(self, output: str) -> None:
        with atomic_write(os.path.join(output, LABEL_ISSUES), "w") as file:
            csv.writer(file, lineterminator="\n").writerows([one_line(cell) for cell in row] for row in self.rows())
