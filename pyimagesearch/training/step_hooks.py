"""What happens between two steps: the bar moves, a checkpoint is due, a signal is granted."""

import time
from collections.abc import Callable

from pyimagesearch.create_dataloaders import GlobalBatchSampler
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.signals import StopSignals
from pyimagesearch.training.loop import RunningTotals
from pyimagesearch.training.tensorboard import TensorBoardLog

READ_EVERY_S = 0.5


class Stopped(Exception):
    """A signal was granted: `number` is the signal's, and the run is saved."""

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {number}")
        self.number = number


class StepHooks:
    """Called after each step of an epoch; every rank does the same at the same step.

    Parameters
    ----------
    title : the bar's, "epoch 1/20"
    sampler : at the epoch and the step where it begins
    signals : what this rank received
    checkpoint_every : steps; None for no checkpoint within the epoch
    save : saves the run, given the steps of this epoch that are done and the sums so far
    log : told of some steps

    Attributes
    ----------
    photos : what is left of the epoch
    """

    def __init__(
        self,
        title: str,
        sampler: GlobalBatchSampler,
        signals: StopSignals,
        checkpoint_every: int | None,
        save: Callable[[int, Totals], None],
        log: TensorBoardLog,
    ):
        self.sampler, self.signals, self.checkpoint_every, self.save = sampler, signals, checkpoint_every, save
        self.log, self.epoch = log, sampler.epoch
        self.bar = terminal.make_bar(title, sampler.size, first=min(sampler.step * sampler.global_batch, sampler.size))
        self.photos = self.bar.total - self.bar.n
        self.read_at = time.monotonic()

    def __enter__(self) -> "StepHooks":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def __call__(self, done: int, running: RunningTotals) -> None:
        read_due = distributed.is_main() and time.monotonic() - self.read_at > READ_EVERY_S
        signal, read = distributed.all_reduce_max(self.signals.received, read_due)
        save = self.checkpoint_every and done % self.checkpoint_every == 0 and done < self.sampler.steps
        photos = min(done * self.sampler.global_batch, self.sampler.size)
        self.bar.update(photos - self.bar.n)
        log = self.log.due(done)
        if not (signal or read or save or log):
            return
        totals = running.read()
        self.read_at = time.monotonic()
        self.bar.set_postfix_str(f"loss {totals.mean_loss:.4f}, accuracy {totals.accuracy:.4f}", refresh=False)
        if log:
            self.log.add_step(self.epoch, done, totals)
        if signal or save:
            self.save(done, totals)
        if signal:
            raise Stopped(signal)

    def stop_if_asked(self) -> None:
        """Raise Stopped if any rank has received a signal. The run must be saved."""
        if signal := distributed.all_reduce_max(self.signals.received)[0]:
            raise Stopped(signal)
