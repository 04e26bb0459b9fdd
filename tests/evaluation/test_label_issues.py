"""Which labels look wrong: outliers below the others of their label, none on clean data; the table and its picture."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.pictures import assert_nothing_is_cut_off

from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.evaluation.pictures.label_issues import plot_label_issues
from pyimagesearch.evaluation.reporting.label_issues import LabelIssues, find_outliers, predicted_margins
from pyimagesearch.evaluation.reporting.report import data_facts, photo_counts
from pyimagesearch.models.objectives import CROSS_ENTROPY, BinaryCrossEntropy

CLASSES = ["Bread", "Rice", "Soup"]


def photos_of(labels, classes=CLASSES, split: str = "training") -> PhotoDataset:
    names = [f"{split}-{number}.jpg" for number in range(len(labels))]
    return PhotoDataset(f"data/{split}", names, np.asarray(labels), list(classes), None)


def issues_of(margins, labels, rivals=None) -> LabelIssues:
    """Of training alone."""
    labels = np.asarray(labels)
    rivals = (labels + 1) % 3 if rivals is None else np.asarray(rivals)
    return LabelIssues("data", {"training": photos_of(labels)}, [(np.asarray(margins, float), rivals)])


def rows_of(issues: LabelIssues, folder) -> list[dict]:
    issues.write(folder)
    with open(folder / "label_issues.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("centre", [0.5, 2.0, 8.0])
def test_hardly_any_label_of_a_clean_set_looks_wrong(centre):
    generator = np.random.default_rng(0)
    margins = generator.normal(centre, 1.5, 10_000)
    assert find_outliers(margins, generator.integers(0, 10, 10_000)).mean() < 0.003


def test_labels_far_below_the_others_of_their_class_look_wrong_also_where_classes_differ():
    generator = np.random.default_rng(0)
    given = generator.integers(0, 4, 2000)
    margins = generator.normal(given * 2.0, 0.5)
    wrong = generator.random(2000) < 0.1
    margins[wrong] = generator.normal(given[wrong] * 2.0 - 9, 0.5)
    found = find_outliers(margins, given)
    assert found[wrong].mean() > 0.95 and found[~wrong].mean() < 0.003


def test_alike_photos_of_a_small_class_and_preferred_labels_do_not_look_wrong():
    margins = np.array([-0.1, 0.0, 0.0, 0.0, *np.linspace(-2, 6, 40), 9.0, 9.0, 9.0, 9.0, 2.0])
    given = np.array([0] * 4 + [1] * 40 + [2] * 5)
    assert not find_outliers(margins, given).any()


def test_the_table_has_what_looks_wrong_first_then_the_lowest_scores(tmp_path):
    labels = [0] * 10 + [1] * 10
    margins = [*np.linspace(2.1, 4, 8), -6.0, 2.0, *np.linspace(2.1, 6, 9), -0.2]
    issues = issues_of(margins, labels)
    assert issues.found() == "1 of 20 look wrong"
    rows = rows_of(issues, tmp_path)
    assert list(rows[0]) == ["split", "path", "given", "suggested", "score", "reason", "drop", "new_label"]
    assert [(row["path"], row["given"], row["suggested"], row["reason"][:8]) for row in rows[:3]] == [
        ("training/training-8.jpg", "Bread", "Rice", "looks wr"),
        ("training/training-19.jpg", "Rice", "Soup", "doubtful"),
        ("training/training-9.jpg", "Bread", "Rice", ""),
    ]
    assert [float(row["score"]) for row in rows[:3]] == pytest.approx(1 / (1 + np.exp([6, 0.2, -2])), abs=1e-6)
    assert len(rows) == 20 and {row["drop"] + row["new_label"] for row in rows} == {""}


def test_nothing_suspicious_says_so_and_shows_nothing(tmp_path):
    issues = issues_of([*np.linspace(5, 6, 11), 0.5], [0, 1, 2] * 4)  # the last is far below, and its label preferred
    assert issues.found() == "none of 12 look wrong"
    assert list(issues.shown()) == []
    assert {row["reason"] for row in rows_of(issues, tmp_path)} == {""}


def test_a_suspicious_photo_is_shown_beside_the_training_photos_with_the_highest_scores():
    labels, margins = [0, 0, 0, 1, 1, 2], [-5.0, 2.0, 4.0, 1.0, 3.0, 1.0]
    training, test = photos_of(labels), photos_of([1], split="evaluation")
    pairs = (np.array(margins), np.array([1, 1, 1, 2, 0, 0])), (np.array([-0.5]), np.array([0]))
    shown = list(LabelIssues("data", {"training": training, "evaluation": test}, pairs).shown())
    assert [[photo.rpartition("-")[2] for photo, *_ in photos] for photos in shown] == [
        ["0.jpg", "2.jpg", "4.jpg"], ["0.jpg", "4.jpg", "2.jpg"],
    ]  # fmt: skip
    assert shown[1][0] == (test.path(0), "labelled Rice", "score 0.38, evaluation")


def test_the_score_of_a_predicted_photo_is_the_share_of_its_label_beside_the_strongest_other(tmp_path):
    probabilities = np.array([[0.2, 0.6, 0.2], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]], np.float32)
    labels = np.array([0, 0, 1])
    margins, rivals = predicted_margins(CROSS_ENTROPY, probabilities, labels)
    issues = LabelIssues("data", {"training": photos_of(labels)}, [(margins, rivals)])
    scores = {row["path"][-5]: (float(row["score"]), row["suggested"]) for row in rows_of(issues, tmp_path)}
    assert scores == {"0": (0.25, "Rice"), "1": (0.9, "Rice"), "2": (0.0, "Bread")}


def test_of_several_labels_each_known_one_has_a_row(tmp_path):
    labels = np.array([[1, 0], [-1, 1], [0, 0]], np.float32)
    probabilities = np.array([[0.9, 0.2], [0.5, 0.1], [0.3, 0.25]], np.float32)
    dataset = photos_of(labels, ["Edema", "Cough"])
    issues = LabelIssues(
        "data", {"training": dataset}, [predicted_margins(BinaryCrossEntropy(), probabilities, labels)]
    )
    rows = [(row["path"][-5], row["given"], row["suggested"], float(row["score"])) for row in rows_of(issues, tmp_path)]
    assert rows == [
        ("1", "Cough", "no Cough", 0.1), ("2", "no Edema", "Edema", 0.7), ("2", "no Cough", "Cough", 0.75),
        ("0", "no Cough", "Cough", 0.8), ("0", "Edema", "no Edema", 0.9),
    ]  # fmt: skip


def test_names_of_files_are_one_line_each(tmp_path):
    dataset = PhotoDataset("data/training", ["a\nb.jpg", "\udcff.jpg"], np.array([0, 1]), CLASSES, None)
    issues = LabelIssues("data", {"training": dataset}, [(np.array([1.0, 2.0]), np.array([1, 0]))])
    assert [row["path"] for row in rows_of(issues, tmp_path)] == ["training/a\\nb.jpg", "training/\\udcff.jpg"]


@pytest.mark.parametrize("count", [1, 3])
def test_the_picture_cuts_nothing_off(tmp_path, count):
    photo = np.full((30, 50, 3), 90, np.uint8)
    names = [(photo, "labelled " + "very " * 20 + "long", "score 0.01, training"), (photo, "面包", "a typical photo")]
    plot_label_issues(tmp_path / "picture.png", [[*names, (photo, "a\\b$x$", "suggested")]] * count)
    assert_nothing_is_cut_off(tmp_path / "picture.png")


def test_the_card_has_what_prepared_json_records_and_names_small_classes(tmp_path):
    trained = photos_of([0] * 60 + [1] * 4 + [2] * 49)
    assert photo_counts(trained).tolist() == [60, 4, 49]
    facts = data_facts(str(tmp_path), trained)
    assert facts["fewer than 50 training photos"] == "Rice (4), Soup (49)" and "did not make" in facts["source"]
    drawing = {"rates": {"evaluation": 0.1}, "seed": 3, "moved": {}, "near_copies": True}
    made = {"source": "/photos", "classes": CLASSES, "verified": True, "drawing": drawing, "corrections": "2 left out"}
    (tmp_path / "prepared.json").write_text(json.dumps(made))
    assert data_facts(str(tmp_path), trained) == facts | {
        "source": "/photos", "splits": "--test-rate 0.1 --seed 3 --group-near-copies", "near copies": "in one split",
        "corrections": "2 left out",
    }  # fmt: skip
    assert photo_counts(photos_of(np.array([[1.0, 0.0], [1.0, -1.0]]), ["a", "b"])).tolist() == [2, 0]


def test_margins_of_both_objectives():
    margins, rivals = CROSS_ENTROPY.margins(torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]]), torch.tensor([1, 2]))
    assert (margins.tolist(), rivals.tolist()) == ([2.0, -2.0], [2, 1])
