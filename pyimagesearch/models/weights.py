"""Where weights come from: torchvision's, and files of the usual kinds; and what of them fits a network."""

import os
import pickle
import re
import socket
import urllib.error
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Container, Iterable

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from pyimagesearch import config
from pyimagesearch.models.backbones import first_convolution, head_name, make_backbone, sum_colours
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line


def build_backbone(
    name: str = config.MODEL, weights: str = "imagenet", *, image_size: int = config.IMAGE_SIZE, channels: int = 3
) -> nn.Module:
    """The network `name` of torchvision, to be a FoodClassifier's.

    Parameters
    ----------
    weights : "imagenet" (torchvision's best, downloaded once, then from its cache), "none", or the path of a file
    image_size, channels : see make_backbone

    Raises
    ------
    UserError : there is no such network, or not for such images; the download fails; the file has no weights, or none
        that fit
    """
    backbone = make_backbone(name, image_size, channels)
    if weights == "imagenet":
        load_backbone(backbone, name, imagenet_weights(name), "torchvision's ImageNet weights")
    elif weights != "none":
        load_backbone(backbone, name, read_state_dict(weights), weights)
    return backbone


DOWNLOAD_TIMEOUT_S = 10
# what a checkpoint calls its state_dict: this project's and torchvision's, Lightning's, other people's
CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "module", "weights")
# the file that torchvision offers says norm.1 where its model, and so a state_dict saved today, says norm1
LEGACY_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# how torch's unpickler names an object that is neither a tensor nor a plain value
FOREIGN_OBJECT = re.compile(r"GLOBAL ([\w.]+)")


# --- reading ---------------------------------------------------------------------------------------------------------


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """torchvision's best ImageNet weights of the network `name`, downloaded once, then from torchvision's cache.

    Raises
    ------
    UserError : the download fails, or what is in the cache is damaged
    """
    enum = models.get_model_weights(name).DEFAULT
    cache = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(enum.url))
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)  # torch.hub sets none: a silent network would hold it for minutes
    try:
        return enum.get_state_dict(progress=not terminal.quiet, check_hash=True)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"cannot download the ImageNet weights ({getattr(error, 'reason', error)}): fetch {enum.url} on another "
            f"machine and put it at {cache}, or train from scratch with --weights none"
        ) from None
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError):
        raise UserError(f"{cache} is damaged; delete it, and it is downloaded anew") from None
    finally:
        socket.setdefaulttimeout(before)


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The state_dict in the file `path`, on the CPU: one of tensors alone, or inside a checkpoint (see CONTAINERS).

    Nothing in the file is executed. Names lose what torch.compile puts into them.

    Raises
    ------
    UserError : the file is missing, damaged, of Python objects, or without a dictionary of tensors
    """
    state = _tensors_in(_read_safetensors(path) if path.endswith(".safetensors") else _read_torch(path))
    if not state:
        raise UserError(f"{path} holds no state_dict; expected a dictionary of tensors, or a checkpoint with one in it")
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}


def _tensors_in(value: object) -> dict[str, Tensor]:
    if not isinstance(value, dict):
        return {}
    for key in CONTAINERS:
        if isinstance(value.get(key), dict) and (state := _tensors_in(value[key])):
            return state
    return {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}


def _read_torch(path: str) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _unreadable(path, error) from None
    except Exception as error:  # the unpickler raises nearly anything of a damaged file
        # torch's own text advises to trust the file and to execute what is in it
        found = FOREIGN_OBJECT.search(str(error))
        foreign = f" alone (it asks for {found[1]}, and nothing in a file is executed)" if found else ""
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
    except OSError as error:
        raise _unreadable(path, error) from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole file of safetensors: {one_line(error)}") from None


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(f"cannot read the weights {path}: {error.strerror or error}")


# --- fitting ---------------------------------------------------------------------------------------------------------


def with_versions(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the versions of `model`'s modules, which torch keeps beside its own state_dicts.

    Files and checkpoints are plain dictionaries, and MNASNet takes none without its version.
    """
    versioned = OrderedDict(state)
    versioned._metadata = model.state_dict()._metadata
    return versioned


