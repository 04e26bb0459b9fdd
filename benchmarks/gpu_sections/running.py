"""Runs one section in a process of its own, which ends with its time."""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gpu_sections.kit import ENVIRONMENT, Kit
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import one_line


def run_section(function: Callable, device: str, quick: bool, seconds: float) -> dict:
    """What the section found, as facts, claims and rounds; or one line as `error`. And the `seconds` that it took."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="gpu_check-"))
    here, there = multiprocessing.Pipe()
    process = _context().Process(target=_run, args=(there, function, (device, quick, seconds, folder)))
    process.start()
    there.close()
    try:
        result = here.recv() if here.poll(seconds) else {"error": f"it was ended after {seconds:.0f} s"}
    except EOFError:
        process.join()
        result = {"error": f"its process ended with exit status {process.exitcode}"}
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def _context():
    """Sections are forked from a server that has imported the packages and never touches a GPU."""
    # is_available would otherwise initialise CUDA, which a forked process cannot use
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    os.environ.update(ENVIRONMENT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision", "torch._dynamo", "gpu_sections.speed", "gpu_sections.recovery"])
    return context


def _run(pipe, function: Callable, settings: tuple) -> None:
    os.setsid()  # so that `end` reaches what the section has started
    multiprocessing.set_start_method(None, force=True)  # else DataLoader's workers would be served too
    terminal.quiet = True
    try:
        found = function(Kit(*settings))
        pipe.send({"facts": found.facts, "claims": found.claims, "rounds": found.rounds})
    except BaseException as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()
        pipe.send({"error": one_line(f"{type(error).__name__}: {text[-1] if text else ''}")})
    sys.stdout.flush()


def end(process) -> None:
    """Kill what is left of the section's process and of those that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
