"""Torchvision's classification networks: built for an image size and 1 or 3 channels; their head and first layer."""

import difflib
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from pyimagesearch import config
from pyimagesearch.runtime.errors import UserError

# torchvision's weights for these expect pixels from -1 to 1; all others expect normalisation with config.MEAN and STD
FROM_MINUS_1_TO_1 = ("efficientnet_v2_l", "googlenet", "inception_v3")


def make_backbone(name: str, image_size: int = config.IMAGE_SIZE, channels: int = 3) -> nn.Module:
    """Torchvision's network `name` with random weights and without auxiliary heads, for 3 channels or 1 (grey).

    Only some networks are built for one `image_size` (pixels); the others take any.
    """
    _check_name(name)
    settings: dict[str, Any] = {}
    if name.startswith("vit_"):  # vit_b_16 cuts an image into patches of 16 pixels
        settings = {"image_size": _multiple_of(int(name.rpartition("_")[2]), image_size, name)}
    elif name == "maxvit_t":  # windows of 7 positions on feature maps down to 1/32 of the image
        settings = {"input_size": (_multiple_of(7 * 32, image_size, name),) * 2}
    elif name in ("googlenet", "inception_v3"):
        settings = {"init_weights": True}  # the default, but without it torchvision warns
    model = models.get_model(name, weights=None, **settings)
    drop_auxiliary_heads(model)
    if channels == 1:
        convolution = model.get_submodule(first_convolution(model))
        convolution.in_channels = 1
        convolution.weight = nn.Parameter(rgb_to_grey(convolution.weight.detach()))
    if name in FROM_MINUS_1_TO_1:
        _rescale_input(model, channels)
    return model


def _check_name(name: str) -> None:
    """Raise UserError, with similar names, if torchvision has no classification network `name`."""
    names = models.list_models(module=models)
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        raise UserError(
            f"torchvision has no classification network {name!r}; "
            + (f"similar: {', '.join(near)}" if near else f"it has, for example, {config.MODEL}, resnet50 and vit_b_16")
        )


def _multiple_of(step: int, image_size: int, name: str) -> int:
    if image_size % step:
        raise UserError(
            f"{name} needs an image size that is a multiple of {step}, and --image-size is {image_size}; choose "
            f"{max(1, round(image_size / step)) * step}"
        )
    return image_size


def drop_auxiliary_heads(model: nn.Module) -> None:
    """Make GoogLeNet and Inception v3 return logits in training too, not a tuple with those of auxiliary heads."""
    for name in ("aux1", "aux2", "AuxLogits"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
            model.aux_logits = False  # type: ignore[assignment]


def head_name(model: nn.Module) -> str:
    """The name in `model` of the layer that makes the logits, which all torchvision networks register last.

    For example `classifier` (densenet), `fc` (resnet), `heads.head` (vit). In squeezenet it is a convolution.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear layer and no convolution that could be its head")
    return layers[-1]


def first_convolution(model: nn.Module) -> str:
    """The name in `model` of the convolution on the pixels, which all torchvision networks register first."""
    return next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))


def rgb_to_grey(weight: Tensor) -> Tensor:
    """Convolution weights (out, 3, height, width) as (out, 1, height, width), with the same output on grey images."""
    return weight.sum(dim=1, keepdim=True)


def _rescale_input(model: nn.Module, channels: int) -> None:
    """Make `model` rescale its input from config.MEAN and STD to -1 ... 1.

    Torchvision's transform_input does the same, but only with its own weights; a state_dict does not record it.
    """
    mean, std = torch.tensor(config.MEAN), torch.tensor(config.STD)
    if channels == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    model.register_buffer("pixel_scale", (std / 0.5)[:, None, None], persistent=False)
    model.register_buffer("pixel_shift", ((mean - 0.5) / 0.5)[:, None, None], persistent=False)
    model.register_forward_pre_hook(_rescale)


def _rescale(model: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] * model.pixel_scale + model.pixel_shift,)
