"""The command on each kind of source: the same dataset of the same photos, and the same guarantees."""

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.sources import draw, photo, photos, rejected, runner, tree

from pyimagesearch import config
from pyimagesearch.data.datasets import PhotoFolder

CLASSES = ("Bread", "Fried food", "Soup")
NAMES = [f"{name}/{label}_{number}.jpg" for label, name in enumerate(CLASSES) for number in range(15)]
KINDS = ("raw", "split", "numbered", "named")  # of sources that have their splits


@pytest.fixture
def flowers(tmp_path):
    """Class folders without splits: 15 photos of each of three classes."""
    return draw(tmp_path / "flowers", *NAMES)


@pytest.fixture
def prepare(tmp_path, flowers):
    """prepare("--seed", "1") runs the command on the class folders."""
    return runner(tmp_path, "--source", flowers)


def listing(dataset):
    """What training reads: the fingerprint of each split, and its classes and contents in order."""
    folders = {split: PhotoFolder(dataset / split, None) for split in config.SPLITS}
    return {
        split: (
            folder.fingerprint(),
            [
                (folder.classes[label], hashlib.sha256(Path(path).read_bytes()).hexdigest())
                for path, label in folder.samples
            ],
        )
        for split, folder in folders.items()
    }


def placed(dataset):
    """The split of each photo, by class and name."""
    return {name.partition("/")[2]: name.partition("/")[0] for name in photos(dataset)}


