"""Accuracy among the most confident photos."""

import numpy as np
import pytest
from helpers.pictures import assert_nothing_is_cut_off
from matplotlib.axes import Axes

from pyimagesearch.evaluation.pictures.risk_coverage import answered_at, plot_risk_coverage

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


def test_photos_of_at_least_a_confidence_are_counted_with_their_accuracy():
    confidences, right = np.array([0.4, 0.5, 0.7, 0.9, 0.1]), np.array([True, False, True, True, False])
    assert answered_at(confidences, right) == [
        (0.5, 3, 0.6, pytest.approx(2 / 3)),
        (0.7, 2, 0.4, 1.0),
        (0.9, 1, 0.2, 1.0),
    ]


def test_the_curve_has_a_point_for_each_confidence_and_equals_share_one(tmp_path, monkeypatch):
    lines, plot = [], Axes.plot

    def recorded(axes, *args, **style):
        lines.append(args)
        return plot(axes, *args, **style)

    monkeypatch.setattr(Axes, "plot", recorded)
    confidences, right = np.array([0.5, 0.9, 0.5, 0.8]), np.array([False, True, True, False])
    plot_risk_coverage(tmp_path / "curve.png", confidences, right)
    (shares, accuracy), *marks = lines
    assert shares.tolist() == [0.25, 0.5, 1.0] and accuracy.tolist() == [1.0, 0.5, 0.5]
    assert [place for *place, _ in marks[:3]] == [[1.0, 0.5], [0.5, 0.5], [0.25, 1.0]]


@pytest.mark.parametrize("confidences", [[0.3], [1.0] * 40, np.linspace(0, 1, 3000), [0.0]])
def test_a_curve_of_any_photos_is_drawn(tmp_path, confidences):
    plot_risk_coverage(tmp_path / "curve.png", np.array(confidences), np.arange(len(confidences)) % 3 > 0)
    assert_nothing_is_cut_off(tmp_path / "curve.png")
