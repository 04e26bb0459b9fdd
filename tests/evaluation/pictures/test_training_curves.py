"""Curves: of any length, with the best epoch marked."""

import math

import numpy as np
import pytest
from helpers.pictures import assert_nothing_is_cut_off, history_of, pixels, where

from pyimagesearch.evaluation.pictures.style import PALE
from pyimagesearch.evaluation.pictures.training_curves import plot_history

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


@pytest.mark.parametrize(("epochs", "broken"), [(1, False), (1, True), (20, True), (300, False)])
def test_curves_of_any_length_are_drawn(tmp_path, epochs, broken):
    history = history_of(epochs)
    if broken:
        history[0].update(train_loss=math.inf, val_acc=math.nan)
        history[epochs // 2].update(val_loss=math.nan, val_acc=math.nan, train_acc=-math.inf)
    plot_history(tmp_path / "curves.png", history)
    assert_nothing_is_cut_off(tmp_path / "curves.png")


def test_the_star_stands_at_the_best_epoch(tmp_path):
    places = []
    for best in (5, 15):
        plot_history(tmp_path / "curves.png", history_of(20, best))
        picture = pixels(tmp_path / "curves.png")
        left_axes = picture[80:, : picture.shape[1] // 2]  # below the legend, which has a star too
        ink = (np.abs(left_axes - 0x22) <= 2).all(axis=2)
        solid = np.lib.stride_tricks.sliding_window_view(ink, (6, 6)).all(axis=(2, 3))  # letters are thinner
        places.append(np.nonzero(solid)[1].mean())
    assert 250 < places[1] - places[0] < 450  # half of an axes that is about 690 pixels wide


def test_one_epoch_has_one_tick_not_fractions_of_epochs(tmp_path):
    plot_history(tmp_path / "curves.png", history_of(1))
    _, columns = where(tmp_path / "curves.png", PALE)
    upright_grid_lines = np.count_nonzero(np.bincount(columns) > 200)
    assert upright_grid_lines <= 2  # one in each axes


def test_a_learning_rate_that_changes_has_its_own_axes(tmp_path):
    history = history_of(4)
    plot_history(tmp_path / "constant.png", history)
    history[3]["lr"] /= 10
    plot_history(tmp_path / "changing.png", history)
    assert_nothing_is_cut_off(tmp_path / "changing.png")
    sides = []  # of axes, the only long upright lines that are black
    for name in ("constant.png", "changing.png"):
        black = (pixels(tmp_path / name)[100:400] < 120).all(axis=(0, 2))
        sides.append(np.count_nonzero(np.diff(black.astype(int)) == 1))
    assert sides == [2, 3]
