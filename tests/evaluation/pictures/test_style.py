"""What holds for all pictures: readable whatever the classes are called, the same bytes again, whole or not at all."""

import logging
import os

import numpy as np
import pytest
from helpers.photos import REPOSITORY
from helpers.pictures import ODD_NAMES, assert_nothing_is_cut_off, draw_one, history_of, run_python, where

from pyimagesearch.evaluation.pictures import style
from pyimagesearch.evaluation.pictures.calibration import calibration_bins, plot_calibration
from pyimagesearch.evaluation.pictures.class_bars import plot_bars
from pyimagesearch.evaluation.pictures.confusion_matrix import plot_confusion_matrix
from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
from pyimagesearch.evaluation.pictures.risk_coverage import plot_risk_coverage
from pyimagesearch.evaluation.pictures.training_curves import plot_history

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


PICTURES = {
    "curves": lambda path, names: plot_history(path, history_of(len(names))),
    "matrix": lambda path, names: plot_confusion_matrix(path, np.eye(len(names), dtype=np.int64), names),
    "bars": lambda path, names: plot_bars(
        path, names, np.arange(len(names)), {"recall": np.linspace(0, 1, len(names))}
    ),
    "calibration": lambda path, names: plot_calibration(path, calibration_bins([0.2, 0.9], [False, True])),
    "risk and coverage": lambda path, names: plot_risk_coverage(path, np.array([0.2, 0.9]), np.array([False, True])),
    "predictions": lambda path, names: plot_predictions(
        path, [np.zeros((8, 8, 3), np.uint8)] * len(names), names, names, [1] * len(names)
    ),
}


def test_the_import_is_cheap_and_drawing_leaves_pyplot_alone(tmp_path):
    done = run_python(
        "import sys\n"
        "from pyimagesearch.evaluation.pictures import calibration, class_bars, confusion_matrix\n"
        "from pyimagesearch.evaluation.pictures import prediction_grid, training_curves\n"
        "assert not {'matplotlib', 'scipy', 'sklearn', 'torch'} & set(sys.modules), 'imported too early'\n"
        f"draw, path = confusion_matrix.plot_confusion_matrix, {str(tmp_path / 'matrix.png')!r}\n"
        "draw(path, confusion_matrix.np.eye(3), ['a', 'b', 'c'])\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'sklearn' not in sys.modules, 'imported for nothing'\n"
    )
    assert done.returncode == 0, done.stderr


FIRST_DRAWN = """
import os, numpy
from evaluation.pictures.test_style import PICTURES
for name, draw in PICTURES.items():
    if os.fork() == 0:  # each is the first to import matplotlib
        draw(os.path.join(os.environ["FOLDER"], name + ".png"), ["a", "b", "c"])
        import matplotlib
        assert os.environ["MPLBACKEND"] == "nonsense" and matplotlib.rcParams["backend"] != "nonsense"
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_files_are_drawn_whatever_backend_a_notebook_left_in_the_environment(tmp_path):
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    done = run_python(FIRST_DRAWN, MPLBACKEND="nonsense", FOLDER=str(tmp_path), PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert len(os.listdir(tmp_path)) == len(PICTURES)


def test_a_backend_that_can_be_used_stays_the_windows(tmp_path):
    draw = "from pyimagesearch.evaluation.pictures import style\nstyle.new_figure()\n"
    done = run_python(f"{draw}from matplotlib import pyplot\nassert pyplot.get_backend() == 'svg'", MPLBACKEND="svg")
    assert done.returncode == 0, done.stderr


def test_only_nothing_is_zero_percent_and_only_all_is_hundred():
    shares = (0, 0.001, 0.005, 0.5, 0.989, 0.999, 1)
    assert [style.percent(share) for share in shares] == ["0%", "<1%", "<1%", "50%", "99%", ">99%", "100%"]


@pytest.mark.parametrize("draw", ["matrix", "bars", "predictions"])
def test_odd_names_are_drawn_without_a_word_on_the_terminal(tmp_path, draw, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        PICTURES[draw](tmp_path / "odd.png", ODD_NAMES)
    assert_nothing_is_cut_off(tmp_path / "odd.png")
    assert capfd.readouterr() == ("", "") and caplog.records == []


@pytest.mark.parametrize("draw", PICTURES)
def test_the_same_figures_give_the_same_bytes(tmp_path, draw):
    for name in ("first.png", "second.png"):
        PICTURES[draw](tmp_path / name, ["a", "b", "c"])
    first, second = ((tmp_path / name).read_bytes() for name in ("first.png", "second.png"))
    assert first == second and b"matplotlib" not in first.lower()


def test_an_installed_font_with_the_characters_is_used(tmp_path, monkeypatch):
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    character = "\U0001f35e"  # a loaf, which this test's font draws as a full square
    pen = TTGlyphPen(None)
    for step, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 900)), (pen.lineTo, (900, 900)), (pen.lineTo, (900, 0))):
        step(point)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "loaf"])
    font.setupCharacterMap({ord(character): "loaf", ord("\n"): "loaf"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "loaf": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "loaf": (1000, 0)})
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "A Test Of Loaves Sans", "styleName": "Regular"})
    font.setupOS2(usWeightClass=400)
    font.setupPost()
    font.save(tmp_path / "loaf.ttf")

    draw_one(tmp_path / "escaped.png", None, character * 5)
    draw_one(tmp_path / "line_escaped.png", None, "two\nlines")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "loaf.ttf")
    draw_one(tmp_path / "drawn.png", None, character * 5)
    draw_one(tmp_path / "line_drawn.png", None, "two\nlines")
    ink = [len(where(tmp_path / name, style.INK)[0]) for name in ("escaped.png", "drawn.png")]
    assert ink[1] > 2 * ink[0]  # five full squares have more ink than any row of letters and digits
    assert (tmp_path / "line_escaped.png").read_bytes() == (tmp_path / "line_drawn.png").read_bytes()


@pytest.mark.parametrize("draw", PICTURES)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, draw):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "old.png"
    path.write_text("old")
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            PICTURES[draw](path, ["a"])
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"
    PICTURES[draw](path, ["a"])
    assert path.read_bytes() != b"old"
