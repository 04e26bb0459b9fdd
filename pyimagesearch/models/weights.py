"""Loads pretrained weights into a backbone, from torchvision or from a file: all tensors that fit."""

import argparse
import datetime
import os
import pathlib
import pickle
import re
import socket
import types
import urllib.error
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from pyimagesearch import config
from pyimagesearch.models.backbones import first_convolution, head_name, make_backbone, rgb_to_grey
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line

DOWNLOAD_TIMEOUT_S = 10
# keys under which checkpoints keep their state_dict: this project's and torchvision's, Lightning's, others
CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "module", "weights")
# torchvision's own file has norm.1 for what its model calls norm1
LEGACY_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# an object in the error of torch's unpickler that is neither a tensor nor a plain value
FOREIGN_OBJECT = re.compile(r"GLOBAL ([\w.]+)")
# what published training scripts keep beside the weights: flags, paths, times, metrics. Making one runs no code of the
# file's. numpy's functions had another module before numpy 2; object arrays are left out
HARMLESS: list[Any] = [
    argparse.Namespace, types.SimpleNamespace, torch.torch_version.TorchVersion, list, dict, int, float, frozenset,
    range, slice, datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
    (lambda *_: {}, "collections.defaultdict"), (lambda *_: [], "collections.deque"),  # torch fills no others
    np.ndarray, np.dtype, *{type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"},
]  # fmt: skip
for _module in ("core", "_core"):
    HARMLESS.append((np.float64(0).__reduce__()[0], f"numpy.{_module}.multiarray.scalar"))
    HARMLESS.append((np.zeros(0).__reduce__()[0], f"numpy.{_module}.multiarray._reconstruct"))
for _module in ("pathlib", "pathlib._local"):  # the second in Python 3.13
    for _name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):  # of any system
        HARMLESS.append((pathlib.PurePath, f"{_module}.{_name}"))
# what is saved under the name of weights by mistake, by its first bytes
NO_WEIGHTS = {
    rb"version https://git-lfs": "a Git LFS pointer and not the file it stands for; fetch that with: git lfs pull",
    rb"\s*<": "a web page and not the file behind it; download that again, by its direct link",
    rb"\x08[\x01-\x20][\x12\x1a\x3a\x42]": "an ONNX model; save the state_dict of the model that was exported",
}


def build_backbone(
    name: str = config.MODEL, weights: str = "imagenet", *, image_size: int = config.IMAGE_SIZE, channels: int = 3,
    partial: bool = False,
) -> nn.Module:  # fmt: skip
    """Torchvision's network `name` with `weights`: "imagenet", "none" (random), or the path of a file.

    partial : leave random what the file has nothing for
    """
    backbone = make_backbone(name, image_size, channels)
    if weights == "imagenet":
        load_backbone(backbone, name, imagenet_weights(name), "torchvision's ImageNet weights")
    elif weights != "none":
        load_backbone(backbone, name, read_state_dict(weights), weights, partial=partial)
    return backbone


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """Torchvision's best ImageNet weights for the network `name`, downloaded once, then from torchvision's cache."""
    enum = models.get_model_weights(name).DEFAULT
    cache = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(enum.url))
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)  # torch.hub sets none and would wait for minutes
    try:
        return enum.get_state_dict(progress=not terminal.quiet, check_hash=True)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"cannot download the ImageNet weights ({getattr(error, 'reason', error)}): fetch {enum.url} on another "
            f"machine and put it at {cache}, or train from scratch with --weights none"
        ) from None
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError):
        raise UserError(f"{cache} is damaged; delete it, and it is downloaded again") from None
    finally:
        socket.setdefaulttimeout(before)


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The state_dict in the file `path`, on the CPU, by itself or inside a checkpoint (see CONTAINERS).

    Nothing in the file is executed. The prefix of torch.compile is removed from the names.
    """
    try:
        with open(path, "rb") as file:
            beginning = file.read(2**20)  # a pickle stands at the beginning, in both of torch's formats
        if what := next((what for start, what in NO_WEIGHTS.items() if re.match(start, beginning)), None):
            raise UserError(f"{path} is {what}")
        is_safetensors = path.endswith(".safetensors") or beginning[8:10] == b'{"'  # after the header's length
        state = _tensors_in(_read_safetensors(path) if is_safetensors else _read_torch(path, beginning))
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}") from None
    if not state:
        raise UserError(f"{path} holds no state_dict; expected a dictionary of tensors, or a checkpoint that has one")
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}


def _tensors_in(value: object) -> dict[str, Tensor]:
    if not isinstance(value, dict):
        return {}
    for key in CONTAINERS:
        if isinstance(value.get(key), dict) and (state := _tensors_in(value[key])):
            return state
    return {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}


def _read_torch(path: str, beginning: bytes) -> object:
    if zipfile.is_zipfile(path) and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        raise UserError(
            f"{path} is a TorchScript archive; save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        # torch's own message advises to trust the file and execute its content, so it is not shown
        found = FOREIGN_OBJECT.search(str(error))
        if found and b"torch.nn.modules." in beginning:
            raise UserError(
                f"{path} holds a whole pickled model ({found[1]}), and nothing in a file is executed; if you trust "
                "it, save its weights where its code is installed: torch.save(model.state_dict(), NEW)"
            ) from None
        foreign = f": it asks for {found[1]}, and nothing in a file is executed" if found else ""
        raise UserError(
            f"{path} is not a whole file of weights{foreign}; expected a state_dict written by torch.save"
        ) from None


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"to read {path}, install safetensors: pip install safetensors") from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole file of safetensors: {one_line(error)}") from None


def with_versions(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state`, a plain dictionary, with the module versions of `model`'s state_dict. MNASNet loads none without."""
    versioned: Any = OrderedDict(state)
    versioned._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    return versioned


