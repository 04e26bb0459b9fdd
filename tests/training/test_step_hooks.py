"""Progress bars on a terminal and in a log file, on rank 0 alone, and not with --quiet."""

import fcntl
import os
import re
import struct
import sys
import termios
import time

import pytest
from helpers.runs import make_run
from helpers.sources import make_source
from torch import nn

from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.transforms import eval_transform
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.signals import StopSignals
from pyimagesearch.training.loop import StepHooks


def on_a_terminal(monkeypatch, columns, function):
    """What is shown on stderr while `function()` runs, where that is a terminal."""
    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    with os.fdopen(writing, "w", buffering=1) as shown, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", shown)
        function()
        print("end", file=shown)
        text = b""
        while not text.endswith(b"end\r\n"):  # which the kernel hands over in pieces
            text += os.read(reading, 65536)
    os.close(reading)
    return text.decode().removesuffix("end\r\n")


def work(title="epoch 1/2", total=1000, batches=10, seconds=0.0):
    with terminal.make_bar(title, total) as bar:
        for _ in range(batches):
            time.sleep(seconds / batches)
            bar.set_postfix_str("loss 0.5", refresh=False)
            bar.update(total // batches)


@pytest.mark.parametrize("columns", [80, 0])  # 0 where a program made the terminal
def test_on_a_terminal_a_bar_moves_in_its_line_and_goes(monkeypatch, columns):
    shown = on_a_terminal(monkeypatch, columns, lambda: work(seconds=0.5))
    assert "epoch 1/2: " in shown and "/1000" in shown and "images" in shown
    assert "loss 0.5" in shown
    assert "\n" not in shown  # each state is drawn over the one before ...
    assert shown.endswith("\r") and shown.split("\r")[-2].strip() == ""  # ... and the last over with blanks


def test_a_log_file_gets_a_line_now_and_then_and_one_at_the_end(monkeypatch, capfd):
    monkeypatch.setattr(terminal, "LOG_EVERY_S", 0.2)
    work(seconds=1)
    lines = capfd.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 5
    assert all(
        re.fullmatch(r"epoch 1/2: [\d,]+ of 1,000 images, \d s, [\d.]+ images/s, loss 0.5", line) for line in lines
    )
    assert lines[-1].startswith("epoch 1/2: 1,000 of 1,000 images")


def test_a_log_file_gets_nothing_for_short_work(capfd):
    work()
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_begins_in_the_middle_counts_from_there(monkeypatch, capfd):
    monkeypatch.setattr(terminal, "LOG_EVERY_S", 0)
    with terminal.make_bar("epoch 2/2", 100, first=60) as bar:
        assert bar.total - bar.n == 40
        bar.update(40)
    assert capfd.readouterr().err.startswith("epoch 2/2: 100 of 100 images")


def test_an_epoch_whose_last_short_step_is_done_has_no_photos_left(photos, tmp_path):
    _, loader = get_dataloader(photos({"a": 10}), eval_transform(8), 4, workers=0)
    run = make_run(nn.Linear(2, 2), loader, tmp_path)
    run.step = 3
    with StepHooks(run, StopSignals()) as hooks:
        assert hooks.bar.n == hooks.bar.total == 10
    run.optimizer.step()
    run.end_epoch(Totals(1.0, 1, 1), Totals(1.0, 1, 1))
    assert run.history[0]["images_per_s"] == 0


def test_quiet_shows_no_bar_and_prints_no_line_that_only_informs(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "quiet", True)
    assert on_a_terminal(monkeypatch, 80, lambda: work(seconds=0.3)) == ""
    terminal.info("evaluating network...")
    assert capsys.readouterr() == ("", "")


@pytest.mark.training
def test_only_rank_0_shows_a_bar(tmp_path, run_script):
    script = tmp_path / "ranks.py"
    script.write_text(
        "from pyimagesearch.runtime import distributed, terminal\n"
        "terminal.LOG_EVERY_S = 0\n"
        "with distributed.started('ddp'), terminal.make_bar('validation', 10) as bar:\n"
        "    bar.update(10)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    ended = run_script(script, python=torchrun, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("validation: 10 of 10 images") == 1


@pytest.mark.training
def test_quiet_leaves_of_the_three_scripts_what_the_readme_promises(tmp_path, run_script, dataset):
    def run(script, *arguments):
        ended = run_script(script, *arguments, "--quiet")
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
        return ended.stdout.splitlines()

    lines = run("prepare_dataset.py", "--source", make_source(tmp_path), "--dest", "made")
    assert [line.split()[0] for line in lines] == ["class", "Noodles/Pasta", "Rice", "total"]

    made = dataset(("Green", "Red"), 8, 2, 2, (16, 16))
    small = ("--weights", "none", "--image-size", "32", "--epochs", "2", "--batch-size", "8", "--workers", "0")
    lines = run("train_distributed.py", "--data", made, *small)
    epochs, report = lines[:6], "\n".join(lines[6:])
    for number, three in enumerate((epochs[:3], epochs[3:]), start=1):
        assert three[0] == f"[INFO] EPOCH: {number}/2"
        assert [line.split(" loss")[0] for line in three[1:]] == ["Train", "Val"]
    assert report.lstrip().startswith("precision")
    assert "test accuracy" in report
    for chatter in ("number of GPUs", "batch size", "training the network", "evaluating network", "total time"):
        assert chatter not in "\n".join(lines)

    lines = run("distributed_inference.py", "--images", made / "evaluation", "--workers", "0")
    assert lines[0].startswith("path") and "[INFO] 4 photos" in lines
    assert "number of GPUs" not in "\n".join(lines)
