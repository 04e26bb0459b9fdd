"""What prepare_dataset.py makes of a CSV file and a folder of photos, and how it updates a dataset."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from helpers import sources
from helpers.sources import SCRIPT, rejected, runner, tree
from PIL import Image

from pyimagesearch.data.labels_csv import read_label_table


@pytest.fixture
def rows(tmp_path):
    """Six photos of six patients, and the rows of their table."""
    (tmp_path / "photos").mkdir()
    for n in range(6):
        Image.new("RGB", (16, 16), (40 * n, 0, 0)).save(tmp_path / "photos" / f"{n}.png")
    return [[f"{n}", f"p{n}", n % 2, int(n > 2)] for n in range(6)]


@pytest.fixture
def run(tmp_path, rows):
    """run(*flags) writes `rows` as the table and prepares it; a mistake is one line and changes nothing."""

    def run(*flags, status=0, table="train.csv"):
        with open(tmp_path / table, "w", newline="") as file:
            csv.writer(file).writerows([["id", "patient", "tube", "line"], *rows])
        command = [sys.executable, SCRIPT, "--source", table, "--images", "photos", "--id-column", "id"]
        command += ["--group-column", "patient", "--dest", "dataset", *flags]
        ended = subprocess.run(list(map(os.fspath, command)), cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ended.returncode == status, ended.stderr
        assert not status or (ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1), ended.stderr
        return ended

    return run


def test_the_dataset_is_the_photos_and_one_table(run, tmp_path):
    told = run().stdout
    dataset = tmp_path / "dataset"
    assert sorted(os.listdir(dataset)) == ["images", "labels.csv", "prepared.json", "rejected.csv"]
    assert sorted(os.listdir(dataset / "images")) == [f"{n}.png" for n in range(6)]
    table = read_label_table(dataset)
    assert (table.labels, table.images) == (["tube", "line"], [f"{n}.png" for n in range(6)])
    assert table.values.tolist() == [[n % 2, int(n > 2)] for n in range(6)]
    assert {split: table.splits.count(split) for split in table.split_names} == {
        "training": 3, "validation": 2, "evaluation": 1,
    }  # fmt: skip
    assert "checked: none of the 6 groups of patient is in two splits" in told
    assert [line.split() for line in told.splitlines() if line.startswith(("photos", "groups"))] == [
        ["photos", "3", "2", "1"], ["groups", "3", "2", "1"],
    ]  # fmt: skip
    assert told.endswith("next: python train_distributed.py\n")
    assert json.loads((dataset / "prepared.json").read_text())["kind"] == "a table of labels"


def test_folds_take_the_place_of_training_and_validation(run, tmp_path):
    told = run("--folds", "3").stdout
    splits = read_label_table(tmp_path / "dataset").splits
    assert sorted(map(splits.count, ("fold-1", "fold-2", "fold-3", "evaluation"))) == [1, 1, 2, 2]
    assert told.endswith("next: python train_distributed.py --fold all\n")


def test_unusable_rows_and_photos_are_listed_and_are_in_no_split(run, rows, tmp_path):
    rows += [["7", "p7", 1, 1], ["5", "p5", "2", 1], ["8", "p8", 1, 1]]
    (tmp_path / "photos" / "8.png").write_bytes(b"no photo")
    told = run("--label-columns", "tube", "line").stdout
    assert rejected(tmp_path / "dataset") == {
        "7": "train.csv, line 8: no photo of that name",
        "5": "train.csv, line 9: tube is '2', expected 0 or 1",
        "8.png": "not an image",
    }
    assert "left out: 3, listed in dataset/rejected.csv" in told
    assert len(read_label_table(tmp_path / "dataset").images) == 6
    run("--label-columns", "tube", "line", "--strict", "--overwrite", status=2)


def test_a_second_run_changes_nothing(run, tmp_path):
    run()
    before = tree(tmp_path / "dataset")
    assert "nothing new" in run().stdout
    assert tree(tmp_path / "dataset") == before


def test_new_rows_and_changed_labels_are_taken_and_no_photo_is_copied_again(run, rows, tmp_path):
    run()
    before = tree(tmp_path / "dataset" / "images")
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "new.png")
    rows[0][2] = 1
    rows.append(["new", "p0", 0, 0])
    run()
    after = tree(tmp_path / "dataset" / "images")
    assert {name: after[name] for name in before} == before
    assert len(after) == 7
    table = read_label_table(tmp_path / "dataset")
    assert table.values[[0, 6]].tolist() == [[1, 0], [0, 0]]
    assert table.splits[0] == table.splits[6]


def test_a_dataset_whose_groups_an_older_version_drew_needs_overwrite(run, tmp_path):
    run()
    path = tmp_path / "dataset" / "prepared.json"
    marker = json.loads(path.read_text())
    del marker["way to draw splits"]
    path.write_text(json.dumps(marker))
    assert "was made with other way to draw splits (None there, by class here)" in run(status=2).stderr
    run("--overwrite")


def test_other_splits_or_a_removed_row_need_overwrite(run, rows, tmp_path):
    run()
    before = tree(tmp_path / "dataset")
    assert "was made with other seed (0 there, 1 here)" in run("--seed", "1", status=2).stderr
    assert "was made with other folds (0 there, 2 here)" in run("--folds", "2", status=2).stderr
    rows.pop()
    assert "holds a file that train.csv does not provide: images/5.png" in run(status=2).stderr
    assert tree(tmp_path / "dataset") == before
    run("--folds", "2", "--overwrite")
    assert len(read_label_table(tmp_path / "dataset").images) == 5


def test_a_table_in_the_dataset_is_not_overwritten(run, tmp_path):
    (tmp_path / "dataset").mkdir()
    assert "lies in the dataset" in run("--overwrite", status=2, table="dataset/train.csv").stderr
    assert (tmp_path / "dataset" / "train.csv").exists()


def test_fewer_patients_than_folds_are_an_error_before_anything_is_made(run, rows, tmp_path):
    for row in rows:
        row[1] = f"p{int(row[0]) % 3}"
    assert "has usable photos of 3 groups; expected at least 4" in run("--folds", "3", status=2).stderr
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--source", "train.csv", "--label-column", "a", "--label-columns", "b"], "not allowed with argument"),
        (["--source", "photos", "--uncertain", "zero"], "--uncertain goes with a CSV file"),
        (["--source", "photos", "--folds", "3"], "--folds goes with a CSV file"),
        (["--sample", "--group-column", "patient"], "--group-column goes with a CSV file"),
        (["--check", "--images", "photos"], "leave --images out"),
        (["--source", "a.csv", "--images", "b", "--id-column", "c", "--root", "d"], "--root goes with text lists"),
        (["--source", "a.csv", "--images", "b", "--id-column", "c", "--folds", "2", "--val-rate", "0.1"], "--val-rate"),
        (["--source", "a.csv", "--images", "b", "--id-column", "c", "--folds", "1"], "of at least 2, found '1'"),
    ],
)
def test_flags_that_exclude_each_other_are_an_error(flags, said, tmp_path):
    ended = subprocess.run([sys.executable, SCRIPT, *flags], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert said in ended.stderr and ended.stderr.count("\n") == 1


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_labels_that_are_not_known_are_counted_as_such(tmp_path):
    sources.csv_with_unknown_labels(tmp_path / "in")
    told = runner(tmp_path, "--source", "in/train.csv")().out
    assert sum(map(int, re.search("Cough +(.*)", told)[1].split())) == 3


@pytest.mark.parametrize(
    ("layout", "flags", "said"),
    [
        ("a CSV file with a class per photo", "in/train.csv --images other", "names no photo in other.*--images, the"),
        ("a CSV file with patients", "in/labels.csv --label-column breed", "'file', 'label', 'patient'; expected"),
        ("a list with more columns", "in/classified", "3 columns: 'path' .*'coarse' .*; name the column of the class"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_and_nothing_is_left(tmp_path, layout, flags, said):
    sources.LAYOUTS[layout](tmp_path / "in")
    (tmp_path / "other").mkdir()
    assert re.search(said, runner(tmp_path, "--source", *flags.split())(status=2).err)
    assert sorted(os.listdir(tmp_path)) == ["in", "other"]


def test_a_dataset_beside_the_table_needs_the_folder_of_the_photos(tmp_path):
    sources.LAYOUTS["a CSV file with a class per photo"](tmp_path)
    error = runner(tmp_path, "--source", "train.csv")(status=2).err
    assert "name a --dest outside of it, or with --images only the folder of the photos" in error
