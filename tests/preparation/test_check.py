"""--check reports what is wrong with a dataset, and changes nothing in it."""

import os
import shutil
import sys
from collections import Counter

import numpy as np
import pytest
from helpers.photos import draw_photo, scene
from helpers.sources import draw, tree
from PIL import Image

from pyimagesearch.preparation import check
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError

audited = []  # functions of (event, arguments): a hook of sys cannot be removed
sys.addaudithook(lambda *event: [function(*event) for function in audited] and None)


@pytest.fixture
def made(dataset):
    return dataset(("Green", "Red"), training=12, validation=2, evaluation=2)


@pytest.fixture
def checked(made, capsys):
    """checked() checks the dataset, which must not change; returns the output and the exit status."""

    def run():
        before = tree(made)
        status = check.check(str(made))
        assert tree(made) == before
        out, err = capsys.readouterr()
        assert err == ""
        assert out.splitlines()[-1].startswith("[INFO] verdict: ")
        return out, status

    return run


def test_a_good_dataset_is_counted_and_fit_to_train_on(made, checked):
    draw_photo(made / "training" / "Red" / "big.jpg", (300, 200))
    grey = draw_photo(made / "validation" / "Green" / "grey.png", (8, 9))
    Image.open(grey).convert("L").save(grey)
    out, status = checked()
    assert status == 0
    table = [line.split() for line in out.splitlines()[1:5]]
    assert table == [
        ["class", "training", "validation", "evaluation"],
        ["Green", "12", "3", "2"],
        ["Red", "13", "2", "2"],
        ["total", "25", "5", "4"],
    ]
    assert "[INFO] pixels: smallest 8 x 9, median 40 x 40, largest 300 x 200\n" in out
    assert "[INFO] kinds: 33 PNG, 1 JPEG\n" in out
    assert "[INFO] modes: 33 RGB, 1 L\n" in out
    assert out.endswith(f"verdict: {made} is fit to train on\n")
    assert "problem" not in out and "note" not in out


def copy_to(made, split, name):
    return shutil.copy(made / "training" / "Red" / "000.png", made / split / name)


def leak(made):
    copy_to(made, "evaluation", "Red/other-name.png")


def leak_into_another_class(made):
    copy_to(made, "evaluation", "Green/other-name.png")


def contradict(made):
    copy_to(made, "training", "Green/other-name.png")


def repeat(made):
    copy_to(made, "training", "Red/other-name.png")


def truncate(made):
    path = made / "validation" / "Red" / "000.png"
    path.write_bytes(path.read_bytes()[:200])


def write_text(made):
    (made / "training" / "Red" / "broken.jpg").write_text("no photo")


def leave_empty_files(made):
    for split in ("training", "evaluation"):  # as many bytes, but no photo in two splits
        (made / split / "Red" / "empty.jpg").touch()


def lead_nowhere(made):
    (made / "training" / "Red" / "gone.jpg").symlink_to("nowhere")


def make_a_pipe(made):
    os.mkfifo(made / "training" / "Red" / "pipe.jpg")


def remove_a_class_of_training(made):
    shutil.rmtree(made / "training" / "Red")


def empty_a_class_of_training(made):
    for path in (made / "training" / "Red").iterdir():
        path.unlink()


def empty_a_split(made):
    for name in ("Green", "Red"):
        shutil.rmtree(made / "validation" / name)


def leave_one_class(made):
    for split in ("training", "validation", "evaluation"):
        shutil.rmtree(made / split / "Red")


def differ_in_case(made):
    (made / "validation" / "Red").rename(made / "validation" / "red")


def remove_a_split(made):
    shutil.rmtree(made / "evaluation")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (leak, ["1 photo in more than one split", "training/Red/000.png = evaluation/Red/other-name.png"]),
        (leak_into_another_class, ["1 photo in more than one split", "000.png = evaluation/Green/other-name.png"]),
        (contradict, ["1 photo in more than one class", "training/Green/other-name.png = training/Red/000.png"]),
        (truncate, ["1 photo cannot be read", "validation/Red/000.png: "]),
        (write_text, ["1 photo cannot be read", "training/Red/broken.jpg: not an image"]),
        (leave_empty_files, ["2 photos cannot be read", "training/Red/empty.jpg: "]),
        (lead_nowhere, ["1 photo cannot be read", "training/Red/gone.jpg: cannot be read: No such file"]),
        (make_a_pipe, ["1 photo cannot be read", "training/Red/pipe.jpg: cannot be read: not a regular file"]),
        (remove_a_class_of_training, ["training lacks 1 of 2 classes", "'Red': no folder"]),
        (empty_a_class_of_training, ["training lacks 1 of 2 classes", "'Red': the folder has no photo"]),
        (differ_in_case, ["training lacks 1 of 3 classes", "'red': no folder, but there is 'Red'"]),
        (empty_a_split, ["validation lacks 2 of 2 classes", "'Green': no folder"]),
        (leave_one_class, ["there is only one class, 'Green': nothing to classify"]),
        (remove_a_split, ["there is no folder "]),
    ],
)
def test_a_problem_is_reported_with_its_photos_and_exit_status_1(made, checked, damage, said):
    damage(made)
    out, status = checked()
    assert status == 1
    assert out.count(f"[INFO] problem: {said[0]}") == 1
    assert all(part in out for part in said)
    assert "not fit to train on" in out.splitlines()[-1]


