"""The model: FoodClassifier, its backbone, its weights, and what is frozen."""

import functools
import os
import pickle
import re
import socket
import urllib.error
import zipfile

import torch
from torch import Tensor, nn
from torchvision import models

from pyimagesearch import terminal
from pyimagesearch.errors import UserError

ARCHITECTURE = "densenet121"
DOWNLOAD_TIMEOUT_S = 10

# the file that torchvision offers says norm.1 where its model, and so a state_dict saved today, says norm1
LEGACY_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def autocast_forward(forward):
    """Run a module's `forward` under autocast in the module's `amp_dtype` (None is float32, without autocast).

    On the method itself, because the threads of nn.DataParallel do not inherit the caller's autocast.
    """

    @functools.wraps(forward)
    def wrapper(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            return forward(self, x)

    return wrapper


class FoodClassifier(nn.Module):
    """A backbone without its classifier, and a linear layer for the classes.

    Parameters
    ----------
    baseModel : a torchvision model with a linear `.classifier`, which is replaced by nn.Identity
    numClasses : how many logits come out

    Attributes
    ----------
    amp_dtype : the dtype of forward's autocast, torch.float16 or torch.bfloat16; None for plain float32
    """

    def __init__(self, baseModel: nn.Module, numClasses: int):
        super().__init__()
        self.baseModel = baseModel
        self.classifier = nn.Linear(baseModel.classifier.in_features, numClasses)
        self.baseModel.classifier = nn.Identity()
        self.amp_dtype: torch.dtype | None = None

    @autocast_forward
    def forward(self, x: Tensor) -> Tensor:
        """The logits, (rows, numClasses), of normalised images, float of shape (rows, 3, height, width)."""
        return self.classifier(self.baseModel(x))


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that stays as it is: no gradient, and no new statistics whatever `train()` is called on."""

    def __init__(self, like: nn.BatchNorm2d):
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self.load_state_dict(like.state_dict())
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        return super().train(False)


def freeze_batchnorm(model: nn.Module) -> nn.Module:
    """Replace every nn.BatchNorm2d in `model` by a FrozenBatchNorm2d of the same weights, under the same name."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, FrozenBatchNorm2d(child).to(child.weight.device))
        else:
            freeze_batchnorm(child)
    return model


def amp_dtype(choice: str, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast on `device`, None for float32, for "fp16", "bf16", "off", or "auto".

    auto : float16 on GPUs, bfloat16 on CPUs that multiply it in hardware, else float32

    Raises
    ------
    UserError : fp16 on a CPU
    """
    if choice == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if _cpu_multiplies_bfloat16() else None
    if choice == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 is for GPUs and there is none; leave --amp out, or use bf16 or off")
    return {"fp16": torch.float16, "bf16": torch.bfloat16, "off": None}[choice]


def _cpu_multiplies_bfloat16() -> bool:
    questions = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(question() for question in questions if question is not None)


def build_backbone(weights: str = "imagenet") -> nn.Module:
    """DenseNet121 with `weights`: "imagenet" (downloaded once by torchvision, then from its cache), "none", or a path.

    Raises
    ------
    UserError : the download fails; the path is no state_dict, or one of which nothing fits
    """
    if weights == "imagenet":
        return _pretrained()
    backbone = models.get_model(ARCHITECTURE, weights=None)
    if weights != "none":
        load_backbone(backbone, read_state_dict(weights), weights)
    return backbone


def _pretrained() -> nn.Module:
    enum = models.get_model_weights(ARCHITECTURE).DEFAULT
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)  # torch.hub sets none: a silent network would hold it for minutes
    try:
        return models.get_model(ARCHITECTURE, weights=enum)
    except (urllib.error.URLError, OSError) as error:
        cache = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(enum.url))
        raise UserError(
            f"cannot download the ImageNet weights ({getattr(error, 'reason', error)}): fetch {enum.url} on another "
            f"machine and put it at {cache}, or train from scratch with --weights none"
        ) from None
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError):
        cache = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(enum.url))
        raise UserError(f"{cache} is damaged; delete it, and it is downloaded anew") from None
    finally:
        socket.setdefaulttimeout(before)


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The state_dict in the file `path`, on the CPU; nothing in the file is executed.

    Raises
    ------
    UserError : the file is missing, damaged, or holds anything but a dictionary of tensors
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except Exception:  # the unpickler raises nearly anything of a damaged file, and advises against weights_only
        raise UserError(f"{path} is not a whole file of weights; expected a state_dict written by torch.save") from None
    items = state.items() if isinstance(state, dict) else ()
    if not items or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in items):
        raise UserError(f"{path} holds no state_dict; expected a dictionary of tensors written by torch.save")
    return state


def load_backbone(backbone: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Copy into `backbone` the tensors of `state` that fit by name and shape, and say how many did.

    `state` is torchvision's for the same architecture, or a FoodClassifier's; a classifier of other classes is left.
    """
    prefix = "baseModel."
    if any(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    state = {LEGACY_NAME.sub(r"\1\2", name): value for name, value in state.items()}
    own = backbone.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    if not fitting:
        raise UserError(
            f"none of the {len(state)} tensors in {source} fits {ARCHITECTURE} by name and shape; expected weights of "
            "that architecture"
        )
    backbone.load_state_dict(fitting, strict=False)
    # num_batches_tracked, which nothing reads, is not in files as old as torchvision's
    wanted = [name for name in own if not name.startswith("classifier.") and not name.endswith("num_batches_tracked")]
    loaded = sum(name in fitting for name in wanted)
    terminal.info(f"loaded {loaded} of the backbone's {len(wanted)} tensors from {source}...")


def load_classifier(path: str, facts: dict) -> FoodClassifier:
    """The trained model in `path`, in evaluation mode on the CPU, as `facts` (the .json beside it) describe it.

    Raises
    ------
    UserError : the file is missing or damaged, or its tensors are not those of the model that the facts describe
    """
    try:
        base = models.get_model(facts["architecture"], weights=None)
    except ValueError:
        raise UserError(f"the .json beside {path} names {facts['architecture']!r}, no model of torchvision") from None
    model = FoodClassifier(base, len(facts["classes"]))
    try:
        model.load_state_dict(read_state_dict(path))
    except RuntimeError:
        raise UserError(
            f"{path} is no {facts['architecture']} of {len(facts['classes'])} classes, which the .json beside it "
            "describes; keep the two files of one training run together"
        ) from None
    return model.eval()
