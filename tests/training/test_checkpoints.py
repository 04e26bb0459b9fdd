"""A checkpoint comes back whole, or is skipped by name."""

import argparse
import os
import pickle
import subprocess

import pytest
import torch
from helpers.runs import ONE

from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training.checkpoints import Checkpoints, check_same_run, find_start
from pyimagesearch.training.options import resolve, training_options


def state(epoch, step=0, best=0, value=0.0, size=1000):
    config = {"seed": 0, "epochs": 5, "scheduler": "step", "run_id": "", "classes": ["a", "b"]}
    weights = {"weight": torch.full((size,), value)}
    return {"epoch": epoch, "step": step, "best_epoch": best, "model": weights, "config": config}


def save(checkpoints, *states):
    for item in states:
        checkpoints.save(item)
    checkpoints.wait()


def test_what_was_saved_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, state(1, 7, value=3.5))
    back = checkpoints.newest()
    assert (back["epoch"], back["step"]) == (1, 7)
    assert torch.equal(back["model"]["weight"], torch.full((1000,), 3.5))


def test_training_may_go_on_while_a_checkpoint_is_written(tmp_path):
    checkpoints, item = Checkpoints(tmp_path), state(1, value=1.0, size=3_000_000)
    checkpoints.save(item)
    item["model"]["weight"].fill_(2.0)
    checkpoints.wait()
    assert torch.equal(checkpoints.newest()["model"]["weight"], torch.ones(3_000_000))


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, *(state(epoch, best=min(epoch, 2)) for epoch in range(1, 7)), state(6, 10, best=2))
    assert checkpoints.names() == [
        "checkpoint-0002-000000.pt", "checkpoint-0006-000000.pt", "checkpoint-0006-000010.pt"
    ]  # fmt: skip


def test_the_newest_is_the_newest_by_number_and_not_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, state(9999), state(10000))
    assert checkpoints.newest()["epoch"] == 10000


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {os.environ['EVIL_MARK']}",)


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path):
    path.write_bytes(b"")


def poisoned(path):
    path.write_bytes(pickle.dumps(Evil()))


def poisoned_by_torch(path):
    torch.save({"epoch": 2, "step": 0, "config": Evil()}, path)


def something_else(path):
    torch.save({"weight": torch.ones(3)}, path)


@pytest.mark.parametrize("damage", [truncated, emptied, poisoned, poisoned_by_torch, something_else])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(damage, tmp_path, monkeypatch, capsys):
    mark = tmp_path / "executed"
    monkeypatch.setenv("EVIL_MARK", str(mark))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    save(checkpoints, state(1, value=1.0), state(2, value=2.0))
    damage(tmp_path / "checkpoints" / "checkpoint-0002-000000.pt")
    assert checkpoints.newest()["epoch"] == 1
    assert "checkpoint-0002-000000.pt" in capsys.readouterr().out
    assert not mark.exists()


def test_no_checkpoint_that_can_be_loaded_is_an_error_and_not_a_fresh_start(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, state(1))
    truncated(tmp_path / "checkpoint-0001-000000.pt")
    with pytest.raises(UserError, match="--restart"):
        checkpoints.newest()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_an_error_and_leaves_the_earlier_checkpoint(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path]).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        checkpoints = Checkpoints(tmp_path)
        save(checkpoints, state(1, value=1.0, size=150_000))
        with pytest.raises(UserError, match="No space left"):
            save(checkpoints, state(2, value=2.0, size=150_000))
        assert os.listdir(tmp_path) == ["checkpoint-0001-000000.pt"]
        assert checkpoints.newest()["model"]["weight"][0] == 1.0
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_what_a_killed_run_left_of_a_file_is_removed_by_the_next_save(tmp_path):
    (tmp_path / ".0123.tmp").write_bytes(b"half")
    save(Checkpoints(tmp_path), state(1))
    assert os.listdir(tmp_path) == ["checkpoint-0001-000000.pt"]


def start(output, *, resume: bool, restart: bool) -> dict | None:
    return find_start(argparse.Namespace(output=str(output), resume=resume, restart=restart))


