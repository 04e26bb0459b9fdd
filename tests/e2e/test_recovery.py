"""Runs that are stopped or killed, or that run out of disk, and their resumption."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers.kill_and_resume import PHOTOS, REPOSITORY, compare_runs, draw_dataset, identical, kill_job

FLAGS = ["--weights", "none", "--image-size", "32", "--batch-size", "8", "--workers", "1"]
# float32, and BatchNorm that is the same in each process: runs on other numbers of processes are equal up to rounding
EQUAL = ["--weights", "none", "--image-size", "32", "--global-batch-size", "8", "--amp", "off", "--freeze-bn"]
SCRIPT = str(REPOSITORY / "train_distributed.py")
FAILING = str(REPOSITORY / "tests" / "helpers" / "failing_training.py")
LOGGED = str(REPOSITORY / "tests" / "helpers" / "logged_training.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_dataset(tmp_path_factory.mktemp("data"), {"training": 13, "validation": 3, "evaluation": 3})


def launch(data, output, *flags, processes=0, script=SCRIPT, environment=None, launcher=()) -> subprocess.Popen:
    """Start training in a process group of its own: plain, or under torchrun with `processes` processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *launcher]
    command = [sys.executable, *(torchrun if processes else []), script, "--data", data, "--output", output, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen(
        [str(part) for part in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    return out, err


def wait_for(found, process, seconds=120):
    """Until `found()` is true."""
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def steps_done(output: Path):
    """(epoch, step) of the newest checkpoint, (0, 0) without one."""
    names = sorted((output / "checkpoints").glob("checkpoint-*.pt"))
    return tuple(map(int, names[-1].stem.split("-")[1:])) if names else (0, 0)


def history(output: Path) -> list[dict]:
    with open(output / "history.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted")
    finish(launch(data, output, *FLAGS, "--epochs", "2"))
    return output


@pytest.mark.parametrize("ranks", [1, 3])  # kill_and_resume.py is for any; a sum of two has no order
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one_bit_for_bit(tmp_path, ranks):
    data = draw_dataset(tmp_path / "data", PHOTOS)
    assert compare_runs(data, tmp_path, ranks, 1, random.Random(ranks)) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_saves_the_step_and_exits_with_128_plus_its_number(name, data, uninterrupted, tmp_path):
    number = getattr(signal, name)
    process = launch(data, tmp_path, *FLAGS, "--epochs", "2", "--checkpoint-every", "2")
    wait_for(lambda: steps_done(tmp_path) > (0, 0), process)
    os.killpg(process.pid, number)  # as a terminal does, to the workers too
    out, err = finish(process, 128 + number)
    assert f"{name}: saved in" in out
    assert "Traceback" not in err
    finish(launch(data, tmp_path, *FLAGS, "--epochs", "2", "--checkpoint-every", "2", "--resume"))
    assert identical(tmp_path / "food_classifier.pth", uninterrupted / "food_classifier.pth")
    without_times = [
        [(row["train_loss"], row["val_loss"], row["lr"]) for row in history(o)] for o in (tmp_path, uninterrupted)
    ]
    assert [tuple(map(float, row)) for row in without_times[0]] == [
        pytest.approx(tuple(map(float, row)), rel=1e-12) for row in without_times[1]
    ]


def test_a_second_ctrl_c_stops_at_once_and_leaves_a_whole_checkpoint(data, tmp_path):
    process = launch(data, tmp_path, *FLAGS, "--epochs", "50", "--checkpoint-every", "1")
    wait_for(lambda: steps_done(tmp_path) > (0, 1), process)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)
    _, err = finish(process, 128 + signal.SIGINT)
    assert "Traceback" not in err
    newest = max((tmp_path / "checkpoints").glob("checkpoint-*.pt"))
    assert torch.load(newest, weights_only=True)["step"] > 0


def test_under_torchrun_all_ranks_stop_at_the_same_step_and_one_prints(data, tmp_path):
    process = launch(data, tmp_path, *EQUAL, "--epochs", "50", "--checkpoint-every", "2", processes=2)
    wait_for(lambda: steps_done(tmp_path) > (0, 0), process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out.count("SIGTERM: saved in") == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_the_scripts_own_launcher_forwards_signals(name, data, tmp_path):
    process = launch(data, tmp_path, *EQUAL, "--epochs", "50", "--checkpoint-every", "2", "--nproc", "2")
    wait_for(lambda: steps_done(tmp_path) > (0, 0), process)
    os.killpg(process.pid, getattr(signal, name))
    out, err = finish(process, 128 + getattr(signal, name))
    assert out.count(f"{name}: saved in") == 1
    assert "Traceback" not in err


def test_a_killed_torchrun_leaves_a_checkpoint_and_no_process(data, tmp_path):
    process = launch(data, tmp_path, *EQUAL, "--workers", "1", "--epochs", "50", "--checkpoint-every", "2", processes=2)
    try:
        wait_for(lambda: steps_done(tmp_path) > (0, 0), process)
        assert len(job(tmp_path)) >= 5  # torchrun, two ranks and their workers
        process.kill()
        killed_at = time.monotonic()
        while job(tmp_path) and time.monotonic() - killed_at < 12:
            time.sleep(0.1)
            process.poll()
        assert job(tmp_path) == []
    finally:
        subprocess.run(["pkill", "-KILL", "-f", str(tmp_path)], check=False)
    assert "SIGTERM: saved in" in process.communicate()[0]
    epochs = str(steps_done(tmp_path)[0] + 1)
    out, _ = finish(launch(data, tmp_path, *EQUAL, "--workers", "1", "--epochs", epochs, "--resume"))
    assert "resuming after" in out


def job(output: Path) -> list[str]:
    """The processes that have `output` in their command line."""
    return subprocess.run(["pgrep", "-f", str(output)], capture_output=True, text=True).stdout.split()


def test_out_of_memory_on_one_rank_ends_all_ranks_soon_with_one_line(data, tmp_path):
    met = tmp_path / "met"
    fault = f"open({str(met)!r}, 'w'); raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')"
    process = launch(
        data, tmp_path / "output", *EQUAL, "--epochs", "2", "--checkpoint-every", "1", processes=2, script=FAILING,
        environment={"FAULT": fault},
    )  # fmt: skip
    wait_for(met.exists, process)
    _, err = process.communicate(timeout=15)  # torchrun would kill a rank that hangs after 30 s
    assert process.returncode == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: rank 1 of 2 on ") and "epoch 1/2, step 3: out of memory" in line
    assert 'train_distributed.py", line' not in err  # no rank has a traceback
    assert steps_done(tmp_path / "output") == (0, 2)


def test_an_unfinished_run_is_refused_and_then_resumed_or_begun_again(data, tmp_path):
    process = launch(data, tmp_path, *FLAGS, "--epochs", "50", "--checkpoint-every", "1")
    wait_for(lambda: steps_done(tmp_path) > (0, 0), process)
    out, err = finish(launch(data, tmp_path, *FLAGS, "--epochs", "50", "--restart"), 2)
    assert f"{tmp_path} is in use by process {process.pid} on " in err and len(err.splitlines()) == 1
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    _, err = finish(launch(data, tmp_path, *FLAGS, "--epochs", "50"), 2)
    assert len(err.splitlines()) == 1
    assert "--resume" in err and "--restart" in err
    _, err = finish(launch(data, tmp_path, *FLAGS, "--epochs", "50", "--resume", "--seed", "1"), 2)
    assert "seed is 1 and was 0" in err
    out, _ = finish(launch(data, tmp_path, *FLAGS, "--epochs", "1", "--restart"))
    assert "resuming" not in out and "EPOCH: 1/1" in out
    out, _ = finish(launch(data, tmp_path, *FLAGS, "--epochs", "2", "--resume"))  # a finished run may be made longer
    assert "resuming after 1 epochs" in out and "EPOCH: 2/2" in out


def test_a_run_begun_on_three_processes_resumes_on_one_and_on_two(data, tmp_path):
    """Each photo of the epoch is used exactly once, with the pixels it would have had, and the losses are the same."""
    logs = {name: tmp_path / f"{name}-log" for name in ("whole", "begun", "on1", "on2")}
    for folder in logs.values():
        folder.mkdir()
    flags = [*EQUAL, "--epochs", "1", "--checkpoint-every", "1"]

    def start(name, processes, *more):
        log = {"STEP_LOG": str(logs[name])}
        return launch(data, tmp_path / name, *flags, *more, processes=processes, script=LOGGED, environment=log)

    finish(start("whole", 1))
    process = start("begun", 3)
    wait_for(lambda: steps_done(tmp_path / "begun") >= (0, 2), process)
    kill_job(tmp_path / "begun")
    process.communicate()
    resumed_at = steps_done(tmp_path / "begun")[1]
    expected = used_pixels(logs["whole"], range(5))
    assert set(expected.values()) == {1} and len(expected) == 39
    for processes in (1, 2):
        name = f"on{processes}"
        shutil.copytree(tmp_path / "begun", tmp_path / name)
        out, _ = finish(start(name, processes, "--resume"))
        assert f"resuming after 0 epochs and {resumed_at} steps" in out
        assert "using a batch size of 8" in out
        used = used_pixels(logs["begun"], range(resumed_at)) + used_pixels(logs[name], range(resumed_at, 5))
        assert used == expected
        for column in ("train_loss", "val_loss"):
            one, other = (float(history(tmp_path / which)[0][column]) for which in ("whole", name))
            assert other == pytest.approx(one, rel=1e-5)


def used_pixels(log: Path, steps: range) -> Counter:
    """How often each photo, known by its pixels, was used in `steps`."""
    return Counter(
        line for step in steps for path in log.glob(f"step{step}-rank*.txt") for line in path.read_text().split()
    )


def test_torchrun_restarts_a_run_that_lost_a_rank_and_it_resumes_by_itself(data, tmp_path):
    flags = [*EQUAL, "--epochs", "2", "--checkpoint-every", "1"]
    finish(launch(data, tmp_path / "whole", *flags, processes=2))
    process = launch(data, tmp_path / "hurt", *flags, processes=2, launcher=["--max-restarts=2"],
                     environment={"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})  # fmt: skip
    wait_for(lambda: steps_done(tmp_path / "hurt") >= (0, 2), process)
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    out, _ = finish(process)
    assert "resuming after" in out
    assert identical(tmp_path / "hurt" / "food_classifier.pth", tmp_path / "whole" / "food_classifier.pth")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_stops_the_run_with_one_line_and_resume_works_after_space_is_made(data, uninterrupted, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", tmp_path]).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        _, err = finish(launch(data, tmp_path, *FLAGS, "--epochs", "2"), 2)
        assert len(err.splitlines()) == 1
        assert "No space left" in err and "--resume" in err
        subprocess.run(["mount", "-o", "remount,size=1g", tmp_path], check=True)
        out, _ = finish(launch(data, tmp_path, *FLAGS, "--epochs", "2", "--resume"))
        assert "resuming after 1 epochs" in out
        assert identical(tmp_path / "food_classifier.pth", uninterrupted / "food_classifier.pth")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
