"""What TensorBoard reads: each step once, also in a run that was interrupted and resumed."""

import os
import subprocess
import time

import numpy as np
import pytest
import torch
from helpers.runs import make_run
from torch import nn

from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.transforms import eval_transform
from pyimagesearch.evaluation import evaluate
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.signals import StopSignals
from pyimagesearch.training import loop
from pyimagesearch.training.loop import StepHooks
from pyimagesearch.training.optimizer import Schedule
from pyimagesearch.training.run import Run
from pyimagesearch.training.tensorboard import TensorBoardLog

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

EPOCHS, STEPS = 3, 23
TIMED = "images per second"


class Killed(BaseException):
    """The end of a process, between two steps."""


def in_another_second() -> None:
    """Readers take files in the order of their names, which begin with the second; a real run starts later."""
    time.sleep(1 - time.time() % 1)


def read(output) -> event_accumulator.EventAccumulator:
    return event_accumulator.EventAccumulator(str(output / "tensorboard")).Reload()


def curves(output) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]} of what does not depend on the clock."""
    events = read(output)
    tags = [name for name in events.Tags()["scalars"] if name != TIMED]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in tags}


@pytest.fixture
def run_on(photos):
    """run_on(output, killed_at=..., checkpoint_every=...) trains 3 epochs of 23 steps from the newest checkpoint on."""
    root = photos({"a": 23, "b": 23}, size=(8, 8))

    def train(
        output, killed_at: tuple[int, int] | None = None, checkpoint_every: int | None = None, *, report: bool = False
    ) -> Run:
        torch.manual_seed(0)
        data, loader = get_dataloader(root, eval_transform(8), 2, workers=0)
        _, in_order = get_dataloader(root, eval_transform(8), 16, shuffle=False, workers=0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
        flags = ["--tensorboard", "--epochs", str(EPOCHS), "--model", "resnet18", "--image-size", "32"]
        flags += ["--checkpoint-every", str(checkpoint_every)] if checkpoint_every else []
        schedule = Schedule("cosine", opt, steps=STEPS, epochs=EPOCHS, warmup=1)
        run = make_run(model, loader, output, flags=flags, optimizer=opt, scheduler=schedule)
        run.args.lr = "a|b\n"
        run.begin(run.checkpoints.newest())
        with StopSignals() as signals:
            for epoch in range(run.epoch, EPOCHS):

                class Hooks(StepHooks):
                    def __call__(self, done, running, *agreed, epoch=epoch):
                        super().__call__(done, running, *agreed)
                        if (epoch, done) == killed_at:
                            run.log.flush()  # the worst: all that was logged after the checkpoint reached the disk
                            run.checkpoints.wait()
                            raise Killed

                trained = loop.train_epoch(run, loader, Hooks(run, signals))
                run.end_epoch(trained, evaluate.evaluate(model, in_order))
        run.checkpoints.wait()
        run.log.flush()
        if report:
            probabilities, losses = evaluate.predict_split(model, in_order)
            run.log.add_report(EPOCHS, data, probabilities, test_loss=float(losses.mean()), test_acc=0.5)
        return run

    return train


@pytest.mark.training
def test_the_curves_are_the_history_over_the_steps_of_the_run(run_on, tmp_path):
    run = run_on(tmp_path)
    found = curves(tmp_path)
    names = {
        "train_loss": "loss/train", "train_acc": "accuracy/train", "val_loss": "loss/validation",
        "val_acc": "accuracy/validation", "lr": "learning rate",
    }  # fmt: skip
    for column, name in names.items():
        assert [step for step, _ in found[name]] == [23, 46, 69]
        assert [value for _, value in found[name]] == pytest.approx([row[column] for row in run.history], rel=1e-6)
    assert [step for step, _ in found["within the epoch/loss"]] == [10, 20, 33, 43, 56, 66]


@pytest.mark.training
def test_a_logged_step_is_the_mean_since_the_one_before(run_on, tmp_path):
    run_on(tmp_path)
    found = dict(curves(tmp_path)["within the epoch/accuracy"])
    rights = {step: value * 20 for step, value in found.items()}
    assert rights == pytest.approx({step: round(value) for step, value in rights.items()}, abs=1e-4)
    assert all(0 <= value <= 1 for value in found.values())


@pytest.mark.training
@pytest.mark.parametrize(
    "killed_at, checkpoint_every",
    [((0, 7), 2), ((0, 22), 15), ((1, 21), None), ((1, 21), 12), ((2, 1), 5), ((2, 20), 20)],
)
def test_interrupted_and_resumed_each_step_is_there_once_as_in_a_run_that_was_not(
    run_on, tmp_path, killed_at, checkpoint_every
):
    run_on(tmp_path / "whole")
    with pytest.raises(Killed):
        run_on(tmp_path / "killed", killed_at, checkpoint_every)
    in_another_second()
    run_on(tmp_path / "killed")
    assert curves(tmp_path / "killed") == curves(tmp_path / "whole")


@pytest.mark.training
def test_a_run_resumed_after_its_end_leaves_nothing_twice(run_on, tmp_path):
    run_on(tmp_path, report=True)
    before = curves(tmp_path)
    assert [step for step, _ in before["loss/test"]] == [70]
    in_another_second()
    run_on(tmp_path, report=True)
    assert curves(tmp_path) == before
    assert {len(read(tmp_path).Images(name)) for name in read(tmp_path).Tags()["images"]} == {1}


@pytest.mark.training
def test_pictures_and_flags_are_there(run_on, tmp_path):
    run_on(tmp_path, report=True)
    events = read(tmp_path)
    assert sorted(events.Tags()["images"]) == ["test/confusion matrix", "test/predictions"]
    for name in events.Tags()["images"]:
        picture = events.Images(name)[0]
        assert min(picture.width, picture.height) > 200
    text = events.Tensors("flags/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| epochs | `3` |" in text and "a|b\\n" in text.replace("\\|", "|")


@pytest.mark.training
def test_a_run_that_begins_removes_the_curves_of_another_and_nothing_else(run_on, tmp_path):
    run_on(tmp_path)
    (tmp_path / "tensorboard" / "notes.txt").write_text("mine")
    TensorBoardLog(str(tmp_path), STEPS).open(0, {})
    assert os.listdir(tmp_path / "tensorboard") == ["notes.txt"]


def test_where_it_is_not_wanted_nothing_is_written(tmp_path):
    log = TensorBoardLog(str(tmp_path), STEPS)
    log.open(0, {})
    log.add_epoch({"epoch": 1, "train_loss": 1.0})
    log.flush()
    assert not log.due(10)
    assert os.listdir(tmp_path) == []


def test_without_the_package_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        TensorBoardLog(str(tmp_path), STEPS, wanted=True).open(0, {})


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_raises_once_where_all_ranks_are(tmp_path, capsys):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        log = TensorBoardLog(str(tmp_path), STEPS, wanted=True)
        log.open(0, {})
        for epoch in range(1, 2000):
            log.add_epoch({"epoch": epoch, "train_loss": 1.0})
        with pytest.raises(UserError, match="No space left"):
            log.flush()
        assert capsys.readouterr().err == ""
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "tensorboard").write_bytes(np.zeros(3).tobytes())
    with pytest.raises(UserError, match="cannot write to"):
        TensorBoardLog(str(tmp_path), STEPS, wanted=True).open(0, {})
