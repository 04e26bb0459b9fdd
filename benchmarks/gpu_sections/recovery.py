"""What happens when memory runs out, a process is killed, or a signal comes."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import measuring
import torch

from gpu_sections.kit import ENVIRONMENT, Findings, Kit

TRAIN = measuring.REPOSITORY / "train_distributed.py"
OUT_OF_MEMORY = Path(__file__).with_name("out_of_memory.py")
FLAGS = ["--weights", "none", "--model", "resnet18", "--amp", "off", "--workers", "1"]
SMALL = [*FLAGS, "--image-size", "32", "--global-batch-size", "8"]


def start(output: Path, *flags, script: Path = TRAIN, first: tuple = (), ranks: int = 0) -> subprocess.Popen:
    """The training script, or another with arguments `first`, in a session of its own; with `ranks`, under torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks else []
    command = [sys.executable, *torchrun, script, *first, "--output", output, *flags]
    return subprocess.Popen(
        list(map(str, command)), env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    """The output of a process that must end well."""
    out, err = process.communicate()
    if process.returncode:
        print(out, err, sep="\n", file=sys.stderr)
        raise RuntimeError(f"a training ended with {process.returncode}: {(err or out).strip().splitlines()[-1]}")
    return out


def wait_for(condition: Callable[[], object], seconds: float, process: subprocess.Popen | None = None) -> float:
    """Seconds until the condition was true, or `seconds`. Raises RuntimeError if `process` ends before."""
    began = time.monotonic()
    while not condition() and time.monotonic() < began + seconds:
        if process is not None and process.poll() is not None:
            finish(process)
            raise RuntimeError("a training ended too early")
        time.sleep(0.05)
    return time.monotonic() - began


def has_checkpoint(output: Path) -> bool:
    return any((output / "checkpoints").glob("checkpoint-*.pt"))


def out_of_memory(kit: Kit) -> Findings:
    """A GPU without enough memory ends the run with one line."""
    found = Findings()
    data = kit.dataset(64, 64)
    process = start(kit.folder / "output", "--data", data, *FLAGS, "--batch-size", 64, script=OUT_OF_MEMORY, first=(0,))
    _, err = process.communicate()
    found.claim("out of memory: one line that says so, exit status 1 or 2", one_error(process, err), last_line(err))
    return found


def one_error(process: subprocess.Popen, err: str) -> bool:
    """Whether the process has ended with one line about memory."""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    return process.returncode in (1, 2) and len(errors) == 1 and "memory" in errors[0] and "Traceback" not in err


def last_line(text: str) -> str:
    errors = [line for line in text.splitlines() if line.startswith("error: ")] or text.strip().splitlines()
    return errors[-1][:200] if errors else "nothing on stderr"


def kill_and_resume(kit: Kit) -> Findings:
    """A run killed in the middle of an epoch and resumed ends as one that was not."""
    found = Findings()
    flags = ["--data", kit.dataset(40, 48), *SMALL, "--epochs", 2, "--checkpoint-every", 1]
    whole, killed = kit.folder / "whole", kit.folder / "killed"
    uninterrupted, process = start(whole, *flags), start(killed, *flags)
    wait_for(lambda: has_checkpoint(killed), kit.seconds, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(uninterrupted)
    told = finish(start(killed, *flags, "--resume"))
    found.facts["killed"] = next(line.removeprefix("[INFO] ") for line in told.splitlines() if "resuming after" in line)
    one, other = (torch.load(folder / "food_classifier.pth", weights_only=True) for folder in (whole, killed))
    different = sum(not torch.equal(one[name], other[name]) for name in one)
    losses = [float(last_epoch(folder)["val_loss"]) for folder in (whole, killed)]
    distance = abs(losses[1] / losses[0] - 1)
    found.facts["weights"] = f"{different} of {len(one)} tensors differ" if different else "identical, bit for bit"
    if kit.gpu:
        found.claim("resumed: the validation loss within 1 % of the other run's", distance <= 0.01, f"{distance:.1e}")
    else:
        found.claim("resumed: the same weights, bit for bit", not different, found.facts["weights"])
    return found


def last_epoch(output: Path) -> dict[str, str]:
    with open(output / "history.csv", newline="") as file:
        return list(csv.DictReader(file))[-1]


def ranks_ended(kit: Kit) -> Findings:
    """Two ranks under torchrun: SIGTERM, a killed launcher, and a rank that runs out of memory."""
    found = Findings()
    data = kit.dataset(64, 64)
    endless = ["--data", data, *SMALL, "--epochs", 10_000, "--checkpoint-every", 4]

    output = kit.folder / "terminated"
    process = start(output, *endless, ranks=2)
    wait_for(lambda: has_checkpoint(output), 60, process)
    process.terminate()
    saved = process.communicate(timeout=60)[0].count("SIGTERM: saved in")
    wait_for(lambda: not living(output), 12)
    left = living(output)
    found.claim("SIGTERM: all ranks save the same step and end", saved == 1 and not left, f"{len(left)} processes left")

    output = kit.folder / "orphans"
    process = start(output, *endless, ranks=2)
    wait_for(lambda: has_checkpoint(output), 60, process)
    process.kill()
    seconds = wait_for(lambda: not living(output), 12)
    left = living(output)
    found.claim("torchrun killed: no process of the job is left", not left, f"{len(left)} after {seconds:.0f} s")
    for number in left:
        os.kill(number, signal.SIGKILL)

    output = kit.folder / "memory"
    flags = ["--data", data, *FLAGS, "--batch-size", 64]
    process, began = start(output, *flags, ranks=2, script=OUT_OF_MEMORY, first=(1,)), time.monotonic()
    _, err = process.communicate(timeout=90)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    holds = process.returncode != 0 and len(errors) == 1 and "memory" in errors[0] and not living(output)
    found.claim("rank 1 out of memory: one line, and the other rank ends", holds, last_line(err))
    found.facts["rank 1 out of memory"] = f"start to exit {time.monotonic() - began:.0f} s"
    return found


def living(output: Path) -> list[int]:
    """The processes that have this folder in their command line (Linux)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(output) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has just ended
            pass
    return found
