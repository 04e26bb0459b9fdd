"""Predictions: the most probable classes of each photo, in the order of the paths, or why there are none."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import run_python
from PIL import Image
from torchvision import models

from pyimagesearch.evaluation.predict import (
    UNSURE,
    check_top_k,
    list_photos,
    load_trained,
    open_split_of_model,
    predict,
    predict_photos,
    predict_random,
    predictions_of,
    with_answers,
)
from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.models.model_card import thresholds_of
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError

CLASSES = ["Blue", "Green", "Red"]
CPU = torch.device("cpu")
LAUNCH = distributed.Launch("none", CPU, 0, 1)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The folder of a model of CLASSES that was never trained; its classifier is loud, so that answers differ."""
    folder = tmp_path_factory.mktemp("output")
    torch.manual_seed(0)
    model = FoodClassifier(models.densenet121(weights=None), len(CLASSES))
    with torch.no_grad():
        model.classifier.weight.mul_(30)
    torch.save(model.state_dict(), folder / "food_classifier.pth")
    facts = {"architecture": "densenet121", "classes": CLASSES, "image_size": 32, "training": {"batch_size": 4}}
    (folder / "food_classifier.json").write_text(json.dumps(facts))
    return str(folder)


@pytest.fixture(scope="module")
def trained(output):
    return load_trained(output, LAUNCH, "off")


@pytest.fixture
def colours(tmp_path, photo):
    """Seven photos of different colours."""
    rng = np.random.default_rng(0)
    return [str(photo(tmp_path / f"{n}.png", colour=tuple(rng.integers(0, 256, 3).tolist()))) for n in range(7)]


# --- which photos ----------------------------------------------------------------------------------------------------


def test_photos_come_in_the_order_in_which_they_were_named_and_those_of_a_folder_sorted(tmp_path, photo):
    for name in ("b.jpg", "folder/z.png", "folder/a/y.JPG", "folder/a/.hidden.png", "a.png"):
        photo(tmp_path / name)
    (tmp_path / "folder" / "notes.txt").write_text("no photo")
    named = [tmp_path / "b.jpg", tmp_path / "folder", str(tmp_path / "a.png")]
    found = [path[len(str(tmp_path)) + 1 :] for path in list_photos(named)]
    assert found == ["b.jpg", "folder/z.png", "folder/a/y.JPG", "a.png"]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*gone\.jpg"):
        list_photos([tmp_path / "gone.jpg"])
    with pytest.raises(UserError, match="no photo in"):
        list_photos([tmp_path])


def test_a_url_is_refused_as_such(output):
    for url in ("https://example.org/cat.jpg", "s3://bucket/cat.jpg"):
        with pytest.raises(UserError, match=rf"^{url} is a URL; download it first; name photos"):
            predict([url], output)