def test_only_the_first_few_of_many_examples_are_printed(made, checked):
    for number in range(20):
        (made / "training" / "Red" / f"broken{number:02}.jpg").write_text("no photo")
    out, _ = checked()
    assert "problem: 20 photos cannot be read\n" in out
    assert out.count(": not an image\n") == check.SHOWN
    assert "  and 15 more\n" in out


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"Green": 4, "Red": 12}, ["1 of 2 classes has fewer than 5 training photos\n  'Green': 4"]),
        ({"Green": 5, "Red": 49}, []),
        ({"Green": 10, "Red": 100}, ["very uneven classes: 100 training photos of 'Red', 10 of 'Green'"]),
    ],
)
def test_small_and_uneven_classes_are_notes_and_no_problems(photos, capsys, counts, said):
    for split in ("validation", "evaluation"):
        photos(dict.fromkeys(counts, 1), f"set/{split}", size=(4, 4))
    folder = photos(counts, "set/training", size=(4, 4)).parent
    assert check.check(str(folder)) == 0
    out = capsys.readouterr().out
    assert out.count("note: ") == len(said)
    assert all(f"[INFO] note: {line}" in out or line in out for line in said)


def test_a_class_that_validation_lacks_is_a_note(made, checked):
    shutil.rmtree(made / "validation" / "Red")
    out, status = checked()
    assert status == 0
    assert "[INFO] note: validation lacks 1 of 2 classes\n  'Red': no folder\n" in out


def test_splits_may_have_any_usual_name_and_class_names_any_unicode_form(tmp_path, capsys):
    folder = draw(tmp_path / "set", *(f"train/{name}/{number}.jpg" for name in ("a", "\u00e9") for number in range(10)))
    draw(folder, "VAL/a/x.jpg", "VAL/e\u0301/y.jpg", "test/a/z.jpg", "test/\u00e9/w.jpg")
    assert check.check(str(folder)) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "note: " in line]
    assert notes == ["[INFO] note: 24 photos of hardly any contrast"]  # they are drawn in one colour


def test_copies_in_a_class_and_files_that_training_ignores_are_noted(made, checked):
    repeat(made)
    (made / "training" / "Red" / "notes.doc").write_text("not read")
    (made / "training" / "Red" / ".hidden").write_text("nobody looks at it")
    draw_photo(made / "training" / "astray.jpg")
    out, status = checked()
    assert status == 0
    assert (
        "note: 1 photo more than once in the same class and split\n  training/Red/000.png = training/Red/other" in out
    )
    assert "note: training has files that are ignored: 1 (photos outside class folders), 1 (.doc)\n" in out


def test_photos_that_hardly_show_anything_are_noted(made, checked):
    folder = made / "training" / "Red"
    Image.new("RGB", (300, 200), (255, 120, 0)).save(folder / "flat.png")
    values = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)
    Image.fromarray(values).save(folder / "deep.png")
    Image.fromarray(values * 16).save(folder / "scaled.png")
    out, status = checked()
    assert status == 0
    assert "note: 2 photos of hardly any contrast\n" in out
    assert "deep.png: dark: its values are below 4095, where others reach 65535\n" in out
    assert "training/Red/flat.png: almost all pixels have one value\n" in out


def test_the_file_of_a_photo_is_opened_once(made, monkeypatch):
    opened = Counter()

    def count(event, arguments):
        if event == "open" and str(arguments[0]).startswith(str(made)):
            opened[arguments[0]] += 1

    monkeypatch.setattr(terminal, "quiet", True)
    photos = check.list_dataset(str(made))[1]
    audited.append(count)
    try:
        assert all(check.inspect_photo(photo).digest for photo in photos)
    finally:
        audited.clear()
    assert opened and set(opened.values()) == {1}


def test_near_copies_are_noted_by_where_they_are_and_drawn(made, checked):
    for number, (name, other) in enumerate(
        (
            ("training/Red/a.png", "evaluation/Red/small.jpg"),
            ("training/Red/b.png", "training/Green/small.jpg"),
            ("training/Red/c.png", "training/Red/small-c.jpg"),
        )
    ):
        scene(number).save(made / name)
        scene(number).resize((100, 60)).save(made / other, quality=60)
    shutil.copy(made / "training" / "Red" / "a.png", made / "training" / "Red" / "equal.png")
    out, status = checked()
    assert status == 0
    picture = f"{made}-near-copies.png"
    for where, names in (
        ("more than one split", "training/Red/a.png ~ evaluation/Red/small.jpg"),
        ("more than one class", "training/Green/small.jpg ~ training/Red/b.png"),
        ("the same class and split", "training/Red/c.png ~ training/Red/small-c.jpg"),
    ):
        assert f"note: 1 group of near copies in {where}, see {picture}\n  {names}\n" in out
    with Image.open(picture) as sheet:
        assert (sheet.format, sheet.height) == ("PNG", 3 * (check.THUMBNAIL + 20))


