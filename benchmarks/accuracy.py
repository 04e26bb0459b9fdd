"""Whether faster input costs accuracy: one training with the tutorial's transforms, with ours, and with ours cached.

    python benchmarks/accuracy.py --data dataset --epochs 20 --image-size 96 --json accuracy.json -- --lr 1e-3

One training from scratch per seed and input. Script, flags and order of photos are the same; only the input differs.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import measuring

NAMES = ("reference", "uncached", "cached")


def train(name: str, seed: int, args, data: str) -> measuring.Round:
    """One training: accuracy of the best model on the validation and test splits."""
    script = "benchmarks/reference_input.py" if name == "reference" else "train_distributed.py"
    size = ["--image-size", args.image_size, "--batch-size", args.batch_size, "--epochs", args.epochs]
    with tempfile.TemporaryDirectory() as output:
        flags = ["--cache", "disk", "--cache-dir", f"{output}/cache"] if name == "cached" else []
        measuring.run_script(
            script, "--data", data, "--output", output, "--weights", "none", "--augment", "tutorial",
            "--seed", str(seed), *map(str, size), *flags, *args.flags,
        )  # fmt: skip
        metrics = json.loads(Path(output, "food_classifier.json").read_text())["metrics"]
    return {"val_acc": metrics["val_acc"], "test_acc": metrics["test_acc"]}


def main() -> None:
    parser = measuring.parser("Accuracy with the tutorial's transforms, ours, and ours cached.", NAMES, rounds=3)
    measuring.add_training(parser, epochs=20)
    args = measuring.parse_training(parser)
    report = measuring.Report(args)
    rounds = {name: [] for name in args.contenders}
    with measuring.dataset(args) as data:
        for seed in range(args.rounds):
            turns = {name: partial(train, name, seed, args, data) for name in args.contenders}
            for name, found in measuring.interleave(turns, 1, warmups=0).items():
                rounds[name] += found
    title = f"Accuracy, {args.image_size} px, {args.epochs} epochs, seeds 0 to {args.rounds - 1}"
    report.add(title, rounds, "test_acc", None)


if __name__ == "__main__":
    main()
