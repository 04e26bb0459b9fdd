"""Accuracy over time: the recipes of train_distributed.py, and timm's and Ultralytics' trainers where installed.

    python benchmarks/recipes.py --data dataset --image-size 96 --epochs 20 --json recipes.json --figure recipes.png

Each training is a new process, from scratch, on DenseNet-121. Seeds take turns with recipes. Seconds are those of all
epochs with their validation. `modern-short` has two fifths of the epochs, which take about a third of the tutorial's
seconds. Figure: validation accuracy over seconds.
"""

import csv
import importlib.util
import json
import os
import statistics
import tempfile
from pathlib import Path

import measuring

NAMES = ("tutorial", "modern", "modern-short", "timm", "ultralytics")
Curve = list[tuple[float, float]]  # seconds since the start of training, accuracy on validation: a pair per epoch


def train(name: str, seed: int, args, data: str) -> tuple[measuring.Round, Curve]:
    """The figures of one training and its curve."""
    script = f"benchmarks/{name}_train.py" if name in ("timm", "ultralytics") else "train_distributed.py"
    epochs = max(1, args.epochs * 2 // 5) if name == "modern-short" else args.epochs
    flags = ["--image-size", args.image_size, "--batch-size", args.batch_size, "--epochs", epochs, "--seed", seed]
    if script == "train_distributed.py":
        flags += ["--weights", "none", "--recipe", name.removesuffix("-short"), *args.flags]
    flags += {"tutorial": ["--lr", args.lr], "timm": ["--recipe", "adamw", "--lr", args.lr]}.get(name, [])
    with tempfile.TemporaryDirectory() as output:
        measuring.run_script(script, "--data", data, "--output", output, *map(str, flags))
        curve = read_curve(Path(output, "history.csv"))
        metrics = json.loads(Path(output, "food_classifier.json").read_text())["metrics"]
    return {"test_acc": metrics["test_acc"], "seconds": curve[-1][0]}, curve


def read_curve(path: Path) -> Curve:
    total, curve = 0.0, []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            total += float(row["seconds"])
            curve.append((total, float(row["val_acc"])))
    return curve


def draw(path: str, curves: dict[str, list[Curve]], title: str) -> None:
    """One line per recipe: the mean over the seeds after each epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, runs in curves.items():
        points = [[statistics.mean(values) for values in zip(*epoch, strict=True)] for epoch in zip(*runs, strict=True)]
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.set(title=title, xlabel="seconds of training", ylabel="accuracy on validation")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = measuring.parser("Accuracy over time of recipes.", NAMES, rounds=3)
    measuring.add_training(parser, epochs=20)
    parser.add_argument(
        "--lr", type=float, default=1e-3, metavar="RATE", help="of tutorial and timm (default %(default)s)"
    )
    parser.add_argument("--figure", metavar="PNG", help="draw accuracy on validation over seconds")
    args = measuring.parse_training(parser)
    names = [name for name in measuring.present(args.contenders) if name != "ultralytics" or installed(name)]
    report = measuring.Report(args)
    rounds, curves = ({name: [] for name in names} for _ in range(2))
    with measuring.dataset(args) as data:
        for seed in range(args.rounds):
            for name in names:
                figures, curve = train(name, seed, args, data)
                print(f"seed {seed}, {name}: {figures}", flush=True)
                rounds[name].append(figures)
                curves[name].append(curve)
    title = f"{os.path.basename(data)}, {args.image_size} px, {args.epochs} epochs, seeds 0 to {args.rounds - 1}"
    report.add(title, rounds, "seconds", names[0], less_is_better=True, curves=curves)
    if args.figure:
        draw(args.figure, curves, title)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


if __name__ == "__main__":
    main()
