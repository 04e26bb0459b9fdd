"""A whole split: the prediction for each of its photos, and the totals of loss and accuracy."""

import math
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from pyimagesearch.data.transforms import to_device
from pyimagesearch.evaluation.metrics import macro_auc
from pyimagesearch.models import parallel
from pyimagesearch.models.objectives import CROSS_ENTROPY
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import is_out_of_memory
from pyimagesearch.runtime.terminal import info, make_bar


@dataclass(frozen=True)
class Totals:
    """Sums over the photos of all ranks: their losses, how correct each prediction is (0 to 1), and their number.

    auc : the macro ROC AUC where photos may have several labels
    """

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

    def summary(self, split: str) -> str:
        """The line that is printed after an epoch."""
        auc = "" if self.auc is None else f", {split} ROC AUC: {self.auc:.4f}"
        return f"{split} loss: {self.mean_loss:.6f}, {split} accuracy: {self.accuracy:.4f}{auc}"


def forward_batch(model: nn.Module, images: Tensor, objective, *, mirrored: bool = False) -> tuple[Tensor, Tensor]:
    """The logits and probabilities of a batch, in parts where memory is short.

    mirrored : probabilities are means over a photo and its mirror image
    """
    rows = getattr(model, "rows_that_fit", len(images))
    try:
        logits = torch.cat([model(part).float() for part in images.split(max(rows, 1))])
        probabilities = objective.probabilities(logits)
        if mirrored:
            flipped = [model(part.flip(-1)).float() for part in images.split(max(rows, 1))]
            probabilities = (probabilities + objective.probabilities(torch.cat(flipped))) / 2
        return logits, probabilities
    except (RuntimeError, MemoryError) as error:
        if rows < 2 or isinstance(model, FSDPModule) or not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    model.rows_that_fit = rows = math.ceil(rows / 2)  # type: ignore[assignment]
    info(f"out of memory; from here on {rows} photos at a time are evaluated...")
    return forward_batch(model, images, objective, mirrored=mirrored)


@torch.inference_mode()
def predict_split(
    model: nn.Module, loader, objective=CROSS_ENTROPY, *, as_logits: bool = False, mirrored: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities, float32 (photos, classes), and losses, float64 (photos,), of all photos of `loader`'s dataset.

    Both are in the order of the dataset, complete on every rank, and the same for any number of ranks.

    loader : of get_dataloader, not shuffled
    as_logits : return the logits in place of the probabilities; mirrored : see forward_batch
    """
    model = parallel.for_evaluation(model)
    model.eval()
    device = next(model.parameters()).device
    answers, losses = [], []
    with make_bar(loader.dataset.title, len(loader.dataset)) as bar:
        turns = zip_longest(loader, loader.batch_sampler.turns)  # in the last one, some ranks have no batch
        for (batch, rows), _ in distributed.in_step(turns, tuple):
            if batch is None and not isinstance(model, FSDPModule):  # which gathers parameters from all ranks
                continue
            images, labels = loader.dataset.collate([]) if batch is None else batch
            images, labels = to_device(images, labels, device)
            logits, probabilities = forward_batch(model, images, objective, mirrored=mirrored)
            answers.append(logits if as_logits else probabilities)
            losses.append(objective.losses(logits, labels))
            bar.update(rows)
    mine = [torch.cat(parts).cpu().numpy() for parts in (answers, losses) if parts]  # a rank may have no batch
    mine.insert(0, np.array(loader.batch_sampler.indices, np.int64))
    everyones = [part for part in distributed.gather_objects(mine) if len(part[0])]
    indices, *gathered = (np.concatenate(parts) for parts in zip(*everyones, strict=True))
    order = indices.argsort()
    return gathered[0][order], gathered[1][order].astype(np.float64)


def evaluate(model: nn.Module, loader, objective=CROSS_ENTROPY) -> Totals:
    """The totals over `loader`'s dataset, the same on every rank; see predict_split."""
    probabilities, losses = predict_split(model, loader, objective)
    labels = loader.dataset.labels
    correct = objective.correct(torch.from_numpy(probabilities), torch.from_numpy(labels))
    auc = macro_auc(labels, probabilities) if labels.ndim > 1 else None
    return Totals(float(losses.sum()), float(correct.sum()), len(losses), auc)
