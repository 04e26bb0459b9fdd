"""Bars of figures between 0 and 1, one row per class."""

import numpy as np
import pytest
from helpers.pictures import assert_nothing_is_cut_off, pixels, where

from pyimagesearch.evaluation.pictures.class_bars import plot_bars
from pyimagesearch.evaluation.pictures.style import BLUE, ORANGE

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


def draw(path, **series):
    classes = len(next(iter(series.values())))
    supports = np.full(classes, 7)
    plot_bars(
        path, [f"class {number}" for number in range(classes)], supports, {k: np.array(v) for k, v in series.items()}
    )
    return path


@pytest.mark.parametrize("classes", [1, 2, 40, 41, 101, 1000])
def test_bars_of_any_number_of_classes_are_drawn(tmp_path, classes):
    shares = np.linspace(0, 1, classes)
    path = draw(tmp_path / "bars.png", precision=shares, recall=shares[::-1])
    assert_nothing_is_cut_off(path)
    assert max(pixels(path).shape) < 3000


def bars(path, color=BLUE) -> list[int]:
    """The length in pixels of each bar below the legend, from the top."""
    rows, _ = where(path, color)
    lengths = np.bincount(rows[rows > 60])
    starts = np.flatnonzero(np.diff(np.concatenate([[0], lengths > 0]).astype(int)) == 1)
    return [int(lengths[start + 3]) for start in starts]


def test_the_class_of_the_lowest_mean_is_on_top(tmp_path):
    path = draw(tmp_path / "bars.png", precision=[0.9, 0.2, 0.6], recall=[0.9, 0.4, 0.5])
    first, second, third = bars(path)
    assert first < second < third
    assert first / third == pytest.approx(0.2 / 0.9, abs=0.02)


def test_a_share_that_is_not_defined_has_no_bar_and_a_class_without_any_is_last(tmp_path):
    path = draw(tmp_path / "bars.png", precision=[np.nan, 0.5, np.nan], recall=[np.nan, 0.4, 0.8])
    assert len(bars(path, BLUE)) == 1
    assert len(bars(path, ORANGE)) == 2
    last_bar, height = where(path, ORANGE)[0].max(), pixels(path).shape[0]
    assert height - last_bar > 80  # below it is the row of the class without any


def test_one_series_is_drawn_too(tmp_path):
    path = draw(tmp_path / "bars.png", AUC=[0.5, 1.0])
    assert len(bars(path)) == 2 and bars(path, ORANGE) == []
