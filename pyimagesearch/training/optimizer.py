"""How weights follow their gradients: the optimizer, and the learning rate over the epochs."""

import math
from collections.abc import Iterable

from torch import nn, optim

from pyimagesearch import config


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> optim.Optimizer:
    """The optimizer of what trains of `parameters`; torch's fused one, which does not wait for the GPU.

    Parameters
    ----------
    name : "adam", "adamw" or "sgd" (momentum 0.9, Nesterov's)
    lr : learning rate
    weight_decay : of weights of two dimensions or more; biases and BatchNorm, which have one, do not decay. "adam" and
        "sgd" add it to the gradient (L2), "adamw" takes it off the weights
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[name](groups, lr=lr, fused=True)


def build_scheduler(
    name: str, optimizer: optim.Optimizer, *, epochs: int, warmup: int = 0, final: float = config.LR_FINAL
) -> optim.lr_scheduler.LambdaLR:
    """The scheduler to be stepped after each epoch; see share_of_rate."""
    return optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: lr_factor(name, epoch, epochs=epochs, warmup=warmup, final=final)
    )


def lr_factor(name: str, epoch: int, *, epochs: int, warmup: int, final: float) -> float:
    """What the learning rate is multiplied by in an epoch.

    It rises over `warmup` epochs in even steps, from 1 / (warmup + 1) in the first, and is 1 in the one after them,
    where the schedule begins: "step" is a tenth after each 10 epochs (torch's StepLR); "cosine" falls as half a cosine
    does, and would be at `final` in the epoch after the last (torch's CosineAnnealingLR; https://arxiv.org/abs/1608.03983,
    equation 5, without restarts); "none" stays.

    epoch : counted from 0; epochs : of the whole run
    """
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    if name == "step":
        return 0.1 ** ((epoch - warmup) // 10)
    if name == "cosine":
        return final + (1 - final) * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2
    return 1.0


def identity(args) -> dict:
    """What the flags say of the optimization, by their names, for run.Run."""
    cosine = f"cosine to {args.lr_final} over {args.epochs} epochs"
    return {
        "optimizer": args.optimizer, "weight decay": args.weight_decay, "warm-up epochs": args.warmup_epochs,
        "scheduler": cosine if args.scheduler == "cosine" else args.scheduler, "clip-norm": args.clip_norm,
        "label smoothing": args.label_smoothing, "class weights": args.class_weights, "accumulate": args.accumulate,
    }  # fmt: skip
