"""ROC AUC, average precision and thresholds of several labels a photo."""

import json
import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pyimagesearch.evaluation import html_report, label_report, metrics
from pyimagesearch.training import run

LABELS = ["tube", "line", "rare", "always"]


@pytest.fixture
def answers():
    """(truths, probabilities) of 60 photos: no photo has the label rare, each has always."""
    rng = np.random.default_rng(0)
    truths = (rng.random((60, 4)) < [0.5, 0.2, 0, 2]).astype(np.uint8)
    probabilities = np.clip(0.3 * truths + rng.random((60, 4)) * 0.7, 0, 1).astype(np.float32)
    return truths, probabilities


def f1_at(threshold: float, truths: np.ndarray, probabilities: np.ndarray) -> float:
    return f1_score(truths, probabilities >= threshold, zero_division=0)


def test_the_figures_are_scikit_learns(answers):
    truths, probabilities = answers
    thresholds = [0.5, 0.3, 0.5, 0.5]
    figures = metrics.measure_labels(truths, probabilities, LABELS, thresholds)
    for n in (0, 1):
        label = figures["labels"][LABELS[n]]
        assert label["roc_auc"] == roc_auc_score(truths[:, n], probabilities[:, n])
        assert label["average_precision"] == average_precision_score(truths[:, n], probabilities[:, n])
        assert label["f1"] == f1_score(truths[:, n], probabilities[:, n] >= thresholds[n])
        assert (label["threshold"], label["positives"]) == (thresholds[n], truths[:, n].sum())
    both = truths[:, :2], probabilities[:, :2]
    assert figures["macro"]["roc_auc"] == pytest.approx(roc_auc_score(*both, average="macro"))
    assert figures["macro"]["average_precision"] == pytest.approx(average_precision_score(*both, average="macro"))
    assert figures["micro"]["roc_auc"] == roc_auc_score(truths, probabilities, average="micro")
    assert figures["micro"]["f1"] == f1_score(truths, probabilities >= np.array(thresholds), average="micro")
    assert metrics.macro_auc(truths, probabilities) == pytest.approx(figures["macro"]["roc_auc"])


def test_a_label_of_one_class_is_named_and_left_out_of_the_means(answers, tmp_path):
    figures = metrics.measure_labels(*answers, LABELS, [0.5] * 4)
    assert figures["one class only"] == ["rare", "always"]
    assert figures["labels"]["rare"]["roc_auc"] is None
    text = metrics.write_label_report(tmp_path, figures, {"photos": 1})
    assert "No photo has rare: it is left out of the macro average" in text
    assert "Every photo has always: it is left out of the macro average" in text
    assert (tmp_path / "classification_report.txt").read_text() == text
    written = json.loads((tmp_path / "classification_report.json").read_text())
    assert written == {"evaluation": figures, "validation": {"photos": 1}}
    rows = [line.split() for line in text.splitlines() if line]
    assert rows[1][:1] == ["tube"] and float(rows[1][1]) == pytest.approx(
        figures["labels"]["tube"]["roc_auc"], abs=1e-4
    )
    assert rows[3] == ["rare", "-", "-", "-", "0.5000", "0"]


def test_where_nothing_can_be_ranked_there_is_no_mean_and_no_warning():
    truths, probabilities = np.zeros((3, 2), np.uint8), np.full((3, 2), 0.5, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(metrics.macro_auc(truths, probabilities))
        assert metrics.best_thresholds(truths, probabilities) == [0.5, 0.5]
        figures = metrics.measure_labels(truths, probabilities, ["a", "b"], [0.5, 0.5])
    assert figures["macro"]["roc_auc"] is None and figures["micro"]["roc_auc"] is None
    assert "macro average        -" in metrics.label_report_table(figures)


def test_probabilities_that_are_not_numbers_give_no_auc(answers):
    truths, probabilities = answers
    probabilities[3, 0] = math.nan
    assert math.isnan(metrics.macro_auc(truths, probabilities))


def test_no_threshold_has_a_higher_f1(answers):
    truths, probabilities = answers
    thresholds = metrics.best_thresholds(truths, probabilities)
    for n in (0, 1):
        best = f1_at(thresholds[n], truths[:, n], probabilities[:, n])
        others = [f1_at(value, truths[:, n], probabilities[:, n]) for value in np.linspace(0, 1, 501)]
        assert best == max(best, *others)
    assert thresholds[2:] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("probabilities", "truths", "expected"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.5),  # midway
        ([0.8, 0.6, 0.4, 0.2], [1, 0, 1, 0], 0.3),  # F1 of 2/3, 1/2, 4/5, 2/3
        ([0.8, 0.6, 0.4, 0.2], [0, 0, 0, 1], 0.1),  # all of them
        ([0.5, 0.5, 0.5, 0.1], [1, 0, 0, 0], 0.3),  # equals are not parted
        ([0.8, 0.6, 0.4, 0.2], [1, 0, 0, 1], 0.7),  # F1 of 2/3 with the first or with all: the highest
    ],
)
def test_the_threshold_lies_midway_between_neighbours_and_of_equals_is_the_highest(probabilities, truths, expected):
    probabilities, truths = np.array(probabilities)[:, None], np.array(truths)[:, None]
    assert metrics.best_thresholds(truths, probabilities) == [pytest.approx(expected)]
    order = [2, 0, 3, 1]  # the order of the photos does not matter
    assert metrics.best_thresholds(truths[order], probabilities[order]) == [pytest.approx(expected)]


# --- what the rest of a run makes of them ----------------------------------------------------------------------------


def history_of(*aucs: float) -> list[dict]:
    return [
        {"epoch": n + 1, "train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.0 - n / 10, "val_acc": 0.9 - n / 10,
         "lr": 0.1, "seconds": 1.0, "images_per_s": 1.0, "val_auc": auc}
        for n, auc in enumerate(aucs)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("aucs", "best"),
    [((0.6, 0.8, 0.7), 2), ((0.8, 0.8, 0.7), 2), ((math.nan, 0.1, math.nan), 2), ((math.nan, math.nan), 2)],
)
def test_the_best_epoch_is_the_one_of_the_highest_auc_and_of_equals_of_the_lowest_loss(aucs, best):
    assert metrics.best_epoch(history_of(*aucs)) == best


def test_the_history_has_a_column_more(tmp_path):
    run.write_history(tmp_path / "history.csv", history_of(0.6, 0.8))
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == ",".join((*run.HISTORY_COLUMNS, "val_auc"))
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["0.6", "0.8"]


@pytest.mark.parametrize("aucs", [(0.7, 0.8), (math.nan,)])
def test_pictures_and_the_page_are_made_also_where_a_label_cannot_be_measured(answers, tmp_path, aucs, monkeypatch):
    pages = []
    monkeypatch.setattr(html_report, "write_text", lambda path, text: pages.append(text))
    figures = metrics.measure_labels(*answers, LABELS, [0.5] * 4)
    facts = {"architecture": "resnet18", "image_size": 32, "metrics": {"epoch": 1}, "training": {}, "versions": {}}
    label_report.write_results(tmp_path, figures, history_of(*aucs), facts, {"evaluation": 60}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.png", "model_training.png"]
    assert f"{figures['macro']['roc_auc']:.4f}" in pages[0]
    assert "No photo has rare: it is left out of the macro average." in pages[0]