def load_backbone(backbone: nn.Module, name: str, state: dict[str, Tensor], source: str) -> None:
    """Copy into `backbone`, the network `name`, what of `state` fits by name and shape; say what did and what did not.

    The head is left as it is: FoodClassifier takes one for its own classes. Names in `state` may have anything before
    them, "module." of DataParallel, "baseModel." of FoodClassifier, "model." ... The first convolution is fitted to 1
    or 3 colours, and the positions of a vision transformer to its image size.

    Raises
    ------
    UserError : nothing fits
    """
    head = f"{head_name(backbone)}."
    own = {key: value for key, value in backbone.state_dict().items() if not key.startswith(head)}
    state = {LEGACY_NAME.sub(r"\1\2", key): value for key, value in state.items()}
    prefix = _prefix(state, own)
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    fitted = _fit_colours(inside, own, f"{first_convolution(backbone)}.weight")
    fitted += _fit_positions(inside, own, backbone)

    fitting = {key: value for key, value in inside.items() if key in own and value.shape == own[key].shape}
    if not _counted(fitting):
        raise UserError(
            f"none of the {len(state)} tensors in {source} fits {name} by name and shape; expected weights of that "
            "architecture"
        )
    backbone.load_state_dict(with_versions(backbone, fitting), strict=False)
    foreign = _counted(key for key in state if key.removeprefix(prefix) not in own or not key.startswith(prefix))
    reshaped = [key for key in inside if key in own and key not in fitting]
    parts = [f"loaded {len(_counted(fitting))} of the backbone's {len(_counted(own))} tensors from {source}"]
    if fitted:
        parts.append(f"fitted {' and '.join(fitted)}")
    if foreign:
        parts.append(f"left {len(foreign)} that are not in it ({', '.join(foreign[:2])}{', ...' * (len(foreign) > 2)})")
    if reshaped:
        shapes = f"{tuple(inside[reshaped[0]].shape)} for {tuple(own[reshaped[0]].shape)}"
        parts.append(f"left {len(reshaped)} of another shape ({reshaped[0]}: {shapes}{', ...' * (len(reshaped) > 1)})")
    terminal.info(f"{one_line('; '.join(parts))}...")


def _counted(names: Iterable[str]) -> list[str]:
    """`names` without num_batches_tracked, which nothing reads and files as old as torchvision's do not have."""
    return [name for name in names if not name.endswith("num_batches_tracked")]


def _prefix(state: Iterable[str], own: Container[str]) -> str:
    """What stands before most of the names in `state` that end with one in `own`; empty where nothing does."""
    prefixes = Counter()
    for name in state:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        prefixes.update(name[:start] for start in starts if name[start:] in own)
    return prefixes.most_common(1)[0][0] if prefixes else ""


def _fit_colours(state: dict[str, Tensor], own: dict[str, Tensor], name: str) -> list[str]:
    """Fit the weight `name` of the first convolution in `state` to the colours of `own`; returns what was fitted."""
    if name not in state or state[name].ndim != 4:
        return []
    found, wanted = state[name].shape[1], own[name].shape[1]
    if (found, wanted) == (3, 1):
        state[name] = sum_colours(state[name])
    elif (found, wanted) == (1, 3):
        state[name] = state[name].repeat(1, 3, 1, 1) / 3  # to three equal colours it answers as to the grey
    else:
        return []
    return [f"{name} to {wanted} colour{'s' * (wanted > 1)}"]


def _fit_positions(state: dict[str, Tensor], own: dict[str, Tensor], backbone: nn.Module) -> list[str]:
    """Interpolate a vision transformer's positions in `state` to its image size; returns what was fitted."""
    name = "encoder.pos_embedding"
    if name not in state or name not in own or state[name].shape == own[name].shape:
        return []
    try:
        state |= interpolate_embeddings(backbone.image_size, backbone.patch_size, {name: state[name].float()})
    except ValueError:  # of an image that was no square
        return []
    return [f"{name} to {backbone.image_size} pixels"]
