"""One epoch of training, one step, and what happens between two steps."""

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from pyimagesearch.data.keyed_randomness import key_of
from pyimagesearch.data.transforms import MixedLabels, to_device
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.models.objectives import CROSS_ENTROPY, of_labels, widest_float
from pyimagesearch.models.parallel import OutOfMemory, agreeing_on_memory, seed_step, without_averaging
from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import write_text
from pyimagesearch.runtime.signals import StopSignals
from pyimagesearch.training.run import Run

READ_EVERY_S = 0.5  # seconds between two readings of the sums for the bar: each waits for the device


def train_epoch(run: Run, loader, hooks) -> Totals:
    """Train on what is left of the epoch at which `run` stands; returns the sums of the whole epoch.

    hooks : StepHooks, called before each step with the epoch's steps so far, its running totals, and what the ranks
        agreed on, and after the last
    """
    sampler = loader.batch_sampler
    sampler.set_position(run.epoch, run.step)
    running = RunningTotals(run.device, run.totals, run.scaler)
    run.model.train()
    try:
        with hooks:
            step = run.step
            for (images, labels), agreed in distributed.in_step(loader, hooks.ask):
                hooks(step, running, *agreed)
                images, labels = sampler.mixed(*to_device(images, labels, run.device), run.epoch, step)
                weight_sum = run.objective.weight_sum(loader.dataset.labels[sampler.batch(run.epoch, step)])
                loss_sum, correct = survive_step(run, step, images, labels, weight_sum)
                running.add(step, loss_sum, correct, len(images))
                run.end_step(step)
                step += 1
            hooks(step, running)
            if run.epoch + 1 < run.last_epoch:
                with distributed.failing_together():
                    loader.begin()  # workers read the next epoch's first batches during validation
            return running.read()
    except NonFiniteLoss as error:
        with distributed.failing_together():
            raise UserError(non_finite_message(error.step, run.epoch, loader, run.output)) from None


def survive_step(run: Run, step: int, images: Tensor, labels, weight_sum: float) -> tuple[Tensor, Tensor]:
    """train_step; where a rank lacks memory the same step again in twice as many parts, and all later ones too."""
    args, sampler = run.args, run.sampler
    while True:
        parts = sampler.parts(step, args.accumulate)
        # dropout draws anew in each step, and the same in a resumed run
        seed_step(run.model, key_of(sampler.seed, run.epoch, step, distributed.rank()))
        try:
            return train_step(
                run.model, images, labels, weight_sum, run.optimizer, run.scaler, run.objective,
                parts=parts, clip_norm=args.clip_norm, timed=sampler.shares.timed,
                watch=partial(run.margins.add, run.epoch, step),
            )  # fmt: skip
        except OutOfMemory as error:
            reason = str(error)
        torch.cuda.empty_cache()  # now that the graph of the failed pass is gone
        if parts == math.ceil(sampler.count(step) / distributed.world_size()):  # of one photo each
            raise torch.OutOfMemoryError(reason)
        while sampler.parts(step, args.accumulate) == parts:
            args.accumulate *= 2
        args.parts_for_memory = args.accumulate
        run.config.update(vars(args))
        parts_are = "parts, each with its own statistics of BatchNorm that is not frozen"
        terminal.info(f"{terminal.doing}: out of memory; from here on in {args.accumulate} {parts_are}...")


