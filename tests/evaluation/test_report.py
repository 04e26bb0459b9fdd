"""What training leaves of its evaluation, in edge cases too."""

import json

import numpy as np
import pytest
from helpers.pages import Page, assert_self_contained
from helpers.pictures import ODD_NAMES, history_of

from pyimagesearch.data.datasets import PhotoFolder
from pyimagesearch.evaluation import report

PICTURES = {"model_training.png", "confusion_matrix.png", "classes.png", "calibration.png", "mistakes.png"}

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


class Photos:
    """A test split of photos at paths that need not exist."""

    def __init__(self, classes, labels, paths=None):
        self.classes, self.labels, self.paths = list(classes), np.array(labels), paths

    def path(self, index):
        return self.paths[index] if self.paths else f"nowhere/<{index}>.jpg"


def probabilities_of(predictions, classes: int, confidence: float = 0.9) -> np.ndarray:
    """Of photos that are taken for `predictions`."""
    rest = (1 - confidence) / max(classes - 1, 1)
    rows = np.full((len(predictions), classes), rest, np.float32)
    rows[np.arange(len(predictions)), predictions] = confidence
    return rows


def write(output, dataset, probabilities, history=None, **facts) -> Page:
    facts = {
        "architecture": "densenet121", "image_size": 32, "metrics": {"epoch": 1}, "versions": {"torch": "2.15.0"},
        "training": {"seed": 0, "weights": "<none>", "sync-bn": False, "limit": None}, **facts,
    }  # fmt: skip
    counts = {"training": 9, "evaluation": len(dataset.labels)}
    report.write_results(
        output, dataset, probabilities, history or history_of(3), facts, counts, {"processor": "A & B <C>"}
    )
    page = Page((output / "report.html").read_text(encoding="utf-8"))
    assert_self_contained(page)
    return page


def test_all_pictures_are_written_and_shown_on_the_page(tmp_path, photos):
    folder = photos({"Bread": 3, "Rice": 2})
    dataset = PhotoFolder(folder, None)
    page = write(tmp_path / "out", dataset, probabilities_of([0, 1, 1, 1, 0], 2))
    assert {path.name for path in (tmp_path / "out").iterdir()} == PICTURES | {"report.html"}
    kinds = [image["src"].split(",")[0] for image in page.all("img")]
    assert kinds.count("data:image/png;base64") == 4 and kinds.count("data:image/jpeg;base64") == 3
    for words in ("40.0%", "2 of 5 photos", "A & B <C>", "<none>", str(folder / "Bread" / "001.png")):
        assert words in page.text
    assert len(page.all("table")) == 6


def test_mistakes_come_most_confident_first_and_sixteen_at_most():
    dataset = Photos("ab", [0] * 20 + [1])
    probabilities = probabilities_of([1] * 20 + [1], 2)
    probabilities[:, 1] = [0.6, 0.9, 0.9, *[0.7] * 17, 1.0]
    mistakes = report.confident_mistakes(dataset, probabilities)
    assert [item.path for item in mistakes[:4]] == [f"nowhere/<{index}>.jpg" for index in (1, 2, 3, 4)]
    assert len(mistakes) == 16
    assert (mistakes[0].truth, mistakes[0].prediction) == ("a", "b")
    assert mistakes[0].confidence == pytest.approx(0.9)


def test_a_photo_that_is_gone_or_broken_does_not_stop_the_report(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    dataset = Photos("ab", [0, 0], [str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg")])
    page = write(tmp_path / "out", dataset, probabilities_of([1, 1], 2))
    assert len(page.all("li")) == 2


def test_without_a_mistake_the_page_says_so_and_an_old_picture_goes(tmp_path):
    for name in ("mistakes.png", "labels.png"):
        (tmp_path / name).write_bytes(b"of an earlier run")
    page = write(tmp_path, Photos("ab", [0, 1]), probabilities_of([0, 1], 2))
    assert "None: every test photo is right." in page.text and page.all("li") == []
    assert {path.name for path in tmp_path.iterdir()} == PICTURES - {"mistakes.png"} | {"report.html"}


@pytest.mark.parametrize(
    ("classes", "labels", "predictions"),
    [
        (["only"], [0], [0]),
        (["a", "b"], [0], [1]),
        (["a", "without photos", "c"], [0, 2, 2], [0, 2, 1]),
        (["accuracy", "macro avg", "weighted avg"], [0, 1, 2], [0, 1, 1]),
        (ODD_NAMES, list(range(len(ODD_NAMES))), [0] * len(ODD_NAMES)),
        ([f"class {number}" for number in range(41)], list(range(41)), list(range(41))),
    ],
)
def test_any_classes_and_photos_make_a_page(tmp_path, classes, labels, predictions):
    page = write(tmp_path, Photos(classes, labels), probabilities_of(predictions, len(classes)), history_of(1))
    right = sum(label == prediction for label, prediction in zip(labels, predictions, strict=True))
    assert f"{right} of {len(labels)} photos" in page.text


def test_the_row_of_a_class_is_its_own_whatever_it_is_called(tmp_path):
    page = write(tmp_path, Photos(["accuracy", "b"], [0, 0, 0, 1]), probabilities_of([0, 1, 1, 1], 2))
    cells = [data for tag, data in page.words if tag in ("th", "td")]
    first = cells.index("support") + 1
    assert cells[first : first + 5] == ["accuracy", "1.00", "0.33", "0.50", "3"]
    assert cells[first + 10 : first + 13] == ["accuracy", "0.50", "4"]


def test_figures_that_are_not_numbers_do_not_stop_the_report(tmp_path):
    history = history_of(2)
    for row in history:
        row.update(train_loss=np.nan, val_loss=np.nan, val_acc=np.nan)
    page = write(tmp_path, Photos("ab", [0, 1]), np.full((2, 2), np.nan), history)
    assert "1 of 2 photos" in page.text
    assert [data for tag, data in page.words if tag == "dd"] == ["a", "0%", "b"]  # of the mistake


def test_precision_and_recall_are_not_defined_without_a_photo():
    figures = report.precision_and_recall(np.array([[2, 2, 0], [0, 0, 0], [0, 1, 0]]))
    assert figures["precision"] == pytest.approx([1, 0, np.nan], nan_ok=True)
    assert figures["recall"] == pytest.approx([0.5, np.nan, 0], nan_ok=True)


def test_an_undecodable_folder_is_named_on_the_page(tmp_path):
    page = write(tmp_path, Photos("ab", [0], ["broken \udcff.jpg"]), probabilities_of([1], 2), weights="\udcff")
    assert "broken \\udcff.jpg" in page.text
    json.dumps(page.text).encode("utf-8")
