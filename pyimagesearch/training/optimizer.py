"""How weights follow their gradients: the optimizer, and the learning rate, scaled and scheduled."""

import math
from collections.abc import Iterable

from torch import nn, optim
from torch.distributed.tensor import DTensor

from pyimagesearch import config


def scaled_lr(args) -> float:
    """The learning rate of the global batch: --lr is for one device's batch, the run's first, and grows with it."""
    return args.lr * args.global_batch_size / args.lr_batch_size


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> optim.Optimizer:
    """The optimizer over the parameters that train; torch's fused one, which does not wait for the GPU.

    name : "adam", "adamw" or "sgd" (momentum 0.9, Nesterov)
    weight_decay : of weights with two dimensions or more; biases and BatchNorm have one and do not decay. "adam" and
        "sgd" add it to the gradient (L2), "adamw" subtracts it from the weights
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        split = any(isinstance(parameter, DTensor) for parameter in trained)  # for which torch has no fused SGD
        return optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=not split, foreach=split)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[name](groups, lr=lr, fused=True)


def build_scheduler(
    name: str, optimizer: optim.Optimizer, *, epochs: int, warmup: int = 0, final: float | None = None
) -> optim.lr_scheduler.LambdaLR:
    """The scheduler, to be stepped after each epoch; see lr_factor."""
    final = config.LR_FINAL if final is None else final
    return optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: lr_factor(name, epoch, epochs=epochs, warmup=warmup, final=final)
    )


def lr_factor(name: str, epoch: int, *, epochs: int, warmup: int, final: float) -> float:
    """The factor of the learning rate in `epoch`, counted from 0, of a run of `epochs`.

    It rises over `warmup` epochs in equal steps, from 1 / (warmup + 1) in the first; then the schedule begins at 1.
    "step" is a tenth after each 10 epochs (torch's StepLR); "cosine" falls along half a cosine and would be at `final`
    in the epoch after the last (torch's CosineAnnealingLR; https://arxiv.org/abs/1608.03983, equation 5, without
    restarts); "none" stays at 1.
    """
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    if name == "step":
        return 0.1 ** ((epoch - warmup) // 10)
    if name == "cosine":
        return final + (1 - final) * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2
    return 1.0
