"""Which photos a source holds, and what is said of the rest."""

import os

import pytest
from PIL import Image

from pyimagesearch import class_names, config, raw_layout, source_files, sources
from pyimagesearch.errors import UserError


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, "JPEG")
    return path


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
    split = sources.read_source(source).splits[0]
    assert split.found == 6
    assert [photo.target for photo in split.photos] == [
        "Bread/0_0.jpg",
        "Bread/0_1.jpg",
        "Noodles/Pasta/1_0.jpg",
        "Noodles/Pasta/1_1.jpg",
        "Rice/2_0.jpg",
        "Rice/2_1.jpg",
    ]


def test_without_a_class_list_the_classes_are_those_of_food_11(source):
    (source / "classes.txt").unlink()
    assert sources.read_source(source).classes == config.CLASSES


@pytest.mark.parametrize(
    "content",
    [
        b"Bread\nNoodles/Pasta\nRice\n",
        b"\xef\xbb\xbfBread\r\nNoodles/Pasta\r\nRice",
        b"\n  Bread \n\n\tNoodles/Pasta\n \nRice\n\n",
    ],
)
def test_a_class_list_may_have_a_byte_order_mark_any_line_ends_and_blanks(source, content):
    (source / "classes.txt").write_bytes(content)
    assert class_names.read_classes(source) == ["Bread", "Noodles/Pasta", "Rice"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "names no class"),
        (b"Rice\nRice\n", "share one folder"),
        (b"Rice\nrice\n", "share one folder"),
        (b"Noodles/Pasta\nNoodles/Rice\n", "share one folder"),
        (b"Noodles\nNOODLES/Rice\n", "share one folder"),
        ("Caf\u00e9\nCafe\u0301\n".encode(), "share one folder"),
        (b"../Rice\n", "dot"),
        (b"Rice/../../x\n", "dot"),
        (b".hidden\n", "dot"),
        (b"Rice.\n", "ends with a dot"),
        (b"/etc\n", "absolute"),
        (b"C:Rice\n", "absolute"),
        (b"a\\b\n", "backslash"),
        (b"a//b\n", "empty"),
        (b"a/\n", "empty"),
        (b"a/ b\n", "blank"),
        (b"a\x00b\n", "control character"),
        (b"a" * 256, "longer than 255"),
        (("\u00e9" * 128).encode(), "longer than 255"),
        (b"caf\xe9\n", "not UTF-8"),
        ("Rice\n".encode("utf-16"), "not UTF-8"),
    ],
)  # fmt: skip
def test_a_class_list_that_could_escape_merge_or_fail_is_refused(source, content, said):
    (source / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        sources.read_source(source)


def test_a_class_list_that_is_a_folder_is_refused(source):
    (source / "classes.txt").unlink()
    (source / "classes.txt").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*classes\.txt"):
        sources.read_source(source)


@pytest.mark.parametrize(
    "name",
    ["-1_0.jpg", "+1_0.jpg", " 1_0.jpg", "1_0 .jpg", "1e0_0.jpg", "1.0_0.jpg", "\u0661_0.jpg", "\u00b2_0.jpg",
     "1_x.jpg", "_1.jpg", "1_.jpg", "1.jpg", "1-2.jpg", "x_1.jpg", "1_2_3.jpg", "1_2.old.jpg", "1_2\n.jpg"],
)  # fmt: skip
def test_only_names_of_plain_digits_are_photos(source, name):
    photo(source / "training" / name)
    split = raw_layout.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert "not named K_N" in reasons(split)[name]
    assert len(split.photos) == 6


def test_a_class_number_past_the_list_is_rejected_and_leading_zeros_are_not(source):
    photo(source / "training" / "3_0.jpg")
    photo(source / "training" / "00_0.jpg")
    split = raw_layout.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert reasons(split) == {"3_0.jpg": "there is no class 3: the classes are 0 to 2"}
    assert "Bread/00_0.jpg" in [photo.target for photo in split.photos]


def test_what_is_no_photo_file_is_named_with_its_reason(source):
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
    found = reasons(raw_layout.read_split(folder, ["Bread", "Noodles/Pasta", "Rice"]))
    assert found.keys() == said.keys()
    assert all(part in found[name] for name, part in said.items())


def test_hidden_names_and_files_that_are_no_images_are_passed_over(source):
    for name in ("._0_1.jpg", ".cache/0_9.jpg", "notes.txt", "README.md", "labels.csv", "Thumbs.db", ".x.webp"):
        photo(source / "training" / name)
    split = raw_layout.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert (split.found, len(split.photos), split.rejected) == (6, 6, [])


def test_of_two_photos_with_one_destination_the_later_is_rejected(source):
    photo(source / "training" / "a" / "0_7.jpg")
    photo(source / "training" / "b" / "0_7.jpg")
    split = raw_layout.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert reasons(split) == {os.path.join("b", "0_7.jpg"): "a/0_7.jpg has the same name and class"}


@pytest.mark.parametrize(("platform", "rejected"), [("linux", []), ("darwin", ["0_1.jpg"]), ("win32", ["0_1.jpg"])])
def test_names_that_differ_in_case_are_one_where_file_systems_say_so(source, monkeypatch, platform, rejected):
    photo(source / "training" / "0_1.JPG")
    monkeypatch.setattr(source_files.sys, "platform", platform)
    assert list(reasons(raw_layout.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"]))) == rejected


def test_a_missing_source_is_told_where_to_get_it(tmp_path):
    with pytest.raises(UserError) as error:
        sources.read_source(tmp_path / "Food-11")
    for part in ("mmspg.epfl.ch", "food11-image-dataset", "training|validation|evaluation/K_N.jpg", "--sample"):
        assert part in str(error.value)


def test_a_missing_split_is_named(source):
    (source / "validation").rename(source / "held-out")
    with pytest.raises(UserError, match="no folder validation"):
        sources.read_source(source)


def test_an_empty_split_is_named(source):
    for path in (source / "validation").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="validation has no usable photo"):
        sources.check_complete(sources.read_source(source))


@pytest.mark.parametrize("split", config.SPLITS)
def test_a_class_that_one_split_lacks_is_named_with_the_split(source, split):
    for path in (source / split).glob("2_*"):
        path.unlink()
    with pytest.raises(UserError, match=rf"{split} has no usable photo of class 'Rice'.*has 3 classes, {split} 2"):
        sources.check_complete(sources.read_source(source))


def test_a_class_that_no_split_has_is_allowed_and_told(source):
    for path in source.glob("*/2_*"):
        path.unlink()
    assert sources.check_complete(sources.read_source(source)) == ["Rice"]