def train_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | MixedLabels,
    weight_sum: float,
    optimizer,
    scaler,
    objective=CROSS_ENTROPY,
    *,
    parts: int = 1,
    clip_norm: float | None = None,
    timed: Callable[[int], AbstractContextManager] = nullcontext,
    watch: Callable[[Tensor, Tensor | MixedLabels], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the optimizer along the gradient of the mean loss over the global batch.

    DistributedDataParallel averages gradients over the ranks, so each rank's summed loss is multiplied by world_size /
    weight_sum: unequal and empty shares are right too.

    images, labels : this rank's share, on its device: float (rows, channels, height, width) and what `objective` takes
    weight_sum : the sum of the loss weights of the global batch; without class weights its number of photos
    parts : forward and backward passes in which the share is taken, the same on every rank. The gradient is their sum;
        BatchNorm that is not frozen takes its statistics of each
    timed : called with the rows of each forward pass for a block around it, in which no rank waits for another
    clip_norm : a longer gradient is scaled to this Euclidean norm, over all parameters and after the averaging
    watch : called with the logits of the share, before the step, and the labels; it must not wait for the device

    Returns the summed loss and the number of correct predictions of this share, on the device.
    """
    loss_sums, corrects, answers = [], [], []
    pairs = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
    with agreeing_on_memory(model, images):
        for part, (some_images, some_labels) in enumerate(pairs, start=1):
            with without_averaging(model) if part < parts else nullcontext():
                with timed(len(some_images)):
                    logits = model(some_images).float()
                loss_sum = of_labels(objective.training_losses, logits, some_labels).sum()
                scaler.scale(loss_sum * (distributed.world_size() / weight_sum)).backward()
            loss_sums.append(loss_sum.detach())
            answers.append(logits.detach())
            corrects.append(of_labels(objective.correct, objective.probabilities(answers[-1]), some_labels).sum())
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if watch is not None:
        watch(torch.cat(answers), labels)
    return torch.stack(loss_sums).sum(), torch.stack(corrects).sum()


class StepHooks:
    """Called before each step of an epoch and after its last, on every rank alike. As a block, it times the epoch."""

    def __init__(self, run: Run, stop: StopSignals):
        self.run, self.stop, self.sampler = run, stop, run.sampler

    def __enter__(self) -> "StepHooks":
        self.run.begin_epoch()
        first = min(self.run.step * self.sampler.global_batch, self.sampler.size)
        title = f"epoch {self.run.epoch + 1}/{self.run.last_epoch}"
        self.bar = terminal.make_bar(title, self.sampler.size, first=first)
        self.read_at = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()
        self.run.end_steps()

    def ask(self) -> tuple[int, bool]:
        """This rank's signal, and whether the bar is due; the ranks agree on both before each step."""
        return self.stop.received, distributed.is_main() and time.monotonic() - self.read_at > READ_EVERY_S

    def __call__(self, done: int, running: "RunningTotals", signal: int = 0, read: int = 0) -> None:
        """`done` steps of the epoch are done, with `running` sums; the ranks agreed on `signal` and `read`."""
        run, every = self.run, self.run.args.checkpoint_every
        terminal.doing = f"epoch {run.epoch + 1}/{run.last_epoch}, step {done + 1}"
        self.bar.update(min(done * self.sampler.global_batch, self.sampler.size) - self.bar.n)
        begun = done > run.step
        save = begun and every and done % every == 0 and done < self.sampler.steps
        log = begun and run.log.due(done)
        if not (signal or read or save or log):
            return
        totals = running.read()
        self.read_at = time.monotonic()
        self.bar.set_postfix_str(f"loss {totals.mean_loss:.4f}, accuracy {totals.accuracy:.4f}", refresh=False)
        if log:
            run.log.add_step(run.epoch, done, totals)
        if signal or save:
            run.save(done, totals)
        if signal:
            self.bar.close()
            run.stop(signal)


class NonFiniteLoss(Exception):
    """The loss of a step, counted from 0 in its epoch, or its gradient is infinite or not a number."""

    def __init__(self, step: int):
        super().__init__(f"the loss is not finite in step {step + 1}")
        self.step = step


class RunningTotals:
    """The sums of an epoch so far. They stay on the device: adding to them waits for nothing, reading them does."""

    def __init__(self, device: torch.device, begin: Totals | None = None, scaler: torch.amp.GradScaler | None = None):
        """begin : the sums of the epoch's steps before this process, in a resumed run"""
        begin = begin if begin is not None and distributed.is_main() else Totals(0, 0, 0)
        sums = [begin.loss, begin.correct, begin.count]
        self._sums = torch.tensor(sums, dtype=widest_float(device), device=device)
        self._first_bad_step = torch.full((), torch.inf, device=device)
        self._scaler = scaler

    def add(self, step: int, loss_sum: Tensor, correct: Tensor, count: int) -> None:
        finite = loss_sum.isfinite()
        sums = torch.stack([loss_sum.to(self._sums), correct.to(self._sums), torch.full_like(self._sums[0], count)])
        self._sums += torch.where(finite, sums, 0)  # what is not finite counts neither as loss nor as photos
        if self._scaler is not None and self._scaler.is_enabled():
            # The scaler skips a step whose gradient overflows in float16, and halves its scale, which begins at 2**16
            # and doubles after 2000 good steps. Below 1 it is not the scale that overflows. No other way to its scale
            # is public and does not wait for the device.
            finite = self._scaler.scale(torch.ones_like(loss_sum)) >= 1
        bad = torch.where(finite, torch.inf, float(step))
        self._first_bad_step = torch.minimum(self._first_bad_step, bad)

    def read(self) -> Totals:
        """The sums over all ranks; every rank calls this at the same step.

        Raises NonFiniteLoss on every rank, for the first step whose loss is not finite on any of them.
        """
        sums = distributed.all_reduce_sum(self._sums).tolist()
        bad = distributed.all_reduce_min(self._first_bad_step).item()
        if bad != float("inf"):
            raise NonFiniteLoss(int(bad))
        return Totals(sums[0], sums[1], int(sums[2]))


def non_finite_message(step: int, epoch: int, loader, output: str) -> str:
    """The line about a loss that is not finite; rank 0 lists the batch's photos in a file in `output`."""
    paths = [loader.dataset.path(index) for index in loader.batch_sampler.batch(epoch, step)]
    listing = os.path.join(output, "non_finite_batch.txt")
    if distributed.is_main():
        write_text(listing, "".join(f"{one_line(path)}\n" for path in paths))
    return (
        f"the loss or its gradient is not finite in epoch {epoch + 1}, step {step + 1}, on a batch of {len(paths)} "
        f"photos ({', '.join(paths[:3])}; all of them in {listing}); try a lower --lr or --amp off, or look at the "
        "photos"
    )
