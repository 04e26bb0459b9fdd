"""Kill training with SIGKILL at random moments, resume it until it is done, and compare the weights bit for bit.

    python tests/helpers/kill_and_resume.py --runs 10 --ranks 1 2 3 4

Prints one line per run: how often it was killed, where each resume began, and whether its weights are those of an
uninterrupted run. Exit status 1 if any are not. Checkpoints are written after every step, so many kills fall into one.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
PHOTOS = {"training": 11, "validation": 2, "evaluation": 2}  # of each of three classes
STEPS, EPOCHS = 3, 2  # steps per epoch; the last one has a single photo, so all ranks but one have none
TOTAL = STEPS * EPOCHS
HANG_S = 300  # a start that takes longer has stopped for good
FLAGS = ["--weights", "none", "--freeze-bn", "--image-size", "32", "--global-batch-size", "16"]
FLAGS += ["--epochs", str(EPOCHS)]
FLAGS += ["--workers", "1", "--checkpoint-every", "1", "--resume"]


def draw_dataset(root: Path, counts: dict[str, int], classes: int = 3) -> Path:
    """A dataset of `classes` classes with so many photos of each in each split: stripes of a hue of their own."""
    generator = np.random.default_rng(0)
    for split, count in counts.items():
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 90, (40, 40, 3))
                pixels[:, :: label + 2, label % 3] += 140
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{label}_{index}.png")
    return root


def start(data: Path, output: Path, ranks: int) -> subprocess.Popen:
    """The training script in `ranks` processes, in a session of its own."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *torchrun, "train_distributed.py", "--data", str(data), "--output", str(output), *FLAGS]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=env, **settings)


def kill_job(output: Path, number: int = signal.SIGKILL) -> None:
    """Kill every process that has `output` among its arguments: torchrun, its ranks, and their loaders' workers.

    Each rank leads a session of its own, so killing torchrun's group does not reach it.
    """
    for pid in processes_of(output):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(process: subprocess.Popen, output: Path) -> str:
    """What the job printed, when it has ended. One that hangs is aborted: each of its processes prints its stack."""
    try:
        return process.communicate(timeout=HANG_S)[0]
    except subprocess.TimeoutExpired:
        kill_job(output, signal.SIGABRT)
        raise RuntimeError(f"training hangs:\n{process.communicate()[0]}") from None


def processes_of(output: Path) -> list[int]:
    """The processes that have `output` among their arguments, on Linux."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            if str(output).encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def train_with_kills(data: Path, output: Path, rng: random.Random, ranks: int) -> list[str]:
    """Start, kill soon after a random step is saved, and resume, until a run ends by itself; the first is killed.

    Returns where each start began, in epochs and steps.
    """
    beginnings: list[str] = []
    while True:
        process = start(data, output, ranks)
        done = steps_saved(output)
        kill_after = rng.randrange(done, TOTAL - 1) if not beginnings else rng.randrange(done, 2 * TOTAL)
        deadline = time.monotonic() + HANG_S
        while process.poll() is None and steps_saved(output) <= kill_after < TOTAL and time.monotonic() < deadline:
            time.sleep(0.01)
        if steps_saved(output) > kill_after:
            time.sleep(rng.uniform(0, 0.2))
            kill_job(output)
        told = end(process, output)
        if process.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"training failed with status {process.returncode}:\n{told}")
        began = re.search(r"resuming after (\d+) epochs and (\d+) steps", told)
        beginnings.append(f"{began[1]}+{began[2]}" if began else "0+0")
        if process.returncode == 0:
            return beginnings


def steps_saved(output: Path) -> int:
    """The steps of all epochs that the newest checkpoint has behind it."""
    names = [path.stem.split("-")[1:] for path in (output / "checkpoints").glob("checkpoint-*.pt")]
    return max((int(epochs) * STEPS + int(steps) for epochs, steps in names), default=0)


def identical(one: Path, other: Path) -> bool:
    """Whether two state_dicts have the same tensors, bit for bit."""
    a, b = (torch.load(path, weights_only=True) for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def compare_runs(data: Path, folder: Path, ranks: int, runs: int, rng: random.Random) -> int:
    """How many of `runs` killed runs on `ranks` processes end with the weights of an uninterrupted one."""
    reference = folder / "reference"
    process = start(data, reference, ranks)
    told = end(process, reference)
    if process.returncode:
        raise RuntimeError(told)
    print(f"{ranks} processes\nrun  kills  begun after (epochs+steps)", flush=True)
    same = 0
    for number in range(1, runs + 1):
        output = folder / f"run{number}"
        beginnings = train_with_kills(data, output, rng, ranks)
        equal = identical(output / "food_classifier.pth", reference / "food_classifier.pth")
        same += equal
        verdict = "identical" if equal else "DIFFERENT"
        print(f"{number:3d}  {len(beginnings) - 1:5d}  {' '.join(beginnings):36s}  {verdict}", flush=True)
    print(f"{ranks} processes: {same} of {runs} identical", flush=True)
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="for each number of processes")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1], help="numbers of processes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = draw_dataset(Path(folder) / "data", PHOTOS)
        same = [compare_runs(data, Path(folder) / f"ranks{ranks}", ranks, args.runs, rng) for ranks in args.ranks]
    return int(min(same) < args.runs)


if __name__ == "__main__":
    sys.exit(main())
