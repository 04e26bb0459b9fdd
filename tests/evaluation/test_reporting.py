"""The numbers of a run: exact, and told."""

import csv
import json
import math

import numpy as np
import pytest
from helpers.pictures import ODD_NAMES, history_of
from sklearn.metrics import classification_report

from pyimagesearch.evaluation import metrics, report
from pyimagesearch.training import run

FOOD = ["Bread", "Dairy_product", "Dessert", "Egg", "Fried_food", "Meat", "Noodles", "Rice", "Seafood", "Soup", "Fruit"]


def test_the_history_reads_back_exactly(tmp_path):
    history = [*history_of(3), dict.fromkeys(run.HISTORY_COLUMNS, np.float32(4)) | {"val_loss": np.float32(0.1)}]
    run.write_history(tmp_path / "history.csv", history)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == run.HISTORY_COLUMNS
    assert [{name: float(text) for name, text in row.items()} for row in rows] == history
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


def test_an_unfinished_history_keeps_values_that_are_not_finite(tmp_path):
    run.write_history(tmp_path / "history.csv", [{**history_of(1)[0], "val_loss": math.nan, "lr": math.inf}])
    row = (tmp_path / "history.csv").read_text().splitlines()[1].split(",")
    assert math.isnan(float(row[3])) and float(row[5]) == math.inf


@pytest.mark.parametrize(
    ("accuracies", "losses", "best"),
    [
        ([0.1, 0.3, 0.2], [1, 1, 1], 2),
        ([0.3, 0.3, 0.2], [2, 1, 0], 2),
        ([0.3, 0.3, 0.3], [1, 1, 1], 1),
        ([math.nan, 0.0, math.nan], [0, 9, 0], 2),
        ([0.3, 0.3], [math.nan, 5], 2),
        ([math.nan, math.nan], [math.nan, math.nan], 1),
    ],
)
def test_the_best_epoch_is_the_most_accurate_then_of_lowest_loss_then_the_earliest(accuracies, losses, best):
    rows = enumerate(zip(accuracies, losses, strict=True), start=1)
    history = [{"epoch": epoch, "val_acc": accuracy, "val_loss": loss} for epoch, (accuracy, loss) in rows]
    assert metrics.best_epoch(history) == best


def test_no_epoch_has_no_best():
    with pytest.raises(ValueError):
        metrics.best_epoch([])


def test_an_epoch_that_was_resumed_after_its_last_step_has_no_part_in_the_images_per_second():
    rates = [100.0, 0.0, 300.0]
    assert report.images_per_second([{"images_per_s": rate} for rate in rates]) == pytest.approx(150)
    assert report.images_per_second([{"images_per_s": 0.0}]) == 0


def test_the_report_is_that_of_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    targets, predictions = rng.integers(0, 11, 200), rng.integers(0, 11, 200)
    text = metrics.write_report(tmp_path, targets, predictions, FOOD)
    assert text == classification_report(targets, predictions, target_names=FOOD)
    assert (tmp_path / "classification_report.txt").read_text() == text
    saved = json.loads((tmp_path / "classification_report.json").read_text())
    assert saved == classification_report(targets, predictions, target_names=FOOD, output_dict=True)


def test_a_class_without_a_photo_shifts_no_name(tmp_path):
    metrics.write_report(tmp_path, [0, 2, 2], [0, 2, 2], ["a", "b", "c"])
    saved = json.loads((tmp_path / "classification_report.json").read_text())
    assert {name: saved[name]["support"] for name in "abc"} == {"a": 1, "b": 0, "c": 2}
    assert saved["b"]["f1-score"] == 0


def test_a_report_of_odd_names_is_written(tmp_path):
    numbers = range(len(ODD_NAMES))
    assert "面包" in metrics.write_report(tmp_path, numbers, numbers, ODD_NAMES)
    assert "\\udcff" in (tmp_path / "classification_report.txt").read_text(encoding="utf-8")
    assert "面包" in json.loads((tmp_path / "classification_report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", metrics.AVERAGES)
def test_a_class_may_be_called_as_scikit_learn_calls_its_averages(tmp_path, name):
    targets, predictions = [0, 0, 1, 1], [0, 1, 1, 1]
    text = metrics.write_report(tmp_path, targets, predictions, ["Bread", name])
    saved = json.loads((tmp_path / "classification_report.json").read_text())
    plain = classification_report(targets, predictions, target_names=["Bread", "Rice"], output_dict=True)
    assert saved == {key if key != "Rice" else f"{name} (class)": value for key, value in plain.items()}
    assert text.count(name) == 2


def test_names_that_look_alike_once_escaped_have_a_row_each():
    figures = metrics.report_figures([0, 1, 1], [0, 1, 0], ["\udcff", r"\udcff", "Bread"])
    assert [row["support"] for row in list(figures.values())[:3]] == [1, 2, 0]


def test_the_run_ends_with_the_five_lines_that_a_person_wants():
    history = history_of(2, best=2)
    history[0].update(seconds=30.0, images_per_s=50.0)
    history[1].update(seconds=30.0, images_per_s=200.0)
    lines = report.closing_lines(history, 0.72343, 1234, 2, "out\nput")
    assert lines == [
        "[INFO] test accuracy: 0.7234 of 1,234 photos, by the model of epoch 2",
        "[INFO] best epoch: 2 of 2, validation accuracy 0.7692",
        "[INFO] time: 1 min 0 s",
        "[INFO] images/s: 80.0 in training",  # as many photos took 4 parts of the time, and 1
        "[INFO] files: out\\nput; begin with out\\nput/report.html",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (372.4, "6 min 12 s"), (3599.6, "1 h 0 min"),
        (4e6, "1,111 h 6 min"),
    ],
)  # fmt: skip
def test_a_duration_is_said_in_two_units(seconds, said):
    assert report.duration(seconds) == said
