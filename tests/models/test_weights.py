"""Weights from torchvision and from files of many kinds: what fits is loaded and summarised."""

import argparse
import datetime
import os
import pathlib
import pickle
import re
import urllib.error
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.models.backbones import head_name, make_backbone
from pyimagesearch.models.weights import build_backbone, read_state_dict
from pyimagesearch.runtime.errors import UserError


@pytest.fixture(scope="module")
def shufflenet() -> dict:
    """As `imagenet`, of a small network whose output depends on its input in evaluation too."""
    torch.manual_seed(7)
    model = models.shufflenet_v2_x0_5(weights=None)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the mean of what it sees
            nn.init.uniform_(norm.weight)
    model(torch.rand(8, 3, 64, 64))
    return model.state_dict()


def saved(path, value) -> str:
    torch.save(value, path)
    return os.fspath(path)


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def of_backbone(state: dict, head: str = "classifier.") -> dict:
    """`state` without the head, which is skipped, and without the counters that nothing reads."""
    return {name: value for name, value in state.items() if not name.startswith(head) and not name.endswith("_tracked")}


def legacy(state: dict) -> dict:
    """`state` as torchvision's own file has it: norm.1 for norm1, and no num_batches_tracked."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + name: value for name, value in state.items()}


def test_random_weights_are_determined_by_the_seed():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_backbone(weights="none").state_dict())
    assert same(*states)


@pytest.mark.parametrize("name", ["as_saved", "legacy"])
def test_imagenet_weights_come_from_torchvisions_cache(tmp_path, monkeypatch, imagenet, name):
    state = imagenet if name == "as_saved" else legacy(imagenet)
    torch.save(state, cache_of(tmp_path, monkeypatch))
    assert same(of_backbone(build_backbone().state_dict()), of_backbone(imagenet))


def cache_of(tmp_path, monkeypatch, name: str = "densenet121"):
    """The path where torchvision looks before it downloads."""
    monkeypatch.setenv("TORCH_HOME", os.fspath(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    path = tmp_path / "hub" / "checkpoints" / os.path.basename(models.get_model_weights(name).DEFAULT.url)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("name", ["googlenet", "mnasnet0_5", "maxvit_t"])
def test_imagenet_weights_of_awkward_families_load_completely(tmp_path, monkeypatch, capsys, name):
    torch.manual_seed(7)
    pretrained = models.get_model(name, weights=None, **({"init_weights": False} if name == "googlenet" else {}))
    torch.save(pretrained.state_dict(), cache_of(tmp_path, monkeypatch, name))
    backbone = build_backbone(name, image_size=448 if name == "maxvit_t" else 64)
    head = head_name(backbone)
    expected = {key: value for key, value in pretrained.state_dict().items() if not key.startswith(("aux", head))}
    assert same({key: value for key, value in backbone.state_dict().items() if not key.startswith(head)}, expected)
    found, wanted = re.search(r"loaded (\d+) of the backbone's (\d+)", capsys.readouterr().out).groups()
    assert found == wanted


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


def test_the_download_times_out_within_seconds_and_other_sockets_keep_their_timeout(tmp_path, monkeypatch):
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


@pytest.mark.parametrize("name", ["as_saved", "legacy"])
def test_a_file_of_torchvisions_weights_loads_except_the_classifier(tmp_path, imagenet, capsys, name):
    state = imagenet if name == "as_saved" else legacy(imagenet)
    backbone = build_backbone(weights=saved(tmp_path / "densenet.pth", state))
    assert same(of_backbone(backbone.state_dict()), of_backbone(imagenet))
    assert not torch.equal(backbone.classifier.bias, imagenet["classifier.bias"])
    out = capsys.readouterr().out
    assert "loaded 604 of the backbone's 604 tensors from " in out
    assert "skipped 2 that are not in it (classifier.weight, classifier.bias)..." in out
    assert len(out.splitlines()) == 1


CONTAINERS = {
    "DataParallel": lambda state: prefixed(state, "module."),
    "torch.compile": lambda state: prefixed(state, "_orig_mod."),
    "DataParallel of torch.compile of parts": lambda state: prefixed(state, "module.baseModel._orig_mod."),
    "torch.compile of parts": lambda state: {
        re.sub(r"^(stage\d)\.", r"\1._orig_mod.", name): value for name, value in state.items()
    },
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
    "model_state_dict": lambda state: {"model_state_dict": prefixed(state, "module."), "loss": 0.1},
    "net": lambda state: {"net": state, "acc": 93.1, "epoch": 7},
    "Lightning": lambda state: {
        "state_dict": {**prefixed(state, "model."), "loss.weight": torch.ones(1000)},
        "pytorch-lightning_version": "2.4.0", "hyper_parameters": {"lr": 0.1}, "optimizer_states": [{}],
    },
    "Parameters": lambda state: OrderedDict((name, nn.Parameter(value, False)) for name, value in state.items()),
    "float16": lambda state: {key: item.half() if item.is_floating_point() else item for key, item in state.items()},
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTAINERS)
def test_checkpoints_of_the_usual_kinds_load_completely(tmp_path, shufflenet, capsys, kind):
    backbone = build_backbone("shufflenet_v2_x0_5", saved(tmp_path / "a.pth", CONTAINERS[kind](shufflenet)))
    for name, value in of_backbone(shufflenet, "fc.").items():
        torch.testing.assert_close(backbone.state_dict()[name], value, rtol=1e-3 if kind == "float16" else 0, atol=1e-4)
    assert "loaded 280 of the backbone's 280 tensors" in capsys.readouterr().out


def test_safetensors_load_too(tmp_path, shufflenet, capsys):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(shufflenet, tmp_path / "a.safetensors")
    backbone = build_backbone("shufflenet_v2_x0_5", os.fspath(tmp_path / "a.safetensors"))
    assert same(of_backbone(backbone.state_dict(), "fc."), of_backbone(shufflenet, "fc."))
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"a\.safetensors is not a whole file of safetensors"):
        read_state_dict(os.fspath(tmp_path / "a.safetensors"))
    with pytest.raises(UserError, match=r"cannot read the weights .*No such file"):
        read_state_dict(os.fspath(tmp_path / "none.safetensors"))


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"any")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(UserError, match="pip install safetensors"):
        read_state_dict(os.fspath(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("kind", ["trained model", "checkpoint"])
def test_the_backbone_of_a_classifier_with_other_classes_loads(tmp_path, shufflenet, capsys, kind):
    base = models.shufflenet_v2_x0_5(weights=None)
    base.load_state_dict(shufflenet)
    trained = FoodClassifier(base, 5).state_dict()
    state = trained if kind == "trained model" else {"epoch": 2, "model": trained, "identity": {"classes": ["a"]}}
    backbone = build_backbone("shufflenet_v2_x0_5", saved(tmp_path / "food_classifier.pth", state))
    assert same(of_backbone(backbone.state_dict(), "fc."), of_backbone(shufflenet, "fc."))
    assert backbone.fc.out_features == 1000
    assert "skipped 2 that are not in it (classifier.weight, classifier.bias)..." in capsys.readouterr().out


def test_what_does_not_fit_is_refused_or_where_that_is_allowed_skipped_and_listed_by_kind(tmp_path, shufflenet, capsys):
    changed = {"projection.weight": torch.ones(3), "conv5.1.weight": torch.ones(7), "conv1.0.bias": torch.ones(24)}
    state = {**shufflenet, **changed}
    del state["conv5.0.weight"]
    path = saved(tmp_path / "a.pth", state)
    with pytest.raises(UserError) as caught:
        build_backbone("shufflenet_v2_x0_5", path)
    for part in (
        "2 of the 280 tensors of shufflenet_v2_x0_5 have none of their name and shape in",
        ": conv5.0.weight, conv5.1.weight;",
        "--partial-weights",
    ):
        assert part in str(caught.value)
    backbone = build_backbone("shufflenet_v2_x0_5", path, partial=True)
    out = capsys.readouterr().out
    assert "loaded 278 of the backbone's 280 tensors" in out
    assert "skipped 4 that are not in it (fc.weight, fc.bias, ...)" in out
    assert "skipped 1 of another shape (conv5.1.weight: (7,) for (1024,))" in out
    assert torch.equal(backbone.conv1[0].weight, shufflenet["conv1.0.weight"])


def test_converted_weights_have_the_same_output_for_grey_images(tmp_path, shufflenet, capsys):
    path = saved(tmp_path / "a.pth", shufflenet)
    rgb, grey = (build_backbone("shufflenet_v2_x0_5", path, channels=count).eval() for count in (3, 1))
    assert "converted conv1.0.weight to 1 channel;" in capsys.readouterr().out
    photo = torch.rand(1, 1, 64, 64)
    for model in (rgb, grey):
        model.fc = nn.Identity()
    with torch.inference_mode():
        assert grey(photo).std() > 0.1
        torch.testing.assert_close(grey(photo), rgb(photo.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    back = build_backbone("shufflenet_v2_x0_5", saved(tmp_path / "grey.pth", grey.state_dict())).eval()
    assert "converted conv1.0.weight to 3 channels" in capsys.readouterr().out
    back.fc = nn.Identity()
    with torch.inference_mode():
        torch.testing.assert_close(back(photo.expand(-1, 3, -1, -1)), grey(photo), rtol=1e-3, atol=1e-4)


def test_position_embeddings_are_interpolated_to_another_image_size(tmp_path, capsys):
    state = make_backbone("vit_b_32", 64).state_dict()
    grid = torch.arange(4.0).reshape(1, 2, 2, 1).expand(-1, -1, -1, 768)
    state["encoder.pos_embedding"] = torch.cat([torch.full((1, 1, 768), 9.0), grid.reshape(1, 4, 768)], dim=1)
    path = saved(tmp_path / "vit.pth", {"model": state})
    positions = build_backbone("vit_b_32", path, image_size=96).encoder.pos_embedding
    assert "converted encoder.pos_embedding to 96 pixels" in capsys.readouterr().out
    assert positions.shape == (1, 10, 768)
    assert positions[0, 0, 0] == 9
    assert positions[0, 1:, 0].tolist() == pytest.approx([0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3])


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


def test_an_object_that_would_have_to_be_executed_is_named(tmp_path):
    path = saved(tmp_path / "weights.pth", {"state_dict": {"a": torch.ones(1)}, "hyper_parameters": pytest.approx(3)})
    with pytest.raises(UserError, match=r"is not .* weights: it asks for _pytest\.\S+, and nothing"):
        read_state_dict(path)


BESIDE = {
    "flags": argparse.Namespace(lr=0.1, arch="resnet50", out=pathlib.PurePosixPath("out")),
    "numbers": {"acc1": np.float64(76.1), "epoch": np.int64(90), "name": np.str_("best"), "same": np.bool_(True)},
    "arrays": [np.arange(3), np.ones((2, 2), np.float32), np.array(["a", "bc"])],
    "random states": [np.random.get_state(), torch.get_rng_state()],
    "paths": [pathlib.Path("a/b"), pathlib.PureWindowsPath("a/b")],
    "collections": [defaultdict(list, {1: [2]}), deque([1, 2], maxlen=3), Counter("ab"), frozenset([1]), {1}, range(3)],
    "times": [datetime.datetime(2020, 1, 2), datetime.timedelta(3)],
    "version": torch.__version__,
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", BESIDE)
def test_what_published_scripts_keep_beside_the_weights_is_read(tmp_path, kind, zipped):
    value = {"state_dict": {"a": torch.ones(2)}, kind: BESIDE[kind]}
    torch.save(value, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    assert list(read_state_dict(os.fspath(tmp_path / "a.pth.tar"))) == ["a"]


@pytest.mark.parametrize("core", ["core", "_core"])
def test_a_number_of_an_old_or_a_new_numpy_is_read(tmp_path, core):
    value, path = {"state_dict": {"a": torch.ones(2)}, "acc1": np.float64(3)}, tmp_path / "a.pth"
    torch.save(value, path, _use_new_zipfile_serialization=False)
    path.write_bytes(re.sub(rb"numpy\._?core\.", b"numpy.%s." % core.encode(), path.read_bytes()))
    assert list(read_state_dict(os.fspath(path))) == ["a"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_model_is_named_with_the_way_to_its_weights(tmp_path, zipped):
    model = models.squeezenet1_1(weights=None)
    for value in (model, {"model": model, "epoch": 3}):
        torch.save(value, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            UserError, match=r"whole pickled model \(torchvision.models.squeezenet.SqueezeNet\).*state_dict"
        ):
            read_state_dict(os.fspath(tmp_path / "a.pth"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_archive_is_named_with_the_way_to_its_weights(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth is a TorchScript archive; .*torch\.jit\.load"):
        read_state_dict(os.fspath(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    "content, kind",
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a Git LFS pointer .*git lfs pull",
        ),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"\n<html>404</html>", "a web page"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05", "an ONNX model"),
    ],
)
def test_a_file_that_is_no_file_of_weights_at_all_is_named_by_its_kind(tmp_path, content, kind):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"weights\.pth is {kind}") as caught:
        read_state_dict(os.fspath(tmp_path / "weights.pth"))
    assert len(str(caught.value).splitlines()) == 1


def test_safetensors_under_another_name_load(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"a": torch.ones(2)}, tmp_path / "a.pth")
    assert list(read_state_dict(os.fspath(tmp_path / "a.pth"))) == ["a"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_of_weights_is_named(tmp_path, zipped):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(50), "b": torch.rand(50)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"weights\.pth is not a whole file of weights"):
            read_state_dict(os.fspath(path))


@pytest.mark.parametrize("content", [b".", b"\x80\x02.", b"\x00" * 99])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_is_something_else_is_named(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth is not a whole file of weights"):
        read_state_dict(os.fspath(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    "value", [[1, 2], {}, {"epoch": 3}, {0: torch.ones(1)}, torch.ones(3), {"model": {}}, {"state_dict": [1]}]
)
def test_a_file_without_a_state_dict_is_named(tmp_path, value):
    with pytest.raises(UserError, match=r"weights\.pth holds no state_dict"):
        read_state_dict(saved(tmp_path / "weights.pth", value))


@pytest.mark.parametrize("place, reason", [("nowhere.pth", "No such file"), (".", "Is a directory")])
def test_a_missing_file_of_weights_is_named(tmp_path, place, reason):
    with pytest.raises(UserError, match=f"cannot read the weights .*{reason}"):
        build_backbone(weights=os.fspath(tmp_path / place))


def test_weights_of_a_deeper_relative_are_refused(tmp_path):
    path = saved(tmp_path / "resnet50.pth", make_backbone("resnet50").state_dict())
    with pytest.raises(
        UserError, match=r"23 of the 100 tensors of resnet18 have none of their name and shape in .*resnet50\.pth"
    ):
        build_backbone("resnet18", path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = saved(tmp_path / "resnet.pth", {"layer1.weight": torch.ones(3), "features.conv0.weight": torch.ones(3)})
    with pytest.raises(UserError, match=r"none of the 2 tensors in .*resnet\.pth fits densenet121"):
        build_backbone(weights=path)
