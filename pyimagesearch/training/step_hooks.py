"""What happens between two steps: the bar moves, a log entry or a checkpoint is due, a signal ends the run."""

import time

from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.signals import StopSignals
from pyimagesearch.training.loop import RunningTotals
from pyimagesearch.training.run import Run

READ_EVERY_S = 0.5  # seconds between two readings of the sums for the bar: each waits for the device


class StepHooks:
    """Called after each step of an epoch; every rank does the same at the same step. As a block, it times the epoch."""

    def __init__(self, run: Run, stop: StopSignals):
        self.run, self.stop, self.sampler = run, stop, run.sampler

    def __enter__(self) -> "StepHooks":
        self.run.begin_epoch()
        first = min(self.run.step * self.sampler.global_batch, self.sampler.size)
        title = f"epoch {self.run.epoch + 1}/{self.run.args.epochs}"
        self.bar = terminal.make_bar(title, self.sampler.size, first=first)
        self.read_at = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()
        self.run.end_steps()

    def __call__(self, done: int, running: RunningTotals) -> None:
        """`done` steps of the epoch are done, with `running` sums."""
        run, every = self.run, self.run.args.checkpoint_every
        terminal.doing = f"epoch {run.epoch + 1}/{run.args.epochs}, step {done + 1}"
        read_due = distributed.is_main() and time.monotonic() - self.read_at > READ_EVERY_S
        signal, read = distributed.all_reduce_max(self.stop.received, read_due)
        save = every and done % every == 0 and done < self.sampler.steps
        self.bar.update(min(done * self.sampler.global_batch, self.sampler.size) - self.bar.n)
        log = run.log.due(done)
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
