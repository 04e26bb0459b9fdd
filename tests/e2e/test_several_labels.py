"""Photos with several labels, of patients with several photos, from the table to the predictions."""

import csv
import json
import os
from pathlib import Path

import pytest
from helpers.kill_and_resume import identical
from helpers.scripts import run
from helpers.shapes import LABELS, draw_shapes
from PIL import Image

# SGD, since Adam makes whole steps of gradients that are rounding, which differs with the number of processes
FLAGS = [
    "--fold",
    "all",
    "--model",
    "resnet18",
    "--weights",
    "none",
    "--freeze-bn",
    "--amp",
    "off",
    "--image-size",
    "32",
]
FLAGS += ["--augment", "light", "--global-batch-size", "7", "--optimizer", "sgd", "--lr", "0.05", "--epochs", "2"]
FLAGS += ["--workers", "0"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder with the drawn photos, their table, and the dataset of three folds that was prepared of them."""
    folder = tmp_path_factory.mktemp("shapes")
    table = draw_shapes(folder, patients=14, images=3)
    run("prepare_dataset.py", "--source", table, "--images", folder / "photos", "--id-column", "id",
        "--label-columns", *LABELS, "--group-column", "patient", "--folds", "3", "--test-rate", "0.3",
        "--dest", folder / "dataset")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """The folder of all three folds, trained in one process, and what was told."""
    output = tmp_path_factory.mktemp("folds")
    return output, run("train_distributed.py", "--data", shapes / "dataset", "--output", output, *FLAGS)[0]


def summary(output: Path) -> dict[tuple, list[float]]:
    with open(output / "folds.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {tuple(row[:3]): [float(cell) if cell else None for cell in row[3:]] for row in rows}


def test_each_fold_leaves_a_model_and_its_report_and_all_of_them_a_summary(trained):
    output, told = trained
    assert sorted(os.listdir(output)) == ["fold-1", "fold-2", "fold-3", "folds.csv"]
    for fold in (1, 2, 3):
        facts = json.loads((output / f"fold-{fold}" / "food_classifier.json").read_text())
        assert (facts["task"], facts["classes"], facts["training"]["fold"]) == ("multi-label", LABELS, fold)
        assert len(facts["thresholds"]) == 3
        report = json.loads((output / f"fold-{fold}" / "classification_report.json").read_text())
        assert facts["metrics"]["test_auc"] == report["evaluation"]["macro"]["roc_auc"]
        history = (output / f"fold-{fold}" / "history.csv").read_text().splitlines()
        assert history[0].endswith(",val_auc") and len(history) == 3
    assert told.count("Val ROC AUC: ") == 6
    assert "mean and sample standard deviation (n - 1) of 3 folds" in told


def test_two_processes_measure_the_same_as_one(trained, shapes, tmp_path):
    run("train_distributed.py", "--data", shapes / "dataset", "--output", tmp_path, *FLAGS, processes=2)
    one, two = summary(trained[0]), summary(tmp_path)
    assert one.keys() == two.keys()
    for key, figures in one.items():
        assert two[key] == pytest.approx(figures, abs=1e-9), key


def test_a_fold_of_its_own_is_the_same_and_all_of_them_go_on_where_some_are_done(trained, shapes, tmp_path):
    flags = ["--data", shapes / "dataset", "--output", tmp_path, *FLAGS[2:]]
    run("train_distributed.py", *flags, "--fold", "2")
    weights = [output / "fold-2" / "food_classifier.pth" for output in (trained[0], tmp_path)]
    assert identical(*weights)  # fresh weights: nothing of fold 1 is in fold 2
    _, err = run("train_distributed.py", *flags, "--fold", "all", status=2)
    assert "holds 1 finished folds of 3; go on with --resume" in err
    told, _ = run("train_distributed.py", *flags, "--fold", "all", "--resume")
    assert told.count("EPOCH: ") == 4  # two folds of two epochs
    assert summary(tmp_path) == summary(trained[0])


def test_labels_are_printed_with_their_probabilities(trained, shapes, tmp_path):
    output = trained[0] / "fold-3"
    thresholds = json.loads((output / "food_classifier.json").read_text())["thresholds"]
    told, _ = run(
        "distributed_inference.py", "--output", output, "--images", shapes / "photos", "--csv", tmp_path / "p.csv"
    )
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "labels", *LABELS, "error"]
    assert len(rows) == len(os.listdir(shapes / "photos"))
    for row in rows:
        named = [name for name, least in zip(LABELS, thresholds, strict=True) if float(row[name]) >= least]
        assert row["labels"] == "; ".join(named)
    told, _ = run("distributed_inference.py", "--output", output, "--data", shapes / "dataset", "--count", "5")
    assert told.count("Ground Truth: ") == 5
    assert Image.open(output / "results.png").width > 300
    told, _ = run("distributed_inference.py", "--output", output, "--data", shapes / "dataset", "--on", "test")
    assert told.strip() and (output / "classification_report.txt").read_text() in told


def test_folds_without_a_flag_are_refused(shapes, tmp_path):
    _, err = run("train_distributed.py", "--data", shapes / "dataset", "--output", tmp_path, *FLAGS[2:], status=2)
    assert "has 3 folds; choose one with --fold" in err and err.count("\n") == 1
