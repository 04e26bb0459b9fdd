"""Which photos class folders hold, and why other files are rejected."""

import os

import pytest
from helpers.sources import draw

from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.preparation.readers import class_folders, detect
from pyimagesearch.runtime.errors import UserError


def targets(split):
    return [photo.target for photo in split.photos]


def test_classes_are_the_sorted_names_of_folders_in_any_split(tmp_path):
    source = class_folders.read(draw(tmp_path, "train/dog/1.jpg", "train/Cat/1.jpg", "val/emu/1.jpg", "test/dog/2.jpg"))
    assert source.classes == ["Cat", "dog", "emu"]
    assert [[photo.label for photo in split.photos] for split in source.splits] == [[0, 1], [2], [1]]


def test_files_lie_at_any_depth_and_keep_their_path_in_the_class(tmp_path):
    draw(tmp_path, "dog/1.jpg", "dog/a/1.jpg", "dog/b/c/1.jpg", "cat/1.jpg")
    (training,) = class_folders.read(tmp_path).splits
    assert targets(training) == ["cat/1.jpg", "dog/1.jpg", "dog/a/1.jpg", "dog/b/c/1.jpg"]


def test_every_suffix_that_training_reads_is_a_photo_in_any_case(tmp_path):
    names = [f"dog/{number}{kind}" for number, kind in enumerate((*EXTENSIONS, ".JPG", ".Webp"))]
    (training,) = class_folders.read(draw(tmp_path, *names)).splits
    assert targets(training) == sorted(names)
    assert training.rejected == []


def test_files_that_are_no_photo_of_a_class_are_rejected_with_the_reason(tmp_path):
    draw(tmp_path / "source", "dog/1.jpg", "stray.png", "elsewhere/2.jpg")
    folder = tmp_path / "source"
    (folder / "elsewhere").rename(tmp_path / "elsewhere")
    (folder / "dog" / "empty.jpg").touch()
    (folder / "dog" / "phone.heic").touch()
    (folder / "dog" / "folder.jpg").mkdir()
    (folder / "dog" / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "nothing").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "README.md").touch()
    (folder / "LICENSE.txt").touch()
    (training,) = class_folders.read(folder).splits
    assert {os.path.relpath(path, folder): reason for path, reason in training.rejected} == {
        "stray.png": "not in a class folder",
        "dog/empty.jpg": "empty",
        "dog/phone.heic": "empty",
        "dog/folder.jpg": "a folder, not a photo",
        "dog/linked": "a link to a folder, which is not followed",
        "nothing": "a folder without photos",
        "notes": "a folder without photos",
    }
    assert (training.found, targets(training)) == (4, ["dog/1.jpg"])


def test_hidden_names_are_skipped(tmp_path):
    draw(tmp_path, "dog/1.jpg", "dog/._1.jpg", "dog/.cache/2.jpg", ".git/3.jpg", ".4.jpg")
    (training,) = class_folders.read(tmp_path).splits
    assert (training.found, targets(training), training.rejected) == (1, ["dog/1.jpg"], [])


def test_a_class_folder_may_be_a_link(tmp_path):
    draw(tmp_path / "elsewhere", "1.jpg")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "dog").symlink_to(tmp_path / "elsewhere")
    (training,) = class_folders.read(tmp_path / "source").splits
    assert targets(training) == ["dog/1.jpg"]


# --- folders around the classes, and folders that are none -----------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "classes", "splits", "note"),
    [
        (["a/b/cat/1.jpg", "a/b/dog/1.jpg", "a/README.md"], ["cat", "dog"], 1, "its photos are in a/b"),
        (["a/train/cat/1.jpg", "a/train/dog/1.jpg", "a/test/cat/1.jpg"], ["cat", "dog"], 2, "its photos are in a"),
        (["a/cat/1.jpg", "a/dog/1.jpg", "__MACOSX/a/cat/1.jpg", ".x/1.jpg"], ["cat", "dog"], 1, "its photos are in a"),
        (
            ["train_set/train_set/cat/1.jpg", "train_set/train_set/dog/1.jpg", "test_set/test_set/cat/1.jpg"],
            ["cat", "dog"], 2, "its class folders are in train_set/train_set and test_set/test_set",
        ),
        (["train/images/cat/1.jpg", "train/images/dog/1.jpg", "val/cat/1.jpg"], ["cat", "dog"], 2,
         "its class folders are in train/images"),
        (["train/cat/x/1.jpg", "train/dog/y/1.jpg", "val/cat/x/1.jpg"], ["cat", "dog"], 2, None),
        (["cat/images/1.jpg", "dog/images/1.jpg"], ["cat", "dog"], 1, None),
        (["bullet_train/1.jpg", "steam_train/1.jpg"], ["bullet_train", "steam_train"], 1, None),
    ],
)  # fmt: skip
def test_folders_around_everything_are_walked_through_and_said(tmp_path, names, classes, splits, note):
    source = detect.read_folder(draw(tmp_path, *names))
    assert (source.classes, len(source.splits), source.notes) == (classes, splits, [note] if note else [])
    assert {photo.target.split("/")[0] for split in source.splits for photo in split.photos} == set(classes)
    assert source.folder == str(tmp_path)
    assert not source.rejected


