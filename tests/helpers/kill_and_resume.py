"""Kill training with SIGKILL at random moments, resume it until it is done, and compare the weights bit for bit.

    python tests/helpers/kill_and_resume.py --runs 20

Prints one line per run: how often it was killed, where each resume began, and whether its weights are those of an
uninterrupted run. Exit status 1 if any are not. Checkpoints are written after every step, so many kills fall into one.
"""

import argparse
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
FLAGS = ["--weights", "none", "--image-size", "32", "--batch-size", "8", "--epochs", "3", "--workers", "1"]
FLAGS += ["--checkpoint-every", "1", "--resume"]


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


def start(data: Path, output: Path, *flags: str) -> subprocess.Popen:
    """The training script, in a process group of its own."""
    command = [sys.executable, "train_distributed.py", "--data", str(data), "--output", str(output), *FLAGS, *flags]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, **settings)


def train_with_kills(data: Path, output: Path, longest: float, rng: random.Random) -> list[str]:
    """Start, kill at a moment of the `longest` seconds that a whole run takes, and resume, until a run ends by itself.

    Returns where each start began. The first is killed before a run can be done.
    """
    beginnings = []
    while True:
        process = start(data, output)
        try:
            told, _ = process.communicate(timeout=rng.uniform(0.3, 1 if beginnings else 0.75) * longest)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            told, _ = process.communicate()
        if process.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"training failed with status {process.returncode}:\n{told}")
        began = re.search(r"resuming after (\d+) epochs and (\d+) steps", told)
        fresh = "0+0" if "training the network" in told else "-"  # killed before it had begun
        beginnings.append(f"{began[1]}+{began[2]}" if began else fresh)
        if process.returncode == 0:
            return beginnings


def identical(one: Path, other: Path) -> bool:
    """Whether two state_dicts have the same tensors, bit for bit."""
    a, b = (torch.load(path, weights_only=True) for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        data = draw_dataset(Path(folder) / "data", {"training": 14, "validation": 3, "evaluation": 3})
        reference, began = Path(folder) / "reference", time.monotonic()
        process = start(data, reference)
        told, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(told)
        longest = time.monotonic() - began
        print(f"uninterrupted: {longest:.1f} s\nrun  kills  begun after (epochs+steps)            weights", flush=True)
        for number in range(args.runs):
            output = Path(folder) / f"run{number}"
            beginnings = train_with_kills(data, output, longest, rng)
            same = identical(output / "food_classifier.pth", reference / "food_classifier.pth")
            wrong += not same
            verdict = "identical" if same else "DIFFERENT"
            print(f"{number + 1:3d}  {len(beginnings) - 1:5d}  {' '.join(beginnings):36s}  {verdict}", flush=True)
    print(f"{args.runs - wrong} of {args.runs} identical")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
