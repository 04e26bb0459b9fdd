"""All of BatchNorm: frozen as the weights have it, synchronised over the ranks, or checked to have enough input."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call
from torch.nn import functional as F

from pyimagesearch.models.backbones import first_convolution
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError

ROWS = (0, 2, 3)  # the dimensions over which a channel's statistics are taken


def prepare_batchnorm(model: nn.Module, *, freeze: bool, synchronise: bool, rows: int, image_size: int) -> nn.Module:
    """The model with its BatchNorm layers, where it has any, frozen, synchronised over the ranks, or as they are.

    rows : the fewest photos that a model sees at a time, see GlobalBatchSampler.fewest_rows
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
        return fold_batchnorm(model)
    if synchronise:
        return SyncBatchNorm.convert(model)
    if rows * positions < 2:
        raise UserError(
            f"the last batch of an epoch leaves {rows} photo{'s' * (rows != 1)} to a device, too few for BatchNorm's "
            "statistics; choose another batch size, or --sync-bn or --freeze-bn"
        )
    return model


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d without gradients that keeps its statistics, whatever `train()` is called on.

    folded : whether the convolution before it computes it too, see fold_batchnorm
    """

    folded = False

    def __init__(self, like: nn.BatchNorm2d):
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self.load_state_dict(like.state_dict())
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.folded else super().forward(x)


def freeze_batchnorm(model: nn.Module) -> nn.Module:
    """Replace every nn.BatchNorm2d in `model` by a FrozenBatchNorm2d with the same weights and name."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, FrozenBatchNorm2d(child).to(child.weight.device))
        else:
            freeze_batchnorm(child)
    return model


class FoldedConv2d(nn.Conv2d):
    """A convolution and the frozen BatchNorm after it in one. Its `weight` and `bias` are those of the convolution.

    scale, shift : of each channel, what the BatchNorm multiplies by and then adds
    """

    scale: Tensor
    shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        # in float32 also under autocast, which then casts the products for the convolution
        bias = self.shift if self.bias is None else torch.addcmul(self.shift, self.bias, self.scale)
        return self._conv_forward(x, self.weight * self.scale[:, None, None, None], bias)


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """Freeze all BatchNorm, and let the convolution before it compute it too: conv(x, weight * scale) + shift.

    Outputs and gradients are the same up to rounding; names and values in the state_dict are the same. A BatchNorm is
    not folded unless its input is a convolution's output that nothing else reads: half of DenseNet's comes before ReLU
    and convolution. None is in a network that torch.fx cannot trace.
    """
    pairs = _foldable(model)  # before: to torch.fx, a layer of torch is one node
    freeze_batchnorm(model)
    if pairs:
        _fold(model, pairs=pairs)
        model.register_load_state_dict_post_hook(partial(_fold, pairs=pairs))
    return model


@torch.no_grad()
def _fold(model: nn.Module, _keys=None, *, pairs: Sequence[tuple[str, str]]) -> None:
    """Fold these pairs, or fold them anew after load_state_dict."""
    for names in pairs:
        convolution: Any
        norm: Any
        convolution, norm = map(model.get_submodule, names)
        convolution.__class__, norm.folded = FoldedConv2d, True
        weight, bias = (part.full_tensor() if isinstance(part, DTensor) else part for part in (norm.weight, norm.bias))
        scale = weight * torch.rsqrt(norm.running_var + norm.eps)
        # as buffers they follow the model to its device and into the replicas of nn.DataParallel
        convolution.register_buffer("scale", scale, persistent=False)
        convolution.register_buffer("shift", bias - norm.running_mean * scale, persistent=False)


def _foldable(model: nn.Module) -> list[tuple[str, str]]:
    """The names of each convolution and the BatchNorm that alone reads its output; each is called once in a pass."""
    try:
        nodes = fx.Tracer().trace(model).nodes
    except Exception:  # tracing raises nearly anything where the way depends on values
        return []
    modules = {node: model.get_submodule(node.target) for node in nodes if node.op == "call_module"}
    calls = Counter(modules.values())
    return [
        (node.target, reader.target)
        for node, module in modules.items()
        for reader in node.users
        if type(module) is nn.Conv2d and isinstance(modules.get(reader), nn.BatchNorm2d)
        if len(node.users) == calls[module] == calls[modules[reader]] == 1
    ]


class _NormalizeOverRanks(torch.autograd.Function):
    """BatchNorm over the rows of all ranks. Statistics and sums are float32, whatever the rows are.

    Returns the normalised rows; and of each channel, over all ranks, mean, biased variance and number of values.
    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float):
        rows, here = x.float(), x.numel() // x.shape[1]
        mean = rows.sum(ROWS) / max(here, 1)
        squares = (rows - mean[:, None, None]).square().sum(ROWS)
        own = torch.stack([mean, squares, torch.full_like(mean, here)])
        everyones = own.new_zeros(distributed.world_size(), *own.shape)
        everyones[distributed.rank()] = own
        means, squares, counts = distributed.all_reduce_sum(everyones).unbind(1)
        count = counts.sum(0)
        mean = (means * counts).sum(0) / count
        # of deviations: the difference of two large sums would leave nothing of a small variance
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx, gradient: Tensor, *_):  # type: ignore[override]
        x, weight, mean, inverse_sd, count = ctx.saved_tensors
        gradient = gradient.float()
        normalized = (x.float() - mean[:, None, None]) * inverse_sd[:, None, None]
        own = torch.stack([gradient.sum(ROWS), (gradient * normalized).sum(ROWS)])
        by_bias, by_weight = (distributed.all_reduce_sum(own) / count)[:, :, None, None]
        by_rows = (gradient - by_bias - normalized * by_weight) * (weight * inverse_sd)[:, None, None]
        return by_rows.to(x.dtype), own[1], own[0], None


class SyncBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d that takes its statistics in training over the rows of all ranks, of which some may have none.

    In place of torch's, which waits for the host in each layer, runs on GPUs alone, and under autocast sends float16
    from a rank without rows where the others send float32.
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
        if not self.training:
            return super().forward(x)
        rows, mean, variance, count = _NormalizeOverRanks.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():  # the unbiased variance, as nn.BatchNorm2d does; of a single value there is none
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        return rows


def takes_statistics(model: nn.Module, but: type | tuple[()] = ()) -> bool:
    """Whether training takes statistics of its batches in a BatchNorm of `model`, of another class than `but`."""
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return any(norm.training and not isinstance(norm, but) for norm in norms)


def has_local_statistics(model: nn.Module) -> bool:
    """Whether training moves BatchNorm statistics of `model` on each rank by that rank's rows alone."""
    return takes_statistics(model, but=SyncBatchNorm)


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
    except (RuntimeError, AssertionError):  # torchvision's networks of one image size assert it
        raise UserError(
            f"images of {image_size} x {image_size} pixels are too small for {type(model).__name__}; choose a larger "
            "--image-size, or do without --grow-from"
        ) from None
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return min(found, default=None)
