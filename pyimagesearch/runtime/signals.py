"""Records SIGHUP, SIGINT, SIGTERM and SIGUSR1. Training stops at the next step, after a checkpoint."""

import os
import signal

from pyimagesearch.runtime import terminal

# a closed terminal; Ctrl-C; a scheduler's end; SLURM's warning before it. Windows has SIGINT and SIGTERM
NAMES = ("SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1")


def names_here() -> list[str]:
    """The NAMES that stop a run on this system; not SIGHUP where nohup ignores it."""
    ignored = "SIGHUP" if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else ""
    return [name for name in NAMES if hasattr(signal, name) and name != ignored]


class StopSignals:
    """Within the block, `received` is the number of the first signal received, or 0.

    A second Ctrl-C ends the process at once. Files are written atomically, so none is left half-written.
    """

    received = 0

    def __enter__(self) -> "StopSignals":
        numbers = [getattr(signal, name) for name in names_here()]
        self._handlers_before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        if self.received and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = self.received or number
        terminal.drop_closed_output()  # printing must not keep the run from saving