def test_a_folder_s_photos_of_any_name_have_an_answer_or_a_reason(tmp_path, photo, trained):
    content = photo(tmp_path / "a.jpg").read_bytes()
    for name in ("b.jfif", "c", ".ipynb_checkpoints/d.jpg", "@eaDir/e.jpg", "._f.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "g.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    found = predict_photos(trained, list_photos([tmp_path]))
    assert [Path(one.path).name for one in found] == ["a.jpg", "b.jfif", "c", "g.heic"]
    assert [bool(one.prediction) for one in found] == [True, True, True, False]
    assert "HEIF" in found[-1].error


# --- predictions of photos --------------------------------------------------------------------------------------------


def test_the_likeliest_classes_come_best_first_with_their_probabilities(tmp_path, photo, output):
    (one,) = predict([photo(tmp_path / "a.png")], output, top_k=3)
    assert sorted(one.classes) == CLASSES
    assert list(one.confidences) == sorted(one.confidences, reverse=True)
    assert sum(one.confidences) == pytest.approx(1)
    assert (one.prediction, one.confidence, one.error) == (one.classes[0], one.confidences[0], "")


def test_fewer_classes_are_the_first_of_more(colours, trained):
    one, three = (predict_photos(trained, colours, top_k=k) for k in (1, 3))
    assert [item.classes for item in one] == [item.classes[:1] for item in three]
    assert len({item.classes for item in three}) > 1  # the photos differ to the model


@pytest.mark.parametrize("settings", [{"batch": 2}, {"batch": 1}, {"workers": 2, "batch": 3}])
def test_batches_and_workers_change_nothing(colours, trained, settings):
    usual, other = predict_photos(trained, colours, top_k=2), predict_photos(trained, colours, top_k=2, **settings)
    assert [item.path for item in other] == colours
    assert [item.classes for item in other] == [item.classes for item in usual]
    confidences = np.array([[item.confidences for item in items] for items in (usual, other)])
    assert np.allclose(*confidences, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_cannot_be_read_has_its_reason_and_the_others_their_answers(tmp_path, photo, trained, workers):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    Image.new("1", (12_000, 8_000)).save(tmp_path / "bomb.png")
    names = ["a.png", "broken.jpg", "bomb.png", "gone.png", "b.png"]
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    found = predict_photos(trained, [str(tmp_path / name) for name in names], workers=workers)
    assert [item.path.rpartition("/")[2] for item in found] == names
    assert [item.error for item in found] == [
        "", "not an image", "cannot be read: 12000 x 8000 pixels, more than the 89,478,485 that are read",
        "cannot be read: No such file or directory", "",
    ]  # fmt: skip
    assert [bool(item.prediction) for item in found] == [True, False, False, False, True]
    assert [math.isnan(item.confidence) for item in found] == [False, True, True, True, False]


def test_predict_is_imported_from_the_package_when_it_is_asked_for():
    done = run_python(
        "import sys, pyimagesearch\n"
        "assert 'torch' not in sys.modules\n"
        "from pyimagesearch import predict\n"
        "assert predict.__module__ == 'pyimagesearch.evaluation.predict' and callable(predict)\n"
    )
    assert done.returncode == 0, done.stderr


def test_one_path_need_not_be_in_a_list(tmp_path, photo, output):
    path = photo(tmp_path / "a.png")
    assert predict(path, output) == predict(str(path), output) == predict([path], output)


def test_images_in_memory_are_predicted_like_their_files_beside_paths(tmp_path, photo, output):
    path = photo(tmp_path / "a.png")
    array = np.asarray(Image.open(path))
    (expected,) = predict(path, output)
    found = predict([Image.open(path), path, array, array / 255], output)
    assert [one.path for one in found] == ["image 1", str(path), "image 3", "image 4"]
    assert [one.classes for one in found] == [expected.classes] * 3 + [()]
    assert np.allclose([one.confidence for one in found[:3]], expected.confidence, atol=1e-5)
    assert found[3].error.startswith("cannot be decoded: float64 of shape (32, 40, 3); expected uint8")
    for one in (Image.open(path), array):
        assert [answer.path for answer in predict(one, output)] == ["image 1"]


@pytest.mark.parametrize("top_k", [0, 4])
def test_more_classes_than_there_are_cannot_be_named(tmp_path, photo, output, top_k):
    with pytest.raises(UserError, match="the model knows 3"):
        predict([photo(tmp_path / "a.png")], output, top_k=top_k)


def test_without_a_model_predicting_says_to_train_first(tmp_path, photo):
    with pytest.raises(UserError, match=r"train_distributed\.py first"):
        predict([photo(tmp_path / "a.png")], str(tmp_path))


def test_an_answer_that_is_no_number_is_an_error_and_no_prediction(tmp_path, photo, trained):
    model = FoodClassifier(models.densenet121(weights=None), len(CLASSES)).eval()
    model.classifier.bias.data[1] = math.nan
    (one,) = predict_photos(dataclasses.replace(trained, model=model), [str(photo(tmp_path / "a.png"))])
    assert "not a finite number" in one.error
    assert one.classes == ()


def test_of_equally_likely_classes_the_first_is_named():
    (one,) = predictions_of(["a.png"], np.array([[0.2, 0.4, 0.4]], np.float32), {"classes": CLASSES}, 2)
    assert one.classes == ("Green", "Red")


@pytest.mark.parametrize(
    ("trained_in", "asked", "expected"),
    [
        ({"amp": "off"}, "auto", None),
        ({"amp": "None", "global batch": 8}, "auto", None),  # as earlier versions wrote it
        ({"amp": "off"}, "bf16", torch.bfloat16),
        ({"amp": "bf16"}, "off", None),
    ],
)
def test_precision_is_that_of_training_unless_another_is_asked_for(output, tmp_path, trained_in, asked, expected):
    facts = {**json.loads(Path(output, "food_classifier.json").read_text()), "training": trained_in}
    (tmp_path / "food_classifier.json").write_text(json.dumps(facts))
    (tmp_path / "food_classifier.pth").symlink_to(f"{output}/food_classifier.pth")
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    assert load_trained(str(tmp_path), LAUNCH, asked).model.amp_dtype == expected
    assert not torch.backends.cudnn.allow_tf32


# --- calibrated, mirrored, unsure ------------------------------------------------------------------------------------


def copied(output, folder, **facts) -> str:
    """A folder with the same model, whose card has these facts too."""
    card = {**json.loads(Path(output, "food_classifier.json").read_text()), **facts}
    folder.mkdir()
    (folder / "food_classifier.json").write_text(json.dumps(card))
    (folder / "food_classifier.pth").symlink_to(f"{output}/food_classifier.pth")
    return str(folder)


def shares_of(one) -> list[float]:
    """The probabilities of CLASSES."""
    return list(one.probabilities) or [one.confidences[one.classes.index(name)] for name in CLASSES]


def test_the_temperature_of_the_card_divides_the_logits(output, tmp_path, colours):
    plain = predict(colours, output, top_k=3)
    cooled = predict(colours, copied(output, tmp_path / "cooled", temperature=2.0), top_k=3)
    for before, after in zip(plain, cooled, strict=True):
        roots = np.sqrt(shares_of(before))  # softmax(z / 2) is in proportion to the root of softmax(z)
        assert shares_of(after) == pytest.approx(roots / roots.sum(), abs=1e-5)
        assert after.classes == before.classes


@pytest.mark.parametrize("temperature", [2.0, [0.5, 1.0, 4.0]])
def test_tta_is_the_mean_of_a_photo_and_its_mirror_image_again_and_again(output, tmp_path, colours, temperature):
    task = {"task": "multi-label"} if isinstance(temperature, list) else {}
    folder = copied(output, tmp_path / "model", temperature=temperature, **task)
    top = 1 if task else 3
    mirrored = [np.asarray(Image.open(path))[:, ::-1] for path in colours]
    both = [[shares_of(one) for one in predict(some, folder, top_k=top)] for some in (colours, mirrored)]
    found = [[shares_of(one) for one in predict(colours, folder, top_k=top, tta=True)] for _ in range(2)]
    assert np.abs(np.subtract(*both)).max() > 0.001  # else a mirror image would show nothing
    assert np.allclose(found[0], np.mean(both, axis=0), atol=1e-4)
    assert found[0] == found[1]


def test_below_the_least_confidence_the_answer_is_unsure_and_the_prediction_stays():
    shares = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [math.nan] * 3], np.float32)
    predictions = predictions_of(["a", "b", "c"], shares, {"classes": CLASSES})
    assert with_answers(predictions, None) == predictions and not any(one.answer for one in predictions)
    unsure, sure, broken = with_answers(predictions, 0.5)
    assert (unsure.answer, sure.answer, broken.answer) == ("Red", "Red", UNSURE)  # 0.5 is enough
    unsure, sure, _ = with_answers(predictions, 0.6)
    assert (unsure.answer, unsure.prediction, sure.answer) == (UNSURE, "Red", "Red")
    assert unsure.text == "unsure: Red (50.0%)" and sure.text == "Red (80.0%)"


