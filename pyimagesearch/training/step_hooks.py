"""What happens between two steps: the bar moves, a log entry or a checkpoint is due, a signal ends the run."""

import time

from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.signals import StopSignals
from pyimagesearch.training.loop import RunningTotals
from pyimagesearch.training.run import Run

READ_EVERY_S = 0.5  # seconds between two readings of the sums for the bar: each waits for the device


class StepHooks:
    """Called before each step of an epoch and after its last, on every rank alike. As a block, it times the epoch."""

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

    def ask(self) -> tuple[int, bool]:
        """This rank's signal, and whether the bar is due; the ranks agree on both before each step."""
        return self.stop.received, distributed.is_main() and time.monotonic() - self.read_at > READ_EVERY_S

    def __call__(self, done: int, running: RunningTotals, signal: int = 0, read: int = 0) -> None:
        """`done` steps of the epoch are done, with `running` sums; the ranks agreed on `signal` and `read`."""
        run, every = self.run, self.run.args.checkpoint_every
        terminal.doing = f"epoch {run.epoch + 1}/{run.args.epochs}, step {done + 1}"
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
