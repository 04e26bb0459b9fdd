"""Another network than the tutorial's, for grey photos and on a frozen backbone, from the command line on."""

import json

import torch
from helpers.kill_and_resume import draw_dataset, identical
from helpers.scripts import run
from torchvision import models

from pyimagesearch.food_classifier import load_classifier

FLAGS = ["--model", "shufflenet_v2_x0_5", "--channels", "1", "--freeze-backbone", "--image-size", "32",
         "--batch-size", "8", "--lr", "1e-2", "--workers", "0"]  # fmt: skip


def test_a_classifier_on_frozen_weights_trains_stops_and_resumes(tmp_path):
    data = draw_dataset(tmp_path / "data", {"training": 6, "validation": 2, "evaluation": 2})
    torch.manual_seed(0)
    pretrained, weights = models.shufflenet_v2_x0_5(weights=None).state_dict(), tmp_path / "weights.pth"
    torch.save({"state_dict": pretrained}, weights)
    flags = [*FLAGS, "--data", data, "--weights", weights]
    told, _ = run("train_distributed.py", *flags, "--output", tmp_path / "whole", "--epochs", "2")
    assert "loaded 280 of the backbone's 280 tensors" in told and "converted conv1.0.weight to 1 channel" in told
    for epochs in ("1", "2"):
        run("train_distributed.py", *flags, "--output", tmp_path / "parts", "--epochs", epochs, "--resume")
    assert identical(tmp_path / "parts" / "food_classifier.pth", tmp_path / "whole" / "food_classifier.pth")
    facts = json.loads((tmp_path / "whole" / "food_classifier.json").read_text())
    assert (facts["architecture"], facts["channels"]) == ("shufflenet_v2_x0_5", 1)
    model = load_classifier(str(tmp_path / "whole" / "food_classifier.pth"), facts)
    assert torch.equal(model.baseModel.conv5[0].weight, pretrained["conv5.0.weight"])


def test_a_network_that_torchvision_does_not_have_is_one_line(tmp_path):
    data = draw_dataset(tmp_path / "data", {"training": 2, "validation": 1, "evaluation": 1})
    _, err = run("train_distributed.py", "--data", data, "--output", tmp_path / "out", "--model", "resnet5", status=2)
    assert err.startswith("error: torchvision has no classification network 'resnet5'; similar: resnet")
    assert len(err.splitlines()) == 1
