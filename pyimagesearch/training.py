"""One epoch of training, one pass of evaluation."""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pyimagesearch import distributed
from pyimagesearch.augmentation import key_of, normalize
from pyimagesearch.backbones import fewest_positions
from pyimagesearch.create_dataloaders import GlobalBatchSampler
from pyimagesearch.errors import UserError, one_line
from pyimagesearch.files import write_text
from pyimagesearch.food_classifier import freeze_batchnorm
from pyimagesearch.objectives import CROSS_ENTROPY


class NonFiniteLoss(Exception):
    """The loss of a step is infinite or not a number.

    step : of the epoch, counted from 0
    """

    def __init__(self, step: int):
        super().__init__(f"the loss is not finite in step {step + 1}")
        self.step = step


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


class RunningTotals:
    """The sums of an epoch so far. They stay on the device: adding to them waits for nothing, reading them does."""

    def __init__(self, device: torch.device, begin: Totals | None = None):
        """begin : what was summed before this process came in, of an epoch that is resumed"""
        begin = begin if begin is not None and distributed.is_main() else Totals(0, 0, 0)
        self._sums = torch.tensor([begin.loss, begin.correct, begin.count], dtype=torch.float64, device=device)
        self._first_bad_step = torch.full((), torch.inf, dtype=torch.float64, device=device)

    def add(self, step: int, loss_sum: Tensor, correct: Tensor, count: int) -> None:
        self._sums += torch.stack([loss_sum.double(), correct.double(), torch.full_like(self._sums[0], count)])
        bad = torch.where(loss_sum.isfinite(), torch.inf, float(step))
        self._first_bad_step = torch.minimum(self._first_bad_step, bad)

    def read(self) -> Totals:
        """The sums over all ranks; every rank must call this at the same step.

        Raises
        ------
        NonFiniteLoss : of the first step that had one on any rank, on all of them
        """
        sums = distributed.sum_over_ranks(self._sums).tolist()
        bad = -distributed.max_over_ranks(-self._first_bad_step).item()
        if bad != float("inf"):
            raise NonFiniteLoss(int(bad))
        return Totals(sums[0], sums[1], int(sums[2]))


def prepare_batchnorm(
    model: nn.Module, launch: distributed.Launch, *, freeze: bool, synchronise: bool, rows: int, image_size: int
) -> nn.Module:
    """`model` with its BatchNorm, where it has any, frozen, synchronised over the ranks, or as it is.

    Parameters
    ----------
    rows : the fewest that a rank's model sees at a time, as fewest_rows tells
    image_size : pixels

    Raises
    ------
    UserError : images too small for `model`; `freeze` and `synchronise` together, or `synchronise` under
        nn.DataParallel; or a share too small for statistics of its own
    """
    positions = fewest_positions(model, image_size)
    if positions is None:
        return model
    if freeze and synchronise:
        raise UserError(
            "--sync-bn would do nothing: BatchNorm is frozen, which is what pretrained weights are given unless you "
            "say --no-freeze-bn; leave one of the two out"
        )
    if freeze:
        return freeze_batchnorm(model)
    if synchronise:
        return distributed.synchronise_batchnorm(model, launch)
    if rows * positions < 2:
        raise UserError(
            f"the last batch of an epoch leaves a process {rows} photo{'' if rows == 1 else 's'} at a time, of which "
            "BatchNorm cannot take statistics; choose another batch size, or --sync-bn or --freeze-bn"
        )
    return model


def micro_batches(sampler: GlobalBatchSampler, step: int, accumulate: int) -> int:
    """The parts in which each rank takes its share of global batch `step`; as many on every rank.

    A whole global batch has `accumulate` parts, the short last one as many of that size as it fills. No part is empty
    on all ranks: BatchNorm has no statistics of nothing.
    """
    count, size = sampler.count(step), math.ceil(sampler.global_batch / accumulate)
    return min(math.ceil(count / size), math.ceil(count / distributed.world_size()))


def fewest_rows(sampler: GlobalBatchSampler, accumulate: int) -> int:
    """The rows of the smallest part of a share that any rank's model sees at a time."""
    return min(
        sampler.count(step) // distributed.world_size() // micro_batches(sampler, step, accumulate)
        for step in (0, sampler.steps - 1)
    )


