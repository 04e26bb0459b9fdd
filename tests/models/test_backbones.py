"""Every family of torchvision's classification networks works as a FoodClassifier, with 3 channels and with 1."""

import os

import pytest
import torch
from torch import nn
from torchvision import models

from pyimagesearch import config
from pyimagesearch.food_classifier import FoodClassifier, load_classifier
from pyimagesearch.models.backbones import FROM_MINUS_1_TO_1, first_convolution, head_name, make_backbone
from pyimagesearch.models.batchnorm import fewest_positions, freeze_batchnorm
from pyimagesearch.runtime.errors import UserError

# a small network of each family: its smallest image size, its head, the number of features before the head
FAMILIES = {
    "alexnet": (64, "classifier.6", 4096),
    "convnext_tiny": (32, "classifier.2", 768),
    "densenet121": (32, "classifier", 1024),
    "efficientnet_b0": (32, "classifier.1", 1280),
    "efficientnet_v2_s": (32, "classifier.1", 1280),
    "googlenet": (32, "fc", 1024),
    "inception_v3": (75, "fc", 2048),
    "maxvit_t": (224, "classifier.5", 512),
    "mnasnet0_5": (32, "classifier.1", 1280),
    "mobilenet_v2": (32, "classifier.1", 1280),
    "mobilenet_v3_small": (32, "classifier.3", 1024),
    "regnet_x_400mf": (32, "fc", 400),
    "regnet_y_400mf": (32, "fc", 440),
    "resnet18": (32, "fc", 512),
    "resnext50_32x4d": (32, "fc", 2048),
    "shufflenet_v2_x0_5": (32, "fc", 1024),
    "squeezenet1_1": (32, "classifier.1", 512),
    "swin_t": (32, "head", 768),
    "swin_v2_t": (32, "head", 768),
    "vgg11_bn": (32, "classifier.6", 4096),
    "vit_b_32": (32, "heads.head", 768),
}
CLASSES = ["a", "b", "c"]


def family(name: str) -> str:
    return models.get_model_builder(name).__module__


def test_no_family_is_left_out():
    every = {family(name) for name in models.list_models(module=models)}
    assert every == {family(name) for name in FAMILIES}


@pytest.mark.training
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_and_comes_back_from_its_file(tmp_path, name):
    """Its head is replaced, it trains, also on an empty share, and its saved weights load."""
    size, head, features = FAMILIES[name]
    channels = 1 if len(name) % 2 else 3
    torch.manual_seed(0)
    base = make_backbone(name, size, channels)
    assert head_name(base) == head
    positions = fewest_positions(base, size)
    model = FoodClassifier(freeze_batchnorm(base), len(CLASSES)).train()
    assert (positions is None) is not any(isinstance(module, nn.BatchNorm2d) for module in base.modules())
    assert isinstance(model.baseModel.get_submodule(head), nn.Identity)
    assert (model.classifier.in_features, model.classifier.out_features) == (features, len(CLASSES))

    rows = 1 if name == "maxvit_t" else 2
    images = torch.randn(rows, channels, size, size)
    logits = model(images)
    assert logits.shape == (rows, len(CLASSES)) and logits.isfinite().all()
    logits.square().sum().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)  # DistributedDataParallel waits for each
    assert model.classifier.weight.grad.any() and base.get_submodule(first_convolution(base)).weight.grad.any()
    model(images[:0]).sum().backward()

    if name.startswith("vgg"):  # half a gigabyte, with a head like alexnet's
        return
    path = os.fspath(tmp_path / "food_classifier.pth")
    torch.save(dict(model.state_dict()), path)
    card = {"architecture": name, "classes": CLASSES, "image_size": size, "channels": channels}
    loaded = load_classifier(path, card)
    os.unlink(path)  # pytest would keep a gigabyte of them
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images[:1]), model.eval()(images[:1]))


def test_an_unknown_network_is_refused_with_similar_names():
    with pytest.raises(UserError, match=r"no classification network 'ResNet5O'; similar: .*resnet50"):
        make_backbone("ResNet5O")
    with pytest.raises(UserError, match="no classification network 'zzz'; it has, for example, densenet121"):
        make_backbone("zzz")
    with pytest.raises(UserError, match="fasterrcnn"):
        make_backbone("fasterrcnn_resnet50_fpn")


@pytest.mark.parametrize("name, size, valid", [("vit_b_16", 100, 96), ("vit_b_32", 33, 32), ("maxvit_t", 256, 224)])
def test_an_image_size_that_a_network_cannot_have_is_refused_with_one_that_it_can(name, size, valid):
    with pytest.raises(UserError, match=f"--image-size is {size}; choose {valid}$"):
        make_backbone(name, size)


@pytest.mark.parametrize("name, size", [("alexnet", 62), ("inception_v3", 74)])
def test_images_too_small_are_refused(name, size):
    with pytest.raises(UserError, match=f"images of {size} x {size} pixels are too small"):
        fewest_positions(make_backbone(name), size)


@pytest.mark.parametrize("name, size, positions", [("resnet18", 64, 4), ("densenet121", 32, 1), ("alexnet", 64, None)])
def test_the_smallest_feature_map_of_a_batchnorm_is_found_and_the_network_is_unchanged(name, size, positions):
    model = make_backbone(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert fewest_positions(model, size) == positions
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_networks_trained_with_another_normalisation_are_known():
    """Those for which torchvision normalises otherwise, or transforms the input in the network."""
    other = {
        name
        for name in models.list_models(module=models)
        if [round(mean, 3) for mean in models.get_model_weights(name).DEFAULT.transforms().mean] != config.MEAN
    }
    assert other | {"googlenet", "inception_v3"} == set(FROM_MINUS_1_TO_1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_networks_trained_on_pixels_from_minus_1_to_1_get_such_pixels(channels, level):
    model, seen = make_backbone("googlenet", channels=channels), []
    model.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (config.MEAN, config.STD))
    if channels == 1:
        mean, std = mean.mean(1, keepdim=True), std.mean(1, keepdim=True)
    model.eval()((level - mean).div(std).expand(1, channels, 32, 32))
    torch.testing.assert_close(seen[0], torch.full((1, channels, 32, 32), 2 * level - 1), rtol=0, atol=1e-5)
    assert not [name for name in model.state_dict() if "pixel" in name]


def test_the_input_is_rescaled_as_torchvision_does_for_its_own_weights():
    torch.manual_seed(0)
    ours = make_backbone("inception_v3").eval()
    theirs = models.inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=True).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 75, 75)
    with torch.inference_mode():
        logits, expected = ours(images), theirs(images)
    assert (logits - expected).abs().max() < 1e-2 * expected.abs().max()


def test_auxiliary_heads_of_a_given_network_are_dropped():
    model = FoodClassifier(models.googlenet(weights=None, aux_logits=True, init_weights=False), 3).train()
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    assert not any("aux" in name for name, _ in model.named_modules())