def test_quiet_leaves_the_problems_and_the_verdict(made, checked, monkeypatch):
    monkeypatch.setattr(terminal, "quiet", True)
    assert checked()[0] == f"[INFO] verdict: {made} is fit to train on\n"
    leak(made)
    repeat(made)
    assert [line.split(": ")[0] for line in checked()[0].splitlines()] == [
        "[INFO] problem",
        "  training/Red/000.png = training/Red/other-name.png = evaluation/Red/other-name.png",
        "[INFO] verdict",
    ]


def test_odd_names_are_printed_on_one_line(made, checked):
    odd = os.fsdecode(b"a 'b' \n \xff \xf0\x9f\x8d\x9e")
    for split in ("training", "validation", "evaluation"):
        draw_photo(made / split / odd / "1.png")
    (made / "training" / odd / "2\n.png").write_text("broken")
    out, status = checked()
    assert status == 1
    assert r"training/a 'b' \n \udcff 🍞/2\n.png: not an image" in out


@pytest.mark.parametrize("named", ["none", "file", "empty", "raw"])
def test_a_folder_that_is_no_dataset_is_an_error_that_says_what_is_expected(tmp_path, named):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    draw_photo(tmp_path / "raw" / "training" / "0_0.jpg")
    with pytest.raises(UserError, match="prepare"):
        check.check(str(tmp_path / named))


def test_the_script_ends_with_the_status_of_the_verdict(made, run_script):
    ended = run_script("prepare_dataset.py", "--check", made)
    assert (ended.returncode, ended.stderr) == (0, "")
    leak(made)
    assert run_script("prepare_dataset.py", "--check", made).returncode == 1
    made.rename(made.parent / "moved")
    ended = run_script("prepare_dataset.py", "--check")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: dataset is no folder") and ended.stderr.count("\n") == 1


@pytest.mark.parametrize("flags", [["--strict"], ["--overwrite"], ["--dest", "x"], ["--link"], ["--source", "x"]])
def test_flags_that_make_a_dataset_are_refused_with_check(flags, capsys):
    with pytest.raises(SystemExit) as caught:
        preparation_options(["--check", *flags])
    assert caught.value.code == 2
    assert flags[0] in capsys.readouterr().err


# --- several labels per photo -----------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path, photo):
    """Four photos with their table: each of training has the label wire, none of the others."""
    folder = tmp_path / "labelled"
    rows = [("a", "training", "0,1"), ("b", "training", "1,1"), ("c", "validation", "1,0"), ("d", "evaluation", "0,0")]
    for name, _, _ in rows:
        photo(folder / "images" / f"{name}.png")
    lines = [f"{name}.png,{name},{split},{values}\n" for name, split, values in rows]
    (folder / "labels.csv").write_text("".join(["image,group,split,tube,wire\n", *lines]))
    return folder


def test_a_table_of_labels_is_counted_and_fit_to_train_on(labelled, capsys):
    assert check.check(str(labelled)) == 0
    told = capsys.readouterr().out
    assert ["wire", "2", "0", "0"] in [line.split() for line in told.splitlines()]
    assert "note: training has no ROC AUC for a label, which all of its photos have, or none\n  'wire': all\n" in told


def test_photos_of_a_table_that_are_missing_or_in_two_splits_or_have_two_sets_of_labels_are_problems(labelled, capsys):
    images = labelled / "images"
    (images / "b.png").write_bytes((images / "a.png").read_bytes())
    (images / "d.png").write_bytes((images / "c.png").read_bytes())
    table = (labelled / "labels.csv").read_text()
    (labelled / "labels.csv").write_text(f"{table}gone.png,e,training,0,0\n")
    assert check.check(str(labelled)) == 1
    told = capsys.readouterr().out
    assert "1 photo in more than one split\n  images/c.png = images/d.png" in told
    assert "1 photo with more than one set of labels\n  images/a.png = images/b.png" in told
    assert "images/gone.png: " in told


def test_a_label_that_is_not_known_of_some_photos_is_judged_by_the_others(labelled, capsys):
    table = (labelled / "labels.csv").read_text()
    (labelled / "labels.csv").write_text(table.replace("training,0,1", "training,,0"))
    assert check.check(str(labelled)) == 0
    assert "note: training has no ROC AUC for a label, which all of its photos have, or none\n  'tube': all\n" in (
        capsys.readouterr().out
    )
