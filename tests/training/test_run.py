"""What a run leaves, the kept model as a plain state_dict and the card beside it, and when it ends."""

import csv
import json
import math
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.runs import make_run
from torch import nn

from pyimagesearch import config
from pyimagesearch.create_dataloaders import GlobalBatchSampler
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.models.model_card import model_path, read_model_card
from pyimagesearch.training import run as run_module
from pyimagesearch.training.optimizer import Schedule
from pyimagesearch.training.options import training_options
from pyimagesearch.training.run import Run

FLAGS = ["--seed", "3", "--lr", "0.1", "--image-size", "64", "--model", "resnet18", "--channels", "1", "--epochs", "4"]
STEPS = 10  # of an epoch
RIGHT_ANSWERS = [3, 7, 7, 5]  # of 10, by epoch; epoch 3 has the lower loss


def run_of(output, keep: str = "best", wrapped: bool = False, flags=(), scheduler: str = "cosine") -> Run:
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dataset = SimpleNamespace(classes=["Käse", "Rice"], labels=np.zeros(150, np.int64), fingerprint=lambda: "abc")
    loader = SimpleNamespace(dataset=dataset, batch_sampler=GlobalBatchSampler(150, 16))
    flags = [*FLAGS, "--keep", keep, *flags]
    schedule = Schedule(scheduler, optimizer, steps=STEPS, epochs=training_options(flags).epochs)
    run = make_run(
        nn.DataParallel(model) if wrapped else model, loader, output, flags=flags, optimizer=optimizer,
        scheduler=schedule,
    )  # fmt: skip
    run.begin(None)
    return run


def train(run: Run, answers=RIGHT_ANSWERS) -> Run:
    """Epochs after which every weight is the epoch's number, and so many of ten validation photos are right."""
    for epoch, correct in enumerate(answers, start=len(run.history) + 1):
        run.begin_epoch()
        run.optimizer.step()
        run.end_step(STEPS - 1)
        run.end_steps()
        with torch.no_grad():
            run.optimizer.param_groups[0]["params"][0].fill_(epoch)
        run.end_epoch(Totals(8.0, 5, 16), Totals(10.0 - epoch, correct, 10))
    run.checkpoints.wait()
    return run


@pytest.mark.parametrize("keep, epoch", [("best", 3), ("last", 4)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_model_kept_is_a_plain_state_dict_of_the_best_epoch_or_the_last(tmp_path, keep, epoch, wrapped):
    run = train(run_of(tmp_path, keep, wrapped))
    kept = torch.load(tmp_path / "food_classifier.pth", weights_only=True)
    assert run.kept_epoch == epoch
    assert list(kept) == ["weight", "bias"]
    assert kept["weight"].unique().tolist() == [epoch]
    assert read_model_card(run.output)["metrics"]["epoch"] == epoch


def test_the_report_is_of_the_model_kept(tmp_path):
    run = train(run_of(tmp_path))
    run.load_kept()
    assert run.model.weight.unique().tolist() == [3]


def test_the_model_is_there_after_every_epoch_that_was_the_best_so_far(tmp_path):
    run = run_of(tmp_path)
    for epoch, kept in ((1, 1), (2, 2), (3, 3), (4, 3)):
        train(run, RIGHT_ANSWERS[epoch - 1 : epoch])
        assert torch.load(model_path(run.output), weights_only=True)["weight"].unique().tolist() == [kept]
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "food_classifier.json", "food_classifier.pth", "history.csv"]


def test_the_card_say_all_that_inference_must_know(tmp_path):
    run = train(run_of(tmp_path))
    run.write_card(test_loss=0.5, test_acc=0.9)
    card = read_model_card(os.fspath(tmp_path))
    assert (card["architecture"], card["channels"]) == ("resnet18", 1)
    assert card["classes"] == ["Käse", "Rice"]
    assert card["image_size"] == 64
    assert (card["mean"], card["std"]) == (config.MEAN, config.STD)
    assert card["metrics"] == {"epoch": 3, "val_loss": 0.7, "val_acc": 0.7, "test_loss": 0.5, "test_acc": 0.9}
    assert card["training"]["seed"] == 3 and card["training"]["lr"] == 0.1
    assert card["versions"]["torch"] == torch.__version__
    assert "run_id" not in card["training"]


def test_what_is_not_a_number_is_null_in_the_card_and_not_broken_json(tmp_path):
    run = train(run_of(tmp_path))
    run.write_card(test_loss=math.nan, test_acc=0.9, test_auc=None)

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    metrics = json.loads((tmp_path / "food_classifier.json").read_text(), parse_constant=refuse)["metrics"]
    assert (metrics["test_loss"], metrics["test_acc"], metrics["test_auc"]) == (None, 0.9, None)


def test_the_history_has_one_row_an_epoch_with_the_rate_of_its_last_step(tmp_path):
    run = train(run_of(tmp_path))
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["lr"]) for row in rows] == [run.scheduler.rate(epoch * STEPS - 1) for epoch in (1, 2, 3, 4)]
    assert [float(row["val_acc"]) for row in rows] == [0.3, 0.7, 0.7, 0.5]
    assert {(float(row["train_loss"]), float(row["train_acc"])) for row in rows} == {(0.5, 0.3125)}
    assert all(0 < float(row["seconds"]) < 60 and float(row["images_per_s"]) > 0 for row in rows)
    assert len(run.history) == 4


# --- when it ends ----------------------------------------------------------------------------------------------------


def test_without_patience_a_run_has_all_its_epochs(tmp_path):
    run = run_of(tmp_path)
    for epoch in range(4):
        assert not run.finished
        train(run, [9 - epoch])
    assert run.finished


