"""Photos with predictions: right and wrong told apart without colour, and in a window where there is one."""

import os
import sys

import numpy as np
import pytest
from helpers.pictures import REPOSITORY, assert_nothing_is_cut_off, draw_one, pixels, run_python, where
from PIL import Image

from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
from pyimagesearch.evaluation.pictures.style import BLUE, VERMILLION

RIGHT, WRONG = ("Egg", "Egg"), ("Egg", "Rice")

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


def test_a_wrong_prediction_is_marked_without_colour_too(tmp_path):
    pictures = []
    for truth, prediction in (RIGHT, WRONG):
        with Image.open(draw_one(tmp_path / "one.png", truth, prediction)) as picture:
            photo = picture.convert("L").crop((0, 0, picture.width, picture.width))  # the caption lies below it
        pictures.append(np.asarray(photo, dtype=np.int16))
    difference = np.abs(pictures[0] - pictures[1]) > 40
    assert difference.mean() > 0.02  # the thick frame


def test_the_corner_of_a_photo_has_a_check_or_a_cross_or_nothing(tmp_path):
    corners = []
    for truth in ("Egg", "Rice", None):
        picture = pixels(draw_one(tmp_path / "one.png", truth, "Egg", np.full((60, 60, 3), 200, np.uint8)))
        corners.append(picture[40:85, 365:412].min(axis=2))
    check, cross, nothing = ((corner > 240) for corner in corners)  # their strokes are white
    assert np.count_nonzero(check != cross) > 50
    assert not nothing.any() and (corners[2] == 200).all()


def test_where_nobody_knows_the_truth_nothing_is_judged(tmp_path):
    unknown = draw_one(tmp_path / "unknown.png", None, "Rice")
    assert len(where(unknown, BLUE)[0]) == len(where(unknown, VERMILLION)[0]) == 0
    assert len(where(draw_one(tmp_path / "right.png", *RIGHT), BLUE)[0]) > 0
    assert len(where(draw_one(tmp_path / "wrong.png", *WRONG), VERMILLION)[0]) > 0


@pytest.mark.parametrize("count", [1, 5, 64])
def test_grids_are_nearly_square_and_nothing_is_cut_off(tmp_path, count):
    photos = [np.zeros((8, 8, 3), np.uint8)] * count
    plot_predictions(tmp_path / "grid.png", photos, ["a"] * count, ["b"] * count, [0.999] * count)
    assert_nothing_is_cut_off(tmp_path / "grid.png")
    height, width, _ = pixels(tmp_path / "grid.png").shape
    assert 0.6 < width / height < 1.6


def test_a_photo_keeps_its_shape_and_its_colours(tmp_path):
    photo = np.zeros((50, 100, 3), np.uint8)
    photo[:] = (10, 200, 30)
    rows, columns = where(draw_one(tmp_path / "one.png", None, "Rice", photo), "#0AC81E")
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2, abs=0.05)


def test_unequal_numbers_and_no_photos_are_refused(tmp_path):
    photo = np.zeros((8, 8, 3), np.uint8)
    for photos, truths in (([photo, photo], ["a"]), ([], [])):
        with pytest.raises(ValueError):
            plot_predictions(tmp_path / "grid.png", photos, truths, truths, [1.0] * len(truths))
    assert list(tmp_path.iterdir()) == []


SHOW = (
    "import sys, numpy; from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions\n"
    "plot_predictions(sys.argv[1], [numpy.zeros((8, 8, 3), 'uint8')], ['a'], ['b'], [0.5], show=True)"
).replace("sys.argv[1]", "'{path}'")


@pytest.mark.skipif(sys.platform != "linux", reason="only there is a display a matter of the environment")
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MPLBACKEND": "TkAgg"},
        {"MPLBACKEND": "QtAgg"},
        {"MPLBACKEND": "module://no_such_backend"},
        {"MPLBACKEND": "Agg", "DISPLAY": ":99"},
        {"DISPLAY": ":99"},
    ],
)
def test_showing_without_a_display_does_nothing(tmp_path, environment):
    done = run_python(SHOW.format(path=(tmp_path / "one.png").as_posix()), **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "one.png").stat().st_size > 0


def test_showing_with_a_display_opens_a_window(tmp_path):
    (tmp_path / "window.py").write_text(
        "from matplotlib.backend_bases import FigureManagerBase\n"
        "from matplotlib.backends.backend_agg import FigureCanvasAgg\n"
        "class FigureManager(FigureManagerBase):\n"
        "    @classmethod\n"
        "    def pyplot_show(cls, **options):\n"
        "        from matplotlib import pyplot\n"
        "        print('shown', len(pyplot.gcf().axes))\n"
        "class FigureCanvas(FigureCanvasAgg):\n"
        "    manager_class = FigureManager\n"
        "    required_interactive_framework = 'headless'\n"  # what pyplot calls a Linux that has no display
    )
    paths = os.pathsep.join([str(REPOSITORY), str(tmp_path)])
    picture = (tmp_path / "one.png").as_posix()
    done = run_python(SHOW.format(path=picture), MPLBACKEND="module://window", PYTHONPATH=paths)
    assert (done.returncode, done.stdout.strip()) == (0, "shown 1"), done.stderr
