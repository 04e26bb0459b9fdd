"""The model: the tutorial's FoodClassifier, weights from anywhere, and BatchNorm that stays frozen."""

import os
import pickle
import re
import threading
import urllib.error

import pytest
import torch
from torch import nn
from torchvision import models

from pyimagesearch.errors import UserError
from pyimagesearch.food_classifier import (
    FoodClassifier,
    amp_dtype,
    build_backbone,
    freeze_batchnorm,
    load_classifier,
    read_state_dict,
)

CPU = torch.device("cpu")
FACTS = {"architecture": "densenet121", "classes": ["a", "b", "c"]}


@pytest.fixture(scope="module")
def imagenet() -> dict:
    """A state_dict as torchvision's densenet121 has it, of 1000 classes, unlike a new model in all its weights."""
    torch.manual_seed(7)
    state = models.densenet121(weights=None).state_dict()
    return {name: value + 1 if value.ndim == 1 else value for name, value in state.items()}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def saved(path, value) -> str:
    torch.save(value, path)
    return os.fspath(path)


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def without_classifier(state: dict) -> dict:
    return {name: value for name, value in state.items() if not name.startswith("classifier.")}


def legacy(state: dict) -> dict:
    """`state` as torchvision's own file has it: norm.1 for norm1, and no num_batches_tracked."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


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
    with pytest.raises(UserError, match="--amp fp16 is for GPUs"):
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


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_none_starts_from_what_the_seed_gives():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_backbone(weights="none").state_dict())
    assert same(*states)


@pytest.mark.parametrize("name", ["as_saved", "legacy"])
def test_a_file_of_torchvisions_weights_loads_whole(tmp_path, imagenet, capsys, name):
    state = imagenet if name == "as_saved" else legacy(imagenet)
    backbone = build_backbone(weights=saved(tmp_path / "densenet.pth", state))
    assert same(backbone.state_dict(), imagenet)
    assert "loaded 604 of the backbone's 604 tensors" in capsys.readouterr().out


def test_a_trained_classifier_of_other_classes_lends_its_backbone(tmp_path, imagenet):
    trained = FoodClassifier(models.densenet121(weights=None), 5)
    trained.baseModel.load_state_dict(without_classifier(imagenet))
    backbone = build_backbone(weights=saved(tmp_path / "food_classifier.pth", trained.state_dict()))
    assert same(without_classifier(backbone.state_dict()), without_classifier(imagenet))
    assert backbone.classifier.out_features == 1000


@pytest.mark.parametrize("name", ["as_saved", "legacy"])
def test_imagenet_weights_come_from_torchvisions_cache(tmp_path, monkeypatch, imagenet, name):
    state = imagenet if name == "as_saved" else legacy(imagenet)
    torch.save(state, cache_of(tmp_path, monkeypatch))
    assert same(build_backbone().state_dict(), imagenet)


def cache_of(tmp_path, monkeypatch):
    """Where torchvision looks for the file before it asks the network."""
    monkeypatch.setenv("TORCH_HOME", os.fspath(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    path = tmp_path / "hub" / "checkpoints" / os.path.basename(models.DenseNet121_Weights.DEFAULT.url)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), TimeoutError("timed out")])
def test_no_network_and_no_cache_is_one_line_that_names_both_ways_out(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    cache = cache_of(tmp_path, monkeypatch)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError) as caught:
        build_backbone()
    text = str(caught.value)
    assert all(part in text for part in (models.DenseNet121_Weights.DEFAULT.url, str(cache), "--weights none"))
    assert str(getattr(error, "reason", error)) in text and len(text.splitlines()) == 1


def test_a_silent_network_is_given_up_within_seconds_and_other_sockets_are_left_alone(tmp_path, monkeypatch):
    import socket

    seen = []
    cache_of(tmp_path, monkeypatch)
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda *_, **__: seen.append(socket.getdefaulttimeout()) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        build_backbone()
    assert seen[0] is not None and seen[0] <= 15
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("content", [b"", b"half a download", b"PK\x03\x04half"])
def test_a_damaged_cache_is_named(tmp_path, monkeypatch, content):
    cache = cache_of(tmp_path, monkeypatch)
    cache.write_bytes(content)
    with pytest.raises(UserError, match=f"{re.escape(str(cache))} is damaged; delete it"):
        build_backbone()


class Trap:
    """Unpickled as Python would, this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_nothing_in_a_file_of_weights_is_executed(tmp_path, how):
    trap = tmp_path / "trapped"
    how({"features.conv0.weight": Trap(os.fspath(trap))}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth is not a whole file of weights"):
        build_backbone(weights=os.fspath(tmp_path / "weights.pth"))
    assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_of_weights_is_named(tmp_path, zipped):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(50), "b": torch.rand(50)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"weights\.pth is not a whole file of weights"):
            read_state_dict(os.fspath(path))


@pytest.mark.parametrize("content", [b".", b"\x80\x02.", b"<html>404</html>", b"version https://git-lfs", b"\x00" * 99])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_is_something_else_is_named(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth is not a whole file of weights"):
        read_state_dict(os.fspath(tmp_path / "weights.pth"))


@pytest.mark.parametrize("value", [[1, 2], {}, {"epoch": 3}, {0: torch.ones(1)}, torch.ones(3)])
def test_a_file_without_a_state_dict_is_named(tmp_path, value):
    with pytest.raises(UserError, match=r"weights\.pth holds no state_dict"):
        read_state_dict(saved(tmp_path / "weights.pth", value))


@pytest.mark.parametrize("place, reason", [("nowhere.pth", "No such file"), (".", "Is a directory")])
def test_a_missing_file_of_weights_is_named(tmp_path, place, reason):
    with pytest.raises(UserError, match=f"cannot read the weights .*{reason}"):
        build_backbone(weights=os.fspath(tmp_path / place))


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = saved(tmp_path / "resnet.pth", {"layer1.weight": torch.ones(3), "features.conv0.weight": torch.ones(3)})
    with pytest.raises(UserError, match=r"none of the 2 tensors in .*resnet\.pth fits densenet121"):
        build_backbone(weights=path)


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