def train_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    total_weight: float,
    optimizer,
    scaler,
    objective=CROSS_ENTROPY,
    *,
    parts: int = 1,
    clip_norm: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the optimizer along the gradient of the mean loss over the global batch.

    Parameters
    ----------
    model : as distributed.wrap made it; with DistributedDataParallel, which averages gradients over the ranks, each
        rank weighs its summed loss by world_size / total_weight, so unequal and empty shares are right too
    images, labels : this rank's share, on the device: float (rows, 3, height, width) and what `objective` takes
    total_weight : what the sum of all ranks' losses is divided by, see objectives; without class weights the number of
        their rows
    objective : what is learned, see objectives
    parts : forward and backward passes in which the share is taken, the same on every rank; the gradient is their sum,
        while BatchNorm that is not frozen takes its statistics of each
    clip_norm : a longer gradient is scaled down to this Euclidean norm, over all parameters and after the averaging,
        so it is the same on all ranks; None leaves it

    Returns
    -------
    summed loss and sum of right predictions of this share, as tensors on the device
    """
    loss_sums, rights = [], []
    pairs = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
    for part, (some_images, some_labels) in enumerate(pairs, start=1):
        with distributed.without_averaging(model) if part < parts else nullcontext():
            logits = model(some_images).float()
            loss_sum = objective.training_losses(logits, some_labels).sum()
            scaler.scale(loss_sum * (distributed.world_size() / total_weight)).backward()
        loss_sums.append(loss_sum.detach())
        rights.append(objective.right(objective.probabilities(logits.detach()), some_labels).sum())
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return torch.stack(loss_sums).sum(), torch.stack(rights).sum()


def train_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer,
    scaler,
    device: torch.device,
    *,
    objective=CROSS_ENTROPY,
    accumulate: int = 1,
    clip_norm: float | None = None,
    begin: Totals | None = None,
    after_step: Callable[[int, RunningTotals], None] = lambda steps, running: None,
) -> Totals:
    """Train on what is left of the epoch at which `loader`'s sampler stands.

    Parameters
    ----------
    objective : what is learned, see objectives
    accumulate : parts of a global batch, see micro_batches
    clip_norm : see train_step
    begin : the sums of the epoch's earlier steps, where they were made before
    after_step : called after each step with the epoch's steps that are done and its sums, not read yet

    Raises
    ------
    NonFiniteLoss : of the first step that had one, at the next reading of the sums
    UserError : a photo of this rank cannot be read; the other ranks raise SystemExit
    """
    sampler = loader.batch_sampler
    epoch, first = sampler.epoch, sampler.step
    running = RunningTotals(device, begin)
    model.train()
    for step, (images, labels) in enumerate(distributed.in_step(loader), start=first):
        # dropout draws anew in each step, and alike in a run that was resumed
        torch.manual_seed(key_of(sampler.seed, epoch, step, distributed.rank()))
        images, labels = to_device(images, labels, device)
        total_weight = objective.total_weight(loader.dataset.labels[sampler.batch(epoch, step)])
        parts = micro_batches(sampler, step, accumulate)
        loss_sum, correct = train_step(
            model, images, labels, total_weight, optimizer, scaler, objective, parts=parts, clip_norm=clip_norm
        )
        running.add(step, loss_sum, correct, len(labels))
        after_step(step + 1, running)
    return running.read()


@torch.inference_mode()
def predict(
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
    model = distributed.for_evaluation(model)
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
    probabilities, losses = predict(model, loader, device, after_batch, objective)
    labels = loader.dataset.labels
    right = objective.right(torch.from_numpy(probabilities), torch.from_numpy(labels))
    return Totals(float(losses.sum()), float(right.sum()), len(losses), objective.auc(probabilities, labels))


def to_device(images: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both on `device`, without waiting for the copy, images in the channels_last layout that convolutions like.

    images : pixels of dtype uint8, which travel as such and are normalised on the device; or float, normalised already
    """
    images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
    if images.dtype == torch.uint8:
        images = normalize(images)
    return images, labels.to(device, non_blocking=True)


def explain(error: NonFiniteLoss, epoch: int, loader: DataLoader, output: str) -> str:
    """The line that tells a person of a loss that is not finite; rank 0 lists the batch's photos in a file.

    epoch : counted from 0; output : the folder of that file
    """
    paths = [loader.dataset.path(index) for index in loader.batch_sampler.batch(epoch, error.step)]
    listing = os.path.join(output, "non_finite_batch.txt")
    if distributed.is_main():
        write_text(listing, "".join(f"{one_line(path)}\n" for path in paths))
    return (
        f"the loss is not finite in epoch {epoch + 1}, step {error.step + 1}, on a batch of {len(paths)} photos "
        f"({', '.join(paths[:3])}; all of them in {listing}); try a lower --lr or --amp off, or look at the photos"
    )
