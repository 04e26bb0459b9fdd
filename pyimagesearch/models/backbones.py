"""Any classification network of torchvision: built for a size and a number of colours, its head and its maps found."""

import difflib

import torch
from torch import Tensor, nn
from torchvision import models

from pyimagesearch import config
from pyimagesearch.runtime.errors import UserError

# torchvision's weights of these were trained on pixels from -1 to 1, those of all others on config.MEAN and STD
FROM_MINUS_1_TO_1 = ("efficientnet_v2_l", "googlenet", "inception_v3")


def make_backbone(name: str, image_size: int = config.IMAGE_SIZE, channels: int = 3) -> nn.Module:
    """The network `name` of torchvision with fresh weights and without auxiliary heads.

    Parameters
    ----------
    image_size : pixels, for the networks that are built for one size; others take any
    channels : 3 colours, or 1 of grey photos

    Raises
    ------
    UserError : there is no such network, or it is not made for images of that size
    """
    check_name(name)
    settings = {}
    if name.startswith("vit_"):  # vit_b_16 cuts an image into patches of 16 pixels
        settings = {"image_size": multiple_of(int(name.rpartition("_")[2]), image_size, name)}
    elif name == "maxvit_t":  # windows of 7 positions, on maps down to a 32nd of the image
        settings = {"input_size": (multiple_of(7 * 32, image_size, name),) * 2}
    elif name in ("googlenet", "inception_v3"):
        settings = {"init_weights": True}  # as ever; torchvision warns where nobody says so
    model = models.get_model(name, weights=None, **settings)
    drop_auxiliary_heads(model)
    if channels == 1:
        convolution = model.get_submodule(first_convolution(model))
        convolution.in_channels = 1
        convolution.weight = nn.Parameter(sum_colours(convolution.weight.detach()))
    if name in FROM_MINUS_1_TO_1:
        take_other_pixels(model, channels)
    return model


def check_name(name: str) -> None:
    """Raise UserError, naming those like it, where torchvision has no classification network `name`."""
    names = models.list_models(module=models)
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        raise UserError(
            f"torchvision has no classification network {name!r}; "
            + (f"near it: {', '.join(near)}" if near else f"it has, for example, {config.MODEL}, resnet50 and vit_b_16")
        )


def multiple_of(step: int, image_size: int, name: str) -> int:
    if image_size % step:
        raise UserError(
            f"{name} takes images whose side is a multiple of {step} pixels, and --image-size is {image_size}; choose "
            f"{max(1, round(image_size / step)) * step}"
        )
    return image_size


def drop_auxiliary_heads(model: nn.Module) -> None:
    """Let GoogLeNet and Inception v3 return logits in training too, in place of a tuple of three heads' or two."""
    for name in ("aux1", "aux2", "AuxLogits"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
            model.aux_logits = False


def head_name(model: nn.Module) -> str:
    """The name in `model` of the layer that makes its logits, which torchvision's networks all register last.

    `classifier` of densenet, `fc` of resnet, `classifier.6` of vgg, `heads.head` of vit; a convolution in squeezenet.

    Raises
    ------
    ValueError : there is no linear layer and no convolution
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear layer and no convolution that could be its head")
    return layers[-1]


def first_convolution(model: nn.Module) -> str:
    """The name in `model` of the convolution that sees the pixels, which torchvision's networks all register first."""
    return next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))


def sum_colours(weight: Tensor) -> Tensor:
    """The weights, (out, 1, height, width), that answer to grey as `weight`, (out, 3, height, width), to RGB of it."""
    return weight.sum(dim=1, keepdim=True)


def take_other_pixels(model: nn.Module, channels: int) -> None:
    """Let `model` bring pixels normalised with config.MEAN and STD to -1 ... 1 before anything else.

    In the model, so that whoever uses it need not know. torchvision does the same (transform_input), with its own
    weights alone, so the state_dict would not say of a trained model whether it did.
    """
    mean, std = torch.tensor(config.MEAN), torch.tensor(config.STD)
    if channels == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    model.register_buffer("pixel_scale", (std / 0.5)[:, None, None], persistent=False)
    model.register_buffer("pixel_shift", ((mean - 0.5) / 0.5)[:, None, None], persistent=False)
    model.register_forward_pre_hook(_other_pixels)


def _other_pixels(model: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] * model.pixel_scale + model.pixel_shift,)
