"""The confusion matrix: counted, sorted, drawn at any size."""

import numpy as np
import pytest
from helpers.pictures import assert_nothing_is_cut_off, pixels, where

from pyimagesearch.evaluation.metrics import confusion_counts, most_frequent_confusions
from pyimagesearch.evaluation.pictures.confusion_matrix import confusion_order, plot_confusion_matrix

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


def test_rows_are_truth_and_columns_are_predictions(tmp_path):
    plot_confusion_matrix(tmp_path / "matrix.png", np.array([[0, 3], [0, 0]]), ["a", "b"])
    full_rows, full_columns = where(tmp_path / "matrix.png", "#00304D")
    height, width, _ = pixels(tmp_path / "matrix.png").shape
    assert full_rows.mean() < height / 2 and full_columns.mean() > width / 2


@pytest.mark.parametrize("classes", [1, 2, 16, 101, 130])
def test_a_matrix_of_any_size_is_drawn(tmp_path, classes):
    targets = np.arange(classes).repeat(2)
    predictions = np.where(np.arange(2 * classes) % 2, targets, (targets + 1) % classes)
    names = [f"class {number}" for number in range(classes)]
    plot_confusion_matrix(tmp_path / "matrix.png", confusion_counts(targets, predictions, classes), names)
    assert_nothing_is_cut_off(tmp_path / "matrix.png")
    assert max(pixels(tmp_path / "matrix.png").shape) < 4000


def test_counts_have_a_row_for_the_truth_and_a_column_for_the_prediction():
    counts = confusion_counts([0, 0, 0, 2], [0, 1, 1, 0], 3)
    assert counts.tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_classes_that_are_confused_stand_together():
    """Eight classes in four pairs, far apart in their own order."""
    counts = 10 * np.eye(8, dtype=np.int64)
    for one, two in ((0, 5), (1, 7), (2, 4), (3, 6)):
        counts[one, two], counts[two, one] = 4, 3
    places = np.argsort(confusion_order(counts))
    assert sorted(places) == list(range(8))
    for one, two in ((0, 5), (1, 7), (2, 4), (3, 6)):
        assert abs(places[one] - places[two]) == 1


@pytest.mark.parametrize("classes", [1, 2, 3, 11, 101])
def test_classes_that_are_not_confused_keep_their_order(classes):
    assert confusion_order(5 * np.eye(classes, dtype=np.int64)).tolist() == list(range(classes))


def test_a_class_without_photos_has_its_place():
    counts = np.diag([3, 0, 2])
    assert sorted(confusion_order(counts)) == [0, 1, 2]


def test_the_order_is_the_same_whatever_happened_before():
    counts = np.random.default_rng(0).integers(0, 9, (30, 30))
    orders = {tuple(confusion_order(counts)) for _ in range(3)}
    assert len(orders) == 1 and next(iter(orders))[0] < next(iter(orders))[-1]


def test_the_most_frequent_confusions_have_no_diagonal_and_no_zeros():
    counts = np.array([[9, 2, 0], [5, 9, 0], [2, 0, 9]])
    assert most_frequent_confusions(counts) == [(1, 0), (0, 1), (2, 0)]
    assert most_frequent_confusions(counts, most=1) == [(1, 0)]
    assert most_frequent_confusions(np.eye(3, dtype=np.int64)) == []
