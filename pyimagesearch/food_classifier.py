"""FoodClassifier: a backbone and a linear layer for the classes; built to train, and loaded to predict."""

import functools
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pyimagesearch.models.backbones import drop_auxiliary_heads, head_name, make_backbone
from pyimagesearch.models.batchnorm import prepare_batchnorm
from pyimagesearch.models.parallel import refuse_threads, wrap
from pyimagesearch.models.weights import build_backbone, read_state_dict, with_versions
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError

AMP_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "off": None}  # None: float32, without autocast


def autocast_forward(forward):
    """Run a module's `forward` under autocast in the module's `amp_dtype`.

    On the method itself, because the threads of nn.DataParallel do not inherit the caller's autocast.
    """

    @functools.wraps(forward)
    def wrapper(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            return forward(self, x)

    return wrapper


class FoodClassifier(nn.Module):
    """A backbone without its classifier, and a linear layer for the classes.

    baseModel : a torchvision network, or another whose last layer makes its logits; nn.Identity takes its place
    numClasses : the number of logits
    amp_dtype : attribute; the dtype of forward's autocast, None for float32
    """

    def __init__(self, baseModel: nn.Module, numClasses: int):
        super().__init__()
        self.baseModel = baseModel
        drop_auxiliary_heads(baseModel)
        name = head_name(baseModel)
        head = baseModel.get_submodule(name)
        # squeezenet's head is a convolution with the pooling behind it, which then pools what the head was to see
        features: Any = head.in_channels if isinstance(head, nn.Conv2d) else head.in_features
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
        """Train the classifier alone: the backbone stays in evaluation mode, without gradients or kept activations."""
        self._backbone_frozen = True
        self.baseModel.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "FoodClassifier":
        super().train(mode)
        if self._backbone_frozen:
            self.baseModel.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args, **settings):
        return super().load_state_dict(with_versions(self, state_dict), *args, **settings)


def build_model(args, launch: distributed.Launch, trainLoader, *, pretrained: bool) -> nn.Module:
    """The model that trains, on its device and wrapped for it; see train_distributed.py.

    args : resolved, see training.options.resolve
    pretrained : False leaves --weights out, for a run whose checkpoint brings all of them
    """
    torch.manual_seed(args.seed)
    weights = args.weights if pretrained else "none"
    baseModel = distributed.main_first(  # rank 0 downloads, the others find the file
        lambda: build_backbone(
            args.model, weights, image_size=args.image_size, channels=args.channels, partial=args.partial_weights
        )
    )
    with distributed.failing_together():
        baseModel = prepare_batchnorm(
            baseModel, launch, freeze=args.freeze_bn, synchronise=args.sync_bn, image_size=args.image_size,
            rows=trainLoader.batch_sampler.fewest_rows(args.accumulate),
        )  # fmt: skip
    model = FoodClassifier(baseModel, len(trainLoader.dataset.classes))
    model.amp_dtype = AMP_DTYPES[args.amp]
    if args.freeze_backbone:
        model.freeze_backbone()
    model = model.to(launch.device).to(memory_format=torch.channels_last)
    if args.compile:
        refuse_threads("--compile", launch)
        model.compile()
    return wrap(model, launch)


def load_classifier(path: str, card: dict) -> FoodClassifier:
    """The trained model in `path`, in evaluation mode on the CPU, as its model card describes it."""
    try:
        base = make_backbone(card["architecture"], card["image_size"], card.get("channels", 3))
    except UserError as error:
        raise UserError(f"the .json beside {path} describes no model: {error}") from None
    model = FoodClassifier(base, len(card["classes"]))
    try:
        model.load_state_dict(read_state_dict(path))
    except RuntimeError:
        raise UserError(
            f"{path} is no {card['architecture']} of {len(card['classes'])} classes, which the .json beside it "
            "describes; keep the two files of one training run together"
        ) from None
    return model.eval()


def resolve_amp(choice: str, device: torch.device) -> str:
    """The precision on `device`, a key of AMP_DTYPES, for "fp16", "bf16", "off" or "auto".

    auto : fp16 on GPUs, bf16 on CPUs that multiply it in hardware, else off
    """
    if choice == "auto":
        if device.type == "cuda":
            return "fp16"
        return "bf16" if _cpu_multiplies_bfloat16() else "off"
    if choice == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs a GPU and there is none; leave --amp out, or use bf16 or off")
    return choice


def amp_dtype(choice: str, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast for a choice of --amp, see resolve_amp."""
    return AMP_DTYPES[resolve_amp(choice, device)]


def _cpu_multiplies_bfloat16() -> bool:
    questions = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(question() for question in questions if question is not None)
