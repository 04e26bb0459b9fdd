"""history.csv: exact, whole, and readable again."""

import csv
import math
import os

import numpy as np
import pytest
from helpers.pictures import history_of

from pyimagesearch.training import run


def test_the_history_reads_back_exactly(tmp_path):
    history = [*history_of(3), dict.fromkeys(run.HISTORY_COLUMNS, np.float32(4)) | {"val_loss": np.float32(0.1)}]
    run.write_history(tmp_path / "history.csv", history)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == run.HISTORY_COLUMNS
    assert [{name: float(text) for name, text in row.items()} for row in rows] == history
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


def test_an_unfinished_history_keeps_values_that_are_not_finite(tmp_path):
    run.write_history(tmp_path / "history.csv", [{**history_of(1)[0], "val_loss": math.nan, "lr": math.inf}])
    row = (tmp_path / "history.csv").read_text().splitlines()[1].split(",")
    assert math.isnan(float(row[3])) and float(row[5]) == math.inf


def test_the_history_has_a_column_more(tmp_path):
    run.write_history(
        tmp_path / "history.csv", [{**row, "val_auc": auc} for row, auc in zip(history_of(2), (0.6, 0.8), strict=True)]
    )
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == ",".join((*run.HISTORY_COLUMNS, "val_auc"))
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["0.6", "0.8"]


def test_a_run_that_went_on_on_a_gpu_has_no_memory_in_its_first_rows(tmp_path):
    first, second = history_of(2)
    run.write_history(tmp_path / "history.csv", [first, {**second, "gpu_gib": 1.5}])
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == ",".join((*run.HISTORY_COLUMNS, "gpu_gib"))
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["", "1.5"]


def test_a_full_disk_leaves_the_old_history_and_nothing_else(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "history.csv").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run.write_history(tmp_path / "history.csv", history_of(2))
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
    assert (tmp_path / "history.csv").read_text() == "old"
