"""What comes of a run: the model that is kept, as a plain state_dict, and the facts beside it."""

import csv
import json
import math
import os

import pytest
import torch
from torch import nn

from pyimagesearch import config
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.models.model_card import card_path, model_path, read_model_card
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training.run import Run

IDENTITY = {
    "seed": 3, "global batch": 16, "learning rate": 0.1, "image size": 64, "augment": "tutorial", "weights": "none",
    "model": "resnet18", "channels": 1,
    "keep": "best", "classes": ["Käse", "Rice"], "photos": "abc", "epochs": 4, "run id": "job-7",
}  # fmt: skip
RIGHT_ANSWERS = [3, 7, 7, 5]  # of 10, by epoch; epoch 3 has the lower loss


def make_run(output, keep: str = "best", wrapped: bool = False) -> Run:
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Run(
        nn.DataParallel(model) if wrapped else model,
        optimizer,
        torch.amp.GradScaler("cpu", enabled=False),
        torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1),
        {**IDENTITY, "keep": keep},
        os.fspath(output),
    )


def train(run: Run, answers=RIGHT_ANSWERS) -> Run:
    """Epochs after which every weight is the epoch's number, and so many of ten validation photos are right."""
    for epoch, correct in enumerate(answers, start=len(run.history) + 1):
        run.optimizer.step()
        with torch.no_grad():
            run.optimizer.param_groups[0]["params"][0].fill_(epoch)
        run.end_epoch(Totals(8.0, 5, 16), Totals(10.0 - epoch, correct, 10), 1.5, 100.0)
    return run


@pytest.mark.parametrize("keep, epoch", [("best", 3), ("last", 4)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_model_kept_is_a_plain_state_dict_of_the_best_epoch_or_the_last(tmp_path, keep, epoch, wrapped):
    run = train(make_run(tmp_path, keep, wrapped))
    kept = torch.load(tmp_path / "food_classifier.pth", weights_only=True)
    assert run.kept_epoch == epoch
    assert list(kept) == ["weight", "bias"]
    assert kept["weight"].unique().tolist() == [epoch]
    assert read_model_card(run.output)["metrics"]["epoch"] == epoch


def test_the_report_is_of_the_model_kept(tmp_path):
    run = train(make_run(tmp_path))
    run.load_kept()
    assert run.model.weight.unique().tolist() == [3]


def test_the_model_is_there_after_every_epoch_that_was_the_best_so_far(tmp_path):
    run = make_run(tmp_path)
    for epoch, kept in ((1, 1), (2, 2), (3, 3), (4, 3)):
        train(run, RIGHT_ANSWERS[epoch - 1 : epoch])
        assert torch.load(model_path(run.output), weights_only=True)["weight"].unique().tolist() == [kept]
    assert sorted(os.listdir(tmp_path)) == ["food_classifier.json", "food_classifier.pth", "history.csv"]


def test_the_facts_say_all_that_inference_must_know(tmp_path):
    run = train(make_run(tmp_path))
    run.write_facts(test_loss=0.5, test_acc=0.9)
    facts = read_model_card(os.fspath(tmp_path))
    assert (facts["architecture"], facts["channels"]) == ("resnet18", 1)
    assert facts["classes"] == ["Käse", "Rice"]
    assert facts["image_size"] == 64
    assert (facts["mean"], facts["std"]) == (config.MEAN, config.STD)
    assert facts["metrics"] == {"epoch": 3, "val_loss": 0.7, "val_acc": 0.7, "test_loss": 0.5, "test_acc": 0.9}
    assert facts["training"]["seed"] == 3 and facts["training"]["learning rate"] == 0.1
    assert facts["versions"]["torch"] == torch.__version__
    assert "job-7" not in json.dumps(facts)


def test_what_is_not_a_number_is_null_in_the_facts_and_not_broken_json(tmp_path):
    run = train(make_run(tmp_path))
    run.write_facts(test_loss=math.nan, test_acc=0.9, test_auc=None)

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    metrics = json.loads((tmp_path / "food_classifier.json").read_text(), parse_constant=refuse)["metrics"]
    assert (metrics["test_loss"], metrics["test_acc"], metrics["test_auc"]) == (None, 0.9, None)


def test_the_history_has_one_row_an_epoch_with_the_rate_it_was_trained_at(tmp_path):
    run = train(make_run(tmp_path))
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert [float(row["val_acc"]) for row in rows] == [0.3, 0.7, 0.7, 0.5]
    assert {(float(row["train_loss"]), float(row["train_acc"])) for row in rows} == {(0.5, 0.3125)}
    assert {(float(row["seconds"]), float(row["images_per_s"])) for row in rows} == {(1.5, 100.0)}
    assert len(run.history) == 4


def test_names_of_files_are_the_tutorials(tmp_path):
    assert model_path("output") == config.MODEL_PATH
    assert card_path("output") == os.path.join("output", "food_classifier.json")


def test_without_a_model_inference_says_to_train_first(tmp_path):
    with pytest.raises(UserError, match=r"no trained model at .*food_classifier\.pth; run train_distributed\.py first"):
        read_model_card(os.fspath(tmp_path))


WHOLE = {"architecture": "densenet121", "classes": ["a"], "image_size": 64}
DAMAGED = {
    "missing": None,
    "empty": b"",
    "truncated": json.dumps(WHOLE).encode()[:-5],
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "a number": b"3",
    "no classes": json.dumps({**WHOLE, "classes": []}).encode(),
    "classes that are no list": json.dumps({**WHOLE, "classes": "abc"}).encode(),
    **{f"without {name}": json.dumps({k: v for k, v in WHOLE.items() if k != name}).encode() for name in WHOLE},
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_facts_are_named_with_what_was_expected(tmp_path, damage):
    (tmp_path / "food_classifier.pth").touch()
    if DAMAGED[damage] is not None:
        (tmp_path / "food_classifier.json").write_bytes(DAMAGED[damage])
    with pytest.raises(UserError, match=r"food_classifier\.json is missing or damaged; expected the classes"):
        read_model_card(os.fspath(tmp_path))
