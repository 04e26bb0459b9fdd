"""The model: the tutorial's FoodClassifier, frozen BatchNorm and backbone, saved and loaded."""

import os
import threading

import pytest
import torch
from torch import nn
from torchvision import models

from pyimagesearch.food_classifier import FoodClassifier, amp_dtype, load_classifier
from pyimagesearch.models.batchnorm import freeze_batchnorm
from pyimagesearch.models.weights import build_backbone
from pyimagesearch.runtime.errors import UserError

CPU = torch.device("cpu")
FACTS = {"architecture": "densenet121", "classes": ["a", "b", "c"], "image_size": 64}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def saved(path, value) -> str:
    torch.save(value, path)
    return os.fspath(path)


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Tiny(nn.Module):
    """A backbone of one layer."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(6, 1000)

    def forward(self, x):
        return self.classifier(x.flatten(1)[:, :6])


# --- the tutorial's class --------------------------------------------------------------------------------------------


def test_the_backbones_classifier_gives_way_to_one_for_the_classes(images):
    base = models.densenet121(weights=None)
    model = FoodClassifier(base, 11).eval()
    assert model.baseModel is base
    assert isinstance(model.baseModel.classifier, nn.Identity)
    assert isinstance(model.classifier, nn.Linear)
    assert (model.classifier.in_features, model.classifier.out_features) == (1024, 11)
    with torch.inference_mode():
        assert torch.equal(model(images), model.classifier(base(images)))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_forward_runs_under_autocast_also_in_a_thread_that_did_not_ask_for_it(images, dtype):
    model, seen = FoodClassifier(Tiny(), 3), []
    model.amp_dtype = dtype
    thread = threading.Thread(target=lambda: seen.append(model(images).dtype))
    thread.start()
    thread.join()
    assert [*seen, model(images).dtype] == [dtype or torch.float32] * 2
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    "choice, device, dtype",
    [
        ("auto", "cuda", torch.float16),
        ("fp16", "cuda", torch.float16),
        ("bf16", "cuda", torch.bfloat16),
        ("bf16", "cpu", torch.bfloat16),
        ("off", "cuda", None),
        ("off", "cpu", None),
    ],
)
def test_mixed_precision_is_what_was_chosen(choice, device, dtype):
    assert amp_dtype(choice, torch.device(device)) == dtype


@pytest.mark.parametrize("hardware, dtype", [(True, torch.bfloat16), (False, None)])
def test_a_cpu_takes_bfloat16_only_where_it_has_it_in_hardware(monkeypatch, hardware, dtype):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: hardware, raising=False)
    assert amp_dtype("auto", CPU) == dtype


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(UserError, match="--amp fp16 needs a GPU"):
        amp_dtype("fp16", CPU)


# --- frozen BatchNorm ------------------------------------------------------------------------------------------------


def test_freezing_freezes_every_batchnorm_tensor_and_no_other():
    frozen = freeze_batchnorm(build_backbone(weights="none"))
    affine = [p for m in frozen.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    rest = {id(p) for p in frozen.parameters()} - {id(p) for p in affine}
    assert len(affine) == 242
    assert not any(p.requires_grad for p in affine)
    assert len(rest) == 122
    assert all(p.requires_grad for p in frozen.parameters() if id(p) in rest)


def test_freezing_changes_no_name_and_no_value(imagenet):
    model = models.densenet121(weights=None)
    model.load_state_dict(imagenet)
    assert same(freeze_batchnorm(model).state_dict(), imagenet)


def test_a_frozen_model_computes_what_the_model_computes_in_evaluation(images):
    model = models.densenet121(weights=None).eval()
    with torch.inference_mode():
        expected = model(images)
        assert torch.equal(freeze_batchnorm(model).train()(images), expected)


@pytest.mark.parametrize("whom", ["model", "baseModel", "a layer"])
def test_a_step_leaves_frozen_batchnorm_as_it_was_whatever_train_is_called_on(images, whom):
    torch.manual_seed(0)
    model = FoodClassifier(freeze_batchnorm(models.densenet121(weights=None)), 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    called = {"model": model, "baseModel": model.baseModel, "a layer": model.baseModel.features.norm0}[whom]
    called.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(images).sum().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not any("norm" in name for name in changed)
    assert "baseModel.features.conv0.weight" in changed


def test_without_freezing_the_statistics_follow_the_photos(images):
    model = build_backbone(weights="none").train()
    model(images)
    assert model.features.norm0.running_mean.abs().sum() > 0


# --- a frozen backbone -----------------------------------------------------------------------------------------------


def frozen_classifier() -> FoodClassifier:
    torch.manual_seed(0)
    model = FoodClassifier(build_backbone("mobilenet_v2", "none", image_size=64), 3)  # with BatchNorm and dropout
    model.freeze_backbone()
    return model


def test_a_frozen_backbone_stays_as_it_was_and_in_evaluation_while_the_classifier_trains(images):
    model = frozen_classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"classifier.weight", "classifier.bias"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    model.train()
    assert model.classifier.training and not any(module.training for module in model.baseModel.modules())
    model(images).sum().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_a_frozen_backbone_keeps_no_activations(images):
    model, kept, features = frozen_classifier().train(), [], []
    model.baseModel.register_forward_hook(lambda module, inputs, output: features.append(output))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        model(images.clone().requires_grad_()).sum().backward()
    assert not features[0].requires_grad and features[0].grad_fn is None
    assert 0 < sum(kept) <= features[0].numel() + model.classifier.weight.numel() + 3 * len(images)


def test_without_freezing_the_backbone_trains(images):
    model = FoodClassifier(build_backbone("mobilenet_v2", "none"), 3).train()
    model(images).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# --- the trained model -----------------------------------------------------------------------------------------------


def test_a_trained_model_comes_back_for_inference_frozen_or_not(tmp_path, images):
    trained = FoodClassifier(freeze_batchnorm(models.densenet121(weights=None)), 3)
    model = load_classifier(saved(tmp_path / "food_classifier.pth", trained.state_dict()), FACTS)
    assert not any(module.training for module in model.modules())
    with torch.inference_mode():
        assert torch.equal(model(images), trained.eval()(images))


@pytest.mark.parametrize("state", [{"classifier.weight": torch.ones(3, 1024)}, {"module.x": torch.ones(1)}])
def test_a_model_that_its_facts_do_not_describe_is_refused(tmp_path, state):
    with pytest.raises(UserError, match=r"food_classifier\.pth is no densenet121 of 3 classes"):
        load_classifier(saved(tmp_path / "food_classifier.pth", state), FACTS)
