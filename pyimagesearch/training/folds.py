"""Cross-validation: one training per fold, each from fresh weights in its own folder, and a summary of all."""

import argparse
import csv
import gc
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from pyimagesearch.data.labels_csv import LABELS_CSV, read_label_table
from pyimagesearch.evaluation.metrics import KINDS, REPORT_JSON
from pyimagesearch.runtime import distributed, launcher, terminal
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import atomic_write, locked
from pyimagesearch.training.checkpoints import Checkpoints, checkpoint_folder

SUMMARY = "folds.csv"
LOCK = ".lock"


def run_folds(args: argparse.Namespace, launch: distributed.Launch, train: Callable) -> None:
    """Call `train(args, launch)` once without --fold, for one fold, or for each fold in turn.

    The outputs are locked meanwhile. Single folds of one --output may train side by side.
    """
    with distributed.failing_together():
        folds = [] if args.fold is None else wanted_folds(args.data, args.fold)
    outputs = [args.output] if args.fold in (None, "all") else []
    with _locked_by_main([*outputs, *(fold_folder(args.output, fold) for fold in folds)]):
        if args.fold is None:
            train(args, launch)
        else:
            _train_folds(args, launch, train, folds)


@contextmanager
def _locked_by_main(folders: Sequence[str]) -> Iterator[None]:
    """Let no other run use the folders during the block. Rank 0 holds the locks, as it alone writes."""
    with ExitStack() as locks:
        with distributed.failing_together():
            for folder in folders if distributed.is_main() else ():
                locks.enter_context(locked(os.path.join(folder, LOCK), folder, "--output"))
        yield


def _train_folds(args: argparse.Namespace, launch: distributed.Launch, train: Callable, folds: Sequence[int]) -> None:
    if args.fold == "all":
        _check_start(args, folds)
    for fold in folds:
        print(f"[INFO] fold {fold}" + (f" of {len(folds)}..." if args.fold == "all" else "..."), flush=True)
        train(argparse.Namespace(**{**vars(args), "fold": fold, "output": fold_folder(args.output, fold)}), launch)
        if args.compile:
            torch.compiler.reset()  # else the fold's model is kept, and counts to the limit of recompilations
        gc.collect()  # frees what the fold had on the device before the next one comes
    if args.fold == "all" and distributed.is_main():
        rows = summarise([fold_folder(args.output, fold) for fold in folds])
        path = os.path.join(args.output, SUMMARY)
        write_summary(path, rows)
        print(folds_table(rows))
        print(f"[INFO] mean and sample standard deviation (n - 1) of {len(folds)} folds: {path}")


def fold_folder(output: str, fold: int) -> str:
    """The output of the training of `fold`, counted from 1."""
    return os.path.join(output, f"fold-{fold}")


def wanted_folds(data: str, fold: int | str) -> list[int]:
    """The folds, counted from 1, that --fold means: one, or "all" of the dataset `data`."""
    count = read_label_table(data).folds if os.path.exists(os.path.join(data, LABELS_CSV)) else 0
    if not count:
        raise UserError(f"{data} has no folds; leave --fold out, or prepare a table of labels with --folds")
    if fold == "all":
        return list(range(1, count + 1))
    if int(fold) > count:
        raise UserError(f"{data} has no fold {fold}; it has 1 to {count}")
    return [int(fold)]


def _check_start(args: argparse.Namespace, folds: Sequence[int]) -> None:
    """Refuse to begin all folds again where some are not finished; with --restart, discard all of them."""
    every = [Checkpoints(checkpoint_folder(fold_folder(args.output, fold))) for fold in folds]
    if args.restart and not launcher.restart_count():
        for checkpoints in every:
            checkpoints.clear()
    if args.resume or args.restart:
        return
    # one checkpoint at a time in memory: each holds a model and its optimizer
    begun = [(state["finished"], state["config"]) for checkpoints in every if (state := checkpoints.newest())]
    finished = sum(done for done, _ in begun)
    with distributed.failing_together():
        if begun and finished < len(folds) and not distributed.restarted(begun[0][1]["run_id"]):
            raise UserError(
                f"{args.output} holds {finished} finished folds of {len(folds)}; go on with --resume, discard "
                "them with --restart, or write to another --output"
            )


def summarise(folders: Sequence[str]) -> list[tuple[str, str, str, list[float | None]]]:
    """Each figure of the folds' reports: split, label or average, kind, and the values, None where a fold has none."""
    reports = []
    for path in folders:
        with open(os.path.join(path, REPORT_JSON), encoding="utf-8") as file:
            reports.append(json.load(file))
    rows = []
    for split in ("validation", "evaluation"):
        figures = [{"macro": report[split]["macro"], "micro": report[split]["micro"]} for report in reports]
        figures = [both | report[split]["labels"] for both, report in zip(figures, reports, strict=True)]
        for name in figures[0]:
            rows += [(split, name, kind, [one[name][kind] for one in figures]) for kind in KINDS]
    return rows


def mean_and_sd(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1) of the known values; None where there are too few."""
    known = [value for value in values if value is not None]
    return (statistics.fmean(known) if known else None, statistics.stdev(known) if len(known) > 1 else None)


def write_summary(path: str | os.PathLike, rows: Sequence[tuple]) -> None:
    """Write the rows of `summarise` as CSV: a column per fold, then mean and sample standard deviation."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        folds = [f"fold-{fold + 1}" for fold in range(len(rows[0][3]))]
        writer.writerow(["split", "label", "figure", *folds, "mean", "sd"])
        for *which, values in rows:
            writer.writerow([*which, *("" if value is None else value for value in (*values, *mean_and_sd(values)))])


def folds_table(rows: Sequence[tuple]) -> str:
    """The ROC AUCs and the averages among the rows of `summarise`, as a table."""
    folds = [f"fold {fold + 1}" for fold in range(len(rows[0][3]))]
    table = [["", *folds, "mean", "sd"]]
    for split, name, kind, values in rows:
        if kind == "roc_auc" or name == "macro":
            cells = ("-" if value is None else f"{value:.4f}" for value in (*values, *mean_and_sd(values)))
            table.append([f"{split} {kind.replace('_', ' ').replace('roc auc', 'ROC AUC')}, {name}", *cells])
    return terminal.table(table)
