"""Ultralytics' training of its YOLO11s on the same photos, with its own defaults for classification.

    python benchmarks/ultralytics_train.py --data dataset --output runs/ultralytics

Its trainer has networks of its own. It expects the folders train, val and test, which are links here.
"""

import argparse
import csv
import json
import os
import tempfile

from ultralytics.models.yolo.classify import ClassificationTrainer, ClassificationValidator

SPLITS = {"train": "training", "val": "validation", "test": "evaluation"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="dataset")
    parser.add_argument("--output", default="output")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, split in SPLITS.items():
            os.symlink(os.path.abspath(os.path.join(args.data, split)), os.path.join(folder, name))
        settings = {
            "data": folder, "imgsz": args.image_size, "batch": args.batch_size, "plots": False, "verbose": False,
            "project": os.path.abspath(args.output), "name": "run", "exist_ok": True,
        }  # fmt: skip
        training = {"model": "yolo11s-cls.yaml", "pretrained": False, "epochs": args.epochs, "seed": args.seed}
        trainer = ClassificationTrainer(overrides={**settings, **training})
        trainer.train()
        validator = ClassificationValidator(args={**settings, "task": "classify", "split": "test"})
        found = validator(model=os.fspath(trainer.best))
    with open(trainer.csv, newline="") as file:
        rows = [{name.strip(): value for name, value in row.items()} for row in csv.DictReader(file)]
    write_history(args.output, rows)
    with open(os.path.join(args.output, "food_classifier.json"), "w") as file:
        json.dump({"metrics": {"test_acc": found["metrics/accuracy_top1"]}}, file)


def write_history(output: str, rows: list[dict]) -> None:
    """Write history.csv with the columns that recipes.py reads. Ultralytics' time is from the start of training."""
    with open(os.path.join(output, "history.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "seconds", "val_acc"])
        before = 0.0
        for row in rows:
            now = float(row["time"])
            writer.writerow([row["epoch"], now - before, row["metrics/accuracy_top1"]])
            before = now


if __name__ == "__main__":
    main()
