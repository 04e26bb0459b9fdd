"""Which photos a source in the raw layout of Food-11 holds, and why other files are rejected."""

import os

import pytest
from helpers.sources import draw, photo

from pyimagesearch import config
from pyimagesearch.preparation.readers import detect, file_names
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
    split = file_names.read(source).splits[0]
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
    split = file_names.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert "not named K_N" in reasons(split)[name]
    assert len(split.photos) == 6


def test_a_class_number_past_the_list_is_rejected_and_leading_zeros_are_allowed(source):
    photo(source / "training" / "3_0.jpg")
    photo(source / "training" / "00_0.jpg")
    split = file_names.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
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
    found = reasons(file_names.read_split(folder, ["Bread", "Noodles/Pasta", "Rice"]))
    assert found.keys() == said.keys()
    assert all(part in found[name] for name, part in said.items())


def test_hidden_names_and_files_that_are_no_images_are_skipped(source):
    for name in ("._0_1.jpg", ".cache/0_9.jpg", "notes.txt", "README.md", "labels.csv", "Thumbs.db", ".x.webp"):
        photo(source / "training" / name)
    split = file_names.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert (split.found, len(split.photos), split.rejected) == (6, 6, [])


def test_of_two_photos_with_one_destination_the_later_is_rejected(source):
    photo(source / "training" / "a" / "0_7.jpg")
    photo(source / "training" / "b" / "0_7.jpg")
    split = file_names.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"])
    assert reasons(split) == {os.path.join("b", "0_7.jpg"): "a/0_7.jpg has the same name and class"}


@pytest.mark.parametrize(("platform", "rejected"), [("linux", []), ("darwin", ["0_1.jpg"]), ("win32", ["0_1.jpg"])])
def test_names_that_differ_in_case_only_are_one_on_some_systems(source, monkeypatch, platform, rejected):
    photo(source / "training" / "0_1.JPG")
    monkeypatch.setattr("pyimagesearch.preparation.source.sys.platform", platform)
    assert list(reasons(file_names.read_split(source / "training", ["Bread", "Noodles/Pasta", "Rice"]))) == rejected


def test_splits_may_have_any_usual_name(source):
    (source / "training").rename(source / "Train")
    (source / "evaluation").rename(source / "TEST")
    (source / "validation").rename(source / "val")
    assert [split.name for split in file_names.read(source).splits] == list(config.SPLITS)
    (source / "valid").mkdir()
    with pytest.raises(UserError, match="both val and valid for validation"):
        file_names.read(source)


# --- --label-pattern --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "label"),
    [
        ("prefix", "Abyssinian_12.jpg", "Abyssinian"),
        ("prefix", "images/great_pyrenees_105.jpg", "great_pyrenees"),
        ("prefix", "n01440764_18.JPEG", "n01440764"),
        ("prefix", "cat.0.jpg", "cat"),
        ("prefix", "cat (3).png", "cat"),
        ("prefix", "cat.jpg", None),
        ("suffix", "12_kitchen.jpg", "kitchen"),
        ("suffix", "a/012-living_room.jpg", "living_room"),
        ("suffix", "kitchen.jpg", None),
        ("parent", "fold1/cat/1.jpg", "cat"),
        ("parent", "1.jpg", None),
        ("top", "cat/2019/1.jpg", "cat"),
        (r".*-(?P<label>[a-z]+)-.*", "2024/IMG-dog-7.jpg", "dog"),
        (r"(?P<label>[a-z]+)", "dog.jpg", None),  # the whole path must match
        (r"(?P<label>x)?.*", "dog.jpg", None),
        (r"(?P<label>.*)\.jpg", "a b .jpg", None),  # no class folder can have that name
    ],
)
def test_a_pattern_reads_the_class_from_the_path(tmp_path, pattern, path, label):
    draw(tmp_path, path, "always_1/always_1.jpg")
    try:
        (split,) = detect.read_folder(tmp_path, pattern=pattern).splits
    except UserError:
        assert label is None
        return
    found = {os.path.relpath(photo.path, tmp_path): photo.target.split("/")[0] for photo in split.photos}
    assert found.get(path) == label
    assert (label is None) == (path in reasons(split))


def test_photos_of_a_pattern_have_places_of_their_own_and_their_splits(tmp_path):
    draw(tmp_path, "train/a/cat_1.jpg", "train/b/cat_1.jpg", "train/dog_1.jpg", "train/dog.jpg", "test/cat_2.jpg")
    training, test = detect.read_folder(tmp_path, pattern="prefix").splits
    assert [photo.target for photo in training.photos] == ["cat/a/cat_1.jpg", "cat/b/cat_1.jpg", "dog/dog_1.jpg"]
    assert reasons(training) == {"dog.jpg": "--label-pattern does not match its path"}
    assert (test.name, [photo.label for photo in test.photos]) == ("evaluation", [0])


def test_class_folders_and_the_pattern_top_give_the_same_dataset(tmp_path):
    draw(tmp_path, "cat/1.jpg", "cat/x/2.jpg", "dog/1.jpg")
    plain, labelled = (detect.read_folder(tmp_path, pattern=pattern).splits[0].photos for pattern in (None, "top"))
    assert plain == labelled


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("[", "not a regular expression: unterminated character set"),
        ("(.*)", r"has no group \(\?P<label>...\); give it one, or take one of prefix, suffix, parent, top"),
        ("(?P<label>x)", "reads no class in .*cat_1.jpg: --label-pattern does not match its path"),
    ],
)
def test_a_pattern_that_reads_nothing_is_one_line(tmp_path, pattern, said):
    with pytest.raises(UserError, match=said):
        detect.read_folder(draw(tmp_path, "cat_1.jpg"), pattern=pattern)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cat_1.jpg", "cat_2.jpg", "a b_1.jpg", "a b_2.jpg"], "prefix reads a b from a b_1.jpg, cat from cat_1.jpg"),
        (["1_cat.jpg", "2_cat.jpg", "3_dog.jpg", "4_dog.jpg"], "suffix reads cat from 1_cat.jpg, dog from 3_dog.jpg"),
        (["train/cat_1.jpg", "train/cat_2.jpg", "test/emu_1.jpg", "test/emu_2.jpg"], "prefix reads cat from"),
        (["a_1.jpg", "b_1.jpg", "c_1.jpg"], None),
        (["IMG_1.jpg", "IMG_2.jpg"], None),
    ],
)
def test_the_likely_pattern_is_suggested_and_never_taken(tmp_path, names, said):
    with pytest.raises(UserError, match="nothing that can be read") as error:
        detect.read_folder(draw(tmp_path / "my photos", *names))
    if said:
        assert f"--label-pattern {said}" in str(error.value)
        command = f"python prepare_dataset.py --source '{tmp_path / 'my photos'}' --label-pattern {said.split()[0]}"
        assert str(error.value).endswith(command)
    else:
        assert "--label-pattern" not in str(error.value)


def test_numbers_that_may_begin_at_1_where_the_class_list_begins_at_0_are_asked_for(tmp_path):
    draw(tmp_path, "train/1_0.jpg", "train/2_0.jpg", "test/1_0.jpg")
    (tmp_path / "classes.txt").write_text("apple\npear\n")
    with pytest.raises(UserError, match=r"class 2 and none of class 0.* put a line for class 0, such as .*classes.txt"):
        file_names.read(str(tmp_path))
    draw(tmp_path, "test/0_0.jpg")
    assert len(file_names.read(str(tmp_path)).splits[0].rejected) == 1
