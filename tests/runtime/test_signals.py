"""Signals that stop a run, and what is printed when nobody reads it any more."""

import os
import signal
import subprocess
import sys

import pytest
from helpers.photos import REPOSITORY

from pyimagesearch.runtime.signals import StopSignals, names_here

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGHUP nor SIGUSR1")


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_is_recorded_and_what_it_did_before_is_restored(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with StopSignals() as stop:
        os.kill(os.getpid(), number)
        assert stop.received == number
    assert signal.getsignal(number) == before


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert "SIGHUP" not in names_here()
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.received == 0
    finally:
        signal.signal(signal.SIGHUP, before)


PRINT_AFTER_SIGNAL = """
import os, signal, sys
from pyimagesearch.runtime.signals import StopSignals
with StopSignals():
    os.kill(os.getpid(), signal.SIGHUP)
    print("more than the buffer holds " * 10_000, flush=True)
    print("and a bar", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write("saved")
"""


def test_after_a_signal_a_closed_pipe_does_not_keep_a_run_from_saving(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", PRINT_AFTER_SIGNAL, str(tmp_path / "saved")]
    subprocess.run(command, cwd=REPOSITORY, stdout=writing, stderr=writing, check=False, timeout=60)
    os.close(writing)
    assert (tmp_path / "saved").read_text() == "saved"
