"""How a CSV file of labels is read: its columns, its rejected rows, its photos, and how its groups are split."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

from pyimagesearch.preparation import splitting
from pyimagesearch.preparation.readers import csv_table
from pyimagesearch.preparation.readers.csv_table import Columns
from pyimagesearch.preparation.splitting import SplitRates
from pyimagesearch.runtime.errors import UserError

ALL = Columns("id", group="patient")
TUBE = Columns("id", ["tube"], "patient")


@pytest.fixture
def read(tmp_path):
    """read(text, columns) writes the table beside the photos a.jpg, b.PNG and deep/c.jpeg, and reads it."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.PNG", "deep/c.jpeg"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)

    def read(text: str | bytes, columns: Columns = ALL):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "labels.csv").write_bytes(data)
        return csv_table.read(tmp_path / "labels.csv", tmp_path / "photos", columns, SplitRates())

    return read


def photos(source) -> dict:
    return {photo.target: source.rows[photo.target] for photo in source.splits[0].photos}


def reasons(source) -> dict[str, str]:
    return {path: reason.removeprefix("labels.csv, ") for path, reason in source.rejected}


def test_a_photo_is_found_by_its_path_with_its_suffix_or_without(read):
    source = read("id,patient,tube,line\na,p1,0,1\nb.PNG,p1,1,1\ndeep/c,p2,1,0\n")
    assert photos(source) == {"a.jpg": ("p1", [0, 1]), "b.PNG": ("p1", [1, 1]), "deep/c.jpeg": ("p2", [1, 0])}
    assert source.classes == ["tube", "line"]
    assert source.rejected == [] and source.notes == []


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfid,patient,tube,line\na,p1,0,1\n",
        b"id,patient,tube,line\r\na,p1,0,1\r\n\r\n",
        b'"id","patient","tube","line"\n"a","p1","0","1"\n',
        b"\xef\xbb\xbfid;patient;tube;line\na;p1;0;1\n",
        b"id\tpatient\ttube\tline\na\tp1\t0.0\t1.0\n",
        b" id , patient, tube,line\na , p1, False,True\n,,,\n",
    ],
)
def test_common_dialects_of_csv_are_read_alike(read, text):
    source = read(text)
    assert (source.classes, photos(source)) == (["tube", "line"], {"a.jpg": ("p1", [0, 1])})


def test_by_default_labels_are_the_columns_of_only_0_and_1_and_the_others_are_reported(read):
    source = read("id,patient,tube,age,line\na,p1,0,61,1\nb,p1,1,,1\n")
    assert source.classes == ["tube", "line"]
    assert "columns that are no labels: 'age' (61)" in source.notes


def test_named_labels_keep_the_order_in_which_they_are_named(read):
    source = read('id,patient,"tube, bent",line,other\na,p1,0,1,1\n', Columns("id", ["line", "tube, bent"], "patient"))
    assert photos(source) == {"a.jpg": ("p1", [1, 0])}
    assert "columns that are no labels: 'other' (1)" in source.notes


def test_without_a_group_column_each_photo_is_a_group_which_is_reported(read):
    source = read("id,tube\na,0\nb,1\n", Columns("id", ["tube"]))
    assert [group for group, _ in photos(source).values()] == ["a.jpg", "b.PNG"]
    assert any("each photo is a group of its own" in note for note in source.notes)


def test_unusable_rows_are_rejected_with_name_and_line(read):
    source = read(
        "id,patient,tube,line\na,p1,0,1\nb,p1,no,1\nb,p1,,-1\nb,p1,-2,1\nb,p1,2,0\nb,p1,0\nb,p1,0,1,1\n"
        "b,,0,1\n,p1,0,1\nmissing,p1,0,1\n../photos/a.jpg,p1,0,0\n",
        Columns("id", ["tube", "line"], "patient"),
    )
    assert list(photos(source)) == ["a.jpg"]
    assert [rejected.reason.removeprefix("labels.csv, ") for rejected in source.rejected] == [
        "line 3: tube is 'no', expected 0 or 1",
        "line 4: none of its labels is known",
        "line 5: tube is '-2', expected 0 or 1",
        "line 6: tube is '2', expected 0 or 1",
        "line 7: 3 columns, where the header has 4",
        "line 8: 5 columns, where the header has 4",
        "line 9: patient is empty",
        "line 10: id is empty",
        "line 11: no photo of that name",
        "line 12: no photo of that name",
    ]
    assert [rejected.path for rejected in source.rejected][-3:-1] == [".", "missing"]
    assert any("2 of the 3 photos" in note for note in source.notes)


def test_a_photo_named_twice_counts_once_but_not_if_the_rows_disagree(read):
    source = read("id,patient,tube\na,p1,0\na.jpg,p1,0\nb,p1,0\nb,p1,1\ndeep/c,p1,1\ndeep/c,p2,1\n", TUBE)
    assert list(photos(source)) == ["a.jpg"]
    assert sorted(reasons(source).items()) == [
        ("a.jpg", "line 3: the same as line 2"),
        ("b.PNG", "line 5: lines 4, 5 disagree"),
        ("deep/c.jpeg", "line 7: lines 6, 7 disagree"),
    ]
    assert len(source.rejected) == 5


