"""Records SIGINT, SIGTERM and SIGUSR1. Training stops at the next step, after a checkpoint."""

import os
import signal

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")  # Ctrl-C; a scheduler's end; SLURM's warning before it, not on Windows


class StopSignals:
    """Within the block, `received` is the number of the first signal received, or 0.

    A second Ctrl-C ends the process at once. Files are written atomically, so none is left half-written.
    """

    received = 0

    def __enter__(self) -> "StopSignals":
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        self._handlers_before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        if self.received and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = self.received or number
