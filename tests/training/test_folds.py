"""Cross-validation: the same on any number of processes, and the summary of the folds."""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys

import pytest
from helpers.photos import REPOSITORY
from helpers.runs import ONE
from helpers.shapes import draw_shapes

from pyimagesearch.preparation import splitting, staging
from pyimagesearch.preparation.copying import copy_split
from pyimagesearch.preparation.readers import csv_table
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training import folds

RANKS = REPOSITORY / "tests" / "helpers" / "fold_ranks.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The drawn set, prepared with three folds."""
    folder = tmp_path_factory.mktemp("shapes")
    columns = csv_table.Columns("id", group="patient")
    source = csv_table.read(draw_shapes(folder), folder / "photos", columns, splitting.SplitRates(test=0.3, folds=3))
    with staging.staged(folder / "dataset", source, verify=True, overwrite=False) as stage:
        copy_split(source.splits[0], stage.folder(source.splits[0]))
        stage.finish()
    return folder / "dataset"


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """{world size: what was measured of each fold} of the same training in one process and in two."""
    folder, found = tmp_path_factory.mktemp("measured"), {}
    for processes in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        output = folder / f"{processes}.json"
        done = subprocess.run(
            [*command, RANKS, data, output], capture_output=True, text=True, timeout=240,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[processes] = json.loads(output.read_text())
    return found


@pytest.mark.training
def test_aucs_and_thresholds_of_three_folds_are_the_same_in_two_processes_as_in_one(trained):
    for one, several in zip(trained[1], trained[2], strict=True):
        for epoch, same in zip(one["epochs"], several["epochs"], strict=True):
            assert same == pytest.approx(epoch, rel=1e-5)
        assert several["thresholds"] == pytest.approx(one["thresholds"], rel=1e-4)
        for name, label in one["figures"]["labels"].items():
            same = several["figures"]["labels"][name]
            for kind in ("roc_auc", "average_precision", "f1", "positives"):
                assert same[kind] == pytest.approx(label[kind], abs=1e-9)
        for average in ("macro", "micro"):
            assert several["figures"][average] == pytest.approx(one["figures"][average], abs=1e-9)


@pytest.mark.training
def test_the_folds_do_learn_and_differ(trained):
    aucs = [fold["figures"]["macro"]["roc_auc"] for fold in trained[2]]
    assert min(aucs) > 0.7
    assert len(set(aucs)) == 3
    assert trained[2][0]["epochs"][0][0] > trained[2][0]["epochs"][-1][0]


@pytest.mark.parametrize("compiles", [True, False])
def test_what_is_compiled_for_a_fold_does_not_count_for_the_next(monkeypatch, compiles):
    calls = []
    monkeypatch.setattr(folds, "wanted_folds", lambda data, fold: [1, 2])
    monkeypatch.setattr("torch.compiler.reset", lambda: calls.append("reset"))
    args = argparse.Namespace(data="", fold=1, output="", compile=compiles)
    folds.run_folds(args, None, lambda args, launch: calls.append(args.fold))
    assert calls == ([1, "reset", 2, "reset"] if compiles else [1, 2])


# --- which folds -----------------------------------------------------------------------------------------------------


def test_all_means_each_and_a_number_that_one(data):
    assert folds.wanted_folds(str(data), "all") == [1, 2, 3]
    assert folds.wanted_folds(str(data), 2) == [2]


def test_a_missing_fold_is_refused(data, photos):
    with pytest.raises(UserError, match="no fold 4; it has 1 to 3"):
        folds.wanted_folds(str(data), 4)
    with pytest.raises(UserError, match="has no folds; leave --fold out"):
        folds.wanted_folds(str(photos({"a": 1}, root="other/training").parent), "all")


@pytest.mark.parametrize(
    "fold, locked", [(None, [".lock"]), (2, ["fold-2/.lock"]), ("all", [".lock", "fold-1/.lock", "fold-2/.lock"])]
)
def test_the_folders_that_a_training_writes_are_locked_while_it_lasts(fold, locked, tmp_path, monkeypatch):
    def train(args, launch):
        assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".lock")) == locked

    monkeypatch.setattr(folds, "wanted_folds", lambda data, fold: [1, 2] if fold == "all" else [fold])
    monkeypatch.setattr(folds, "summarise", lambda folders: [("", "", "", [1.0])])
    args = argparse.Namespace(output=str(tmp_path), data="", fold=fold, restart=False, resume=True, compile=False)
    for _ in range(2):  # in one process
        folds.run_folds(args, ONE, train)
        assert not list(tmp_path.rglob(".lock"))


# --- what they give together -----------------------------------------------------------------------------------------


def figures(auc: float, rare: float | None) -> dict:
    def of(value):
        return {"roc_auc": value, "average_precision": value, "f1": value, "positives": 1}

    return {"labels": {"tube": of(auc), "rare": of(rare)}, "macro": of(auc), "micro": of(auc)}


@pytest.fixture
def reports(tmp_path):
    """The folders of three folds, the label rare measured in one of them."""
    for number, (auc, rare) in enumerate(((0.5, None), (0.7, 0.9), (0.9, None))):
        (tmp_path / f"fold-{number + 1}").mkdir()
        report = {"validation": figures(auc, rare), "evaluation": figures(auc / 2, None)}
        (tmp_path / f"fold-{number + 1}" / "classification_report.json").write_text(json.dumps(report))
    return [tmp_path / f"fold-{number}" for number in (1, 2, 3)]


def test_the_summary_has_the_mean_and_the_sample_standard_deviation_of_each_figure(reports, tmp_path):
    folds.write_summary(tmp_path / "folds.csv", folds.summarise(reports))
    with open(tmp_path / "folds.csv", newline="") as file:
        rows = {(row["split"], row["label"], row["figure"]): row for row in csv.DictReader(file)}
    row = rows["validation", "macro", "roc_auc"]
    assert [float(row[f"fold-{fold}"]) for fold in (1, 2, 3)] == [0.5, 0.7, 0.9]
    assert float(row["mean"]) == pytest.approx(0.7)
    assert float(row["sd"]) == pytest.approx(statistics.stdev([0.5, 0.7, 0.9])) == pytest.approx(0.2)
    assert len(rows) == 2 * 4 * 3


def test_a_label_that_some_folds_cannot_measure_is_summarised_over_the_others(reports):
    rows = {row[:3]: row[3] for row in folds.summarise(reports)}
    assert folds.mean_and_sd(rows["validation", "rare", "roc_auc"]) == (0.9, None)
    assert folds.mean_and_sd(rows["evaluation", "rare", "roc_auc"]) == (None, None)
    lines = folds.folds_table(folds.summarise(reports)).splitlines()
    assert ["validation", "ROC", "AUC,", "rare", "-", "0.9000", "-", "0.9000", "-"] in [line.split() for line in lines]
