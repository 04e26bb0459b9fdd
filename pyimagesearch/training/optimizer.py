"""How weights follow their gradients: the optimizer, and the learning rate, scaled and scheduled."""

import math

from torch import nn, optim

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
        return optim.SGD(groups, momentum=0.9, nesterov=True, fused=True)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[args.optimizer](groups, fused=True)


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
