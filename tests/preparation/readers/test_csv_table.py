"""How a CSV file of labels is read: its columns, its rejected rows, its photos, and how its groups are split."""

import os
from dataclasses import replace

import numpy as np
import pytest
from helpers.sources import draw
from PIL import Image

from pyimagesearch.preparation import splitting
from pyimagesearch.preparation.readers import csv_table
from pyimagesearch.preparation.readers.csv_table import Columns
from pyimagesearch.preparation.splitting import SplitRates
from pyimagesearch.runtime.errors import UserError

ALL = Columns("id", group="patient")
TUBE = Columns("id", ["tube"], "patient")
ANY, RATES = Columns(), SplitRates()


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


def assigned(groups: list[str], rates: SplitRates) -> list[str]:
    return splitting.assign_groups(groups, np.ones((len(groups), 1)), rates, "t.csv")


def by_split(groups: list[str], names: list[str]) -> dict[str, set[str]]:
    return {split: {group for group, name in zip(groups, names, strict=True) if name == split} for split in set(names)}


@pytest.mark.parametrize("folds", [0, 2, 5])
def test_each_group_is_in_one_split(groups, folds):
    splits = by_split(groups, assigned(groups, SplitRates(0.2, 0.1, folds)))
    names = {f"fold-{k + 1}" for k in range(folds)} or {"training", "validation"}
    assert set(splits) == names | {"evaluation"}
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 20


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("folds", [0, 4])
def test_each_split_has_its_share_of_each_class_as_far_as_groups_allow(seed, several, folds):
    rng = np.random.default_rng(seed)
    groups = [f"patient{n}" for n in range(300) for _ in range(1 + n % 5)]
    often = np.repeat(rng.random((300, 3)) ** 3, [1 + n % 5 for n in range(300)], axis=0)  # patients differ
    values = (rng.random(often.shape) < often).astype(int)
    if not several:
        values = np.eye(3, dtype=int)[often.argmax(axis=1)]
    names = np.array(splitting.assign_groups(groups, values, SplitRates(0.2, 0.1, folds, seed), "t.csv"))
    shares = {f"fold-{fold + 1}": 0.9 / folds for fold in range(folds)} or {"training": 0.7, "validation": 0.2}
    for split, share in {**shares, "evaluation": 0.1}.items():
        assert values[names == split].sum(axis=0) / values.sum(axis=0) == pytest.approx(share, abs=0.025)
        assert (names == split).mean() == pytest.approx(share, abs=0.025)


def test_the_splits_depend_on_the_groups_and_the_seed_only(groups):
    rates = SplitRates(0.2, 0.1, seed=1)
    first = by_split(groups, assigned(groups, rates))
    again = sorted(groups)
    assert by_split(again, assigned(again, rates)) == first
    assert by_split(groups, assigned(groups, replace(rates, seed=2))) != first


@pytest.mark.parametrize(("folds", "least"), [(0, 3), (4, 5)])
def test_fewer_groups_than_splits_are_an_error_and_as_many_are_enough(folds, least):
    groups = [f"patient{n}" for n in range(least)]
    assert len(set(assigned(groups, SplitRates(0.9, 0.9, folds)))) == least
    with pytest.raises(UserError, match=rf"t.csv has usable photos of {least - 1} groups; expected at least {least}"):
        assigned(groups[1:], SplitRates(folds=folds))


# --- one class per photo ----------------------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path):
    """classes(text) writes the table beside the photos 1.jpg to 6.jpg and deep/7.jpg, and returns split and class of
    each photo; classes.source is the source."""
    for name in (*"123456", "deep/7"):
        draw(tmp_path / "photos", f"{name}.jpg")

    def classes(text: str, columns: Columns = ANY, rates: SplitRates = RATES) -> dict:
        (tmp_path / "labels.csv").write_text(text)
        classes.source = csv_table.read(tmp_path / "labels.csv", tmp_path / "photos", columns, rates)
        return {
            os.path.relpath(photo.path, tmp_path / "photos")[:-4]: (split.name, classes.source.classes[photo.label])
            for split in classes.source.splits
            for photo in split.photos
        }

    return classes


NAMES = {"1": "cat", "2": "dog", "3": "cat", "4": "dog"}
AS_FOLDERS = {name: ("training", label) for name, label in NAMES.items()}


def table(header: str, row: str) -> str:
    """A table with a row of this form for each photo of NAMES."""
    numbers = {"cat": "0", "dog": "1"}
    return header + "".join(row.format(name=name, label=NAMES[name], number=numbers[NAMES[name]]) for name in NAMES)