def test_a_least_confidence_is_not_for_several_labels():
    check_top_k(2, {"classes": CLASSES}, 0.5)
    check_top_k(1, {"classes": CLASSES, "task": "multi-label"}, None)
    with pytest.raises(UserError, match="--min-confidence is for one class per photo"):
        check_top_k(1, {"classes": CLASSES, "task": "multi-label"}, 0.0)


# --- a whole split ---------------------------------------------------------------------------------------------------


def test_a_split_comes_in_the_batches_of_training(dataset, trained):
    data = dataset(evaluation=3, validation=1)
    test_set, loader = open_split_of_model(trained, str(data), "test", workers=0)
    assert [len(labels) for _, labels in loader] == [4, 4, 1]
    assert test_set.root.endswith("evaluation")
    assert len(open_split_of_model(trained, str(data), "validation", workers=0)[0]) == 3


def test_classes_that_are_not_the_models_are_named(photos, trained):
    data = photos({"Blue": 1, "Violet": 1, "Yellow": 1}, "set/evaluation").parent
    for ask in (
        lambda: open_split_of_model(trained, str(data), "test", 0),
        lambda: predict_random(trained, data, 1, 0),
    ):
        with pytest.raises(UserError, match="'Violet' and 1 more, which is none of the 3 classes of training"):
            ask()


def test_a_split_that_lacks_classes_of_the_model_is_numbered_as_in_training(photos, trained):
    data = photos({CLASSES[0]: 1, CLASSES[2]: 2}, "set/test").parent
    split, _ = open_split_of_model(trained, str(data), "test", workers=0)
    assert (split.classes, split.targets) == (CLASSES, [0, 2, 2])


# --- several labels a photo ------------------------------------------------------------------------------------------


def test_a_photo_has_the_labels_whose_probability_reaches_their_threshold_in_the_models_order():
    shares = np.array([[0.5, 0.9, 0.25], [0.4, 0.1, 0.2], [math.nan, 0.1, 0.2]])
    card = {"classes": CLASSES, "task": "multi-label", "thresholds": [0.5, 0.95, 0.25]}
    one, none, broken = predictions_of(["a", "b", "c"], shares, card)
    assert (one.classes, one.confidences, one.probabilities) == (("Blue", "Red"), (0.5, 0.25), (0.5, 0.9, 0.25))
    assert one.text == "Blue (50.0%); Red (25.0%)"
    assert (none.classes, none.text, none.error) == ((), "no label", "")
    assert "not a finite number" in broken.error


def test_thresholds_are_those_of_the_model_and_one_half_before_its_run_is_finished():
    assert thresholds_of({"classes": CLASSES}) is None
    assert thresholds_of({"classes": CLASSES, "task": "multi-label"}) == [0.5, 0.5, 0.5]
    assert thresholds_of({"classes": CLASSES, "task": "multi-label", "thresholds": [0.1, 0.2, 0.3]}) == [0.1, 0.2, 0.3]


def test_several_likeliest_classes_are_not_for_several_labels():
    with pytest.raises(UserError, match="--top-k is for one class per photo"):
        check_top_k(2, {"classes": CLASSES, "task": "multi-label"})
