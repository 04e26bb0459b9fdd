"""All of BatchNorm: frozen as the weights have it, synchronised over the ranks, or checked to have enough input."""

from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from pyimagesearch.models.backbones import first_convolution
from pyimagesearch.models.parallel import refuse_threads
from pyimagesearch.runtime.distributed import Launch
from pyimagesearch.runtime.errors import UserError


def prepare_batchnorm(
    model: nn.Module, launch: Launch, *, freeze: bool, synchronise: bool, rows: int, image_size: int
) -> nn.Module:
    """The model with its BatchNorm layers, where it has any, frozen, synchronised over the ranks, or as they are.

    rows : the fewest photos that a rank's model sees at a time, see GlobalBatchSampler.fewest_rows
    """
    positions = fewest_positions(model, image_size)
    if positions is None:
        return model
    if freeze and synchronise:
        raise UserError(
            "--sync-bn has no effect on frozen BatchNorm, and BatchNorm is frozen with pretrained weights unless you "
            "give --no-freeze-bn; leave one of the two out"
        )
    if freeze:
        return freeze_batchnorm(model)
    if synchronise:
        return synchronise_batchnorm(model, launch)
    if rows * positions < 2:
        raise UserError(
            f"the last batch of an epoch leaves {rows} photo{'s' * (rows != 1)} to a process, too few for BatchNorm's "
            "statistics; choose another batch size, or --sync-bn or --freeze-bn"
        )
    return model


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d without gradients that keeps its statistics, whatever `train()` is called on."""

    def __init__(self, like: nn.BatchNorm2d):
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self.load_state_dict(like.state_dict())
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        return super().train(False)


def freeze_batchnorm(model: nn.Module) -> nn.Module:
    """Replace every nn.BatchNorm2d in `model` by a FrozenBatchNorm2d with the same weights and name."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, FrozenBatchNorm2d(child).to(child.weight.device))
        else:
            freeze_batchnorm(child)
    return model


def synchronise_batchnorm(model: nn.Module, launch: Launch) -> nn.Module:
    """Let every BatchNorm of `model` take its statistics over the global batch in place of this rank's share."""
    refuse_threads("--sync-bn", launch)  # nn.DataParallel's threads share no statistics
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return SyncBatchNorm.convert(model)  # torch's own runs on GPUs alone


class _SumOverRanks(torch.autograd.Function):
    """The sum of every rank's tensor. Each output depends on every rank's input, so gradients are summed too."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _SumOverRanks.forward(ctx, gradient)


class SyncBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d that takes its statistics in training over the rows of all ranks; for CPUs.

    The sums are all-reduced inside the graph, so the backward pass is exact. A rank without rows takes part with zeros.
    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """Replace every plain nn.BatchNorm2d in `module` by one of this class with its parameters and buffers."""
        if type(module) is nn.BatchNorm2d:
            new = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
            new.__dict__.update(module.__dict__)
            return new
        for name, child in module.named_children():
            setattr(module, name, cls.convert(child))
        return module

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        rows = x.float()
        here = rows.new_tensor([rows.shape[0] * rows.shape[2] * rows.shape[3]])
        sums = _SumOverRanks.apply(torch.cat([rows.sum(dim=(0, 2, 3)), here]))
        count = sums[-1].detach()
        mean = (sums[:-1] / count)[:, None, None]
        variance = _SumOverRanks.apply((rows - mean).square().sum(dim=(0, 2, 3))) / count
        self._track(mean.detach().flatten(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((rows - mean) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards this batch's, with the unbiased variance as nn.BatchNorm2d does."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def fewest_positions(model: nn.Module, image_size: int) -> int | None:
    """The height x width of the smallest map that reaches a BatchNorm of `model`; None without BatchNorm.

    Nothing is computed: the model runs on the meta device, where tensors have shapes and no values.
    """
    found = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: found.append(inputs[0][0, 0].numel()))
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    tensors = {name: tensor.to("meta") for name, tensor in chain(model.named_parameters(), model.named_buffers())}
    channels: Any = model.get_submodule(first_convolution(model)).in_channels
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            functional_call(model, tensors, torch.empty(1, channels, image_size, image_size, device="meta"))
    except RuntimeError:
        raise UserError(
            f"images of {image_size} x {image_size} pixels are too small for {type(model).__name__}; choose a larger "
            "--image-size"
        ) from None
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return min(found, default=None)
