"""Which photos class folders hold, and why other files are rejected."""

import os

from helpers.sources import draw

from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.preparation.readers import class_folders


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
    (folder / "notes" / "read.me").touch()
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
