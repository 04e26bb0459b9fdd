"""A signal is a wish to stop: it is noted here, and granted between two steps, where the run can be saved."""

import os
import signal

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")  # Ctrl-C; a scheduler's end; SLURM's warning before it. Windows lacks the last


class StopSignals:
    """While the block runs, `received` is the number of the first signal that came, or 0.

    A second Ctrl-C ends the process at once, with nothing half-written under its final name.
    """

    def __init__(self):
        self.received = 0
        self._before = {}

    def __enter__(self) -> "StopSignals":
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        if self.received and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = self.received or number
