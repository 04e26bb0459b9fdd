"""An exported model: pixels in, the model's probabilities out, and all that a user must know inside the file."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.ranks import SmallNet
from PIL import Image

from pyimagesearch.evaluation.predict import Trained, predict_photos
from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.models import export
from pyimagesearch.models.export import check_possible, export_model, validation_photos
from pyimagesearch.runtime.errors import UserError

CARD = {
    "architecture": "small", "classes": ["Bread", "Egg", "Käse"], "image_size": 24,
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "metrics": {"test_acc": 0.5},
}  # fmt: skip
SUFFIXES = ["onnx", "pt2"]


def make_model():
    torch.manual_seed(0)
    model = FoodClassifier(SmallNet(), len(CARD["classes"]))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
    with torch.no_grad():
        model.classifier.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="module", params=SUFFIXES)
def exported(request, tmp_path_factory):
    """(path, summary) of an export in each format."""
    path = str(tmp_path_factory.mktemp("exported") / f"model.{request.param}")
    return path, export_model(make_model(), CARD, path)


def run(path, pixels):
    """The probabilities of `pixels` and the file's metadata, without this project's code."""
    if path.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return session.run(["probabilities"], {"pixels": pixels})[0], session.get_modelmeta().custom_metadata_map
    files = {"facts.json": ""}
    program = torch.export.load(path, extra_files=files).module()
    return program(torch.from_numpy(pixels)).detach().numpy(), json.loads(files["facts.json"])


def pixels_by_pillow(photos, size):
    """The input that the metadata describes, made with Pillow: uint8 (rows, 3, size, size)."""
    squares = [Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR) for path in photos]
    return np.stack([np.asarray(square).transpose(2, 0, 1) for square in squares])


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_pixels_made_by_pillow_give_the_probabilities_of_predict(exported, rows, tmp_path, photo):
    paths = [str(photo(tmp_path / f"{n}.png", (40 + n, 50), (50 * n, 128, 255 - 50 * n))) for n in range(rows)]
    probabilities, _ = run(exported[0], pixels_by_pillow(paths, 24))
    expected = predict_photos(Trained(make_model(), CARD, torch.device("cpu")), paths, top_k=3)
    assert probabilities.shape == (rows, 3)
    for row, one in zip(probabilities, expected, strict=True):
        assert dict(zip(CARD["classes"], row, strict=True)) == pytest.approx(
            dict(zip(one.classes, one.confidences, strict=True)), abs=0.02
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "facts", [{"temperature": 2.5}, {"task": "multi-label", "temperature": [0.5, 1.0, 3.0], "thresholds": [0.5] * 3}]
)
def test_the_probabilities_of_an_export_are_calibrated_as_inference_has_them(tmp_path, photo, suffix, facts):
    card = {**CARD, **facts, "training": {}}
    paths = [str(photo(tmp_path / "set" / "validation" / f"{name}" / "0.png")) for name in card["classes"]]
    photos = validation_photos(card, str(tmp_path / "set"))
    summary = export_model(make_model(), card, str(tmp_path / f"model.{suffix}"), photos)
    assert summary.endswith("on batches of 1 and 3 drawn photos and on 3 of validation")
    probabilities, metadata = run(str(tmp_path / f"model.{suffix}"), torch.stack(photos).contiguous().numpy())
    several = "task" in facts
    trained = Trained(make_model(), card, torch.device("cpu"))
    for row, one in zip(probabilities, predict_photos(trained, paths, top_k=1 if several else 3), strict=True):
        shares = one.probabilities or dict(zip(one.classes, one.confidences, strict=True))
        assert row == pytest.approx(list(shares) if several else [shares[name] for name in CARD["classes"]], abs=1e-5)
    found = metadata["temperature"]
    assert (json.loads(found) if isinstance(found, str) else found) == facts["temperature"]


def test_validation_photos_are_of_the_models_own_dataset_or_none(tmp_path, photos):
    card = {**CARD, "training": {}}
    assert validation_photos(card, str(tmp_path / "gone")) == []
    photos({"Bread": 9, "Egg": 9, "Käse": 2}, "set/validation")
    photos({"Cat": 3}, "other/validation")
    found = validation_photos(card, str(tmp_path / "set"))
    assert len(found) == 7 and {tuple(one.shape) for one in found} == {(3, 24, 24)}
    assert validation_photos(card, str(tmp_path / "other")) == []


def test_an_export_that_differs_on_photos_of_validation_alone_is_not_written(tmp_path, monkeypatch):
    difference = export._difference
    monkeypatch.setattr(export, "_difference", lambda *args: difference(*args) + (len(args[-1]) == 2))
    with pytest.raises(UserError, match="was not written: its probabilities differ"):
        export_model(make_model(), CARD, str(tmp_path / "model.pt2"), [torch.zeros(3, 24, 24, dtype=torch.uint8)] * 2)
    assert not list(tmp_path.iterdir())


def test_the_metadata_describe_input_and_output(exported):
    _, metadata = run(exported[0], np.zeros((1, 3, 24, 24), np.uint8))
    if exported[0].endswith(".onnx"):  # whose metadata are strings
        metadata = {name: json.loads(text) if text[0] in "[{0123456789" else text for name, text in metadata.items()}
    assert {name: metadata[name] for name in CARD} == CARD
    assert metadata["task"] == "single-label" and metadata["channels"] == 3
    assert "uint8 (batch, 3, 24, 24), RGB" in metadata["input"] and "bilinear" in metadata["resize"]
    assert metadata["versions"]["torch"] == torch.__version__


def test_the_summary_says_shapes_and_the_measured_difference(exported):
    path, summary = exported
    assert "uint8 pixels (batch, 3, 24, 24) to probabilities (batch, 3)" in summary
    assert "batches of 1 and 3" in summary and ("onnxruntime" if path.endswith(".onnx") else "torch") in summary


def test_the_file_has_no_path_of_the_machine_that_made_it(exported):
    content = Path(exported[0]).read_bytes()
    assert os.fsencode(os.path.dirname(export.__file__)) not in content
    assert b"site-packages" not in content


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_export_with_other_probabilities_is_not_written(tmp_path, monkeypatch, suffix):
    (tmp_path / f"model.{suffix}").write_text("the file before")
    forward = export.PixelsToProbabilities.forward
    monkeypatch.setattr(export.PixelsToProbabilities, "forward", lambda self, pixels: forward(self, pixels // 2))
    with pytest.raises(UserError, match="was not written: its probabilities differ"):
        export_model(make_model(), CARD, str(tmp_path / f"model.{suffix}"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the file before"]


def test_without_onnxruntime_onnx_itself_checks(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "installed", lambda name: name != "onnxruntime")
    assert "onnx's reference evaluator" in export_model(make_model(), CARD, str(tmp_path / "model.onnx"))


def test_a_package_that_is_missing_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "installed", lambda name: name != "onnxscript")
    with pytest.raises(UserError, match=r"needs onnxscript: pip install onnxscript, or export \.pt2"):
        check_possible(str(tmp_path / "model.onnx"))
    check_possible(str(tmp_path / "model.pt2"))


@pytest.mark.parametrize("name", ["model", "model.pth", "model.onnx/", ".onnx.txt", ""])
def test_another_suffix_is_refused_with_the_two_known_ones(tmp_path, name):
    with pytest.raises(UserError, match=r"\.onnx or \.pt2"):
        check_possible(f"{tmp_path}/{name}")


def test_a_grey_model_takes_one_channel(tmp_path, photo):
    model = make_model()
    model.baseModel.features[0] = torch.nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
    summary = export_model(model, {**CARD, "channels": 1}, str(tmp_path / "model.pt2"))
    assert "uint8 pixels (batch, 1, 24, 24)" in summary
