"""One epoch of training, one pass of evaluation."""

import os
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pyimagesearch.create_dataloaders import micro_batches
from pyimagesearch.data.keyed_randomness import key_of
from pyimagesearch.data.transforms import to_device
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.models import parallel
from pyimagesearch.models.objectives import CROSS_ENTROPY
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import one_line
from pyimagesearch.runtime.files import write_text


class NonFiniteLoss(Exception):
    """The loss of a step is infinite or not a number.

    step : of the epoch, counted from 0
    """

    def __init__(self, step: int):
        super().__init__(f"the loss is not finite in step {step + 1}")
        self.step = step


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
        sums = distributed.all_reduce_sum(self._sums).tolist()
        bad = distributed.all_reduce_min(self._first_bad_step).item()
        if bad != float("inf"):
            raise NonFiniteLoss(int(bad))
        return Totals(sums[0], sums[1], int(sums[2]))


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
        with parallel.without_averaging(model) if part < parts else nullcontext():
            logits = model(some_images).float()
            loss_sum = objective.training_losses(logits, some_labels).sum()
            scaler.scale(loss_sum * (distributed.world_size() / total_weight)).backward()
        loss_sums.append(loss_sum.detach())
        rights.append(objective.correct(objective.probabilities(logits.detach()), some_labels).sum())
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
        total_weight = objective.weight_sum(loader.dataset.labels[sampler.batch(epoch, step)])
        parts = micro_batches(sampler, step, accumulate)
        loss_sum, correct = train_step(
            model, images, labels, total_weight, optimizer, scaler, objective, parts=parts, clip_norm=clip_norm
        )
        running.add(step, loss_sum, correct, len(labels))
        after_step(step + 1, running)
    return running.read()


def non_finite_message(error: NonFiniteLoss, epoch: int, loader: DataLoader, output: str) -> str:
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
