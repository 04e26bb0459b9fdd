"""A Run of any small network, as train_distributed.py makes it, for tests of one epoch or one step."""

import os

import torch
from torch import nn
from torch.nn import functional as F

from pyimagesearch.data.transforms import to_device
from pyimagesearch.models.objectives import CROSS_ENTROPY
from pyimagesearch.runtime import distributed
from pyimagesearch.training.loop import train_epoch
from pyimagesearch.training.optimizer import Schedule
from pyimagesearch.training.options import resolve, training_options
from pyimagesearch.training.run import Run

SIZE = 8  # pixels
ONE = distributed.Launch("none", torch.device("cpu"), 0, 1)


class Net(nn.Module):
    """A linear classifier of small images."""

    def __init__(self, classes: int = 2, dropout: float = 0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(classes, 3 * SIZE * SIZE, generator=generator) / 10)
        self.dropout = dropout

    def forward(self, images):
        return F.linear(F.dropout(images.flatten(1), self.dropout, self.training), self.weight)


def as_the_model_sees(data, indices) -> tuple[torch.Tensor, torch.Tensor]:
    """The photos of these indices in one batch, normalised, and their labels."""
    indices = [int(index) for index in indices]
    return to_device(
        torch.stack([data[index][0] for index in indices]), torch.from_numpy(data.labels[indices]), ONE.device
    )


class NoHooks:
    """In place of StepHooks: calls `after_step` after each step and nothing else."""

    def __init__(self, after_step=lambda done, running: None):
        self.after_step = after_step

    def __enter__(self):
        self.begun = False
        return self

    def __exit__(self, *_):
        pass

    def ask(self):
        return ()

    def __call__(self, done, running):
        if self.begun:  # not before the first step
            self.after_step(done, running)
        self.begun = True


def make_run(model, loader, output=os.devnull, *, flags=(), launch=ONE, **parts) -> Run:
    """A Run of `model` on `loader`, by SGD at the rate 0 unless `parts` has another optimizer.

    flags : of train_distributed.py
    parts : optimizer, scheduler, scaler, objective
    """
    args = resolve(training_options(["--output", os.fspath(output), "--weights", "none", *flags]), launch, None)
    optimizer = parts.get("optimizer") or torch.optim.SGD(model.parameters(), lr=0.0)
    scheduler = parts.get("scheduler") or Schedule(
        "none", optimizer, steps=loader.batch_sampler.steps, epochs=args.epochs
    )
    scaler = parts.get("scaler") or torch.amp.GradScaler("cpu", enabled=False)
    return Run(args, launch, model, parts.get("objective", CROSS_ENTROPY), optimizer, scheduler, scaler, loader)


def train_one_epoch(model, loader, lr: float = 0.0, *, epoch: int = 0, step: int = 0, totals=None, hooks=None, **parts):
    """The totals of what is left of an epoch, trained by SGD at the rate `lr`."""
    run = make_run(model, loader, **{"optimizer": torch.optim.SGD(model.parameters(), lr=lr), **parts})
    run.epoch, run.step, run.totals = epoch, step, totals
    return train_epoch(run, loader, hooks or NoHooks())
