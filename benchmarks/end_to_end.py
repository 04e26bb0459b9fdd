"""Whole trainings on the same photos: the tutorial's script, this project's, and timm's, from start to exit.

    python benchmarks/end_to_end.py --data dataset --json end.json
    python benchmarks/end_to_end.py --make 9866 3430 3347 --side 512 --epochs 20 --rounds 1     # the shape of Food-11
    python benchmarks/end_to_end.py --data dataset -- --cache device --compile                 # flags for our script

Each training is a new process, from scratch, with BatchNorm that trains. Images/s exclude validation, seconds per epoch
include it; both are medians over all epochs but the first. Wall seconds include everything: imports, filling a cache,
and the report on the test split (which timm's loop lacks). Upper bounds for real input: step-alone is our step on
synthetic input, bare-step that of the bare model.
"""

import csv
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import measuring
import train_step

NAMES = ("tutorial", "ours", "ours-disk", "ours-device", "timm", "step-alone", "bare-step")


def train(script: str, flags: list[str], args, data: str) -> measuring.Round:
    """The figures of one run of a training script."""
    with tempfile.TemporaryDirectory() as output:
        flags = [*flags, "--image-size", args.image_size, "--batch-size", args.batch_size, "--epochs", args.epochs]
        if "--cache" in flags:
            flags += ["--cache-dir", f"{output}/cache"]  # filled each time, within the wall seconds
        begin = time.monotonic()
        measuring.run_script(script, "--data", data, "--output", output, *map(str, flags))
        wall = time.monotonic() - begin
        return {**read_history(Path(output, "history.csv")), "wall_s": wall}


def read_history(path: Path) -> measuring.Round:
    """Medians over all epochs but the first: images/s without validation, seconds per epoch with it."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    rows = rows[1:] or rows
    medians = {name: statistics.median(float(row[name]) for row in rows) for name in ("images_per_s", "seconds")}
    return {"images_per_s": medians["images_per_s"], "epoch_s": medians["seconds"]}


def measures(names: list[str], args, data: str) -> dict:
    """The measurement of each contender: a training, or some steps on synthetic input."""
    ours = ["--weights", "none", *args.flags]
    workers = str(args.timm_workers)
    scripts = {
        "tutorial": ("benchmarks/tutorial.py", ["--weights", "none"]),
        "ours": ("train_distributed.py", ours),
        "ours-disk": ("train_distributed.py", [*ours, "--cache", "disk"]),
        "ours-device": ("train_distributed.py", [*ours, "--cache", "device"]),
        "timm": ("benchmarks/timm_train.py", ["--workers", workers]),
    }
    steps = {"step-alone": "ours", "bare-step": "bare"}
    made = {}
    for name in names:
        if name in scripts:
            made[name] = partial(train, *scripts[name], args, data)
        else:
            made[name] = partial(step_alone, steps[name], args)
    return made


def step_alone(name: str, args) -> measuring.Round:
    """The speed of a contender of train_step.py."""
    found = measuring.once(train_step.contender(name, args.image_size), args.batch_size, args.steps)
    return {"images_per_s": found["images_per_s"]}


def main() -> None:
    parser = measuring.parser("Whole trainings on the same photos.", NAMES, rounds=3)
    measuring.add_training(parser)
    parser.add_argument("--steps", type=measuring.size(), default=5, metavar="N", help="for step-alone, bare-step")
    parser.add_argument(
        "--timm-workers", type=measuring.size(0), default=measuring.available_cores(), metavar="N",
        help="workers of timm's loaders (default: one per core, %(default)s)",
    )  # fmt: skip
    args = measuring.parse_training(parser)
    report = measuring.Report(args)
    names = measuring.present(args.contenders)
    with measuring.dataset(args) as data:
        rounds = measuring.interleave(measures(names, args, data), args.rounds, warmups=0)
    title = f"Training end to end, {args.image_size} px, batch {args.batch_size}, {args.epochs} epochs"
    report.add(title, rounds, "images_per_s", names[0])


if __name__ == "__main__":
    main()
