"""--shares auto against equal shares, on two processes of which one shares its core with other programs.

    python benchmarks/shares.py --data dataset --image-size 96 --epochs 4 --json shares.json
    python benchmarks/shares.py --competitors 0 --data dataset --image-size 96 --epochs 4    # nothing to correct

Process N and its worker run on core N, the competitors on core 1. Images/s are medians over all epochs but the first.
The losses are those of the last epoch.
"""

import csv
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import measuring
from end_to_end import read_history

NAMES = ("equal", "auto")
PINNED = """
import os, runpy, sys
os.sched_setaffinity(0, {int(os.environ["LOCAL_RANK"])})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
BUSY = "import os\nos.sched_setaffinity(0, {1})\nwhile True: pass"
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python", sys.executable, "-c")


def train(shares: str, args, data: str) -> measuring.Round:
    """The figures of one training beside the competitors."""
    flags = ["--weights", "none", "--freeze-bn", "--workers", 1]
    flags += ["--image-size", args.image_size, "--epochs", args.epochs]
    flags += ["--global-batch-size", args.batch_size, "--shares", shares, *args.flags]
    with tempfile.TemporaryDirectory() as output, competing(args.competitors):
        measuring.run_script(
            *LAUNCHER, PINNED, "train_distributed.py", "--data", data, "--output", output, *map(str, flags)
        )
        history = Path(output, "history.csv")
        with open(history, newline="") as file:
            *_, last = csv.DictReader(file)
        losses = {name: float(last[name]) for name in ("train_loss", "val_loss")}
        return {"images_per_s": read_history(history)["images_per_s"], **losses}


@contextmanager
def competing(count: int):
    """A block during which so many programs compute on core 1."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main() -> None:
    parser = measuring.parser("--shares auto against equal shares.", NAMES, rounds=3)
    measuring.add_training(parser)
    parser.add_argument(
        "--competitors", type=measuring.size(0), default=2, metavar="N", help="busy programs (default %(default)s)"
    )
    args = measuring.parse_training(parser)
    report = measuring.Report(args)
    with measuring.dataset(args) as data:
        turns = {name: partial(train, name, args, data) for name in args.contenders}
        rounds = measuring.interleave(turns, args.rounds, warmups=0)
    title = f"Two processes, {args.competitors} busy programs on the core of one of them"
    report.add(title, rounds, "images_per_s", args.contenders[0])


if __name__ == "__main__":
    main()