def test_an_unfinished_run_is_neither_lost_nor_resumed_without_being_asked(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    save(checkpoints, state(3))
    with pytest.raises(UserError, match=r"3 of 5 epochs.*--resume.*--restart"):
        start(tmp_path, resume=False, restart=False)
    assert start(tmp_path, resume=True, restart=False)["epoch"] == 3
    assert start(tmp_path, resume=False, restart=True) is None


@pytest.mark.parametrize("flag", ["resume", "restart", None])
def test_an_output_that_is_a_file_is_refused_before_training(flag, tmp_path):
    (tmp_path / "output").write_text("mine")
    flags = {"resume": flag == "resume", "restart": flag == "restart"}
    with pytest.raises(UserError, match="name another --output"):
        start(tmp_path / "output", **flags)
    assert (tmp_path / "output").read_text() == "mine"


def test_a_finished_run_gives_way_to_the_next(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    save(checkpoints, state(5))
    assert start(tmp_path, resume=False, restart=False) is None
    save(checkpoints, {**state(6), "finished": False})
    with pytest.raises(UserError, match="not finished"):
        start(tmp_path, resume=False, restart=False)
    save(checkpoints, {**state(7), "finished": True})
    assert start(tmp_path, resume=False, restart=False) is None


def test_resume_begins_where_there_is_nothing_to_resume(tmp_path):
    assert start(tmp_path / "none", resume=True, restart=False) is None


@pytest.mark.parametrize(
    ("restarts", "job", "goes_on"),
    [("3", "this job", True), ("3", "another job", False), ("0", "this job", False)],
)
def test_a_run_that_torchrun_restarts_resumes_by_itself(restarts, job, goes_on, tmp_path, monkeypatch):
    checkpoints, item = Checkpoints(tmp_path / "checkpoints"), state(3)
    item["config"]["run_id"] = "this job"
    save(checkpoints, item)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
    if goes_on:
        assert start(tmp_path, resume=False, restart=False)["epoch"] == 3
    else:
        with pytest.raises(UserError):
            start(tmp_path, resume=False, restart=False)


def test_flags_that_would_make_another_run_are_named():
    saved = state(1)["config"]
    check_same_run(saved, {**saved, "epochs": 9, "run_id": "other", "workers": 3, "output": "elsewhere"})
    with pytest.raises(UserError, match="--seed is 1 and was 0"):
        check_same_run(saved, {**saved, "seed": 1})
    with pytest.raises(UserError, match="the list of classes is"):
        check_same_run(saved, {**saved, "classes": ["a", "c"]})


@pytest.mark.parametrize("depends", [{"scheduler": "cosine"}, {"grow_from": 0.5}])
def test_the_number_of_epochs_may_not_change_where_the_rate_or_the_side_depends_on_it(depends):
    saved = {**state(1)["config"], **depends}
    with pytest.raises(UserError, match="--epochs is 9 and was 5"):
        check_same_run(saved, {**saved, "epochs": 9})


def test_a_flag_that_an_earlier_version_did_not_have_was_its_default():
    saved = state(1)["config"]
    check_same_run(saved, {**saved, "clip_norm": None, "optimizer": "adam", "backbone_lr": 1.0, "ema": None})
    with pytest.raises(UserError, match="--optimizer is sgd and was adam"):
        check_same_run(saved, {**saved, "optimizer": "sgd"})
    with pytest.raises(UserError, match=r"--backbone-lr is 0[.]1 and was 1"):
        check_same_run(saved, {**saved, "backbone_lr": 0.1})


def test_where_the_values_came_from_may_change():
    saved = {**state(1)["config"], "lr": 0.001, "recipe": "modern", "origin": {"lr": "recipe"}}
    named = {"recipe": "tutorial", "origin": {"lr": "command line"}}
    check_same_run(saved, {**saved, **named})
    with pytest.raises(UserError, match=r"--lr is 0[.]0001 and was 0[.]001"):
        check_same_run(saved, {**saved, **named, "lr": 0.0001})


def test_a_checkpoint_of_an_earlier_version_has_todays_names(tmp_path):
    """Its config was called identity, and its entries by words."""
    former = {
        "seed": 3, "global batch": 32, "batch size": 16, "learning rate": 0.1, "amp": "torch.bfloat16", "epochs": 5,
        "training photos (fingerprint)": "abc", "run id": "", "scheduler": "cosine to 0.01 over 5 epochs",
        "freeze-bn": True, "warm-up epochs": 2, "classes": ["a", "b"],
    }  # fmt: skip
    torch.save({"epoch": 1, "step": 7, "identity": former}, tmp_path / "checkpoint-0001-000007.pt")
    assert Checkpoints(tmp_path).newest()["config"] == {
        "seed": 3, "global_batch_size": 32, "batch_size": 16, "lr": 0.1, "amp": "bf16", "epochs": 5, "photos": "abc",
        "run_id": "", "scheduler": "cosine", "lr_final": 0.01, "freeze_bn": True, "warmup_epochs": 2,
        "classes": ["a", "b"],
    }  # fmt: skip


def test_a_checkpoint_from_before_a_flag_has_what_runs_then_did(tmp_path):
    now = vars(resolve(training_options([]), ONE, None))
    before = {name: now[name] for name in now if name not in ("mix", "mix_share", "grow_from", "backbone_lr")}
    torch.save({"epoch": 1, "step": 7, "config": before}, tmp_path / "checkpoint-0001-000007.pt")
    check_same_run(Checkpoints(tmp_path).newest()["config"], now)


def test_a_job_begun_with_restart_resumes_when_torchrun_restarts_it(tmp_path, monkeypatch):
    checkpoints, item = Checkpoints(tmp_path / "checkpoints"), state(3)
    item["config"]["run_id"] = "this job"
    save(checkpoints, item)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this job")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert start(tmp_path, resume=False, restart=True) is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert start(tmp_path, resume=False, restart=True)["epoch"] == 3
