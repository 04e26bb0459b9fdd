"""Which photos a source in the raw layout of Food-11 holds, and why other files are rejected."""

import os

import pytest
from helpers.sources import draw, photo

from pyimagesearch import config
from pyimagesearch.preparation.readers import numbered_files
from pyimagesearch.runtime.errors import UserError


@pytest.fixture
def source(tmp_path):
    """Three classes, two photos of each in each split."""
    for split in config.SPLITS:
        for label in range(3):
            for number in range(2):
                photo(tmp_path / "source" / split / f"{label}_{number}.jpg")
    (tmp_path / "source" / "classes.txt").write_text("Bread\nNoodles/Pasta\nRice\n")
    return tmp_path / "source"


def reasons(split):
    return {os.path.relpath(path, split.folder): reason for path, reason in split.rejected}


def test_photos_are_sorted_by_path_and_belong_below_their_class(source):
    split = numbered_files.read(source).splits[0]
    assert split.found == 6
    assert [photo.target for photo in split.photos] == [
        "Bread/0_0.jpg",
        "Bread/0_1.jpg",
        "Noodles/Pasta/1_0.jpg",
        "Noodles/Pasta/1_1.jpg",
        "Rice/2_0.jpg",
        "Rice/2_1.jpg",
    ]


@pytest.mark.parametrize(
    "name",
    ["-1_0.jpg", "+1_0.jpg", " 1_0.jpg", "1_0 .jpg", "1e0_0.jpg", "1.0_0.jpg", "\u0661_0.jpg", "\u00b2_0.jpg",
     "1_x.jpg", "_1.jpg", "1_.jpg", "1.jpg", "1-2.jpg", "x_1.jpg", "1_2_3.jpg", "1_2.old.jpg", "1_2\n.jpg"],
)  # fmt: skip
def test_only_names_of_plain_digits_are_photos(source, name):
    photo(source / "training" / name)
    split = numbered_files.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert "not named K_N" in reasons(split)[name]
    assert len(split.photos) == 6


def test_a_class_number_past_the_list_is_rejected_and_leading_zeros_are_allowed(source):
    photo(source / "training" / "3_0.jpg")
    photo(source / "training" / "00_0.jpg")
    split = numbered_files.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert reasons(split) == {"3_0.jpg": "there is no class 3: the classes are 0 to 2"}
    assert "Bread/00_0.jpg" in [photo.target for photo in split.photos]


def test_files_that_are_no_photo_are_rejected_with_the_reason(source):
    folder = source / "training"
    (folder / "0_10.jpg").touch()
    (folder / "0_11.jpg").symlink_to("nowhere.jpg")
    (folder / "0_12.jpg").symlink_to("0_12.jpg")
    os.mkfifo(folder / "0_13.jpg")
    (folder / "0_14.jpg").mkdir()
    (folder / "0_15.webp").touch()
    (folder / "linked").symlink_to(source / "validation")
    said = {
        "0_10.jpg": "empty",
        "0_11.jpg": "leads nowhere",
        "0_12.jpg": "leads nowhere",
        "0_13.jpg": "not a regular file",
        "0_14.jpg": "a folder",
        "0_15.webp": "a kind that is not read",
        "linked": "not followed",
    }
    found = reasons(numbered_files.read_split(folder, ["Bread", "Noodles/Pasta", "Rice"]))
    assert found.keys() == said.keys()
    assert all(part in found[name] for name, part in said.items())


def test_hidden_names_and_files_that_are_no_images_are_skipped(source):
    for name in ("._0_1.jpg", ".cache/0_9.jpg", "notes.txt", "README.md", "labels.csv", "Thumbs.db", ".x.webp"):
        photo(source / "training" / name)
    split = numbered_files.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert (split.found, len(split.photos), split.rejected) == (6, 6, [])


def test_of_two_photos_with_one_destination_the_later_is_rejected(source):
    photo(source / "training" / "a" / "0_7.jpg")
    photo(source / "training" / "b" / "0_7.jpg")
    split = numbered_files.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert reasons(split) == {os.path.join("b", "0_7.jpg"): "a/0_7.jpg has the same name and class"}


@pytest.mark.parametrize(("platform", "rejected"), [("linux", []), ("darwin", ["0_1.jpg"]), ("win32", ["0_1.jpg"])])
def test_names_that_differ_in_case_only_are_one_on_some_systems(source, monkeypatch, platform, rejected):
    photo(source / "training" / "0_1.JPG")
    monkeypatch.setattr("pyimagesearch.preparation.source.sys.platform", platform)
    assert list(reasons(numbered_files.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"]))) == rejected


def test_splits_may_have_any_usual_name(source):
    (source / "training").rename(source / "Train")
    (source / "evaluation").rename(source / "TEST")
    (source / "validation").rename(source / "val")
    assert [split.name for split in numbered_files.read(source).splits] == list(config.SPLITS)
    (source / "valid").mkdir()
    with pytest.raises(UserError, match="both val and valid for validation"):
        numbered_files.read(source)


def test_numbers_that_may_begin_at_1_where_the_class_list_begins_at_0_are_asked_for(tmp_path):
    draw(tmp_path, "train/1_0.jpg", "train/2_0.jpg", "test/1_0.jpg")
    (tmp_path / "classes.txt").write_text("apple\npear\n")
    with pytest.raises(UserError, match=r"class 2 and none of class 0.* put a line for class 0, such as .*classes.txt"):
        numbered_files.read(str(tmp_path))
    draw(tmp_path, "test/0_0.jpg")
    assert len(numbered_files.read(str(tmp_path)).splits[0].rejected) == 1
