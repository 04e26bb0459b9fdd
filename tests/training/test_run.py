"""What a run leaves: the kept model as a plain state_dict, and the card beside it."""

import csv
import json
import math
import os
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
from pyimagesearch.training.run import Run

FLAGS = ["--seed", "3", "--lr", "0.1", "--image-size", "64", "--model", "resnet18", "--channels", "1", "--epochs", "4"]
RIGHT_ANSWERS = [3, 7, 7, 5]  # of 10, by epoch; epoch 3 has the lower loss


def run_of(output, keep: str = "best", wrapped: bool = False) -> Run:
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dataset = SimpleNamespace(classes=["Käse", "Rice"], labels=np.zeros(150, np.int64), fingerprint=lambda: "abc")
    loader = SimpleNamespace(dataset=dataset, batch_sampler=GlobalBatchSampler(150, 16))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    run = make_run(
        nn.DataParallel(model) if wrapped else model, loader, output, flags=[*FLAGS, "--keep", keep],
        optimizer=optimizer, scheduler=scheduler,
    )  # fmt: skip
    run.begin(None)
    return run


def train(run: Run, answers=RIGHT_ANSWERS) -> Run:
    """Epochs after which every weight is the epoch's number, and so many of ten validation photos are right."""
    for epoch, correct in enumerate(answers, start=len(run.history) + 1):
        run.begin_epoch()
        run.optimizer.step()
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


def test_the_history_has_one_row_an_epoch_with_the_rate_it_was_trained_at(tmp_path):
    run = train(run_of(tmp_path))
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert [float(row["val_acc"]) for row in rows] == [0.3, 0.7, 0.7, 0.5]
    assert {(float(row["train_loss"]), float(row["train_acc"])) for row in rows} == {(0.5, 0.3125)}
    assert all(0 < float(row["seconds"]) < 60 and float(row["images_per_s"]) > 0 for row in rows)
    assert len(run.history) == 4
