"""Optimizers, learning rates and averages: torch's own curves, and the same in a resumed run."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.runs import make_run
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR
from torch.optim.swa_utils import AveragedModel

from pyimagesearch.create_dataloaders import GlobalBatchSampler
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.training import checkpoints
from pyimagesearch.training.optimizer import MovingAverage, Schedule, build_optimizer, scaled_lr
from pyimagesearch.training.run import Run

LR = 0.1
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULERS = ("step", "cosine", "none")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))


def rates(scheduler, steps: int) -> list[float]:
    """The learning rate of each step."""
    found = []
    for _ in range(steps):
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


@pytest.mark.parametrize("steps", [1, 3])
def test_the_curves_are_torchs(steps):
    found = rates(Schedule("step", sgd(), steps=steps, epochs=25), 25 * steps)
    by_epoch = rates(StepLR(sgd(), 10, 0.1), 25)
    assert found == pytest.approx([rate for rate in by_epoch for _ in range(steps)])
    assert [len(set(found[first : first + steps])) for first in range(0, 25 * steps, steps)] == [1] * 25
    cosine = rates(Schedule("cosine", sgd(), steps=steps, epochs=12, final=0.05), 12 * steps)
    assert cosine == pytest.approx(rates(CosineAnnealingLR(sgd(), 12 * steps, eta_min=0.05 * LR), 12 * steps))
    assert rates(Schedule("none", sgd(), steps=steps, epochs=12), 12 * steps) == [LR] * 12 * steps


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps, warmup", [(1, 3), (3, 1), (6, 0.5)])
def test_warm_up_rises_evenly_over_its_steps_and_the_schedule_begins_after_them(name, steps, warmup):
    found = rates(Schedule(name, sgd(), steps=steps, epochs=23, warmup=warmup), 23 * steps)
    assert found[:3] == pytest.approx([LR / 4, LR / 2, LR * 3 / 4])
    if warmup == int(warmup):
        assert found[3:] == rates(Schedule(name, sgd(), steps=steps, epochs=23 - warmup), 23 * steps - 3)
    assert found[3] == LR and found[3:] == sorted(found[3:], reverse=True)


def test_a_stretched_cosine_goes_on_from_where_it_was_and_ends_with_its_last_epoch():
    schedule = Schedule("cosine", sgd(), steps=5, epochs=100, warmup=0.4, final=0.0)
    before = [schedule.rate(step) for step in range(10)]
    schedule.stretch(10, 4)
    schedule.stretch(15, 7)
    after = [schedule.rate(step) for step in range(15, 35)]
    assert before[:2] == pytest.approx([LR / 3, LR * 2 / 3]) and before[2:] == sorted(before[2:], reverse=True)
    assert after == sorted(after, reverse=True) and after[0] < before[-1]
    assert schedule.position(35) == pytest.approx(schedule.total) and schedule.rate(35) == pytest.approx(0)
    assert [schedule.position(15), schedule.position(25)] == pytest.approx([255, (255 + 500) / 2])


def test_float16_may_skip_the_first_step_without_a_warning():
    model = network()
    optimizer = optimizer_of("adam", model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Schedule("cosine", optimizer, steps=3, epochs=2).move_to(1)  # and the optimizer has taken no step


def test_the_average_is_torchs_with_a_decay_that_grows_to_its_own():
    model, averaged, decays = network(), network(), [0, 1 / 10, 2 / 11, 3 / 12, 0.3, 0.3]
    expected = AveragedModel(
        model, use_buffers=True, avg_fn=lambda mean, new, n: mean * decays[n] + new * (1 - decays[n])
    )
    expected.n_averaged += 1  # as this one, torch's then begins with the weights before the first step
    average = MovingAverage(model, averaged, 0.3)
    for step in range(5):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor += torch.full_like(tensor, step + 1)
        average.update(step)
        expected.update_parameters(model)
    for (name, mean), other in zip(averaged.named_parameters(), expected.module.parameters(), strict=True):
        assert torch.allclose(mean, other), name
    for name in ("running_mean", "running_var"):
        assert torch.allclose(getattr(averaged[1], name), getattr(expected.module[1], name)), name
    assert averaged[1].num_batches_tracked == model[1].num_batches_tracked == 15


def test_an_average_waits_for_nothing():
    """On the meta device a tensor has no value: to read one there is an error."""
    model = network().to("meta")
    MovingAverage(model, network().to("meta"), 0.9).update(3)


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
        return optimizer, Schedule("cosine", optimizer, steps=1, epochs=6)

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


def run_of(optimizer: str, scheduler: str, output, *flags: str) -> Run:
    """Of epochs of three steps."""
    model = network()
    opt = optimizer_of(optimizer, model, weight_decay=0.01)
    schedule = Schedule(scheduler, opt, steps=3, epochs=6, warmup=2)
    dataset = SimpleNamespace(classes=["a"], labels=np.zeros(10, np.int64), fingerprint=lambda: "abc")
    loader = SimpleNamespace(dataset=dataset, batch_sampler=GlobalBatchSampler(10, 4))
    flags = ("--epochs", "6", *flags)
    return make_run(model, loader, output, flags=flags, optimizer=opt, scheduler=schedule)


def train(run: Run, until: int) -> list[float]:
    """Train up to step `until` of the run, and return the rates."""
    rates = []
    for step in range(run.done, until):
        torch.manual_seed(step)
        if step % 3 == 0 or not rates:
            run.begin_epoch()
        rates.append(run.optimizer.param_groups[1]["lr"])
        F.cross_entropy(run.model(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 1, 0])).backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.end_step(step % 3)
        if step % 3 == 2:
            run.end_steps()
            run.end_epoch(Totals(1.0, 1, 1), Totals(1.0, 1, 1))
    run.checkpoints.wait()
    return rates


@pytest.mark.parametrize(
    "optimizer, scheduler", [("adam", "cosine"), ("adamw", "none"), ("sgd", "cosine"), ("sgd", "step")]
)
@pytest.mark.parametrize("stopped_after", [1, 3, 11])
def test_a_resumed_run_has_the_same_rates_weights_and_averages_bit_for_bit(
    optimizer, scheduler, stopped_after, tmp_path
):
    whole, part, resumed = (run_of(optimizer, scheduler, tmp_path, "--ema", "0.9") for _ in range(3))
    rates = train(whole, 18)
    assert train(part, stopped_after) == rates[:stopped_after]
    checkpoints.save_tensors(str(tmp_path / "saved.pt"), part.state(stopped_after % 3, Totals(1.0, 1, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.load(torch.load(tmp_path / "saved.pt", weights_only=True))
        assert train(resumed, 18) == rates[stopped_after:]
    assert [row["lr"] for row in resumed.history] == [row["lr"] for row in whole.history] == rates[2::3]
    for one, other in ((whole.model, resumed.model), (whole.evaluated, resumed.evaluated)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name
    assert not torch.equal(whole.model[3].weight, whole.evaluated[3].weight)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_checkpoint_of_an_earlier_version_goes_on_at_the_rate_of_its_step(scheduler, tmp_path):
    """Its scheduler was stepped after each epoch, and it has no plan."""
    whole, part, resumed = (run_of("adam", scheduler, tmp_path) for _ in range(3))
    rates = train(whole, 18)
    train(part, 5)
    state = part.state(2, Totals(1.0, 1, 1))
    for name in ("average", "plan", "seconds", "finished"):
        del state[name]
    for name in ("ema", "patience", "max_time"):
        del state["config"][name]
    state["scheduler"] = {"last_epoch": 1, "_step_count": 2, "base_lrs": [LR, LR], "lr_lambdas": [None, None]}
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = LR / 3
    resumed.load(state)
    assert train(resumed, 18) == rates[5:]


def test_the_average_is_what_is_evaluated_kept_and_reported(tmp_path):
    run = run_of("adam", "none", tmp_path, "--ema", "0.9")
    train(run, 3)
    kept = torch.load(tmp_path / "food_classifier.pth", weights_only=True)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in run.evaluated.state_dict().items())
    assert not any(torch.equal(kept["3.weight"], other[3].weight) for other in (run.model, network()))
    assert not any(parameter.requires_grad for parameter in run.evaluated.parameters())
    train(run, 4)
    run.load_kept()
    assert torch.equal(run.evaluated[3].weight, kept["3.weight"])
    assert run_of("adam", "none", tmp_path).evaluated is not run.model


def test_the_rate_grows_in_proportion_to_the_global_batch():
    args = SimpleNamespace(lr=0.1, lr_batch_size=16, global_batch_size=64)
    assert scaled_lr(args) == 0.1 * 64 / 16
