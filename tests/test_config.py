"""The constants are the tutorial's, and reading them costs nothing."""

import os
import subprocess
import sys

import pytest
import torch

from pyimagesearch import config

TUTORIAL = {
    "DATA_PATH": "Food-11",
    "BASE_PATH": "dataset",
    "TRAIN": os.path.join("dataset", "training"),
    "VAL": os.path.join("dataset", "validation"),
    "TEST": os.path.join("dataset", "evaluation"),
    "CLASSES": [
        "Bread", "Dairy_product", "Dessert", "Egg", "Fried_food", "Meat", "Noodles/Pasta", "Rice", "Seafood", "Soup",
        "Vegetable/Fruit",
    ],
    "MEAN": [0.485, 0.456, 0.406],
    "STD": [0.229, 0.224, 0.225],
    "IMAGE_SIZE": 224,
    "LOCAL_BATCH_SIZE": 128,
    "PRED_BATCH_SIZE": 4,
    "EPOCHS": 20,
    "LR": 0.0001,
    "PLOT_PATH": os.path.join("output", "model_training.png"),
    "MODEL_PATH": os.path.join("output", "food_classifier.pth"),
}  # fmt: skip


@pytest.mark.parametrize("name", TUTORIAL)
def test_a_constant_has_the_tutorials_value(name):
    assert getattr(config, name) == TUTORIAL[name]


@pytest.mark.parametrize(
    "gpu, apple, kind", [(False, False, "cpu"), (True, False, "cuda"), (False, True, "mps"), (True, True, "cuda")]
)
def test_the_device_is_the_gpu_where_there_is_one(monkeypatch, gpu, apple, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    assert isinstance(config.DEVICE, torch.device)
    assert torch.device(kind) == config.DEVICE


def test_a_name_that_is_no_constant_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NO_SUCH"):
        config.NO_SUCH  # noqa: B018


def test_importing_the_constants_does_not_import_torch():
    code = "import sys; from pyimagesearch import config; print(config.EPOCHS, 'torch' in sys.modules)"
    repository = os.path.dirname(os.path.dirname(os.path.abspath(config.__file__)))
    out = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60)
    assert out.stdout == "20 False\n"


@pytest.mark.parametrize("script", ["train_distributed.py", "distributed_inference.py"])
def test_help_comes_before_the_imports_that_take_seconds(run_script, script):
    out = run_script(script, "--help", python=("-X", "importtime"), timeout=60)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in out.stderr.splitlines()}
    assert out.returncode == 0
    assert out.stdout.startswith("usage: ")
    assert "argparse" in imported
    assert not imported & {"torch", "torchvision", "matplotlib", "numpy", "sklearn"}
