"""Predictions as a table for the terminal, a CSV file and pictures; and the confusions of a split."""

import csv
import os

import numpy as np
import pytest
import torch
from PIL import Image

from pyimagesearch.data.datasets import truths_of
from pyimagesearch.evaluation import prediction_output
from pyimagesearch.evaluation.predict import Prediction
from pyimagesearch.evaluation.prediction_output import (
    confusion_table,
    draw_pages,
    draw_results,
    prediction_table,
    write_predictions,
)
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.terminal import columns_of

SAID = [
    Prediction("a.jpg", ("Bread", "Soup"), (0.75, 0.25)),
    Prediction("面包/long name.jpg", ("Vegetable/Fruit", "Egg"), (1.0, 0.0)),
    Prediction("broken\n.png", error="not an image"),
]


def said_of(paths):
    return [Prediction(str(path), ("Bread",), (0.5,)) for path in paths]


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_columns_of_the_table_stand_below_each_other():
    head, one, two, broken = prediction_table(SAID, 2).splitlines()
    begins = zip((head, one, two, broken), ("prediction", "Bread", "Vegetable", "not an image"), strict=True)
    assert len({columns_of(line[: line.index(cell)]) for line, cell in begins}) == 1
    ends = zip((head, one, two), ("confidence", "75.0%", "100.0%"), strict=True)
    assert len({columns_of(line[: line.index(cell)] + cell) for line, cell in ends}) == 1


def test_a_photo_is_a_line_of_the_table_whatever_its_name():
    lines = prediction_table(SAID, 2).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("broken\\n.png ") and lines[3].endswith("  not an image")


# --- the file --------------------------------------------------------------------------------------------------------


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_a_row_a_photo_with_a_class_and_a_confidence_for_each_place(tmp_path):
    write_predictions(str(tmp_path / "new" / "said.csv"), SAID, 2)
    one, two, broken = rows(tmp_path / "new" / "said.csv")
    assert list(one) == ["path", "prediction", "confidence", "prediction_2", "confidence_2", "error"]
    assert list(one.values()) == ["a.jpg", "Bread", "0.750000", "Soup", "0.250000", ""]
    assert two["path"] == "面包/long name.jpg"
    assert list(broken.values()) == ["broken\\n.png", "", "", "", "", "not an image"]


def test_the_csv_of_a_split_has_the_truth(tmp_path):
    one = [item._replace(classes=item.classes[:1], confidences=item.confidences[:1]) for item in SAID]
    write_predictions(str(tmp_path / "said.csv"), one, truths=["Bread", "Egg", "Soup"])
    assert [row["truth"] for row in rows(tmp_path / "said.csv")] == ["Bread", "Egg", "Soup"]
    assert list(rows(tmp_path / "said.csv")[0]) == ["path", "truth", "prediction", "confidence", "error"]


UNSURE = [
    SAID[0]._replace(answer="unsure"),
    SAID[1]._replace(answer="Vegetable/Fruit"),
    SAID[2]._replace(answer="unsure"),
]


def test_answers_have_a_column_of_their_own_in_the_table_and_the_file_and_the_others_stay(tmp_path):
    head, one, two, _ = (line.split() for line in prediction_table(UNSURE, 2).splitlines())
    assert (head[-1], one[-1], two[-1]) == ("answer", "unsure", "Vegetable/Fruit")
    write_predictions(str(tmp_path / "said.csv"), UNSURE, 2)
    first, _, broken = rows(tmp_path / "said.csv")
    assert list(first) == ["path", "prediction", "confidence", "prediction_2", "confidence_2", "answer", "error"]
    assert (first["prediction"], first["answer"]) == ("Bread", "unsure")
    assert (broken["answer"], broken["error"]) == ("", "not an image")


# --- the pictures ----------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch):
    """The pages that are drawn, in place of the time that drawing takes: path, number of photos, and the sizes."""
    pages = []

    def plot_predictions(path, photos, truths, names, confidences, show=False):
        assert len(photos) == len(truths) == len(names) == len(confidences) <= 64
        assert all(photo.dtype == np.uint8 and photo.shape[2] == 3 for photo in photos)
        pages.append((os.path.basename(path), len(photos)))
        open(path, "w").close()

    monkeypatch.setattr(prediction_output, "plot_predictions", plot_predictions)
    return pages


def test_one_page_has_a_name_without_a_number_and_leaves_out_what_could_not_be_read(tmp_path, photo):
    paths = [photo(tmp_path / f"{number}.png") for number in range(3)]
    line = draw_pages(str(tmp_path), [*said_of(paths), SAID[2]], 4)
    assert line == f"[INFO] pictures: {tmp_path}/predictions.png"
    assert Image.open(tmp_path / "predictions.png").width > 300


