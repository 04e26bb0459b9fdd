"""History, reports and pictures: exact where they are numbers, whole, and readable whatever the classes are called."""

import csv
import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import classification_report

from pyimagesearch import reporting

REPOSITORY = Path(__file__).resolve().parents[1]
FOOD = ["Bread", "Dairy_product", "Dessert", "Egg", "Fried_food", "Meat", "Noodles", "Rice", "Seafood", "Soup", "Fruit"]
ODD_NAMES = [
    "面包",
    "خبز طازج",
    "🍞 bread",
    "5$ or 6$",
    r"$\frac$",
    "a_b^c{d}",
    "two\nlines",
    "bell\x07",
    "broken \udcff byte",
    "Pan-seared salmon with a lemon and butter sauce, served on wild rice with " + "W" * 180,
    "",
]
RIGHT, WRONG = ("Egg", "Egg"), ("Egg", "Rice")

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


def history_of(epochs: int, best: int = 1) -> list[dict]:
    """A history whose best epoch is `best`."""
    rows = []
    for epoch in range(1, epochs + 1):
        nearness = 1 / (1 + abs(epoch - best))
        values = (epoch, 2 / epoch, 1 - 1 / (epoch + 1), 2.5 - nearness, nearness / 1.3, 0.1 / 3, 10 / 3, 1e3 / 7)
        rows.append(dict(zip(reporting.HISTORY_COLUMNS, values, strict=True)))
    return rows


