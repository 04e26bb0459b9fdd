"""Confidence against accuracy."""

import math

import numpy as np
import pytest
from helpers.pictures import assert_nothing_is_cut_off
from matplotlib.axes import Axes

from pyimagesearch.evaluation.pictures.calibration import (
    BINS,
    calibration_bins,
    expected_calibration_error,
    plot_calibration,
)

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


def by_the_definition(confidences, right) -> float:
    """Equation 3 of Guo et al., bin by bin."""
    total = 0.0
    for m in range(1, BINS + 1):
        inside = [i for i, c in enumerate(confidences) if (m - 1) / BINS < c <= m / BINS]
        if inside:
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - confidence)
    return total


def test_the_expected_calibration_error_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    confidences = np.concatenate([rng.random(500), np.arange(1, BINS + 1) / BINS])  # the edges too
    right = rng.random(len(confidences)) < confidences**2
    found = expected_calibration_error(calibration_bins(confidences, right))
    assert found == pytest.approx(by_the_definition(confidences, right), abs=1e-12)


def test_confidences_that_come_true_have_no_error_and_false_certainty_has_all():
    assert expected_calibration_error(calibration_bins([0.5, 0.5, 1.0], [True, False, True])) == 0
    assert expected_calibration_error(calibration_bins([1.0, 1.0], [False, False])) == 1


def test_each_photo_is_in_one_bin():
    bins = calibration_bins([0.0, 1 / 15, 0.07, 1.0, math.nan], [True] * 5)
    assert bins.counts.sum() == 5
    assert bins.counts[[0, 1, -1]].tolist() == [3, 1, 1]
    assert np.isnan(bins.accuracy[5])


def test_each_accuracy_is_drawn_with_the_95_percent_interval_of_the_tables(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "vlines", lambda axes, x, low, high, **style: drawn.extend([low, high]))
    confidences = np.repeat([0.05, 0.5, 0.95], [10, 10, 1])
    right = np.repeat([False, True, False, True], [10, 5, 5, 1])
    plot_calibration(tmp_path / "calibration.png", calibration_bins(confidences, right))
    assert drawn[0] == pytest.approx([0, 0.2366, 0.2065], abs=1e-4)
    assert drawn[1] == pytest.approx([0.2775, 0.7634, 1], abs=1e-4)


def test_the_diagram_has_both_errors_and_the_photos_before_calibration(tmp_path, monkeypatch):
    drawn, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "set_title", lambda axes, title, **style: drawn.append(title))
    monkeypatch.setattr(
        Axes, "plot", lambda axes, *args, **style: drawn.append(style["label"]) or plot(axes, *args, **style)
    )
    after, before = (calibration_bins([share] * 4, [True, True, False, False]) for share in (0.6, 0.95))
    plot_calibration(tmp_path / "calibration.png", after, before)
    assert "before calibration" in drawn and "Expected calibration error 10.0%, before 45.0%" in drawn


@pytest.mark.parametrize("confidences", [[0.7], [0.5] * 40, np.linspace(0, 1, 5000), [math.nan]])
def test_a_diagram_of_any_photos_is_drawn(tmp_path, confidences):
    plot_calibration(tmp_path / "calibration.png", calibration_bins(confidences, np.arange(len(confidences)) % 3 > 0))
    assert_nothing_is_cut_off(tmp_path / "calibration.png")