def load_backbone(
    backbone: nn.Module, name: str, state: dict[str, Tensor], source: str, *, partial: bool = False
) -> None:
    """Load the tensors of `state` that fit `backbone` by name and shape; print a summary of those that did not.

    Raises UserError if a tensor of the backbone finds none that fits, and with `partial` if all of them do.
    The head is skipped, because FoodClassifier replaces it. Names may have any common prefix, such as "module." of
    DataParallel or "baseModel." of FoodClassifier. The first convolution is converted between 3 channels and 1, the
    position embedding of a vision transformer to the image size.
    """
    head = f"{head_name(backbone)}."
    own = {key: value for key, value in backbone.state_dict().items() if not key.startswith(head)}
    state = {LEGACY_NAME.sub(r"\1\2", key): value for key, value in state.items()}
    prefix = _prefix(state, own)
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    converted = _convert_channels(inside, own, f"{first_convolution(backbone)}.weight")
    converted += _convert_positions(inside, own, backbone)

    fitting = {key: value for key, value in inside.items() if key in own and value.shape == own[key].shape}
    if not _without_counters(fitting):
        raise UserError(
            f"none of the {len(state)} tensors in {source} fits {name} by name and shape; expected weights of that "
            "architecture"
        )
    if not partial and (missing := [key for key in _without_counters(own) if key not in fitting]):
        raise UserError(
            f"{len(missing)} of the {len(_without_counters(own))} tensors of {name} have none of their name and shape "
            f"in {source}: {_first(missing, 3)}; give weights of {name}, or leave those random with --partial-weights"
        )
    backbone.load_state_dict(with_versions(backbone, fitting), strict=False)
    loaded, total = len(_without_counters(fitting)), len(_without_counters(own))
    summary = [f"loaded {loaded} of the backbone's {total} tensors from {source}"]
    if converted:
        summary.append(f"converted {' and '.join(converted)}")
    unknown = [key for key in state if key.removeprefix(prefix) not in own or not key.startswith(prefix)]
    if unknown := _without_counters(unknown):
        summary.append(f"skipped {len(unknown)} that are not in it ({_first(unknown, 2)})")
    if reshaped := [key for key in inside if key in own and key not in fitting]:
        shapes = [f"{key}: {tuple(inside[key].shape)} for {tuple(own[key].shape)}" for key in reshaped]
        summary.append(f"skipped {len(reshaped)} of another shape ({_first(shapes, 1)})")
    terminal.info(f"{one_line('; '.join(summary))}...")


def _without_counters(names: Iterable[str]) -> list[str]:
    """`names` without num_batches_tracked, which nothing reads and old files do not have."""
    return [name for name in names if not name.endswith("num_batches_tracked")]


def _first(texts: list[str], count: int) -> str:
    return ", ".join([*texts[:count], *["..."] * (len(texts) > count)])


def _prefix(state: Iterable[str], own: Container[str]) -> str:
    """The most common prefix of those names in `state` that end with a name in `own`."""
    prefixes: Counter[str] = Counter()
    for name in state:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        prefixes.update(name[:start] for start in starts if name[start:] in own)
    return prefixes.most_common(1)[0][0] if prefixes else ""


def _convert_channels(state: dict[str, Tensor], own: dict[str, Tensor], name: str) -> list[str]:
    """Convert the first convolution's weight `name` in `state` to the channels of `own`; returns what was converted."""
    if name not in state or state[name].ndim != 4:
        return []
    found, wanted = state[name].shape[1], own[name].shape[1]
    if (found, wanted) == (3, 1):
        state[name] = rgb_to_grey(state[name])
    elif (found, wanted) == (1, 3):
        state[name] = state[name].repeat(1, 3, 1, 1) / 3  # the same output for three equal channels
    else:
        return []
    return [f"{name} to {wanted} channel{'s' * (wanted > 1)}"]


def _convert_positions(state: dict[str, Tensor], own: dict[str, Tensor], backbone: nn.Module) -> list[str]:
    """Interpolate the position embedding in `state` to the image size of `backbone`; returns what was converted."""
    name = "encoder.pos_embedding"
    if name not in state or name not in own or state[name].shape == own[name].shape:
        return []
    try:
        state |= interpolate_embeddings(backbone.image_size, backbone.patch_size, {name: state[name].float()})
    except ValueError:  # from images that were not square
        return []
    return [f"{name} to {backbone.image_size} pixels"]