def pixels(path: Path) -> np.ndarray:
    """The picture as integers, shape (height, width, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.int16)


def where(path: Path, color: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of the picture's pixels that are almost of this colour, `#RRGGBB`."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.nonzero((np.abs(pixels(path) - wanted) <= 2).all(axis=2))


def assert_nothing_is_cut_off(path: Path) -> None:
    picture = pixels(path)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def draw_one(path: Path, truth: str | None, prediction: str, photo: np.ndarray | None = None, **options) -> Path:
    photo = np.full((60, 60, 3), 200, np.uint8) if photo is None else photo
    reporting.plot_predictions(path, [photo], [truth], [prediction], [0.5], **options)
    return path


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", code]
    environment = {**inherited, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_import_is_cheap_and_drawing_leaves_pyplot_alone(tmp_path):
    done = run_python(
        "import sys\n"
        "from pyimagesearch import reporting\n"
        "assert not {'matplotlib', 'sklearn', 'torch'} & set(sys.modules), 'imported too early'\n"
        f"reporting.plot_confusion_matrix({str(tmp_path / 'matrix.png')!r}, [0, 1], [0, 1], ['a', 'b'])\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'sklearn' not in sys.modules, 'imported for nothing'\n"
    )
    assert done.returncode == 0, done.stderr


# ---- history ----


def test_the_history_reads_back_exactly(tmp_path):
    history = [*history_of(3), dict.fromkeys(reporting.HISTORY_COLUMNS, np.float32(4)) | {"val_loss": np.float32(0.1)}]
    reporting.write_history(tmp_path / "history.csv", history)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == reporting.HISTORY_COLUMNS
    assert [{name: float(text) for name, text in row.items()} for row in rows] == history
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


def test_an_unfinished_history_keeps_values_that_are_not_finite(tmp_path):
    reporting.write_history(tmp_path / "history.csv", [{**history_of(1)[0], "val_loss": math.nan, "lr": math.inf}])
    row = (tmp_path / "history.csv").read_text().splitlines()[1].split(",")
    assert math.isnan(float(row[3])) and float(row[5]) == math.inf


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
    assert reporting.best_epoch(history) == best


def test_no_epoch_has_no_best():
    with pytest.raises(ValueError):
        reporting.best_epoch([])


@pytest.mark.parametrize(("epochs", "broken"), [(1, False), (1, True), (20, True), (300, False)])
def test_curves_of_any_length_are_drawn(tmp_path, epochs, broken):
    history = history_of(epochs)
    if broken:
        history[0].update(train_loss=math.inf, val_acc=math.nan)
        history[epochs // 2].update(val_loss=math.nan, val_acc=math.nan, train_acc=-math.inf)
    reporting.plot_history(tmp_path / "curves.png", history)
    assert_nothing_is_cut_off(tmp_path / "curves.png")


def test_the_star_stands_at_the_best_epoch(tmp_path):
    places = []
    for best in (5, 15):
        reporting.plot_history(tmp_path / "curves.png", history_of(20, best))
        picture = pixels(tmp_path / "curves.png")
        left_axes = picture[80:, : picture.shape[1] // 2]  # below the legend, which has a star too
        ink = (np.abs(left_axes - 0x22) <= 2).all(axis=2)
        solid = np.lib.stride_tricks.sliding_window_view(ink, (6, 6)).all(axis=(2, 3))  # letters are thinner
        places.append(np.nonzero(solid)[1].mean())
    assert 250 < places[1] - places[0] < 450  # half of an axes that is about 690 pixels wide


def test_one_epoch_has_one_tick_not_fractions_of_epochs(tmp_path):
    reporting.plot_history(tmp_path / "curves.png", history_of(1))
    _, columns = where(tmp_path / "curves.png", reporting.PALE)
    upright_grid_lines = np.count_nonzero(np.bincount(columns) > 200)
    assert upright_grid_lines <= 2  # one in each axes


# ---- report ----


def test_the_report_is_that_of_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    targets, predictions = rng.integers(0, 11, 200), rng.integers(0, 11, 200)
    text = reporting.write_report(tmp_path, targets, predictions, FOOD)
    assert text == classification_report(targets, predictions, target_names=FOOD)
    assert (tmp_path / "classification_report.txt").read_text() == text
    saved = json.loads((tmp_path / "classification_report.json").read_text())
    assert saved == classification_report(targets, predictions, target_names=FOOD, output_dict=True)


def test_a_class_without_a_photo_shifts_no_name(tmp_path):
    reporting.write_report(tmp_path, [0, 2, 2], [0, 2, 2], ["a", "b", "c"])
    saved = json.loads((tmp_path / "classification_report.json").read_text())
    assert {name: saved[name]["support"] for name in "abc"} == {"a": 1, "b": 0, "c": 2}
    assert saved["b"]["f1-score"] == 0


def test_a_report_of_odd_names_is_written(tmp_path):
    numbers = range(len(ODD_NAMES))
    assert "面包" in reporting.write_report(tmp_path, numbers, numbers, ODD_NAMES)
    assert "\\udcff" in (tmp_path / "classification_report.txt").read_text(encoding="utf-8")
    assert "面包" in json.loads((tmp_path / "classification_report.json").read_text(encoding="utf-8"))


# ---- confusion matrix ----


def test_rows_are_truth_and_columns_are_predictions(tmp_path):
    reporting.plot_confusion_matrix(tmp_path / "matrix.png", [0, 0, 0], [1, 1, 1], ["a", "b"])
    full_rows, full_columns = where(tmp_path / "matrix.png", "#00304D")
    height, width, _ = pixels(tmp_path / "matrix.png").shape
    assert full_rows.mean() < height / 2 and full_columns.mean() > width / 2


@pytest.mark.parametrize("classes", [1, 2, 16, 101, 130])
def test_a_matrix_of_any_size_is_drawn(tmp_path, classes):
    targets = np.arange(classes).repeat(2)
    predictions = np.where(np.arange(2 * classes) % 2, targets, (targets + 1) % classes)
    names = [f"class {number}" for number in range(classes)]
    reporting.plot_confusion_matrix(tmp_path / "matrix.png", targets, predictions, names)
    assert_nothing_is_cut_off(tmp_path / "matrix.png")
    assert max(pixels(tmp_path / "matrix.png").shape) < 4000


def test_only_nothing_is_zero_percent_and_only_all_is_hundred():
    shares = (0, 0.001, 0.005, 0.5, 0.989, 0.999, 1)
    assert [reporting._percent(share) for share in shares] == ["0%", "<1%", "<1%", "50%", "99%", ">99%", "100%"]


# ---- names ----


@pytest.mark.parametrize("draw", ["matrix", "predictions"])
def test_odd_names_are_drawn_without_a_word_on_the_terminal(tmp_path, draw, capfd, caplog):
    numbers = range(len(ODD_NAMES))
    with caplog.at_level(logging.WARNING):
        if draw == "matrix":
            reporting.plot_confusion_matrix(tmp_path / "odd.png", numbers, numbers, ODD_NAMES)
        else:
            photos = [np.zeros((8, 8, 3), np.uint8)] * len(ODD_NAMES)
            reporting.plot_predictions(tmp_path / "odd.png", photos, ODD_NAMES, ODD_NAMES, [1] * len(ODD_NAMES))
    assert_nothing_is_cut_off(tmp_path / "odd.png")
    assert capfd.readouterr() == ("", "") and caplog.records == []


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
    ink = [len(where(tmp_path / name, reporting.INK)[0]) for name in ("escaped.png", "drawn.png")]
    assert ink[1] > 2 * ink[0]  # five full squares have more ink than any row of letters and digits
    assert (tmp_path / "line_escaped.png").read_bytes() == (tmp_path / "line_drawn.png").read_bytes()


# ---- predictions ----


def test_a_wrong_prediction_is_told_without_colour_too(tmp_path):
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
    assert len(where(unknown, reporting.BLUE)[0]) == len(where(unknown, reporting.VERMILLION)[0]) == 0
    assert len(where(draw_one(tmp_path / "right.png", *RIGHT), reporting.BLUE)[0]) > 0
    assert len(where(draw_one(tmp_path / "wrong.png", *WRONG), reporting.VERMILLION)[0]) > 0


@pytest.mark.parametrize("count", [1, 5, 64])
def test_grids_are_nearly_square_and_nothing_is_cut_off(tmp_path, count):
    photos = [np.zeros((8, 8, 3), np.uint8)] * count
    reporting.plot_predictions(tmp_path / "grid.png", photos, ["a"] * count, ["b"] * count, [0.999] * count)
    assert_nothing_is_cut_off(tmp_path / "grid.png")
    height, width, _ = pixels(tmp_path / "grid.png").shape
    assert 0.6 < width / height < 1.6


def test_a_photo_keeps_its_shape_and_its_colours(tmp_path):
    photo = np.zeros((50, 100, 3), np.uint8)
    photo[:] = (10, 200, 30)
    rows, columns = where(draw_one(tmp_path / "one.png", None, "Rice", photo), "#0AC81E")
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2, abs=0.05)


def test_the_same_photos_give_the_same_bytes(tmp_path):
    first, second = (draw_one(tmp_path / name, *WRONG).read_bytes() for name in ("first.png", "second.png"))
    assert first == second and b"matplotlib" not in first.lower()


def test_unequal_numbers_and_no_photos_are_refused(tmp_path):
    photo = np.zeros((8, 8, 3), np.uint8)
    for photos, truths in (([photo, photo], ["a"]), ([], [])):
        with pytest.raises(ValueError):
            reporting.plot_predictions(tmp_path / "grid.png", photos, truths, truths, [1.0] * len(truths))
    assert list(tmp_path.iterdir()) == []


SHOW = (
    "import sys, numpy; from pyimagesearch import reporting\n"
    "reporting.plot_predictions(sys.argv[1], [numpy.zeros((8, 8, 3), 'uint8')], ['a'], ['b'], [0.5], show=True)"
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


# ---- whole or not at all ----


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("history.csv", lambda path: reporting.write_history(path, history_of(2))),
        ("curves.png", lambda path: reporting.plot_history(path, history_of(2))),
        ("classification_report.txt", lambda path: reporting.write_report(path.parent, [0], [0], ["a"])),
        ("matrix.png", lambda path: reporting.plot_confusion_matrix(path, [0], [0], ["a"])),
        ("one.png", lambda path: draw_one(path, *RIGHT)),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, write):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / name).write_text("old")
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "old"
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() != b"old"
