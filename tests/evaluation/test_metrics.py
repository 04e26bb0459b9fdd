"""The metrics: exact, defined in edge cases, and those of scikit-learn."""

import math
import warnings

import numpy as np
import pytest
import torch
from helpers.pictures import ODD_NAMES
from sklearn.metrics import average_precision_score, classification_report, f1_score, roc_auc_score

from pyimagesearch.evaluation import metrics
from pyimagesearch.models.objectives import BinaryCrossEntropy

FOOD = ["Bread", "Dairy_product", "Dessert", "Egg", "Fried_food", "Meat", "Noodles", "Rice", "Seafood", "Soup", "Fruit"]
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


def test_a_label_of_one_class_is_named_and_left_out_of_the_means(answers):
    figures = metrics.measure_labels(*answers, LABELS, [0.5] * 4)
    assert figures["one class only"] == ["rare", "always"]
    assert figures["labels"]["rare"]["roc_auc"] is None
    text = metrics.label_report(figures)
    assert "No photo has rare: it is left out of the macro average" in text
    assert "Every photo has always: it is left out of the macro average" in text
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
    assert "macro average        -" in metrics.label_report(figures)


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


def ranked_history(*aucs: float) -> list[dict]:
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
    assert metrics.best_epoch(ranked_history(*aucs)) == best


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


def test_precision_and_recall_are_not_defined_without_a_photo():
    targets, predictions = [0, 0, 0, 0, 2], [0, 0, 1, 1, 1]
    shares = metrics.precision_and_recall(targets, predictions, 3)
    assert shares["precision"] == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    assert shares["recall"] == pytest.approx([0.5, np.nan, 0], nan_ok=True)


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([0, 1], [[0.6, 0.4], [0.7, 0.3]], 0.5),
        ([[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.4], [0.7, 0.3]], 0.5),
    ],
)
def test_accuracy_is_the_share_of_photos_or_of_all_labels_that_are_right(labels, probabilities, expected):
    assert metrics.accuracy(np.array(labels), np.array(probabilities)) == expected


def test_the_report_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets, predictions = rng.integers(0, 11, 200), rng.integers(0, 11, 200)
    text, numbers = metrics.class_report(targets, predictions, FOOD)
    assert text == classification_report(targets, predictions, target_names=FOOD)
    assert numbers == classification_report(targets, predictions, target_names=FOOD, output_dict=True)


def test_a_class_without_a_photo_shifts_no_name():
    _, numbers = metrics.class_report([0, 2, 2], [0, 2, 2], ["a", "b", "c"])
    assert {name: numbers[name]["support"] for name in "abc"} == {"a": 1, "b": 0, "c": 2}
    assert numbers["b"]["f1-score"] is None


def test_a_class_without_photos_is_no_zero_and_the_averages_leave_it_out_as_scikit_learn_does():
    targets, predictions = [0, 0, 2, 2, 2, 3], [0, 1, 2, 2, 0, 1]
    text, numbers = metrics.class_report(targets, predictions, ["a", "b", "c", "d"])
    plain = classification_report(
        targets, predictions, labels=[0, 2, 3], target_names=["a", "c", "d"], output_dict=True, zero_division=0
    )
    assert all(numbers[name] == pytest.approx(plain[name]) for name in ("a", "c", "d", "macro avg", "weighted avg"))
    assert numbers["accuracy"] == 0.5
    rows = [line.split() for line in text.splitlines() if line]
    assert rows[2] == ["b", "no", "photo"]
    assert rows[4] == ["d", "0.00", "0.00", "0.00", "1"]
    assert [f"{plain['macro avg'][kind]:.2f}" for kind in metrics.SHARES] + ["6"] == rows[6][2:]
    assert len({len(line) for line in text.splitlines() if line}) == 1


def test_a_report_of_odd_names_can_be_written():
    positions = range(len(ODD_NAMES))
    text, numbers = metrics.class_report(positions, positions, ODD_NAMES)
    assert "面包" in text and "\\udcff" in text and "面包" in numbers
    (text + "".join(numbers)).encode("utf-8")


@pytest.mark.parametrize("name", metrics.AVERAGES)
def test_a_class_may_be_called_as_scikit_learn_calls_its_averages(name):
    targets, predictions = [0, 0, 1, 1], [0, 1, 1, 1]
    text, saved = metrics.class_report(targets, predictions, ["Bread", name])
    plain = classification_report(targets, predictions, target_names=["Bread", "Rice"], output_dict=True)
    assert saved == {key if key != "Rice" else f"{name} (class)": value for key, value in plain.items()}
    assert text.count(name) == 2


def test_names_that_look_alike_once_escaped_have_a_row_each():
    _, numbers = metrics.class_report([0, 1, 1], [0, 1, 0], ["\udcff", r"\udcff", "Bread"])
    assert [row["support"] for row in list(numbers.values())[:3]] == [1, 2, 0]


def test_every_figure_is_over_the_known_truths(answers):
    truths, probabilities = answers[0][:, :2].astype(np.int8), answers[1][:, :2]
    known = np.random.default_rng(1).random(truths.shape) < 0.7
    masked = np.where(known, truths, -1)
    figures = metrics.measure_labels(masked, probabilities, LABELS[:2], [0.5, 0.3])
    for n, (name, threshold) in enumerate(zip(LABELS[:2], [0.5, 0.3], strict=True)):
        one, two = truths[known[:, n], n], probabilities[known[:, n], n]
        assert figures["labels"][name]["roc_auc"] == roc_auc_score(one, two)
        assert figures["labels"][name]["f1"] == f1_score(one, two >= threshold)
        assert figures["labels"][name]["positives"] == one.sum()
        assert (
            metrics.best_thresholds(masked, probabilities)[n] == metrics.best_thresholds(one[:, None], two[:, None])[0]
        )
    assert figures["micro"]["roc_auc"] == roc_auc_score(truths[known], probabilities[known])
    assert metrics.macro_auc(masked, probabilities) == figures["macro"]["roc_auc"]
    assert f"{(~known).sum()} of the 120 labels of all photos are not known" in metrics.label_report(figures)


def test_accuracy_is_the_mean_over_photos_of_their_share_of_known_labels_as_in_training():
    truths = np.array([[1, -1, 0], [-1, -1, 1], [1, 1, 1]], np.float32)
    probabilities = np.array([[0.9, 0.9, 0.9], [0.9, 0.1, 0.9], [0.1, 0.9, 0.9]], np.float32)
    assert metrics.accuracy(truths, probabilities) == pytest.approx((0.5 + 1 + 2 / 3) / 3)
    correct = BinaryCrossEntropy().correct(torch.from_numpy(probabilities), torch.from_numpy(truths))
    assert metrics.accuracy(truths, probabilities) == pytest.approx(correct.mean().item())


def test_a_label_that_is_known_of_no_photo_without_it_cannot_be_measured():
    truths = np.array([[1, 0], [-1, 1], [1, -1]])
    assert metrics.measurable(truths).tolist() == [False, True]