@pytest.fixture
def prepared(prepare, flowers, tmp_path):
    """Datasets of the same photos in the same splits: "dataset", of class folders without splits, which are drawn; and
    "of-raw", "of-split", "of-numbered" and "of-named", of the other kinds, made with those splits."""
    prepare()
    split_of = placed(tmp_path / "dataset")
    assert sorted(split_of) == sorted(NAMES)
    lists = {"training": "train", "validation": "val", "evaluation": "test"}
    for kind in KINDS:
        (tmp_path / kind).mkdir()
    for name in ("raw", "numbered"):
        (tmp_path / name / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for name in reversed(NAMES):
        label, split = os.path.dirname(name), split_of[name]
        for copied in (f"raw/{split}/{os.path.basename(name)}", f"split/{lists[split]}/{name}"):
            os.makedirs(os.path.dirname(tmp_path / copied), exist_ok=True)
            shutil.copy2(flowers / name, tmp_path / copied)
        with open(tmp_path / "numbered" / f"{lists[split]}.txt", "a") as file:
            file.write(f"{name} {CLASSES.index(label)}\n")
        with open(tmp_path / "named" / f"{lists[split]}.txt", "a") as file:
            file.write(f'"../flowers/{name}","{label}"\n')
    for kind in KINDS:
        root = ("--root", flowers) if kind == "numbered" else ()
        runner(tmp_path, "--source", tmp_path / kind)("--dest", tmp_path / f"of-{kind}", "--strict", *root)
    return tmp_path


def test_class_folders_text_lists_and_the_raw_layout_give_the_same_photos_in_the_same_order(prepared):
    expected = listing(prepared / "dataset")
    assert sum(len(photos) for _, photos in expected.values()) == len(NAMES)
    for kind in KINDS:
        assert listing(prepared / f"of-{kind}") == expected, kind
        assert placed(prepared / f"of-{kind}") == placed(prepared / "dataset"), kind


@pytest.mark.training
def test_class_folders_text_lists_and_the_raw_layout_give_the_same_training_run(prepared, run_script):
    histories = []
    for dataset in ("dataset", "of-raw", "of-named"):
        ended = run_script(
            "train_distributed.py", "--data", dataset, "--output", "output", "--restart", "--model", "resnet18",
            "--weights", "none", "--image-size", "32", "--batch-size", "8", "--epochs", "1", "--workers", "0",
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        with open(prepared / "output" / "history.csv", newline="") as file:
            (epoch,) = csv.DictReader(file)
        histories.append({name: figure for name, figure in epoch.items() if name not in ("seconds", "images_per_s")})
    assert set(histories[0]) == {"epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr"}
    assert histories == [histories[0]] * 3


def test_the_kind_and_the_plan_are_printed_and_recorded(prepare, flowers, tmp_path):
    ended = prepare("--val-rate", "0.3", "--seed", "5")
    drawn = "validation and evaluation drawn by --val-rate 0.3 --test-rate 0.1 --seed 5"
    assert ended.out.startswith(f"[INFO] {flowers} holds class folders; {drawn}\n[INFO] copying images...\n")
    facts = json.loads((tmp_path / "dataset" / "prepared.json").read_text())
    assert (facts["kind"], facts["drawing"]["seed"]) == ("class folders", 5)
    assert facts["drawing"]["rates"] == {"validation": 0.3, "evaluation": 0.1}
    assert (tmp_path / "dataset" / "classes.txt").read_text() == "Bread\nFried food\nSoup\n"


@pytest.mark.parametrize("few", [3, 15])
def test_photos_that_are_added_later_are_taken_and_no_other_changes_its_split(flowers, tmp_path, few):
    small = tmp_path / "small"
    for name in NAMES:
        if int(name[:-4].partition("_")[2]) < few:
            draw(small, name)
    prepare = runner(tmp_path, "--source", small)
    prepare()
    before = tree(tmp_path / "dataset")
    assert "nothing new" in prepare().out
    draw(small, *(f"{name}/new {number}.jpg" for name in CLASSES for number in range(25)), "Soup/deep/er/0.jpg")
    assert "nothing new" not in prepare().out
    after = tree(tmp_path / "dataset")
    assert len(photos(tmp_path / "dataset")) == 3 * few + 3 * 25 + 1
    old = [name for name in before if name.endswith(b".jpg")]
    assert all(after[name] == before[name] for name in old)  # the inode too: no copy
    assert "nothing new" in prepare().out


def test_photos_of_an_interrupted_run_keep_their_split(tmp_path):
    folder = draw(tmp_path / "few", *(f"{name}/{number}.jpg" for name in "abcdef" for number in range(3)))
    prepare = runner(tmp_path, "--source", folder)
    prepare()
    before = placed(tmp_path / "dataset")
    (tmp_path / "dataset").rename(tmp_path / "dataset.partial")
    draw(folder, *(f"{name}/{number}.jpg" for name in "abcdef" for number in range(3, 20)))
    prepare()
    assert before.items() <= placed(tmp_path / "dataset").items()


@pytest.mark.parametrize("other", [("--seed", "1"), ("--val-rate", "0.3"), ("--test-rate", "0.2")])
def test_another_plan_is_refused_because_photos_would_change_their_split(prepare, tmp_path, other):
    prepare()
    before = tree(tmp_path / "dataset")
    error = prepare(*other, status=2).err
    assert "was made with --val-rate 0.2 --test-rate 0.1 --seed 0, and photos would change their split with" in error
    assert " ".join(other) in error
    assert "--overwrite" in error
    assert tree(tmp_path / "dataset") == before
    prepare(*other, "--overwrite")
    assert placed(tmp_path / "dataset").keys() == set(NAMES)
    assert "nothing new" in prepare(*other).out


def test_a_dataset_of_the_first_version_can_be_updated(run, source, tmp_path):
    run()
    marker = tmp_path / "dataset" / "prepared.json"
    facts = json.loads(marker.read_text())
    marker.write_text(json.dumps({name: facts[name] for name in ("source", "classes", "verified")}))
    assert "nothing new" in run().out
    photo(source / "training" / "0_9.jpg")
    run()
    assert len(photos(tmp_path / "dataset")) == 13


def test_a_new_class_folder_is_another_list_of_classes(prepare, flowers, tmp_path):
    prepare()
    draw(flowers, *(f"Rice/{number}.jpg" for number in range(5)))
    assert "made with other classes ('Soup' there, 'Rice' here)" in prepare(status=2).err


def test_undecodable_photos_are_left_out_of_any_split(prepare, flowers, tmp_path):
    for name in NAMES[::5]:
        (flowers / name).write_text("broken")
    (flowers / "stray.png").touch()
    before = sorted(os.listdir(tmp_path))
    assert "stray.png: not in a class folder" in prepare("--strict", status=2).err
    assert sorted(os.listdir(tmp_path)) == before
    prepare()
    assert rejected(tmp_path / "dataset") == {
        **dict.fromkeys(NAMES[::5], "not an image"),
        "stray.png": "not in a class folder",
    }
    assert len(photos(tmp_path / "dataset")) == 36


def test_a_class_that_lacks_a_photo_in_a_split_because_one_is_broken_is_named(tmp_path):
    folder = draw(tmp_path / "few", *(f"{name}/{number}.jpg" for name in "ab" for number in range(3)))
    (folder / "a" / "1.jpg").write_text("broken")
    error = runner(tmp_path, "--source", folder)(status=2).err
    assert "part of" in error and "few has no usable photo of class 'a'" in error
    assert "1 left out (a/1.jpg: not an image); remove the files that are left out" in error
    assert os.listdir(tmp_path) == ["few"]


# text lists


@pytest.fixture
def lists(tmp_path, flowers):
    """Text lists with odd names and without validation, beside the folder of the photos."""
    for name, which in {"all-but": NAMES[::2] + NAMES[1::4], "held out.lst": NAMES[3::4]}.items():
        text = "".join(f"flowers/{path}\t{os.path.dirname(path)}\n" for path in which)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_lists_may_have_any_name_and_their_missing_splits_are_drawn(lists, tmp_path):
    prepare = runner(tmp_path, "--train-list", "all-but", "--test-list", "held out.lst")
    out = prepare("--dest", "dataset", "--val-rate", "0.4").out
    assert "[INFO] . holds text lists; validation drawn by --val-rate 0.4 --seed 0\n" in out
    where = placed(tmp_path / "dataset")
    assert where.keys() == set(NAMES)
    assert {name for name, split in where.items() if split == "evaluation"} == set(NAMES[3::4])
    with open(tmp_path / "all-but", "a") as file:
        file.write(f"flowers/{NAMES[0]}\tSoup\n")
        file.write("flowers/Soup/again.jpg\tSoup\n")
        file.write("flowers/gone.jpg\tSoup\n")
    draw(tmp_path / "flowers", "Soup/again.jpg")
    draw(tmp_path / "flowers", "Soup/unlisted.jpg")
    first = NAMES[0].partition("/")[2]
    assert f"does not provide: {where[NAMES[0]]}/Bread/{first};" in prepare("--val-rate", "0.4", status=2).err
    (tmp_path / "all-but").write_text((tmp_path / "all-but").read_text().replace(f"flowers/{NAMES[0]}\tSoup\n", ""))
    before = tree(tmp_path / "dataset")
    prepare("--val-rate", "0.4")
    after = tree(tmp_path / "dataset")
    assert all(after[name] == facts for name, facts in before.items() if name.endswith(b".jpg"))
    assert placed(tmp_path / "dataset").keys() == {*NAMES, "Soup/again.jpg"}
    (line,) = rejected(tmp_path / "dataset")
    assert line.startswith("all-but:")


def test_the_first_bad_lines_are_printed_and_strict_refuses_them(lists, tmp_path):
    with open(lists / "all-but", "a") as file:
        file.writelines(f"gone-{number}.jpg Soup\n" for number in range(9))
    prepare = runner(tmp_path, "--train-list", "all-but", "--test-list", "held out.lst")
    error = prepare("--strict", status=2).err
    first = len(NAMES[::2] + NAMES[1::4]) + 1
    assert f"all-but:{first}: gone-0.jpg: cannot be read" in error
    assert "and 6 more" in error
    out = prepare().out
    assert f"  all-but:{first}: gone-0.jpg: cannot be read: No such file or directory\n" in out
    assert "  and 4 more\n" in out
    assert len(rejected(tmp_path / "dataset")) == 9


def test_links_are_shared_by_all_kinds(lists, prepare, flowers, tmp_path):
    prepare("--link")
    runner(tmp_path, "--train-list", "all-but")("--link", "--dest", tmp_path / "listed", "--no-verify")
    for dataset in ("dataset", "listed"):
        for name in photos(tmp_path / dataset):
            assert (tmp_path / dataset / name).samefile(flowers / name.partition("/")[2])


@pytest.mark.parametrize("dest", ["flowers", "flowers/Soup", "."])
def test_a_dest_that_holds_listed_photos_or_the_lists_is_refused(lists, flowers, tmp_path, dest):
    before = tree(flowers)
    error = runner(tmp_path, "--train-list", "all-but")("--dest", dest, "--overwrite", status=2).err
    assert "lies in the dataset" in error
    assert tree(flowers) == before


@pytest.mark.parametrize("dest", ["flowers", "flowers/Soup/x"])
def test_a_dest_in_class_folders_is_refused(prepare, flowers, dest):
    before = tree(flowers)
    assert "would lie in its source" in prepare("--dest", dest, "--overwrite", status=2).err
    assert tree(flowers) == before


def test_a_dest_in_a_folder_around_the_class_folders_is_refused(tmp_path):
    around = draw(tmp_path / "around", *(f"inner/{name}" for name in NAMES))
    before = tree(around)
    prepare = runner(tmp_path, "--source", around)
    assert "would lie in its source" in prepare("--dest", around / "dataset", status=2).err
    assert "its photos are in inner" in prepare().out
    assert tree(around) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "source", "--label-pattern", "("), "not a regular expression: missing )"),
        (("--source", "source", "--label-pattern", "cat"), "has no group (?P<label>...)"),
        (("--train-list", "x", "--label-pattern", "top"), "--label-pattern goes with a folder as --source"),
        (("--source", "source", "--val-rate", "0.2"), "the source has its validation split"),
        (("--source", "source", "--root", "x"), "leave out --root"),
        (("--source", "source", "--train-list", "x"), "not allowed with argument --source"),
        (("--source", "source", "--val-list", "x"), "--val-list and --test-list go with --train-list"),
        (("--train-list", "nowhere.txt"), "cannot read the list nowhere.txt"),
        (("--source", "source", "--test-rate", "0"), "above 0 and at most 1"),
        (("--source", "source", "--val-rate", "nan"), "above 0 and at most 1"),
        (("--check", "source", "--val-rate", "0.5"), "leave --dest and --val-rate out"),
    ],
)
def test_flags_that_exclude_each_other_are_one_clear_line(source, tmp_path, arguments, said):
    assert said in runner(tmp_path, *arguments)(status=2).err
    assert os.listdir(tmp_path) == ["source"]
