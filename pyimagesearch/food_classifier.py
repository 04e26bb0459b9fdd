"""The model: FoodClassifier on any backbone, and what of it is frozen."""

import functools
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from pyimagesearch.models.backbones import drop_auxiliary_heads, head_name, make_backbone
from pyimagesearch.models.weights import read_state_dict, with_versions
from pyimagesearch.runtime.errors import UserError


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
    baseModel : a torchvision network, or another whose last layer makes its logits; nn.Identity takes its place
    numClasses : how many logits come out

    Attributes
    ----------
    amp_dtype : the dtype of forward's autocast, torch.float16 or torch.bfloat16; None for plain float32
    """

    def __init__(self, baseModel: nn.Module, numClasses: int):
        super().__init__()
        self.baseModel = baseModel
        drop_auxiliary_heads(baseModel)
        name = head_name(baseModel)
        head = baseModel.get_submodule(name)
        # squeezenet's head is a convolution with the pooling behind it: what is pooled then is what it was to see
        features = head.in_channels if isinstance(head, nn.Conv2d) else head.in_features
        self.classifier = nn.Linear(features, numClasses)
        baseModel.set_submodule(name, nn.Identity())
        self.amp_dtype: torch.dtype | None = None
        self._backbone_frozen = False

    @autocast_forward
    def forward(self, x: Tensor) -> Tensor:
        """The logits, (rows, numClasses), of normalised images, float of shape (rows, channels, height, width)."""
        with torch.no_grad() if self._backbone_frozen else nullcontext():
            features = self.baseModel(x)
        return self.classifier(features)

    def freeze_backbone(self) -> None:
        """Train the classifier alone: the backbone stays in evaluation, without gradients, and keeps no activations."""
        self._backbone_frozen = True
        self.baseModel.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "FoodClassifier":
        super().train(mode)
        if self._backbone_frozen:
            self.baseModel.eval()
        return self

    def load_state_dict(self, state_dict: dict[str, Tensor], *args, **settings):
        return super().load_state_dict(with_versions(self, state_dict), *args, **settings)


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


def load_classifier(path: str, facts: dict) -> FoodClassifier:
    """The trained model in `path`, in evaluation mode on the CPU, as `facts` (the .json beside it) describe it.

    Raises
    ------
    UserError : the file is missing or damaged, or its tensors are not those of the model that the facts describe
    """
    try:
        base = make_backbone(facts["architecture"], facts["image_size"], facts.get("channels", 3))
    except UserError as error:
        raise UserError(f"the .json beside {path} describes no model: {error}") from None
    model = FoodClassifier(base, len(facts["classes"]))
    try:
        model.load_state_dict(read_state_dict(path))
    except RuntimeError:
        raise UserError(
            f"{path} is no {facts['architecture']} of {len(facts['classes'])} classes, which the .json beside it "
            "describes; keep the two files of one training run together"
        ) from None
    return model.eval()
