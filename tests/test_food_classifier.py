"""The model: the tutorial's FoodClassifier, frozen BatchNorm and backbone, saved and loaded."""

import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.runs import ONE
from torch import nn
from torchvision import models

from pyimagesearch import food_classifier
from pyimagesearch.create_dataloaders import GlobalBatchSampler
from pyimagesearch.food_classifier import FoodClassifier, build_model, load_classifier, resolve_amp
from pyimagesearch.models.batchnorm import freeze_batchnorm
from pyimagesearch.models.weights import build_backbone
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training.options import resolve, training_options

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


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hardware(monkeypatch):
    """hardware(True) makes torch answer as on a machine that multiplies bfloat16 and TF32, hardware(False) as not."""

    def answer(has: bool) -> None:
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation
        )
        monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: has)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda: has, raising=False)

    return answer


@pytest.fixture(autouse=True)
def _as_torch_begins():
    """Precision is a setting of the process: each test begins with torch's own, and leaves it."""
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize(
    "trained_in, device, has, expected",
    [
        (None, "cuda", True, "bf16"), (None, "cuda", False, "fp16"), (None, "cpu", True, "bf16"),
        (None, "cpu", False, "off"), (None, "mps", True, "off"),
        # a trained model is computed as in training, or without a smaller range
        ("bf16", "cuda", True, "bf16"), ("bf16", "cuda", False, "off"), ("bf16", "cpu", False, "off"),
        ("fp16", "cuda", True, "fp16"), ("fp16", "cpu", True, "bf16"), ("fp16", "cpu", False, "off"),
        ("tf32", "cuda", True, "tf32"), ("tf32", "cuda", False, "off"), ("tf32", "cpu", True, "off"),
        ("off", "cuda", True, "off"), ("off", "cpu", True, "off"),
    ],
)  # fmt: skip
def test_without_a_choice_precision_is_what_the_hardware_multiplies(hardware, trained_in, device, has, expected):
    hardware(has)
    assert resolve_amp("auto", torch.device(device), trained_in) == expected


@pytest.mark.parametrize(
    "device, has", [("cuda", True), ("cuda", False), ("cpu", True), ("cpu", False), ("mps", False)]
)
@pytest.mark.parametrize("choice", ["bf16", "fp16", "tf32", "off"])
def test_a_choice_is_taken_or_refused_by_name_where_the_device_cannot(hardware, choice, device, has):
    hardware(has)
    refused = {("fp16", "cpu"), ("tf32", "cpu"), ("tf32", "mps")} | (
        set() if has else {("bf16", "cuda"), ("tf32", "cuda")}
    )
    if (choice, device) in refused:
        with pytest.raises(UserError, match=f"--amp {choice} needs a"):
            resolve_amp(choice, torch.device(device))
    else:
        assert resolve_amp(choice, torch.device(device), trained_in="off") == choice


def test_that_a_cpu_emulates_bfloat16_is_said(hardware, capsys):
    for has in (True, False):
        hardware(has)
        resolve_amp("bf16", CPU)
        assert ("emulates bfloat16" in capsys.readouterr().out) is not has


@pytest.mark.parametrize(
    "began_in, asked, expected", [("off", "auto", "off"), ("bf16", "auto", "bf16"), ("bf16", "off", "off")]
)
def test_a_resumed_run_keeps_its_precision_unless_another_is_asked_for(hardware, began_in, asked, expected):
    hardware(True)
    found = {"config": {"amp": began_in, "batch_size": 8, "global_batch_size": 8}}
    assert resolve(training_options(["--amp", asked]), ONE, found).amp == expected


def test_a_run_that_began_in_float16_is_not_resumed_on_a_cpu():
    found = {"config": {"amp": "fp16", "batch_size": 8, "global_batch_size": 8}}
    with pytest.raises(UserError, match=r"--amp fp16 needs a GPU .* resume this run on a GPU"):
        resolve(training_options([]), ONE, found)


def built(*flags, launch=ONE, batch: int = 8) -> nn.Module:
    """A small network as training builds it for two batches of that many photos."""
    args = ["--weights", "none", "--model", "shufflenet_v2_x0_5", "--image-size", "64", *flags]
    loader = SimpleNamespace(
        dataset=SimpleNamespace(classes=["a", "b"]), batch_sampler=GlobalBatchSampler(2 * batch, batch)
    )
    return build_model(resolve(training_options(args), launch, None), launch, loader, pretrained=False)


def test_fsdp_does_not_compile():
    with pytest.raises(UserError, match="--compile does not go with --parallel fsdp"):
        built("--compile", launch=replace(ONE, parallel="fsdp"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("amp, allowed", [("off", False), ("bf16", False), ("tf32", True)])
def test_float32_is_tf32_only_where_it_is_asked_for(monkeypatch, amp, allowed):
    monkeypatch.setattr(food_classifier, "resolve_amp", lambda choice, device: choice)
    model = built("--amp", amp)
    assert torch.backends.cudnn.allow_tf32 == allowed  # torch's default is True
    assert torch.backends.cuda.matmul.allow_tf32 == allowed
    assert model.amp_dtype == (torch.bfloat16 if amp == "bf16" else None)


# --- several GPUs in one process -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch, accumulate, least",
    [(8, 1, 2), (9, 1, 3), (10, 1, 1), (16, 2, 2), (18, 2, 3), (19, 2, 1), (20, 2, 1), (3, 1, 1)],
)
def test_a_gpu_that_would_get_too_few_photos_for_batchnorm_is_found_before_training(batch, accumulate, least):
    """torch gives 10 photos to four GPUs as 3, 3, 3 and 1, and 9 as 3, 3 and 3."""
    four = distributed.Launch("dp", CPU, gpus=4, devices=4)
    flags = ["--image-size", "32", "--accumulate", str(accumulate)]  # the network's last map has one position
    if least > 1:
        assert isinstance(built(*flags, launch=four, batch=batch), nn.DataParallel)
        return
    with pytest.raises(UserError, match="leaves 1 photo to a device"):
        built(*flags, launch=four, batch=batch)


def test_a_side_that_grows_is_large_enough_for_batchnorm_from_the_first_epoch_on():
    """At 64 pixels the network's last map has four positions, and at 32 it has one."""
    built(batch=1)
    with pytest.raises(UserError, match="leaves 1 photo to a device"):
        built("--grow-from", "0.5", batch=1)


# --- compilation -----------------------------------------------------------------------------------------------------


def test_compile_is_refused_where_a_process_would_get_an_empty_batch(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(UserError, match="--compile needs a photo for each process in each batch"):
        food_classifier.check_compiler(CPU, GlobalBatchSampler(8, 6).fewest_rows(1))


def test_without_a_compiler_compile_is_refused_before_training(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/nowhere/g++"))
    with pytest.raises(UserError, match=r"torch.compile fails .*No working C\+\+ compiler.* leave --compile out"):
        built("--compile")


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
