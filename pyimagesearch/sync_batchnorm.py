"""BatchNorm over the global batch on CPUs, where torch.nn.SyncBatchNorm does not run."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


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