def test_a_walk_ends_where_a_link_leads_back(tmp_path):
    draw(tmp_path / "source" / "only", "cat/1.jpg", "cat/2.jpg")
    (tmp_path / "source" / "only" / "back").symlink_to(tmp_path / "source")
    assert detect.read_folder(tmp_path / "source").splits


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["seg_train/seg_train/sea/1.jpg", "seg_train/seg_train/ice/1.jpg", "seg_test/seg_test/sea/1.jpg",
             "seg_pred/seg_pred/1.jpg"],
            "seg_test, seg_train, which are named like splits .* give --source .*/seg_train/seg_train; or name",
        ),
        (["train/train/cat/1.jpg", "train/train/dog/1.jpg", "train/test/cat/1.jpg", "train/test/dog/1.jpg"],
         "test, train, which are named like splits .* give --source [^ ]*/train;"),
        (["leaf/1.jpg", "root/1.jpg", "plants/leaf/1.jpg", "plants/root/1.jpg"],
         "plants holds folders named as those beside it, leaf, root; move it away if it is a copy, or give --source "),
        (["images/1.jpg", "masks/1.jpg"], "images, masks, which are named like .*give --label-pattern top"),
        (["p1/0/1.jpg", "p1/1/1.jpg", "p2/0/1.jpg", "p2/1/1.jpg", "p3/1/1.jpg"],
         "each folder in .* holds the same folders, 0, 1, .* --label-pattern parent, .* p1, --label-pattern top"),
        (["train/images/pug_1.jpg", "train/images/pug_2.jpg", "train/images/cat_1.jpg", "train/images/cat_2.jpg"],
         "has one class folder, images, .* --label-pattern prefix reads cat from cat_1.jpg, pug from pug_1.jpg"),
        (["all/cat/1.jpg", "all/dog/1.jpg", "all/cover.jpg", "notes/README.md"], "of one class, 'all'; expected at"),
    ],
)  # fmt: skip
def test_folders_that_are_hardly_classes_are_refused_with_what_to_do(tmp_path, names, said):
    with pytest.raises(UserError, match=said):
        detect.read_folder(draw(tmp_path, *names)).check_complete()


def test_class_names_are_one_in_any_unicode_form_and_this_is_said(tmp_path):
    draw(tmp_path, "train/Caf\u00e9/1.jpg", "train/Tea/1.jpg", "val/Cafe\u0301/2.jpg", "test/Cafe\u0301/3.jpg")
    draw(tmp_path, "train/Cafe\u0301/1.jpg", "train/Cafe\u0301/4.jpg")
    source = class_folders.read(tmp_path)
    assert source.classes == ["Caf\u00e9", "Tea"]
    assert source.notes == ["Caf\u00e9: one class, though its folders are spelled in two Unicode forms"]
    assert sorted(targets(source.splits[0])) == ["Caf\u00e9/1.jpg", "Caf\u00e9/4.jpg", "Tea/1.jpg"]
    assert [reason for _, reason in source.splits[0].rejected] == ["Cafe\u0301/1.jpg has the same name and class"]


@pytest.mark.parametrize(
    ("folders", "listed", "classes", "note"),
    [
        (
            ["1", "2", "10"],
            "Bread",
            ["1", "10", "2"],
            "classes.txt is not used: its 1 names do not fit the 3 class folders",
        ),
        (["1", "2"], "Bread\nRice/Pasta", ["Bread", "Rice/Pasta"], "classes.txt names the folders 1 to 2"),
        (["00", "01"], "b\na", ["a", "b"], "classes.txt names the folders 0 to 1"),
        (["2", "3"], "b\na", ["2", "3"], "classes.txt is not used: its 2 names do not fit the 2 class folders"),
        (["cat", "dog"], "dog\ncat\nemu", ["cat", "dog"], None),
    ],
)
def test_a_list_of_classes_names_numbered_folders_or_is_named_as_unused(tmp_path, folders, listed, classes, note):
    draw(tmp_path, *(f"{name}/{name}.jpg" for name in folders))
    (tmp_path / "classes.txt").write_text(listed)
    source = class_folders.read(tmp_path)
    assert (source.classes, source.notes) == (classes, [note] if note else [])
    if note and "names the" in note:
        name_of = {photo.target: source.classes[photo.label] for photo in source.splits[0].photos}
        assert name_of == {f"{name}/{folder}.jpg": name for folder, name in zip(folders, listed.split(), strict=True)}
