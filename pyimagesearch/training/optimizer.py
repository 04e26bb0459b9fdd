"""How weights follow their gradients: optimizer, learning rate (scaled, scheduled), and the weights' moving average."""

import math
import warnings
from itertools import chain

from torch import nn, optim
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pyimagesearch import config


def scaled_lr(args) -> float:
    """The learning rate of the global batch: --lr is for one device's batch, the run's first, and grows with it."""
    return args.lr * args.global_batch_size / args.lr_batch_size


def build_optimizer(args, model: nn.Module) -> optim.Optimizer:
    """The optimizer of --optimizer over what trains of `model`; torch's fused one, which does not wait for the GPU.

    The first groups of parameters have --lr; where --backbone-lr is not 1, the backbone has groups of its own. Weights
    with two dimensions or more decay; biases and BatchNorm have one and do not. "adam" and "sgd" add --weight-decay to
    the gradient (L2), "adamw" subtracts it from the weights.
    """
    factors = {
        parameter: args.backbone_lr if "baseModel." in name else 1.0
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    groups = [
        {
            "params": [weight for weight, own in factors.items() if own == factor and (weight.ndim > 1) is decays],
            "lr": scaled_lr(args) * factor,
            "weight_decay": args.weight_decay if decays else 0.0,
        }
        for factor in dict.fromkeys((1.0, args.backbone_lr))
        for decays in (True, False)
    ]
    if args.optimizer == "sgd":
        split = any(isinstance(parameter, DTensor) for parameter in factors)  # for which torch has no fused SGD
        return optim.SGD(groups, momentum=0.9, nesterov=True, fused=not split, foreach=split)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[args.optimizer](groups, fused=True)


class Schedule(optim.lr_scheduler.LambdaLR):
    """The learning rate of each step: a pure function of the steps before it.

    name : "step" is a tenth after each 10 epochs (torch's StepLR); "cosine" falls along half a cosine and would be at
        `final` in the step after the last (torch's CosineAnnealingLR; https://arxiv.org/abs/1608.03983, equation 5,
        without restarts); "none" stays at 1
    steps : of an epoch
    warmup : epochs, 0.5 for example, over whose n steps the rate rises evenly, from 1 / (n + 1) in the first; then the
        schedule begins
    plan : attribute, part of a checkpoint: what `stretch` was given last, and the position of the schedule then
    """

    def __init__(
        self, name: str, optimizer: optim.Optimizer, *, steps: int, epochs: int, warmup: float = 0,
        final: float | None = None,
    ):  # fmt: skip
        self.name, self.steps, self.total, self.warmup = name, steps, steps * epochs, int(warmup * steps)
        self.final = config.LR_FINAL if final is None else final
        self.plan = (0, 0.0, epochs)
        super().__init__(optimizer, self.factor)
        with warnings.catch_warnings():  # torch warns where the optimizer has taken no step: fp16 skips first ones
            warnings.simplefilter("ignore")
            self.move_to(0)

    def factor(self, step: int) -> float:
        at = self.position(step) if self.name == "cosine" else step
        if at < self.warmup:
            return (at + 1) / (self.warmup + 1)
        if self.name == "step":
            return 0.1 ** ((step - self.warmup) // (10 * self.steps))
        if self.name == "cosine":
            share = (at - self.warmup) / (self.total - self.warmup)
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2
        return 1.0

    def rate(self, step: int) -> float:
        """The first parameter group's rate in the run's step `step`, counted from 0."""
        return float(self.base_lrs[0]) * self.factor(step)

    def move_to(self, step: int) -> None:
        """Give the optimizer the rates of the run's step `step`, counted from 0."""
        self.last_epoch = step - 1
        self.step()

    def position(self, step: int) -> float:
        """How many steps of a schedule that is not stretched have passed after `step` steps of the run."""
        begin, position, last = self.plan
        return position + (step - begin) * (self.total - position) / max(last * self.steps - begin, 1)

    def stretch(self, step: int, last: int) -> None:
        """From step `step` of the run on, let the rest of the schedule end with epoch `last`, counted from 1."""
        self.plan = (step, self.position(step), last)


class MovingAverage:
    """The exponential moving average of a model's weights and of BatchNorm's statistics; other buffers are copied.

    torch's AveragedModel does the same, but its counter makes each step wait for the GPU.
    """

    def __init__(self, model: nn.Module, averaged: nn.Module, decay: float):
        """averaged : the copy of `model` that becomes the average"""
        self.decay = decay
        tensors = (chain(one.parameters(), one.buffers()) for one in (averaged, model))
        pairs = [(mean.detach(), tensor.detach()) for mean, tensor in zip(*tensors, strict=True)]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self, step: int) -> None:
        """Take in the weights after the run's step `step`, counted from 0: a short run has no time to forget."""
        decay = min(self.decay, (1 + step) / (10 + step))  # as tf.train.ExponentialMovingAverage with num_updates
        means, tensors = map(list, zip(*self._floats, strict=True))
        get_ema_multi_avg_fn(decay)(means, tensors, 0)
        for copied, tensor in self._others:
            copied.copy_(tensor)
