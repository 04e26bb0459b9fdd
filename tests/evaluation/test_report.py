"""What a run leaves of its evaluation, in edge cases too: measured, printed, drawn, and on a page."""

import base64
import io
import json
import math
import os

import numpy as np
import pytest
import torch
from helpers.pages import Page, assert_self_contained
from helpers.pictures import ODD_NAMES, history_of
from PIL import Image
from torch import nn

from pyimagesearch.data.datasets import PhotoFolder
from pyimagesearch.evaluation import metrics
from pyimagesearch.evaluation.pictures.calibration import calibration_bins, expected_calibration_error
from pyimagesearch.evaluation.reporting import report
from pyimagesearch.evaluation.reporting.label_issues import LabelIssues, predicted_margins
from pyimagesearch.evaluation.reporting.temperature import BOUNDS, fit_temperature
from pyimagesearch.models.objectives import CROSS_ENTROPY, BinaryCrossEntropy

PICTURES = {
    "model_training.png", "confusion_matrix.png", "classes.png", "calibration.png", "risk_coverage.png", "mistakes.png",
    "label_issues.png",
}  # fmt: skip
REPORTS = {"report.html", "classification_report.txt", "classification_report.json", "label_issues.csv"}
MARKUP = "<img src=x onerror=alert(1)> & \"quoted\" 'too'"

# matplotlib before 3.11 calls what new releases of pyparsing deprecate
pytestmark = pytest.mark.filterwarnings("error", "ignore:.* deprecated:DeprecationWarning")


class Photos:
    """A split of photos at paths that need not exist."""

    title, root = "evaluation", "nowhere"

    def __init__(self, classes, labels, paths=None):
        self.classes, self.labels, self.paths = list(classes), np.array(labels), paths

    def __len__(self):
        return len(self.labels)

    def path(self, index):
        return self.paths[index] if self.paths else f"nowhere/<{index}>.jpg"

    name = path


def probabilities_of(predictions, classes: int, confidence: float = 0.9) -> np.ndarray:
    """Of photos that are taken for `predictions`."""
    rest = (1 - confidence) / max(classes - 1, 1)
    rows = np.full((len(predictions), classes), rest, np.float32)
    rows[np.arange(len(predictions)), predictions] = confidence
    return rows


def results_of(dataset, probabilities, thresholds=None, temperature=None) -> report.Results:
    probabilities = np.nan_to_num(probabilities)
    measured = {"test_loss": 1.0, "test_acc": metrics.accuracy(dataset.labels, probabilities)}
    text, numbers = metrics.classification_report(dataset.labels, probabilities, dataset.classes, thresholds)
    if thresholds is not None:
        measured["test_auc"] = numbers["macro"]["roc_auc"]
        numbers = {"evaluation": numbers, "validation": {"photos": 1}}
    before = None
    if thresholds is None:
        measured["test_ece"] = 0.123
    if temperature is not None and thresholds is None:
        before = calibration_bins(np.ones(len(dataset.labels)), probabilities.argmax(1) == dataset.labels)
        measured["test_ece_uncalibrated"] = expected_calibration_error(before)
    return report.Results(probabilities, measured, text, numbers, probabilities, thresholds, temperature, before)


def write(output, dataset, probabilities, history=None, thresholds=None, temperature=None, **training) -> Page:
    card = {
        **({} if temperature is None else {"temperature": temperature}),
        "architecture": "densenet121", "image_size": 32, "metrics": {"epoch": 1}, "versions": {"torch": "2.15.0"},
        "training": {"seed": 0, "weights": "<none>", "sync-bn": False, "limit": None, **training},
    }  # fmt: skip
    objective = CROSS_ENTROPY if thresholds is None else BinaryCrossEntropy()
    margins = predicted_margins(objective, np.nan_to_num(probabilities), dataset.labels)
    issues = LabelIssues("nowhere", {"training": dataset, "evaluation": dataset}, [margins, margins])
    report.write_report(
        output, results_of(dataset, probabilities, thresholds, temperature), issues, history or history_of(3), card,
        {"processor": "A & B <C>"},
    )  # fmt: skip
    page = Page((output / "report.html").read_text(encoding="utf-8"))
    assert_self_contained(page)
    return page


def cells(page: Page) -> list[str]:
    return [data for tag, data in page.words if tag in ("th", "td")]


# --- how good the model is -------------------------------------------------------------------------------------------


