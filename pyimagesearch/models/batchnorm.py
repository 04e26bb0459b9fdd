"""BatchNorm over the global batch on CPUs, where torch.nn.SyncBatchNorm does not run."""

from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from pyimagesearch.models import batchnorm
from pyimagesearch.models.backbones import first_convolution
from pyimagesearch.models.parallel import refuse_threads
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.distributed import Launch
from pyimagesearch.runtime.errors import UserError


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


def synchronise_batchnorm(model: nn.Module, launch: Launch) -> nn.Module:
    """Let every BatchNorm of `model` take its statistics over the global batch, in place of this rank's share.

    Raises UserError under nn.DataParallel, whose threads share no statistics.
    """
    refuse_threads("--sync-bn", launch)
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return SyncBatchNorm.convert(model)  # torch's own is for GPUs alone


def fewest_positions(model: nn.Module, image_size: int) -> int | None:
    """The height x width of the smallest map that a BatchNorm of `model` sees of one photo; None without BatchNorm.

    Nothing is computed: the model is run on the meta device, where tensors have shapes and no values.

    Raises
    ------
    UserError : images of `image_size` pixels are too small for `model`
    """
    found = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: found.append(inputs[0][0, 0].numel()))
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    tensors = {name: tensor.to("meta") for name, tensor in chain(model.named_parameters(), model.named_buffers())}
    channels = model.get_submodule(first_convolution(model)).in_channels
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


class _SumOverRanks(torch.autograd.Function):
    """The sum of every rank's tensor. Each rank's output depends on every rank's input, so gradients are summed too."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _SumOverRanks.forward(ctx, gradient)


class SyncBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d whose statistics in training are those of all ranks' rows together.

    The sums are all-reduced inside the graph, so the backward pass is exact too. A rank without rows adds nothing to
    the statistics and still takes part in the sums. In evaluation it is nn.BatchNorm2d.

    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1.
    """

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """`module` with every plain nn.BatchNorm2d replaced by one of this class with its parameters and buffers."""
        if type(module) is nn.BatchNorm2d:
            new = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
            new.__dict__.update(module.__dict__)
            return new
        for name, child in module.named_children():
            setattr(module, name, cls.convert(child))
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x`, float of shape (rows, channels, height, width); the result has its shape and dtype."""
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
        """Move the running statistics towards this batch's; the variance unbiased, as nn.BatchNorm2d has it."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def prepare_batchnorm(
    model: nn.Module, launch: distributed.Launch, *, freeze: bool, synchronise: bool, rows: int, image_size: int
) -> nn.Module:
    """`model` with its BatchNorm, where it has any, frozen, synchronised over the ranks, or as it is.

    Parameters
    ----------
    rows : the fewest that a rank's model sees at a time, as fewest_rows tells
    image_size : pixels

    Raises
    ------
    UserError : images too small for `model`; `freeze` and `synchronise` together, or `synchronise` under
        nn.DataParallel; or a share too small for statistics of its own
    """
    positions = fewest_positions(model, image_size)
    if positions is None:
        return model
    if freeze and synchronise:
        raise UserError(
            "--sync-bn would do nothing: BatchNorm is frozen, which is what pretrained weights are given unless you "
            "say --no-freeze-bn; leave one of the two out"
        )
    if freeze:
        return freeze_batchnorm(model)
    if synchronise:
        return batchnorm.synchronise_batchnorm(model, launch)
    if rows * positions < 2:
        raise UserError(
            f"the last batch of an epoch leaves a process {rows} photo{'' if rows == 1 else 's'} at a time, of which "
            "BatchNorm cannot take statistics; choose another batch size, or --sync-bn or --freeze-bn"
        )
    return model
