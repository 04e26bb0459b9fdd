"""TODO evaluation.evaluate"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from pyimagesearch.data.transforms import to_device
from pyimagesearch.models import parallel
from pyimagesearch.models.objectives import CROSS_ENTROPY
from pyimagesearch.runtime import distributed


@dataclass(frozen=True)
class Totals:
    """Sums over the photos of all ranks: loss, how right the answers were (see objectives), and 1; and their AUC."""

    loss: float
    correct: float
    count: int
    auc: float | None = None

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.count, 1)

    @property
    def accuracy(self) -> float:
        return self.correct / max(self.count, 1)

    def describe(self, split: str) -> str:
        """The line that is printed of an epoch."""
        auc = "" if self.auc is None else f", {split} ROC AUC: {self.auc:.4f}"
        return f"{split} loss: {self.mean_loss:.6f}, {split} accuracy: {self.accuracy:.4f}{auc}"


@torch.inference_mode()
def predict_split(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    after_batch: Callable[[int], None] = lambda rows: None,
    objective=CROSS_ENTROPY,
) -> tuple[np.ndarray, np.ndarray]:
    """The model's answer for every photo of `loader`'s dataset, on every rank, and the same for any number of ranks.

    Parameters
    ----------
    loader : without shuffling; its sampler says which photos are this rank's
    after_batch : called with the number of rows that all ranks have just done, as rank 0 counts them
    objective : what was learned, see objectives

    Returns
    -------
    probabilities : float32 of shape (photos, classes), in the order of the dataset
    losses : float64 of shape (photos,), each photo's loss by objective.losses

    Raises
    ------
    UserError : a photo of this rank cannot be read; the other ranks raise SystemExit
    """
    model = parallel.for_evaluation(model)
    model.eval()
    probabilities, losses = [], []
    with distributed.failing_together():
        for (images, labels), rows in zip(loader, loader.batch_sampler.turns, strict=False):
            images, labels = to_device(images, labels, device)
            logits = model(images).float()
            probabilities.append(objective.probabilities(logits))
            losses.append(objective.losses(logits, labels).double())
            after_batch(rows)
    indices = np.array(loader.batch_sampler.indices, np.int64)
    here = indices, *(torch.cat(parts).cpu().numpy() if parts else None for parts in (probabilities, losses))
    return _in_order(distributed.gather_objects(here), len(loader.dataset))


def _in_order(parts: list, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Every rank's (indices, probabilities, losses) as two arrays in the order of the dataset."""
    parts = [part for part in parts if len(part[0])]
    probabilities = np.empty((count, parts[0][1].shape[1]), np.float32)
    losses = np.empty(count, np.float64)
    for indices, some_probabilities, some_losses in parts:
        probabilities[indices], losses[indices] = some_probabilities, some_losses
    return probabilities, losses


def evaluate(
    model: nn.Module, loader: DataLoader, device: torch.device, after_batch=lambda rows: None, objective=CROSS_ENTROPY
) -> Totals:
    """Loss, right predictions and AUC over `loader`'s dataset; see predict."""
    probabilities, losses = predict_split(model, loader, device, after_batch, objective)
    labels = loader.dataset.labels
    right = objective.right(torch.from_numpy(probabilities), torch.from_numpy(labels))
    return Totals(float(losses.sum()), float(right.sum()), len(losses), objective.auc(probabilities, labels))