class Loader:
    """Batches of `logits`, float of shape (photos, classes), as if they were photos, of a split on one rank."""

    def __init__(self, logits, classes, labels, batch: int = 2):
        self.logits = torch.tensor(logits, dtype=torch.float32)
        self.dataset, self.batch_sampler = Photos(classes, labels), self
        self.indices = list(range(len(labels)))
        self.turns = [min(batch, len(labels) - start) for start in range(0, len(labels), batch)]

    def __iter__(self):
        labels = torch.from_numpy(self.dataset.labels)
        return zip(self.logits[:, :, None, None].split(2), labels.split(2), strict=True)


class Echo(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.factor * images.flatten(1)


def test_one_class_per_photo_is_measured_on_the_test_split_alone_if_it_is_not_calibrated():
    test = Loader([[1, 0], [3, 0], [0, math.nan]], "ab", [0, 1, 0])
    results = report.assess(Echo(), CROSS_ENTROPY, test, test, calibrate=False)
    unused = report.assess(
        Echo(), CROSS_ENTROPY, Loader([[math.nan, math.nan]], "ab", [0]), test
    )  # tells no temperature
    assert BOUNDS[0] <= unused.temperature <= BOUNDS[1]
    assert (results.thresholds, results.temperature, results.uncalibrated) == (None, None, None)
    assert results.metrics["test_acc"] == pytest.approx(2 / 3) and math.isnan(results.metrics["test_loss"])
    assert results.probabilities[:2].sum(axis=1) == pytest.approx(1)
    assert results.probabilities[2].tolist() == [0, 0]  # not a number
    assert results.numbers["a"]["recall"] == 1 and results.numbers["b"]["recall"] == 0


def test_calibration_is_fitted_on_validation_and_changes_confidences_alone():
    logits = np.random.default_rng(0).normal(size=(2, 60, 3)) * 9
    labels = (logits + np.random.default_rng(1).gumbel(size=logits.shape) * 6).argmax(axis=2)
    val, test = (Loader(some, "abc", truths) for some, truths in zip(logits, labels, strict=True))
    plain = report.assess(Echo(), CROSS_ENTROPY, val, test, calibrate=False)
    results = report.assess(Echo(), CROSS_ENTROPY, val, test)
    assert results.temperature == fit_temperature(logits[0].astype(np.float32), labels[0]) > 3
    cooled = torch.tensor(logits[1] / results.temperature).softmax(1).numpy()
    assert results.probabilities == pytest.approx(cooled, abs=1e-6)
    assert results.text == plain.text and results.metrics["test_loss"] == plain.metrics["test_loss"]
    assert results.metrics["test_acc"] == plain.metrics["test_acc"]
    assert results.metrics["test_ece_uncalibrated"] == plain.metrics["test_ece"] > 2 * results.metrics["test_ece"]
    line = report.closing_lines(history_of(1), {"test_acc": 0.5, **results.metrics}, 60, 1, "output")[0]
    after, before = (f"{results.metrics[name]:.1%}" for name in ("test_ece", "test_ece_uncalibrated"))
    assert line == f"[INFO] test calibration error: {after}, and {before} before calibration"


def test_thresholds_of_several_labels_are_chosen_on_validation_and_both_splits_are_measured():
    logits = np.random.default_rng(0).normal(size=(2, 9, 2))
    labels = np.array([[[n % 2, n % 3 == 0] for n in range(9)], [[n % 3 == 0, n % 2] for n in range(9)]], np.float32)
    val, test = (Loader(some, ["a", "b"], truths) for some, truths in zip(logits, labels, strict=True))
    results = report.assess(Echo(), BinaryCrossEntropy(), val, test)
    assert results.temperature == fit_temperature(logits[0].astype(np.float32), labels[0])
    chances = (torch.tensor(logits, dtype=torch.float32) / torch.tensor(results.temperature)).sigmoid().numpy()
    assert results.thresholds == metrics.best_thresholds(labels[0], chances[0])
    measured = [metrics.measure_labels(labels[n], chances[n], ["a", "b"], results.thresholds) for n in (0, 1)]
    assert results.numbers == {"validation": measured[0], "evaluation": measured[1]}
    macro = [measured[1]["macro"][kind] for kind in metrics.KINDS]
    assert [results.metrics[name] for name in ("test_auc", "test_ap", "test_f1")] == macro
    assert results.text == metrics.label_report(measured[1])


def test_the_run_ends_with_the_five_lines_that_a_person_wants():
    history = history_of(2, best=2)
    history[0].update(seconds=30.0, images_per_s=50.0)
    history[1].update(seconds=30.0, images_per_s=200.0)
    lines = report.closing_lines(history, {"test_acc": 0.72343}, 1234, 2, "out\nput")
    assert lines == [
        "[INFO] test accuracy: 0.7234 of 1,234 photos, by the model of epoch 2",
        "[INFO] best epoch: 2 of 2, validation accuracy 0.7692",
        "[INFO] time: 1 min 0 s",
        "[INFO] images/s: 80.0 in training",  # as many photos took 4 parts of the time, and 1
        "[INFO] files: out\\nput; begin with out\\nput/report.html",
    ]


@pytest.mark.parametrize(("auc", "shown"), [(0.51987, "0.5199"), (None, "none")])
def test_with_several_labels_the_roc_auc_comes_first(auc, shown):
    history = [{**row, "val_auc": 0.8} for row in history_of(1)]
    lines = report.closing_lines(history, {"test_acc": 0.5, "test_auc": auc}, 12, 1, "output")
    assert lines[0] == f"[INFO] test ROC AUC: {shown}, mean over the labels"
    assert lines[2] == "[INFO] best epoch: 1 of 1, validation ROC AUC 0.8000" and len(lines) == 6


def test_an_epoch_that_was_resumed_after_its_last_step_has_no_part_in_the_images_per_second():
    rates = [100.0, 0.0, 300.0]
    assert report.images_per_second([{"images_per_s": rate} for rate in rates]) == pytest.approx(150)
    assert report.images_per_second([{"images_per_s": 0.0}]) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (372.4, "6 min 12 s"), (3599.6, "1 h 0 min"),
        (4e6, "1,111 h 6 min"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units(seconds, text):
    assert report.duration(seconds) == text


# --- what is written -------------------------------------------------------------------------------------------------


def test_the_report_is_printed_and_written(tmp_path, capsys):
    dataset, probabilities = Photos("ab", [0, 1, 1]), probabilities_of([0, 1, 0], 2)
    write(tmp_path, dataset, probabilities)
    text, numbers = metrics.class_report(dataset.labels, probabilities.argmax(axis=1), dataset.classes)
    assert capsys.readouterr().out == text + "\n"
    assert (tmp_path / "classification_report.txt").read_text() == text
    assert json.loads((tmp_path / "classification_report.json").read_text()) == numbers


def test_a_full_disk_leaves_the_old_report_and_nothing_else(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    write(tmp_path, Photos("ab", [0, 1]), probabilities_of([0, 0], 2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, Photos("ab", [0, 1]), probabilities_of([1, 1], 2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_all_pictures_are_written_and_shown_on_the_page(tmp_path, photos):
    folder = photos({"Bread": 3, "Rice": 2})
    dataset = PhotoFolder(folder, None)
    page = write(tmp_path / "out", dataset, probabilities_of([0, 1, 1, 1, 0], 2))
    assert {path.name for path in (tmp_path / "out").iterdir()} == PICTURES | REPORTS
    kinds = [image["src"].split(",")[0] for image in page.all("img")]
    assert kinds.count("data:image/png;base64") == 6 and kinds.count("data:image/jpeg;base64") == 3
    for words in ("40.0%", "2 of 5 photos", "A & B <C>", "<none>", str(folder / "Bread" / "001.png")):
        assert words in page.text
    assert len(page.all("table")) == 9
    assert "Before calibration" not in page.text


def test_the_page_says_what_calibration_did_and_what_confident_answers_are_worth(tmp_path):
    probabilities = np.array([[0.96, 0.04], [0.8, 0.2], [0.6, 0.4], [0.4, 0.6]], np.float32)
    page = write(tmp_path, Photos("ab", [0, 0, 1, 1]), probabilities, temperature=2.345)
    assert (
        "differ by 12.3% on" in page.text
        and "Before calibration the error was\n25.0%." in page.text
        and "a temperature, 2.35, fitted" in page.text
    )
    row = cells(page).index("0.5")
    assert cells(page)[row : row + 16] == [
        "0.5", "4", "1.00", "0.75", "0.7", "2", "0.50", "1.00", "0.9", "1", "0.25", "1.00", "0.95", "1", "0.25", "1.00",
    ]  # fmt: skip


@pytest.mark.parametrize("aucs", [(0.7, 0.8), (math.nan,)])
def test_several_labels_have_their_picture_and_a_page_also_if_one_cannot_be_measured(tmp_path, aucs):
    labels = np.random.default_rng(0).integers(0, 2, (60, 3)) * [1, 1, 0]
    probabilities = np.clip(0.3 * labels + np.random.default_rng(1).random((60, 3)) * 0.7, 0, 1)
    history = [{**row, "val_auc": auc} for row, auc in zip(history_of(len(aucs)), aucs, strict=True)]
    (tmp_path / "confusion_matrix.png").write_bytes(b"of an earlier run")
    page = write(tmp_path, Photos(["tube", "line", "rare"], labels), probabilities, history, [0.5] * 3, [1.0, 2.0, 1.0])
    pictures = {"labels.png", "model_training.png", "label_issues.png"}
    assert {path.name for path in tmp_path.iterdir()} == REPORTS | pictures
    written = json.loads((tmp_path / "classification_report.json").read_text())
    assert f"{written['evaluation']['macro']['roc_auc']:.4f}" in page.text
    assert "a temperature of its own" in page.text
    assert "No photo has rare: it is left out of the macro average." in page.text
    row = cells(page).index("rare")
    assert cells(page)[row : row + 6] == ["rare", "-", "-", "-", "0.50", "0"]


def test_a_class_without_photos_is_shown_as_such_and_not_as_a_zero(tmp_path):
    page = write(tmp_path, Photos("abc", [0, 0, 2]), probabilities_of([0, 1, 2], 3))
    row = cells(page).index("b")
    assert cells(page)[row : row + 5] == ["b", "-", "-", "-", "no photo"]
    row = cells(page).index("macro avg")
    assert cells(page)[row : row + 5] == ["macro avg", "1.00", "0.75", "0.83", "3"]


def test_mistakes_come_most_confident_first_and_sixteen_at_most():
    dataset = Photos("ab", [0] * 20 + [1])
    probabilities = probabilities_of([1] * 20 + [1], 2)
    probabilities[:, 1] = [0.6, 0.9, 0.9, *[0.7] * 17, 1.0]
    mistakes = report.confident_mistakes(dataset, probabilities)
    assert [path for _, path, *_ in mistakes[:4]] == [f"nowhere/<{index}>.jpg" for index in (1, 2, 3, 4)]
    assert len(mistakes) == 16
    *_, truth, prediction, confidence = mistakes[0]
    assert (truth, prediction, confidence) == ("a", "b", pytest.approx(0.9))


def test_a_photo_that_is_gone_or_broken_does_not_stop_the_report(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    dataset = Photos("ab", [0, 0], [str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg")])
    page = write(tmp_path / "out", dataset, probabilities_of([1, 1], 2))
    assert len(page.all("li")) == 2


def test_without_a_mistake_the_page_says_so_and_an_old_picture_goes(tmp_path):
    for name in ("mistakes.png", "labels.png", "label_issues.png"):
        (tmp_path / name).write_bytes(b"of an earlier run")
    page = write(tmp_path, Photos("ab", [0, 1]), probabilities_of([0, 1], 2))
    assert "None: every test photo is right." in page.text and page.all("li") == []
    assert {path.name for path in tmp_path.iterdir()} == PICTURES - {"mistakes.png", "label_issues.png"} | REPORTS
    assert "None of 4 look wrong." in page.text


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
    first = cells(page).index("support") + 1
    assert cells(page)[first : first + 5] == ["accuracy", "1.00", "0.33", "0.50", "3"]
    assert cells(page)[first + 10 : first + 13] == ["accuracy", "0.50", "4"]


def test_figures_that_are_not_numbers_do_not_stop_the_report(tmp_path):
    history = history_of(2)
    for row in history:
        row.update(train_loss=np.nan, val_loss=np.nan, val_acc=np.nan)
    page = write(tmp_path, Photos("ab", [0, 1]), np.full((2, 2), np.nan), history)
    assert "1 of 2 photos" in page.text
    assert [data for tag, data in page.words if tag == "dd"] == ["a", "0%", "b"]  # of the mistake


def test_an_undecodable_folder_is_named_on_the_page(tmp_path):
    page = write(tmp_path, Photos("ab", [0], ["broken \udcff.jpg"]), probabilities_of([1], 2), weights="\udcff")
    assert "broken \\udcff.jpg" in page.text
    json.dumps(page.text).encode("utf-8")


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_well_formed(tmp_path):
    page = write(tmp_path, Photos("ab", [0, 1]), probabilities_of([0, 0], 2))
    assert (tmp_path / "report.html").read_text(encoding="utf-8").lstrip().startswith("<!DOCTYPE html>")
    assert {"charset": "utf-8"} in page.all("meta") and len(page.all("h1")) == 1
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert any(meta.get("name") == "generator" for meta in page.all("meta"))
    assert all(image["alt"] for image in page.all("img"))


def test_whatever_is_shown_is_escaped(tmp_path):
    names = [MARKUP, f"{MARKUP} 2"]
    dataset = Photos(names, [0], [f"{MARKUP}.jpg"])
    page = write(tmp_path / MARKUP.replace("/", ""), dataset, probabilities_of([1], 2), **{MARKUP: MARKUP})
    assert all(set(image) <= {"src", "alt", "width", "height"} for image in page.all("img"))
    assert f"A photo of class {MARKUP}, taken for {MARKUP} 2" in [image["alt"] for image in page.all("img")]
    # folder, twice; path; setting and its value; classes in the table, the confusions and the mistake; and, of what it
    # was trained on, in the counts and the small classes
    assert page.text.count(MARKUP) == 2 + 1 + 2 + 2 + 2 + 2 + 2 + 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("broken \udcff byte", "broken \\udcff byte"),
        ("two\nlines\x00", "two\\nlines\\x00"),
        ("面包", "面包"),
        ("می\u200cخورم", "می\u200cخورم"),  # the letters of Persian need the joiner
        ("a/b", "a/b"),
        (True, "yes"),
        (None, "none"),
    ],
)
def test_names_of_any_script_are_shown_and_what_is_no_character_is_escaped(name, shown):
    assert report.printable(name) == shown


def test_settings_are_shown_as_they_were_given(tmp_path):
    page = write(tmp_path, Photos("ab", [0]), probabilities_of([0], 2), lr=0.0001, batch=2048, origin={"lr": "recipe"})
    found = cells(page)
    assert found[found.index("lr") + 2] == "recipe" and "origin" not in found
    values = [found[found.index(name) + 1] for name in ("lr", "batch", "sync-bn", "limit", "weights")]
    assert values == ["0.0001", "2048", "no", "none", "<none>"]


def test_settings_that_were_chosen_come_first_with_what_set_them():
    origin = {"recipe": "command line", "lr": "command line", "augment": "recipe"}
    training = {"augment": "light", "batch_size": 128, "lr": 0.001, "origin": origin, "recipe": "modern", "seed": 0}
    assert report.settings_in_force(training) == [
        ("lr", 0.001, "command line"), ("recipe", "modern", "command line"), ("augment", "light", "recipe"),
        ("batch size", 128, ""), ("seed", 0, ""),
    ]  # fmt: skip


def test_numbers_of_a_table_are_aligned_and_have_two_digits_or_commas(tmp_path):
    page = write(tmp_path, Photos("ab", [0] * 1500 + [1] * 500), probabilities_of([0] * 1900 + [1] * 100, 2))
    first = cells(page).index("support") + 1
    assert cells(page)[first : first + 5] == ["a", "0.79", "1.00", "0.88", "1,500"]
    kinds = [cell.get("class") for cell in page.all("td")]
    assert kinds[:19] == ["number"] * 19  # two classes and two averages of four columns, and the accuracy's three
    assert all("class" in cell or cell == {"dir": "auto"} for cell in page.all("td"))


def test_a_picture_becomes_part_of_the_page_unchanged(tmp_path):
    Image.new("RGB", (300, 150), "red").save(tmp_path / "a.png")
    image = report.embedded_png(tmp_path / "a.png")
    kind, content = image["src"].split(",")
    assert kind == "data:image/png;base64" and base64.b64decode(content) == (tmp_path / "a.png").read_bytes()
    assert (image["width"], image["height"]) == (192, 96)  # 300 pixels of 150 an inch, at CSS's 96
    assert not image["wide"]


def test_only_a_wide_picture_can_be_moved_sideways(tmp_path):
    wide = write(tmp_path, Photos("ab", [0]), probabilities_of([0], 2)).all("figure")
    assert wide.count({"class": "wide", "tabindex": "0"}) == 1  # of the curves
    assert wide.count({}) == 4


def test_photos_are_small_jpegs_of_the_same_shape():
    kind, content = report.embedded_jpeg(np.full((400, 800, 3), (10, 200, 30), np.uint8)).split(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as thumbnail:
        assert kind == "data:image/jpeg;base64" and thumbnail.size == (320, 160)
        assert np.abs(np.asarray(thumbnail)[80, 160].astype(int) - (10, 200, 30)).max() < 6
