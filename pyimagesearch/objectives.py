"""What a model is trained for: its loss, its probabilities, what is right. A class a task, of the same methods."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class CrossEntropy:
    """One class a photo. Labels are int64 of shape (rows,), logits float of shape (rows, classes).

    Parameters
    ----------
    label_smoothing : the share of each photo's target that is spread over all classes, from 0 to below 1
    class_weights : float array of shape (classes,); how much a photo of each class counts in training. None: all 1
    device : where the logits are
    """

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

    def right(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """How right each answer is, 0 to 1, of shape (rows,): here bool, whether the likeliest class is the label."""
        return probabilities.argmax(1) == labels


CROSS_ENTROPY = CrossEntropy()


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights that let all classes count alike, float64 of shape (classes,): photos / (classes x photos of the class).

    As scikit-learn's class_weight="balanced". Over `labels` the weights' mean is 1, so a weighted epoch's loss is
    comparable with an unweighted one's.
    """
    return len(labels) / (classes * np.bincount(labels, minlength=classes))