def test_many_photos_are_drawn_on_several_pages_up_to_a_limit_that_is_printed(tmp_path, photo, drawn):
    path = photo(tmp_path / "a.png")
    said = said_of([path] * 60)
    line = draw_pages(str(tmp_path), said, 2)
    assert drawn == [("predictions-001.png", 25), ("predictions-002.png", 25)]
    assert line.endswith(
        "predictions-001.png to predictions-002.png, of the first 50 photos; --pages all draws the rest"
    )
    assert draw_pages(str(tmp_path), said, 99).endswith("predictions-001.png to predictions-003.png")
    assert drawn[-1] == ("predictions-003.png", 10)


def test_pages_of_an_earlier_run_do_not_stay_among_the_new_ones(tmp_path, photo, drawn):
    path = photo(tmp_path / "a.png")
    (tmp_path / "predictions.csv").write_text("mine")
    draw_pages(str(tmp_path), said_of([path] * 60), 4)
    draw_pages(str(tmp_path), said_of([path]), 4)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "predictions.csv", "predictions.png"]
    assert "no photo could be read" in draw_pages(str(tmp_path), SAID[2:], 4)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "predictions.csv"]


def test_a_photo_that_goes_before_it_is_drawn_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jpg changed .*No such file"):
        draw_pages(str(tmp_path), said_of([tmp_path / "gone.jpg"]), 1)


# --- confusions ------------------------------------------------------------------------------------------------------


def test_few_classes_have_a_confusion_matrix_of_a_row_a_truth():
    lines = confusion_table(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 0]), ["Bread", "Egg", "Soup"]).splitlines()
    assert [line.split()[-3:] for line in lines] == [["0", "1", "2"], ["1", "1", "0"], ["0", "1", "0"], ["2", "0", "0"]]
    assert lines[3].startswith("2 Soup")


def test_of_many_classes_the_most_frequent_confusions_are_listed():
    names = [f"class{number}" for number in range(101)]
    labels = np.array([5, 5, 5, 7, 8, 9, 9])
    said = np.array([6, 6, 5, 100, 8, 3, 3])
    assert [line.split() for line in confusion_table(labels, said, names).splitlines()] == [
        ["truth", "prediction", "photos"],
        ["class5", "class6", "2"], ["class9", "class3", "2"], ["class7", "class100", "1"],
    ]  # fmt: skip


def test_an_unsure_photo_is_neither_right_nor_wrong(tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(prediction_output, "plot_predictions", lambda *cards, show: drawn.extend(cards[2:]))
    draw_results(str(tmp_path / "results.png"), UNSURE[:2], ["Bread", "Vegetable/Fruit"], torch.zeros(2, 3, 8, 8))
    assert "a.jpg: Ground Truth: Bread, Predicted: unsure: Bread (75.0%); Soup (25.0%)" in capsys.readouterr().out
    assert drawn == [["Bread", "Vegetable/Fruit"], [None, "Vegetable/Fruit"], [0.75, 1.0]]


# --- several labels a photo ------------------------------------------------------------------------------------------

LABELLED = [
    Prediction("a.jpg", ("tube", "line"), (0.9, 0.4), probabilities=(0.9, 0.1, 0.4)),
    Prediction("b.jpg", probabilities=(0.1, 0.1, 0.1)),
    Prediction("c.jpg", error="not an image"),
]


def test_the_table_has_all_labels_of_a_photo_on_its_line():
    assert [line.split(maxsplit=1) for line in prediction_table(LABELLED, 1).splitlines()] == [
        ["path", "labels"], ["a.jpg", "tube (90.0%); line (40.0%)"], ["b.jpg", "no label"], ["c.jpg", "not an image"],
    ]  # fmt: skip


def test_the_csv_has_a_column_of_labels_and_one_of_each_labels_probability(tmp_path):
    truths = ["tube", "no label", "line"]
    write_predictions(str(tmp_path / "said.csv"), LABELLED, truths=truths, labels=["tube", "wire", "line"])
    one, two, broken = rows(tmp_path / "said.csv")
    assert one == {
        "path": "a.jpg", "truth": "tube", "labels": "tube; line",
        "tube": "0.900000", "wire": "0.100000", "line": "0.400000", "error": "",
    }  # fmt: skip
    assert (two["labels"], two["wire"]) == ("", "0.100000")
    assert (broken["labels"], broken["wire"], broken["error"]) == ("", "", "not an image")


def test_the_caption_of_a_picture_is_what_its_truth_is_compared_with():
    names, confidences = prediction_output.captions(LABELLED[:2])
    assert names == truths_of(np.array([[1, 0, 1], [0, 0, 0]], np.float32), ["tube", "wire", "line"])
    assert confidences == ["90%; 40%", ""]
