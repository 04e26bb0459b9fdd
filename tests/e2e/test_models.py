"""Other networks than the tutorial's, grey photos and a frozen backbone, from the command line to predictions."""

import json

import pytest
import torch
from kill_and_resume import draw_dataset, identical
from test_scripts import run
from torchvision import models

FLAGS = ["--model", "shufflenet_v2_x0_5", "--channels", "1", "--freeze-backbone", "--image-size", "32",
         "--global-batch-size", "8", "--lr", "1e-2", "--workers", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_dataset(tmp_path_factory.mktemp("data"), {"training": 6, "validation": 2, "evaluation": 2})


def test_a_head_on_frozen_weights_trains_stops_and_goes_on_in_two_processes_as_in_one(data, tmp_path):
    """18 photos in batches of 8: in the last step each process has one, of which BatchNorm could take no statistics."""
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save({"state_dict": models.shufflenet_v2_x0_5(weights=None).state_dict()}, weights)
    flags = [*FLAGS, "--data", data, "--weights", weights]
    told, _ = run("train_distributed.py", *flags, "--output", tmp_path / "whole", "--epochs", "2", "--nproc", "2")
    assert "loaded 280 of the backbone's 280 tensors" in told and "fitted conv1.0.weight to 1 colour" in told
    for epochs in ("1", "2"):
        run(
            "train_distributed.py",
            *flags,
            "--output",
            tmp_path / "parts",
            "--epochs",
            epochs,
            "--nproc",
            "2",
            "--resume",
        )
    assert identical(tmp_path / "parts" / "food_classifier.pth", tmp_path / "whole" / "food_classifier.pth")
    facts = json.loads((tmp_path / "whole" / "food_classifier.json").read_text())
    assert (facts["architecture"], facts["channels"]) == ("shufflenet_v2_x0_5", 1)
    told, _ = run("distributed_inference.py", "--data", data, "--output", tmp_path / "whole", "--count", "3")
    assert told.count("Ground Truth: ") == 3


@pytest.mark.parametrize(
    "flags, found",
    [
        (["--model", "resnet5"], "no classification network 'resnet5'; near it: resnet50"),
        (["--model", "vit_b_16"], "vit_b_16 takes images whose side is a multiple of 16"),
        (["--model", "alexnet"], "images of 40 x 40 pixels are too small for AlexNet"),
    ],
)
def test_a_network_that_cannot_be_is_told_in_one_line(data, tmp_path, flags, found):
    flags = ["--data", data, "--output", tmp_path, "--image-size", "40", "--weights", "none", *flags]
    _, err = run("train_distributed.py", *flags, status=2)
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert found in err
