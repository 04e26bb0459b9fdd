"""The record beside the trained weights."""

import json
import os

import pytest

from pyimagesearch import config
from pyimagesearch.models.model_card import card_path, model_path, read_model_card, write_model_card
from pyimagesearch.models.objectives import BinaryCrossEntropy, CrossEntropy, objective_of
from pyimagesearch.runtime.errors import UserError


def test_names_of_files_are_the_tutorials(tmp_path):
    assert model_path("output") == config.MODEL_PATH
    assert card_path("output") == os.path.join("output", "food_classifier.json")


def test_without_a_model_inference_says_to_train_first(tmp_path):
    with pytest.raises(UserError, match=r"no trained model at .*food_classifier\.pth; run train_distributed\.py first"):
        read_model_card(os.fspath(tmp_path))


WHOLE = {"architecture": "densenet121", "classes": ["a"], "image_size": 64}
DAMAGED = {
    "missing": None,
    "empty": b"",
    "truncated": json.dumps(WHOLE).encode()[:-5],
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "a number": b"3",
    "no classes": json.dumps({**WHOLE, "classes": []}).encode(),
    "classes that are no list": json.dumps({**WHOLE, "classes": "abc"}).encode(),
    **{
        f"temperature {bad}": json.dumps({**WHOLE, "temperature": bad}).encode()
        for bad in (0, -1.0, "2", None, [1.0, 0], [1.0, 2.0, 3.0], {})
    },
    **{f"without {name}": json.dumps({k: v for k, v in WHOLE.items() if k != name}).encode() for name in WHOLE},
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_facts_are_named_with_what_was_expected(tmp_path, damage):
    (tmp_path / "food_classifier.pth").touch()
    if DAMAGED[damage] is not None:
        (tmp_path / "food_classifier.json").write_bytes(DAMAGED[damage])
    with pytest.raises(UserError, match=r"food_classifier\.json is missing or damaged; expected the classes"):
        read_model_card(os.fspath(tmp_path))


@pytest.mark.parametrize("temperature", [None, 0.7, [0.5]])
def test_a_temperature_is_read_as_it_was_written_and_a_card_without_one_is_as_before(tmp_path, temperature):
    (tmp_path / "food_classifier.pth").touch()
    config = {"model": "densenet121", "channels": 3, "classes": ["a"], "image_size": 64}
    task = BinaryCrossEntropy.task if isinstance(temperature, list) else CrossEntropy.task
    card = write_model_card(os.fspath(tmp_path), config, task, {}, temperature=temperature)
    assert read_model_card(os.fspath(tmp_path)).get("temperature") == temperature == card.get("temperature")
    assert objective_of(card).temperature == (temperature or 1.0)
    assert objective_of(WHOLE).temperature == 1


def test_a_card_of_an_earlier_version_has_todays_names(tmp_path):
    (tmp_path / "food_classifier.pth").touch()
    training = {"global batch": 32, "batch size": 16, "learning rate": 0.1, "amp": "None", "cache": "disk", "fold": 2}
    (tmp_path / "food_classifier.json").write_text(json.dumps({**WHOLE, "training": training}))
    card = read_model_card(os.fspath(tmp_path))
    expected = {"global_batch_size": 32, "batch_size": 16, "lr": 0.1, "amp": "off", "cache": "disk", "fold": 2}
    assert card["training"] == expected