@pytest.mark.parametrize(
    "text",
    [
        table("image_id,label\n", "{name},{label}\n"),
        table("image_id,label\n", "{name}.jpg,{label}\n"),
        table("label;image_id\r\n", '"{label}";{name}.jpg\r\n'),
        table("\ufeffimage_id\tlabel\n", "{name}\t{label}\n"),
        table("", "{name}.jpg,{label}\n"),
        table("id,number,name\n", "{name},{number},{label}\n"),
        table("id,label,size\n", "{name},{label},8\n"),
        table(",id,label\n", "9{name},{name},{label}\n"),
        table("path,label\n", "C:\\data\\{name}.jpg,{label}\n"),
        table("path,label\n", "/home/me/photos/{name}.jpg,{label}\n"),
        table("path,label\n", "./{name}.jpg,{label}\n"),
    ],
)
def test_a_column_that_names_photos_and_one_of_classes_are_recognised(classes, text):
    assert classes(text) == AS_FOLDERS
    assert classes.source.rejected == []


def test_a_path_of_another_machine_means_the_photo_at_its_end_which_is_said_once(classes):
    assert classes("path,label\n/a/deep/7.jpg,x\n/a/1.jpg,y\n/a/other/7.jpg,y\n../photos/2.jpg,x\n") == {
        "deep/7": ("training", "x"), "1": ("training", "y"),
    }  # fmt: skip
    (note,) = (note for note in classes.source.notes if "at their end" in note)
    assert note == "2 names mean the photo at their end, as /a/deep/7.jpg means deep/7.jpg"
    assert [tuple(row) for row in classes.source.rejected] == [
        ("labels.csv:4", "/a/other/7.jpg: no photo of that name"),
        ("labels.csv:5", "../photos/2.jpg: no photo of that name"),
    ]


def test_a_name_without_folders_means_the_only_photo_of_that_name_in_any_folder(classes, tmp_path):
    assert classes("id,label\n7,x\n1.jpg,y\n")["deep/7"] == ("training", "x")
    draw(tmp_path / "photos", "other/7.jpg")
    assert "7" not in classes("id,label\n7,x\n1.jpg,y\n")
    assert classes.source.rejected[0].reason == "7: deep/7.jpg and other/7.jpg have that name"


def test_a_photo_without_a_suffix_is_found(classes, tmp_path):
    (tmp_path / "photos" / "1.jpg").rename(tmp_path / "photos" / "1")
    classes("id,label\n1,x\n2,y\n3,x\n4,y\n")
    assert classes.source.rejected == []


@pytest.mark.parametrize("column", ["split", "fold", "set"])
def test_a_column_of_split_names_gives_the_splits(classes, column):
    text = f"id,label,{column}\n1,cat,train\n2,dog,TRAIN\n3,cat,val\n4,dog,valid\n5,cat,test\n6,dog,\n"
    assert classes(text) == {
        "1": ("training", "cat"), "2": ("training", "dog"), "3": ("validation", "cat"), "4": ("validation", "dog"),
        "5": ("evaluation", "cat"),
    }  # fmt: skip
    assert [tuple(row) for row in classes.source.rejected] == [("labels.csv:7", f"6: {column} is empty")]


def test_numbers_are_classes_as_they_are_and_names_come_from_a_list_beside_the_table(classes, tmp_path):
    assert set(classes("id,y\n1,-1\n2,1\n3,-1\n4,1\n").values()) == {("training", "-1"), ("training", "1")}
    assert set(classes("id,y\n1,1.0\n2,2.0\n3,\n4,2.0\n").values()) == {("training", "1"), ("training", "2")}
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert classes("id,y\n1,0\n2,1\n3,0\n4,1\n") == AS_FOLDERS
    with pytest.raises(
        UserError, match=r"class 2 and none of class 0.* begin at 1, put a line for class 0.*classes.txt"
    ):
        classes("id,y\n1,1\n2,2\n3,1\n4,2\n")


def test_one_column_of_0_and_1_makes_two_classes_unless_it_is_named_as_labels(classes):
    text = "id,target\n1,0\n2,1\n3,0\n4,1\n"
    assert set(classes(text).values()) == {("training", "0"), ("training", "1")}
    classes(text, Columns(labels=["target"]))
    assert classes.source.kind.name == "a table of labels"
    with pytest.raises(UserError, match="--folds is for several labels per photo; name those"):
        classes(text, rates=SplitRates(folds=2))


@pytest.mark.parametrize("column", ["fine", "2"])
def test_of_several_columns_of_classes_the_flag_names_one(classes, column):
    text = "id,fine,coarse\n" + "".join(f"{n},{n % 3},{n % 2}\n" for n in range(1, 7))
    with pytest.raises(
        UserError, match=r"3 columns: 'id' .*'fine' \(1 or 2 or 0\), 'coarse' \(1 or 0\).*--label-column"
    ):
        classes(text)
    assert {name: label for name, (_, label) in classes(text, Columns(label=column)).items()} == {
        str(n): str(n % 3) for n in range(1, 7)
    }
    assert "columns that are not used: 'coarse' (1 or 0)" in classes.source.notes


