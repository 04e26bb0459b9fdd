"""Optimizers and learning rates: torch's own curves, and the same in a resumed run."""

import warnings
from types import SimpleNamespace

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


def optimizer_of(name: str, model: nn.Module, *, weight_decay: float = 0.0, backbone_lr: float = 1.0):
    args = SimpleNamespace(
        optimizer=name, lr=LR, lr_batch_size=4, global_batch_size=4, weight_decay=weight_decay, backbone_lr=backbone_lr
    )
    return build_optimizer(args, model)


def sgd() -> torch.optim.Optimizer:
    return optimizer_of("sgd", network())


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
    optimizer = optimizer_of(name, model, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for (where, parameter), other in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(parameter, other) is (parameter.ndim == 1), where


def test_what_is_frozen_does_not_train():
    model = network()
    model[0].requires_grad_(False)
    optimizer = optimizer_of("adam", model)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


class Classifier(nn.Module):
    """Named as FoodClassifier names its parts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.baseModel, self.classifier = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), nn.Linear(3, 2)


@pytest.mark.parametrize("wrap", [nn.Identity, nn.DataParallel])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_backbone_learns_at_a_share_of_the_classifiers_rate(name, wrap):
    model = Classifier()
    wrapped = wrap(model) if wrap is nn.DataParallel else model
    optimizer = optimizer_of(name, wrapped, weight_decay=0.5, backbone_lr=0.1)
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    assert len(groups) == 6 and optimizer.param_groups[0]["lr"] == LR  # which the history shows
    for where, parameter in model.named_parameters():
        assert groups[parameter]["lr"] == pytest.approx(LR / 10 if "baseModel" in where else LR), where
        assert groups[parameter]["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0), where


def test_the_rates_of_backbone_and_classifier_follow_one_schedule_and_resume():
    def made():
        optimizer = optimizer_of("adamw", Classifier(), backbone_lr=0.1)
        return optimizer, build_scheduler("cosine", optimizer, epochs=6)

    (optimizer, scheduler), (again, schedule) = made(), made()
    whole = rates(scheduler, 6)
    rates(schedule, 3)
    resumed, schedule = made()
    resumed.load_state_dict(again.state_dict())
    optimizer, scheduler = made()
    rates(scheduler, 3)
    for group, other in zip(resumed.param_groups, optimizer.param_groups, strict=True):
        assert group["lr"] == other["lr"]
    assert resumed.param_groups[0]["lr"] == whole[3] and resumed.param_groups[2]["lr"] == pytest.approx(whole[3] / 10)


def test_without_a_rate_of_its_own_the_backbone_is_in_the_groups_that_earlier_checkpoints_have():
    model = Classifier()
    trained = list(model.parameters())
    former = torch.optim.Adam([
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": 0.5},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ], lr=LR, fused=True)  # fmt: skip
    now = optimizer_of("adam", model, weight_decay=0.5)
    assert now.state_dict() == former.state_dict()
    assert [group["params"] for group in now.param_groups] == [group["params"] for group in former.param_groups]


def run_of(optimizer: str, scheduler: str, output) -> Run:
    model = network()
    opt = optimizer_of(optimizer, model, weight_decay=0.01)
    schedule = build_scheduler(scheduler, opt, epochs=14, warmup=2)
    dataset = SimpleNamespace(classes=["a"], fingerprint=lambda: "abc")
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
