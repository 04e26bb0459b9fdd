"""What comes of a run on the test split where photos may have several labels: what is printed, pictures, the page."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.data import DataLoader

from pyimagesearch.evaluation import evaluate, html_report, machine, metrics
from pyimagesearch.evaluation import report as results
from pyimagesearch.evaluation.html_report import Tile
from pyimagesearch.evaluation.pictures.class_bars import plot_bars
from pyimagesearch.evaluation.pictures.training_curves import plot_history
from pyimagesearch.models.model_card import read_model_card
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.terminal import make_bar
from pyimagesearch.training.run import Run

PICTURE = "labels.png"
HEADS = {"roc_auc": "ROC AUC", "average_precision": "average precision", "f1": "F1"}
COLUMNS = (*HEADS, "threshold", "positives")


def report_labels(
    run: Run,
    valLoader: DataLoader,
    testLoader: DataLoader,
    launch: distributed.Launch,
    objective,
    photos: Mapping[str, int],
) -> None:
    """Choose each label's threshold on validation, evaluate on the test split; print, draw, write and log it.

    The model of `run` is the one that was kept. Every rank calls this at the same time.

    photos : how many each split has, by its name
    """
    answers = []
    for split, loader in (("validation", valLoader), ("evaluation", testLoader)):
        with make_bar(split, len(loader.dataset)) as bar:
            answers.append(evaluate.predict_split(run.model, loader, launch.device, bar.update, objective))
    if not distributed.is_main():
        return
    (chosenOn, _), (probabilities, losses) = ((np.nan_to_num(some), those) for some, those in answers)
    valDS, testDS = valLoader.dataset, testLoader.dataset
    thresholds = metrics.best_thresholds(valDS.labels, chosenOn)
    validation = metrics.measure_labels(valDS.labels, chosenOn, valDS.classes, thresholds)
    evaluation = metrics.measure_labels(testDS.labels, probabilities, testDS.classes, thresholds)

    accuracy = float(((probabilities >= 0.5) == (testDS.labels >= 0.5)).mean())
    auc, ap, f1 = (evaluation["macro"][kind] for kind in metrics.KINDS)
    figures = {"test_loss": float(losses.mean()), "test_acc": accuracy, "test_auc": auc, "test_ap": ap, "test_f1": f1}
    run.write_facts(thresholds, **figures)
    print(metrics.write_label_report(run.output, evaluation, validation))
    write_results(
        run.output, evaluation, run.history, read_model_card(run.output), photos, machine.machine_facts(launch)
    )
    run.log.add_report(len(run.history), testDS, probabilities, **figures)
    print(f"[INFO] test ROC AUC: {'none' if auc is None else f'{auc:.4f}'}, mean over the labels")
    print(*results.closing_lines(run.history, accuracy, len(testDS), run.kept_epoch, run.output), sep="\n")


def write_results(
    output: str | os.PathLike,
    figures: Mapping,
    history: Sequence[Mapping[str, float]],
    facts: Mapping,
    photos: Mapping[str, int],
    host: Mapping[str, str],
) -> None:
    """Write every picture and report.html into the folder `output`.

    Parameters
    ----------
    figures : of the test split, see multilabel.measure
    host : what the model was trained on, by the name of each fact
    history, facts, photos : see results.write_results
    """
    labels = figures["labels"]
    series = {
        HEADS[kind]: np.array([math.nan if row[kind] is None else row[kind] for row in labels.values()])
        for kind in metrics.KINDS[:2]
    }
    plot_history(os.path.join(output, results.CURVES), history)
    positives = np.array([row["positives"] for row in labels.values()])
    plot_bars(os.path.join(output, PICTURE), list(labels), positives, series)
    results.remove_others(output, [PICTURE])
    html_report.write_page(
        os.path.join(output, "report.html"),
        "Training report",
        f"{facts['architecture']}, {len(labels):,} labels, {facts['image_size']} pixels, in {output}",
        [*_tiles(figures, history, facts), *results.course(history, photos)],
        [
            results.curves(output, history),
            _labels(output, figures),
            results.making(facts, host),
            results.files(output),
        ],
    )


def _tiles(figures: Mapping, history: Sequence[Mapping], facts: Mapping) -> list[Tile]:
    best = metrics.best_epoch(history)
    epoch, auc = facts["metrics"]["epoch"], figures["macro"]["roc_auc"]
    said = f"mean over the labels, of {figures['photos']:,} photos, by the model of epoch {epoch}"
    return [
        Tile("Test ROC AUC", "none" if auc is None else f"{auc:.4f}", said),
        Tile("Best epoch", f"{best} of {len(history)}", f"validation ROC AUC {history[best - 1]['val_auc']:.4f}"),
    ]


def _labels(output: str | os.PathLike, figures: Mapping) -> str:
    rows, foot = (
        [[name, *("-" if row.get(column) is None else row[column] for column in COLUMNS)] for name, row in some.items()]
        for some in (figures["labels"], {"macro average": figures["macro"], "micro average": figures["micro"]})
    )
    head = ("label", *(HEADS.get(column, column) for column in COLUMNS))
    notes = [f"{metrics.why_left_out(figures, name)}." for name in figures["one class only"]]
    return html_report.section(
        "Labels",
        html_report.picture(
            os.path.join(output, PICTURE), "Bars of ROC AUC and average precision of each label, the lowest on top"
        ),
        html_report.table("The test photos by label", head, rows, foot, numbers=len(COLUMNS))
        + html_report.paragraph(" ".join(["A threshold is where F1 was highest on validation.", *notes])),
        beside=len(rows) <= 40,
    )
