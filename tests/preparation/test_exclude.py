"""--exclude: what a person marked in label_issues.csv makes the next dataset, and the source stays as it is."""

import csv
import json
import os

import pytest
from helpers.sources import draw, photos, tree

import prepare_dataset
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.preparation.readers.detect import opened_source
from pyimagesearch.runtime.errors import UserError

HEAD = "split,path,given,suggested,score,reason,drop,new_label\n"


@pytest.fixture
def prepare(tmp_path, source):
    """prepare("--exclude", FILE) makes tmp_path/dataset of the small source in this process, or of another --source."""

    def run(*flags, dest="dataset") -> set[str]:
        arguments = ["--source", source, "--dest", tmp_path / dest, "--workers", "1", *flags]
        args = preparation_options([os.fspath(argument) for argument in arguments])
        with opened_source(args) as found:
            assert prepare_dataset.prepare(args, found) == 0
        return set(photos(tmp_path / dest))

    return run


def table(path, *rows: tuple[str, str, str], head=HEAD):
    """label_issues.csv with these paths and marks (drop, new_label)."""
    path.write_text(head + "".join(f"s,{name},g,o,0.1,r,{drop},{new}\n" for name, drop, new in rows))
    return path


def test_marked_photos_are_left_out_or_in_another_class_and_the_source_is_untouched(tmp_path, source, prepare, capsys):
    whole, before = prepare(), tree(source)
    marked = table(
        tmp_path / "label_issues.csv",
        ("training/Noodles/Pasta/0_0.jpg", "x", ""), ("evaluation/Rice/1_1.jpg", " TRUE ", "Rice"),
        ("validation/Rice/1_0.jpg", "0", "Noodles"), ("training/Rice/1_0.jpg", "", ""),
    )  # fmt: skip
    made = prepare("--exclude", marked, dest="better")
    assert whole - made == {"training/Noodles/Pasta/0_0.jpg", "evaluation/Rice/1_1.jpg", "validation/Rice/1_0.jpg"}
    assert made - whole == {"validation/Noodles/Pasta/1_0.jpg"}
    assert "2 photos left out, 1 in another class" in capsys.readouterr().out
    recorded = json.loads((tmp_path / "better" / "prepared.json").read_text())["corrections"]
    assert recorded == "2 photos left out, 1 in another class"
    assert tree(source) == before


def test_a_later_table_names_a_photo_by_its_new_place(tmp_path, prepare):
    first = table(tmp_path / "1.csv", ("training/Rice/1_0.jpg", "", "Noodles/Pasta"))
    second = table(tmp_path / "2.csv", ("training/Noodles/Pasta/1_0.jpg", "yes", ""))
    assert "training/Noodles/Pasta/1_0.jpg" in prepare("--exclude", first)
    made = prepare("--exclude", first, second, dest="next")
    assert len(made) == 11 and not made & {"training/Noodles/Pasta/1_0.jpg", "training/Rice/1_0.jpg"}
    with pytest.raises(UserError, match="1 of 1 marked rows name no photo"):
        prepare("--exclude", second, dest="other")


def test_a_relabelled_photo_replaces_no_other_of_its_name_and_drawn_splits_stay(tmp_path, prepare):
    folder = draw(tmp_path / "flowers", *(f"{name}/{number}.jpg" for name in ("rose", "tulip") for number in range(6)))
    whole = prepare("--source", folder)
    moved = next(path for path in sorted(whole) if path.startswith("training/rose"))
    number = os.path.basename(moved)
    marked = table(tmp_path / "marked.csv", (moved, "", "tulip"))
    made = prepare("--source", folder, "--exclude", marked, dest="next")
    split = next(path for path in whole if path.endswith(f"tulip/{number}"))
    expected = f"training/tulip/rose/{number}" if split.startswith("training") else f"training/tulip/{number}"
    assert made == whole - {moved} | {expected}


def test_what_a_spreadsheet_saves_is_read(tmp_path, prepare):
    marked = table(tmp_path / "marked.csv", ("training/Rice/1_0.jpg", "1", ""))
    marked.write_text("\ufeff" + marked.read_text().replace(",", ";"), encoding="utf-8")
    assert "training/Rice/1_0.jpg" not in prepare("--exclude", marked)


def test_photos_of_several_labels_can_be_left_out_but_not_relabelled(tmp_path, prepare):
    draw(tmp_path / "scans", *(f"{number}.jpg" for number in range(12)))
    rows = "".join(f"{number}.jpg,{number % 2},{number % 3 % 2}\n" for number in range(12))
    (tmp_path / "scans" / "train.csv").write_text(f"image,Edema,Cough\n{rows}")
    flags = "--source", tmp_path / "scans" / "train.csv", "--exclude"
    made = prepare(*flags, table(tmp_path / "1.csv", ("images/3.jpg", "x", "")))
    assert len(made) == 11 and "images/3.jpg" not in made
    with open(tmp_path / "dataset" / "labels.csv", newline="") as file:
        assert "3.jpg" not in [row["image"] for row in csv.DictReader(file)]
    with pytest.raises(
        UserError, match=r"line 2: new_label is 'Cough'; the labels of .*train\.csv are several a photo"
    ):
        prepare(*flags, table(tmp_path / "2.csv", ("images/4.jpg", "", "Cough")), dest="next")


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        ([("training/Rice/7.jpg", "x", ""), ("Rice/1_0.jpg", "1", "")], HEAD,
         r"2 of 2 marked rows name no photo of .*source: .*issues\.csv, line 2: training/Rice/7\.jpg, "),
        ([("training/Rice/1_0.jpg", "", "Soup")], HEAD,
         r"issues\.csv, line 2: new_label is 'Soup'; the labels of .*source are Noodles/Pasta, Rice"),
        ([("training/Rice/1_0.jpg", "maybe", "")], HEAD, r"line 2: drop is 'maybe'; expected 1, x, yes or true"),
        ([("training/Rice/1_0.jpg", "", "")], HEAD, "has no marked row; put an x in drop"),
        ([("training/Rice/1_0.jpg", "", "")], "a,path\n", "has no column drop and new_label; expected a label_issues"),
        ([], HEAD, "has no row but its header"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_is_one_line_and_nothing_is_made(tmp_path, prepare, rows, head, message):
    with pytest.raises(UserError, match=message) as error:
        prepare("--exclude", table(tmp_path / "issues.csv", *rows, head=head))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "dataset").exists()


def test_a_dataset_made_with_other_marks_is_not_updated_by_accident(tmp_path, prepare):
    prepare("--exclude", table(tmp_path / "issues.csv", ("training/Rice/1_0.jpg", "x", "")))
    with pytest.raises(UserError, match="was made with other corrections"):
        prepare()
    assert "training/Rice/1_0.jpg" in prepare("--overwrite")