def test_an_id_that_two_photos_have_is_rejected_with_both(read, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    assert reasons(read("id,patient,tube\na,p1,0\nb,p1,1\n", TUBE)) == {"a": "line 2: a.jpg and a.png have that name"}


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("", ALL, "has no row; expected a header"),
        ("id,patient,tube\n", ALL, "has no row but its header"),
        ("name,patient,tube\na,p1,0\n", ALL, r"has the columns 'name', 'patient', 'tube'; expected 'id' too"),
        ("id,patient,tube\na,p1,0\n", Columns("id", ["tube", "line"]), "expected 'line' too"),
        ("id,patient,tube,tube\na,p1,0,0\n", ALL, "'tube' twice"),
        ("id,patient,tube\na,p1,0\n", Columns("id", ["tube", "tube"]), "'tube' is named twice"),
        ("id,patient,tube\na,p1,0\n", Columns("id", ["tube", "id"]), "'id' is named twice"),
        ('id,patient,tube\na,"p1,0\n', ALL, "line 2: not CSV"),
        (b"id,patient,tube\n\xff,p1,0\n", ALL, "not UTF-8"),
    ],
)
def test_an_unreadable_table_is_an_error_that_says_what_was_found(read, text, columns, said):
    with pytest.raises(UserError, match=said):
        read(text, columns)


def test_a_missing_folder_of_photos_and_a_missing_table_are_errors(tmp_path):
    with pytest.raises(UserError, match="--images"):
        csv_table.read(tmp_path / "labels.csv", tmp_path / "nowhere", ALL, SplitRates())
    with pytest.raises(UserError, match=r"cannot read .*labels.csv"):
        csv_table.read(tmp_path / "labels.csv", tmp_path, ALL, SplitRates())


def test_rates_that_leave_nothing_for_training_are_an_error_before_anything_is_read(tmp_path):
    for rates in (SplitRates(0.2, 0.8), SplitRates(test=1, folds=3)):
        with pytest.raises(UserError, match="nothing would be left for training with --test-rate"):
            csv_table.read(tmp_path / "nothing.csv", tmp_path, ALL, rates)


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def groups():
    """110 photos of 20 patients, 1 to 10 of each, in no order."""
    rng = np.random.default_rng(0)
    patients = [f"patient{n}" for n in range(20) for _ in range(1 + n % 10)]
    return rng.permutation(patients).tolist()


def by_split(groups: list[str], names: list[str]) -> dict[str, set[str]]:
    return {split: {group for group, name in zip(groups, names, strict=True) if name == split} for split in set(names)}


@pytest.mark.parametrize("folds", [0, 2, 5])
def test_each_group_is_in_one_split(groups, folds):
    splits = by_split(groups, splitting.assign_groups(groups, SplitRates(0.2, 0.1, folds), "t.csv"))
    names = {f"fold-{k + 1}" for k in range(folds)} or {"training", "validation"}
    assert set(splits) == names | {"evaluation"}
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 20
    assert len(splits["evaluation"]) == 2
    if not folds:
        assert len(splits["validation"]) == 4


def test_the_splits_are_scikit_learns(groups):
    names = np.array(splitting.assign_groups(groups, SplitRates(0.2, 0.1, 3, seed=5), "t.csv"))
    rest, test = next(GroupShuffleSplit(1, test_size=2, random_state=5).split(groups, groups=groups))
    assert set(np.flatnonzero(names == "evaluation")) == set(test)
    for fold, (_, held_out) in enumerate(GroupKFold(3).split(rest, groups=np.array(groups)[rest])):
        assert set(np.flatnonzero(names == f"fold-{fold + 1}")) == set(rest[held_out])


def test_the_splits_depend_on_the_groups_and_the_seed_only(groups):
    rates = SplitRates(0.2, 0.1, seed=1)
    first = by_split(groups, splitting.assign_groups(groups, rates, "t.csv"))
    again = sorted(groups)
    assert by_split(again, splitting.assign_groups(again, rates, "t.csv")) == first
    assert by_split(groups, splitting.assign_groups(groups, replace(rates, seed=2), "t.csv")) != first


@pytest.mark.parametrize(("folds", "least"), [(0, 3), (4, 5)])
def test_fewer_groups_than_splits_are_an_error_and_as_many_are_enough(folds, least):
    groups = [f"patient{n}" for n in range(least)]
    assert len(set(splitting.assign_groups(groups, SplitRates(0.9, 0.9, folds), "t.csv"))) == least
    with pytest.raises(UserError, match=rf"t.csv has usable photos of {least - 1} groups; expected at least {least}"):
        splitting.assign_groups(groups[1:], SplitRates(folds=folds), "t.csv")
