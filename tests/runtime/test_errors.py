"""A person's mistake is one line on stderr, with the exit status that a shell expects."""

import os
import subprocess
import sys

import pytest
from helpers.photos import REPOSITORY

from pyimagesearch.runtime import errors, terminal
from pyimagesearch.runtime.errors import UserError, one_line


def exit_of(main) -> int:
    with pytest.raises(SystemExit) as caught:
        errors.run(main)
    return caught.value.code


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("returned, status", [(None, None), (0, 0), (3, 3), (143, 143)])
def test_the_exit_status_is_what_main_returns(returned, status):
    assert exit_of(lambda: returned) == status


def test_a_user_error_is_one_line_and_status_2(capsys):
    assert exit_of(raising(UserError("no folder\nhere"))) == 2
    assert capsys.readouterr() == ("", "error: no folder\\nhere\n")


def test_ctrl_c_is_status_130_without_a_traceback(capsys):
    assert exit_of(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_an_error_of_the_system_is_one_line_and_status_2(capsys, tmp_path):
    assert exit_of(lambda: os.listdir(tmp_path / "none")) == 2
    assert capsys.readouterr().err == f"error: No such file or directory: {tmp_path / 'none'}\n"


def test_a_bug_is_its_traceback_and_then_one_line_that_says_what_was_going_on(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "doing", "epoch 2/3, step 5")
    assert exit_of(lambda: 1 / 0) == 1
    *traceback, last = capsys.readouterr().err.splitlines()
    assert traceback[0].startswith("Traceback") and traceback[-1] == "ZeroDivisionError: division by zero"
    assert last.startswith("error: epoch 2/3, step 5: ZeroDivisionError: division by zero; ") and "report it" in last


class OutOfMemoryError(RuntimeError):
    """As torch's: known by its name, because preparing a dataset does not import torch."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    ],
    ids=str,
)
def test_out_of_memory_is_one_line_with_what_to_try(capsys, error):
    assert errors.report(error, "rank 1 of 2 on host (cuda:1), ") == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.startswith("error: rank 1 of 2 on host (cuda:1), ") and "out of memory" in err
    assert "--batch-size" in err and "--accumulate" in err


def test_the_end_of_another_rank_is_one_line(capsys):
    error = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:9")
    assert errors.report(error, "rank 0 of 2 on host (cpu), ") == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "connection to another rank is lost" in err


def test_a_closed_pipe_is_not_an_error():
    code = "from pyimagesearch.runtime import errors; errors.run(lambda: print('x\\n' * 100_000))"
    reading, writing = os.pipe()
    os.close(reading)
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (out.returncode, out.stderr) == (141, b"")


@pytest.mark.parametrize(
    "text, line",
    [
        ("plain, with spaces and 'quotes'", "plain, with spaces and 'quotes'"),
        ("Käse 面包 🍞", "Käse 面包 🍞"),
        ("two\nlines\r\tand a tab", r"two\nlines\r\tand a tab"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("undecodable \udcff", r"undecodable \udcff"),
        (OSError("an error"), "an error"),
    ],
)
def test_text_for_a_terminal_has_no_control_characters(text, line):
    assert one_line(text) == line
