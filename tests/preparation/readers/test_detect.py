"""The kind of a source is detected, and missing photos are reported."""

import pytest
from helpers.sources import draw

from pyimagesearch import config
from pyimagesearch.preparation.readers import detect
from pyimagesearch.runtime.errors import UserError

RAW = ("training/0_0.jpg", "validation/0_0.jpg", "evaluation/0_0.jpg")
SPLIT = ("train/cat/a.jpg", "val/cat/a.jpg", "test/cat/a.jpg")
UNSPLIT = ("cat/a.jpg", "dog/a.jpg")
LIST = {"train.txt": "images/a.jpg 0\n"}


@pytest.mark.parametrize(
    ("names", "lists", "kind", "splits"),
    [
        (RAW, {}, "photos named K_N", config.SPLITS),
        (("TRAIN/0_0.png", "Test/0_0.png"), {}, "photos named K_N", ("training", "evaluation")),
        ((*RAW, "training/more/0_1.jpg"), {}, "photos named K_N", config.SPLITS),
        (SPLIT, {}, "class folders", config.SPLITS),
        (("Train/cat/0_0.jpg", "VALID/cat/0_1.jpg"), {}, "class folders", ("training", "validation")),
        ((*SPLIT, "train/stray.jpg", "notes/page.jpg"), {}, "class folders", config.SPLITS),
        (("train/cat/a.jpg",), {}, "class folders", ("training",)),
        (UNSPLIT, {}, "class folders", ("training",)),
        (("train/cat/a.jpg", "train/0_0.txt"), {}, "class folders", ("training",)),
        (("cat/deep/er/a.WEBP",), {"test.txt": "notes"}, "class folders", ("training",)),
        (("images/a.jpg",), LIST, "text lists", ("training",)),
        (("train/a.jpg", "test/a.jpg"), LIST, "text lists", ("training",)),
        (("images/a.jpg",), {"Train.TXT": "images/a.jpg 0", "TEST.txt": ""}, "text lists", ("training", "evaluation")),
    ],
)
def test_the_kind_of_a_source_is_detected_from_its_files(tmp_path, names, lists, kind, splits):
    draw(tmp_path, *names)
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    source = detect.read_folder(tmp_path)
    assert (source.kind.name, tuple(split.name for split in source.splits)) == (kind, splits)


@pytest.mark.parametrize(
    ("names", "lists", "said"),
    [
        (
            (),
            {},
            "nothing that can be read; expected photos named K_N.jpg.*; or a folder per class.*; or train",
        ),
        (("a.jpg", "b.jpg"), {}, "nothing that can be read"),
        (("train/a.jpg", "test/b.jpg"), {}, "nothing that can be read"),
        ((".cache/cat/a.jpg", "cat/.a.jpg"), {}, "nothing that can be read"),
        (RAW, LIST, "K_N.jpg.* as well as train.txt.*move one away, or name the lists with --train-list"),
        (SPLIT, LIST, "a folder per class.* as well as train.txt"),
        ((*UNSPLIT, "test/a.jpg"), {}, "holds test, named like splits, beside the class folders cat, dog;"),
        ((*UNSPLIT, "train/x/a.jpg"), {}, "holds train, named like splits, beside"),
        ((*SPLIT, "validation/cat/b.jpg"), {}, "both val and validation for validation; keep one"),
        (("cat/a.jpg", "Cat/a.jpg"), {}, "'Cat' and 'cat', which would share one folder"),
        (("cat./a.jpg",), {}, "ends with a dot"),
    ],
)
def test_a_source_of_no_kind_or_of_two_is_refused(tmp_path, names, lists, said):
    draw(tmp_path, *names)
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        detect.read_folder(tmp_path)


def test_a_root_for_other_sources_than_text_lists_is_refused(source):
    with pytest.raises(UserError, match="leave out --root"):
        detect.read_folder(source, root="photos")


def test_the_error_for_a_missing_source_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError) as error:
        detect.read_folder(tmp_path / "Food-11")
    for part in ("mmspg.epfl.ch", "food11-image-dataset", "training|validation|evaluation/K_N.jpg", "--sample"):
        assert part in str(error.value)


def test_an_empty_split_is_named(source):
    for path in (source / "validation").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="validation has no usable photo"):
        detect.read_folder(source).check_complete()


def test_a_class_that_training_lacks_is_an_error_that_names_it(source):
    for path in (source / "training").glob("1_*"):
        path.unlink()
    with pytest.raises(UserError, match=r"training has no usable photo of class 'Rice', which validation has; add"):
        detect.read_folder(source).check_complete()


@pytest.mark.parametrize("split", config.SPLITS[1:])
def test_a_class_that_another_split_lacks_is_said_in_one_line(source, split):
    for path in (source / split).glob("1_*"):
        path.unlink()
    assert f"{split} has no photo of 1 of 2 classes: Rice" in detect.read_folder(source).check_complete()


def test_a_class_that_no_split_has_is_allowed_and_returned(source):
    (source / "classes.txt").write_text("Noodles/Pasta\nRice\nSoup\n")
    assert "no split has a photo of: Soup" in detect.read_folder(source).check_complete()


@pytest.mark.parametrize("names", [("test/1.jpg", "test/2.jpg"), ("test/images/1.jpg",), ("test/a/b/c/1.jpg",)])
def test_unlabelled_photos_of_a_split_can_be_predicted_later(tmp_path, names):
    source = detect.read_folder(draw(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", *names))
    with pytest.raises(UserError, match=r"test.* has no usable photo of a class of training") as error:
        source.check_complete()
    advice = "move it away: evaluation is then drawn from training, and distributed_inference.py --images predicts them"
    assert str(error.value).endswith(f"if its photos have no labels, {advice}")


@pytest.mark.parametrize(("count", "few"), [(4, True), (5, False)])
def test_very_small_classes_are_named(tmp_path, count, few):
    for number in range(5):
        draw(tmp_path, *(f"{split}/cat/{number}.jpg" for split in ("train", "val", "test")))
        if number < count:
            draw(tmp_path, *(f"{split}/dog/{number}.jpg" for split in ("train", "val", "test")))
    lines = detect.read_folder(tmp_path).check_complete()
    assert lines == ["fewer than 5 training photos, or one in another split: dog"] * few


@pytest.mark.parametrize("names", [("cat/1.jpg", "cat/2.jpg"), ("train/cat/1.jpg", "val/cat/2.jpg", "test/cat/3.jpg")])
def test_one_class_is_refused(tmp_path, names):
    with pytest.raises(UserError, match="has photos of one class, 'cat'; expected at least two"):
        detect.read_folder(draw(tmp_path, *names)).check_complete()


@pytest.mark.parametrize("folders", [("images",), ("train_images", "test_images"), ()])
def test_a_table_in_the_folder_is_named_where_the_folder_cannot_be_read(tmp_path, folders):
    draw(tmp_path, *(f"{folder}/{number}.jpg" for folder in folders or ("",) for number in range(3)))
    (tmp_path / "train.csv").write_text("id,label\n")
    with pytest.raises(UserError, match=r"; if train.csv names the photos and .*, give that file as --source"):
        detect.read_folder(tmp_path)
