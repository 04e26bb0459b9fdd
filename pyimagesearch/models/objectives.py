"""What a model learns: its loss, its probabilities, what counts as correct. One class per task, with equal methods."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.data.labels_csv import UNKNOWN
from pyimagesearch.data.transforms import MixedLabels
from pyimagesearch.runtime.distributed import failing_together
from pyimagesearch.runtime.errors import UserError

WITHOUT_FLOAT64 = ("mps",)  # Apple's GPUs


def widest_float(device: torch.device) -> torch.dtype:
    """The dtype for sums on `device`."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


class CrossEntropy:
    """Each photo has one class: labels int64 of shape (rows,), logits float of shape (rows, classes).

    label_smoothing : the share of each photo's target that is spread over all classes, from 0 to below 1
    class_weights : float of shape (classes,), each photo's weight in training by its class; None: all 1
    temperature : what divides the logits before they become probabilities; losses are of the logits as they are
    """

    task = "single-label"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: np.ndarray | None = None,
        device: torch.device | None = None,
        temperature: float = 1.0,
    ):
        self.label_smoothing, self.class_weights, self.temperature = label_smoothing, class_weights, temperature
        self._weight = None
        if class_weights is not None:
            self._weight = torch.tensor(class_weights, dtype=torch.float32, device=device)

    def training_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each photo in training, shape (rows,): labels smoothed, multiplied by the photo's weight."""
        return F.cross_entropy(
            logits, labels, weight=self._weight, label_smoothing=self.label_smoothing, reduction="none"
        )

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each photo in evaluation, shape (rows,): plain cross entropy."""
        return F.cross_entropy(logits, labels, reduction="none")

    def weight_sum(self, labels: np.ndarray) -> float:
        """What the sum of the training losses is divided by to give their mean, as torch defines it.

        labels : of a whole global batch, so every rank computes the same without communication
        """
        return float(len(labels) if self.class_weights is None else self.class_weights[labels].sum())

    def probabilities(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).softmax(1)

    def correct(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Whether the most probable class is the label: bool, shape (rows,)."""
        return probabilities.argmax(1) == labels

    def margins(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The logit of each photo's label less the largest other, and the class of that other; both (rows,)."""
        given = labels[:, None]
        largest, rivals = logits.scatter(1, given, -torch.inf).max(1)
        return logits.gather(1, given)[:, 0] - largest, rivals


class BinaryCrossEntropy:
    """Each photo has any number of labels: labels 0, 1 or UNKNOWN and logits, both float of shape (rows, classes).

    A photo's loss is the mean over its known labels.

    temperature : as CrossEntropy's, or one for each label
    """

    task = "multi-label"

    def __init__(self, temperature: float | list[float] = 1.0):
        self.temperature = temperature

    def training_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each photo, shape (rows,)."""
        return _mean_of_known(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), labels)

    losses = training_losses

    def weight_sum(self, labels: np.ndarray) -> float:
        return float(len(labels))

    def probabilities(self, logits: Tensor) -> Tensor:
        return (logits / torch.tensor(self.temperature, dtype=logits.dtype, device=logits.device)).sigmoid()

    def correct(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """The share of a photo's known labels that are correct at 0.5: see widest_float, shape (rows,)."""
        correct = (probabilities >= 0.5) == (labels >= 0.5)
        return _mean_of_known(correct.to(widest_float(labels.device)), labels)

    def margins(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The logit in favour of each label's value, NaN where that is not known, and the other value: as `labels`."""
        signed = torch.where(labels == 1, logits, -logits)
        return signed.where(labels != UNKNOWN, torch.nan), (1 - labels).long()


def _mean_of_known(values: Tensor, labels: Tensor) -> Tensor:
    """The mean of each row over its known labels; exactly `values.mean(1)` where all are known."""
    known = labels != UNKNOWN
    return values.where(known, 0).mean(1) * (labels.shape[1] / known.sum(1, dtype=values.dtype).clamp(min=1))


def of_labels(values: Callable, predicted: Tensor, labels) -> Tensor:
    """values(predicted, labels), losses or what is correct, shape (rows,); of MixedLabels the mean over both by share.

    What one of a pair lacks of its own label the other has, so the sum of the loss weights over a global batch is the
    same as without mixing, and weight_sum is right.
    """
    if not isinstance(labels, MixedLabels):
        return values(predicted, labels)
    own, partner = values(predicted, labels.own), values(predicted, labels.partner)
    return labels.share * own + (1 - labels.share) * partner


CROSS_ENTROPY = CrossEntropy()


def objective_of(card: dict) -> CrossEntropy | BinaryCrossEntropy:
    """The objective of a trained model, from its model card."""
    kind = BinaryCrossEntropy if card.get("task") == BinaryCrossEntropy.task else CrossEntropy
    return kind(temperature=card.get("temperature", 1.0))  # cards before calibration have none


def build_objective(
    dataset: PhotoDataset, *, label_smoothing: float, balanced: bool, device: torch.device
) -> CrossEntropy | BinaryCrossEntropy:
    """The objective for training on `dataset`; `balanced` gives all classes the same weight."""
    if dataset.labels.ndim == 1:
        weights = balanced_weights(dataset.labels, len(dataset.classes)) if balanced else None
        return CrossEntropy(label_smoothing=label_smoothing, class_weights=weights, device=device)
    with failing_together():
        if label_smoothing or balanced:
            flag = "--label-smoothing" if label_smoothing else "--class-weights"
            raise UserError(f"{flag} is for photos of one class each, and these may have several labels; leave it out")
    return BinaryCrossEntropy()


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """float64 of shape (classes,), inverse to the number of photos of each class; the mean over the photos is 1."""
    from sklearn.utils.class_weight import compute_class_weight  # late: it takes a second, and inference needs none

    return compute_class_weight("balanced", classes=np.arange(classes), y=labels)
