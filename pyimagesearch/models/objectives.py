"""What a model is trained for: its loss, its probabilities, what is right. A class a task, of the same methods."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pyimagesearch.runtime.errors import UserError


class CrossEntropy:
    """One class a photo, the task "single-label". Labels are int64 of shape (rows,), logits float (rows, classes).

    Parameters
    ----------
    label_smoothing : the share of each photo's target that is spread over all classes, from 0 to below 1
    class_weights : float array of shape (classes,); how much a photo of each class counts in training. None: all 1
    device : where the logits are
    """

    task = "single-label"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: np.ndarray | None = None,
        device: torch.device | None = None,
    ):
        self.label_smoothing, self.class_weights = label_smoothing, class_weights
        self._weight = None
        if class_weights is not None:
            self._weight = torch.tensor(class_weights, dtype=torch.float32, device=device)

    def training_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Each photo's loss in training, float of shape (rows,), labels smoothed, already times its weight."""
        return F.cross_entropy(
            logits, labels, weight=self._weight, label_smoothing=self.label_smoothing, reduction="none"
        )

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Each photo's loss in evaluation, float of shape (rows,): plain cross entropy, not smoothed, not weighted."""
        return F.cross_entropy(logits, labels, reduction="none")

    def total_weight(self, labels: np.ndarray) -> float:
        """What the sum of these photos' training losses is divided by to give their mean, as torch defines it.

        labels : of a whole global batch, from the dataset; every rank computes the same without asking the others
        """
        return float(len(labels) if self.class_weights is None else self.class_weights[labels].sum())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Float of the shape of `logits`; each row sums to 1."""
        return logits.softmax(1)

    def correct(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """How right each answer is, 0 to 1, of shape (rows,): here bool, whether the likeliest class is the label."""
        return probabilities.argmax(1) == labels


class BinaryCrossEntropy:
    """A yes or no for each of several labels a photo, as BCEWithLogitsLoss: the task "multi-label".

    Labels are 0 and 1, both they and logits float of shape (rows, classes). A photo's loss is the mean of its labels'.
    """

    task = "multi-label"

    def training_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Each photo's loss, float of shape (rows,)."""
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)

    losses = training_losses

    def total_weight(self, labels: np.ndarray) -> float:
        """The number of photos: see CrossEntropy."""
        return float(len(labels))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Float of the shape of `logits`, each between 0 and 1."""
        return logits.sigmoid()

    def correct(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """The share of a photo's labels that are right when one half decides, float64 of shape (rows,)."""
        return ((probabilities >= 0.5) == (labels >= 0.5)).double().mean(1)


CROSS_ENTROPY = CrossEntropy()


def objective_of(facts: dict) -> CrossEntropy | BinaryCrossEntropy:
    """What a trained model learned, see run.read_facts."""
    return BinaryCrossEntropy() if facts.get("task") == BinaryCrossEntropy.task else CROSS_ENTROPY


def build_objective(
    labels: np.ndarray, classes: int, *, label_smoothing: float, balanced: bool, device: torch.device
) -> CrossEntropy | BinaryCrossEntropy:
    """The objective for a dataset of these labels.

    Parameters
    ----------
    labels : of the training photos: int64 of shape (photos,), or float32 of shape (photos, classes)
    balanced : whether all classes count alike

    Raises
    ------
    UserError : label smoothing or class weights are asked for where a photo may have several labels
    """
    if labels.ndim == 1:
        weights = balanced_weights(labels, classes) if balanced else None
        return CrossEntropy(label_smoothing=label_smoothing, class_weights=weights, device=device)
    if label_smoothing or balanced:
        flag = "--label-smoothing" if label_smoothing else "--class-weights"
        raise UserError(f"{flag} is for photos of one class each, and these may have several labels; leave it out")
    return BinaryCrossEntropy()


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights that let all classes count alike, float64 of shape (classes,): photos / (classes x photos of the class).

    As scikit-learn's class_weight="balanced". Over `labels` the weights' mean is 1, so a weighted epoch's loss is
    comparable with an unweighted one's.
    """
    return len(labels) / (classes * np.bincount(labels, minlength=classes))