def test_a_run_ends_after_so_many_epochs_without_a_better_one_and_stays_ended(tmp_path, capsys):
    flags = ["--epochs", "9", "--patience", "2"]
    run, answers = run_of(tmp_path, flags=flags), [3, 2, 4, 1, 3, 9]
    while not run.finished:
        train(run, [answers[len(run.history)]])
    assert len(run.history) == 5 and run.kept_epoch == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "patience" in line] == [
        "[INFO] no better epoch within --patience 2: ending here..."
    ]
    state = run.checkpoints.newest()
    assert state["finished"]
    for patience, finished in (("2", True), ("3", False)):
        again = run_of(tmp_path / patience, flags=["--epochs", "9", "--patience", patience])
        again.load(state)
        assert again.finished is finished


class Clock(SimpleNamespace):
    """In place of the module time."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(run_module, "time", clock := Clock())
    return clock


def train_by_the_clock(run: Run, clock: Clock, seconds, most: int = 99) -> list[float]:
    """Train until the run is finished, at most `most` epochs; epoch e takes `seconds(e)`. Returns each step's rate."""
    rates = []
    while not run.finished and most > 0:
        run.begin_epoch()
        run.optimizer.step()
        for step in range(STEPS):
            rates.append(run.optimizer.param_groups[0]["lr"])
            run.end_step(step)
        clock.now += seconds(run.epoch + 1) / 2
        run.end_steps()
        clock.now += seconds(run.epoch + 1) / 2  # validation
        run.end_epoch(Totals(8.0, 5, 16), Totals(10.0, 5, 10))
        most -= 1
    run.checkpoints.wait()
    return rates


TIMED = ["--epochs", "60", "--max-time", "100s"]


def test_the_cosine_is_stretched_over_what_the_time_allows_and_ends_at_its_end(tmp_path, clock, capsys):
    run = run_of(tmp_path, flags=TIMED)
    rates = train_by_the_clock(run, clock, lambda epoch: 10 if epoch > 1 else 14)
    assert len(run.history) == 9 and clock.now - 1000 == 94
    assert rates == sorted(rates, reverse=True) and rates[0] == 0.1
    assert run.scheduler.position(run.done) == run.scheduler.total
    assert rates[-1] < 0.1 * 0.02  # the cosine's end is 0.01
    out = capsys.readouterr().out
    assert "EPOCH: 1/6" in out and "EPOCH: 9/9" in out and "--max-time" not in out


@pytest.mark.parametrize("seed", range(6))
def test_epochs_that_take_a_little_more_or_less_do_not_cut_the_schedule_off(tmp_path, clock, seed):
    draw = random.Random(seed)
    run = run_of(tmp_path, flags=TIMED)
    train_by_the_clock(run, clock, lambda epoch: 100 / 9 * draw.uniform(0.97, 1.03))
    assert run.scheduler.position(run.done) == run.scheduler.total
    assert 75 < clock.now - 1000 <= 100


def test_where_no_other_epoch_fits_the_run_ends_after_the_first_and_says_so(tmp_path, clock, capsys):
    run = run_of(tmp_path, flags=TIMED)
    train_by_the_clock(run, clock, lambda epoch: 51)
    assert run.finished and len(run.history) == 1
    assert "--max-time leaves no time for another epoch: ending here" in capsys.readouterr().out
    assert run.checkpoints.newest()["finished"]


def test_more_time_than_the_epochs_take_changes_nothing(tmp_path, clock):
    free, timed = (run_of(tmp_path / str(len(flags)), flags=flags) for flags in ([], ["--max-time", "1h"]))
    assert train_by_the_clock(timed, clock, lambda _: 9) == train_by_the_clock(free, clock, lambda _: 9)
    assert len(timed.history) == 4


def test_of_the_tutorials_schedule_the_end_is_cut_off(tmp_path, clock):
    run = run_of(tmp_path, flags=TIMED, scheduler="step")
    rates = train_by_the_clock(run, clock, lambda _: 6)
    assert len(run.history) == 16
    assert rates == [0.1] * 10 * STEPS + [pytest.approx(0.01)] * 6 * STEPS


def test_the_clock_and_the_plan_go_on_in_a_resumed_run(tmp_path, clock):
    whole = run_of(tmp_path / "whole", flags=TIMED)
    rates = train_by_the_clock(whole, clock, lambda _: 10)
    part = run_of(tmp_path / "part", flags=TIMED)
    rates_before = train_by_the_clock(part, clock, lambda _: 10, most=4)
    clock.now += 10_000
    resumed = run_of(tmp_path / "resumed", flags=TIMED)
    resumed.load(part.checkpoints.newest())
    clock.now += 1
    assert rates_before + train_by_the_clock(resumed, clock, lambda _: 10) == rates
    assert len(resumed.history) == len(whole.history) == 9


@pytest.mark.parametrize("time, epochs", [("100s", 9), ("45s", 9), ("151s", 14), (None, 60)])
def test_a_run_that_its_time_ended_stays_ended_unless_it_is_given_more(tmp_path, clock, time, epochs):
    part = run_of(tmp_path, flags=TIMED)
    train_by_the_clock(part, clock, lambda _: 10)
    assert len(part.history) == 9
    again = run_of(tmp_path / "again", flags=["--epochs", "60", *(["--max-time", time] if time else [])])
    again.load(part.checkpoints.newest())
    assert again.finished is (epochs == 9)
    train_by_the_clock(again, clock, lambda _: 10)
    assert len(again.history) == epochs