def test_two_columns_of_photos_need_a_flag(classes):
    text = "left,right,label\n1,2,a\n3,4,b\n5,6,a\n"
    with pytest.raises(UserError, match=r"'left' and 'right' .* both name photos; choose one with --id-column"):
        classes(text)
    assert list(classes(text, Columns("right"))) == ["2", "4", "6"]


def test_a_table_of_boxes_is_called_one(classes):
    text = "file,w,class,x,y,z\n" + "".join(
        f"{n % 6 + 1}.jpg,{n},{'ab'[n % 2]},{n},{n % 3},{n % 4}\n" for n in range(12)
    )
    with pytest.raises(UserError, match="it looks like a table of boxes, several rows per photo: crop the boxes"):
        classes(text)


@pytest.mark.parametrize("columns", [Columns(), Columns("id"), Columns("id", group="who"), Columns("id", ["label"])])
def test_photos_that_are_elsewhere_are_the_cause_that_is_shown(classes, columns):
    text = "id,label,who\n" + "".join(f"images/{n}0.jpg,{n % 2},{n % 4}\n" for n in range(8))
    with pytest.raises(UserError, match=r"names no photo in .*: 'id' \(8 values such as images/00.jpg\).*--images"):
        classes(text, columns)


@pytest.mark.parametrize("columns", [{"label": "label"}, {"labels": ["label"]}, {"label": "label", "group": "who"}])
def test_the_commonest_reason_is_shown_with_its_count(classes, columns):
    text = "id,label,who\n1.jpg,,p1\n" + "".join(f"{n}0.jpg,{n % 2},p{n}\n" for n in range(1, 8)) + "2.jpg,,p2\n"
    with pytest.raises(UserError, match=r"9 left out \(7 of them like .*10.*no photo of that name\)"):
        classes(text, Columns(**columns))
        classes.source.check_complete()


def test_groups_of_a_table_of_classes_stay_in_one_split(classes):
    text = "id,label,who\n" + "".join(f"{n},{'ab'[n % 2]},p{n % 3}\n" for n in range(1, 7))
    assert len({split for split, _ in classes(text, Columns(label="label", group="who")).values()}) == 3
    split_of = {name: split for name, (split, _) in classes(text, Columns(label="label", group="who")).items()}
    assert all(split_of[str(n)] == split_of[str(n + 3)] for n in range(1, 4))


def test_missing_splits_are_drawn_by_groups_and_given_ones_stay(classes):
    header, columns = "id,label,split,who\n", Columns(label="label", group="who")
    rows = [f"{n},{'ab'[n % 2]},{'train' if n < 5 else 'test'},p{(n + 1) // 2}\n" for n in range(1, 7)]
    split_of = {name: split for name, (split, _) in classes(header + "".join(rows), columns).items()}
    assert split_of["5"] == split_of["6"] == "evaluation"
    assert {split_of["1"], split_of["3"]} == {"training", "validation"}
    with pytest.raises(UserError, match="has its evaluation split; leave --test-rate out"):
        classes(header + "".join(rows), columns, SplitRates(test=0.3))
    with pytest.raises(UserError, match=r"the group 'p2' of .* is in (training|validation) and evaluation"):
        classes(header + "".join(rows[:3]) + "4,a,test,p2\n", columns)


# --- labels that are not known ----------------------------------------------------------------------------------------

CHEXPERT = "id,tube,line,sex\n1,1.0,,M\n2,-1.0,0.0,F\n3,0.0,1.0,F\n4,,-1.0,M\n"


@pytest.mark.parametrize(("uncertain", "value"), [(None, -1), ("ignore", -1), ("zero", 0), ("one", 1)])
def test_empty_labels_are_not_known_and_minus_one_is_what_the_flag_says(classes, uncertain, value):
    classes(CHEXPERT, Columns(uncertain=uncertain))
    found = [classes.source.rows.get(f"{n}.jpg") for n in range(1, 5)]
    last = None if value == -1 else ("4.jpg", [-1, value])
    assert found == [("1.jpg", [1, -1]), ("2.jpg", [value, 0]), ("3.jpg", [0, 1]), last]
    assert classes.source.classes == ["tube", "line"]
    assert "2 labels are empty, not known" in classes.source.notes
    assert any(note.startswith("2 labels are -1, taken as ") for note in classes.source.notes)


def test_labels_of_1_and_minus_1_without_any_0_are_asked_for(classes):
    text = "id,young,smiling\n1,1,-1\n2,-1,1\n3,1,1\n"  # as in CelebA
    with pytest.raises(UserError, match=r"1 or -1 and never 0.*--uncertain zero"):
        classes(text)
    classes(text, Columns(uncertain="zero"))
    assert classes.source.rows["1.jpg"] == ("1.jpg", [1, 0])
