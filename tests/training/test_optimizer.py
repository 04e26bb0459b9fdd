"""Optimizers and learning rates: torch's own curves, and the same in a resumed run."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.runs import make_run
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from pyimagesearch.create_dataloaders import GlobalBatchSampler
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.training import checkpoints
from pyimagesearch.training.optimizer import build_optimizer, build_scheduler, scaled_lr
from pyimagesearch.training.run import Run

LR = 0.1
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULERS = ("step", "cosine", "none")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))


def rates(scheduler, epochs: int) -> list[float]:
    """The learning rate of each epoch."""
    found = []
    for _ in range(epochs):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def sgd() -> torch.optim.Optimizer:
    return build_optimizer("sgd", network().parameters(), lr=LR, weight_decay=0)


def test_the_curves_are_torchs():
    steps = rates(build_scheduler("step", sgd(), epochs=25), 25)
    assert steps == pytest.approx(rates(StepLR(sgd(), 10, 0.1), 25))
    cosine = rates(build_scheduler("cosine", sgd(), epochs=12, final=0.05), 12)
    assert cosine == pytest.approx(rates(CosineAnnealingLR(sgd(), 12, eta_min=0.05 * LR), 12))
    assert rates(build_scheduler("none", sgd(), epochs=12), 12) == [LR] * 12


@pytest.mark.parametrize("name", SCHEDULERS)
def test_warm_up_rises_evenly_and_the_schedule_begins_after_it(name):
    found = rates(build_scheduler(name, sgd(), epochs=23, warmup=3), 23)
    assert found[:3] == pytest.approx([LR / 4, LR / 2, LR * 3 / 4])
    assert found[3:] == rates(build_scheduler(name, sgd(), epochs=20), 20)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_batchnorm_do_not_decay(name):
    """Without gradients, decay alone moves a weight."""
    model, before = network(), network()
    optimizer = build_optimizer(name, model.parameters(), lr=LR, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for (where, parameter), other in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(parameter, other) is (parameter.ndim == 1), where


def test_what_is_frozen_does_not_train():
    model = network()
    model[0].requires_grad_(False)
    optimizer = build_optimizer("adam", model.parameters(), lr=LR, weight_decay=0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def run_of(optimizer: str, scheduler: str, output) -> Run:
    model = network()
    opt = build_optimizer(optimizer, model.parameters(), lr=LR, weight_decay=0.01)
    schedule = build_scheduler(scheduler, opt, epochs=14, warmup=2)
    dataset = SimpleNamespace(classes=["a"], labels=np.zeros(4, np.int64), fingerprint=lambda: "abc")
    loader = SimpleNamespace(dataset=dataset, batch_sampler=GlobalBatchSampler(4, 4))
    return make_run(model, loader, output, flags=["--keep", "last"], optimizer=opt, scheduler=schedule)


def train(run: Run, epochs: range) -> Run:
    for epoch in epochs:
        torch.manual_seed(epoch)
        run.begin_epoch()
        F.cross_entropy(run.model(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 1, 0])).backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.end_steps()
        run.end_epoch(Totals(1.0, 1, 1), Totals(1.0, 1, 1))
    run.checkpoints.wait()
    return run


@pytest.mark.parametrize(
    "optimizer, scheduler", [("adam", "cosine"), ("adamw", "none"), ("sgd", "cosine"), ("sgd", "step")]
)
@pytest.mark.parametrize("stopped_after", [1, 5])
def test_a_resumed_run_has_the_same_rates_and_weights_bit_for_bit(optimizer, scheduler, stopped_after, tmp_path):
    whole = train(run_of(optimizer, scheduler, tmp_path), range(14))
    part = train(run_of(optimizer, scheduler, tmp_path), range(stopped_after))
    checkpoints.save_tensors(str(tmp_path / "saved.pt"), part.state())
    resumed = run_of(optimizer, scheduler, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.load(torch.load(tmp_path / "saved.pt", weights_only=True))
        train(resumed, range(stopped_after, 14))
    assert [row["lr"] for row in resumed.history] == [row["lr"] for row in whole.history]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_the_rate_grows_in_proportion_to_the_global_batch():
    args = SimpleNamespace(lr=0.1, lr_batch_size=16, global_batch_size=64)
    assert scaled_lr(args) == 0.1 * 64 / 16
