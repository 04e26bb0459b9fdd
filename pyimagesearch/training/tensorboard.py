"""Curves, flags and pictures for TensorBoard, in OUTPUT/tensorboard.

The horizontal axis is always the steps of the run, so a resumed run takes back what was logged after its checkpoint.
"""

import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from PIL import Image

from pyimagesearch.data.datasets import PhotoDataset
from pyimagesearch.data.transforms import denormalize, to_device
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.evaluation.metrics import confusion_counts
from pyimagesearch.evaluation.pictures.confusion_matrix import plot_confusion_matrix
from pyimagesearch.evaluation.pictures.prediction_grid import plot_predictions
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError, one_line, system_message

EVERY_STEPS = 10
SHOWN = 16
FLUSH_EVERY_S = 10
NAMES = {
    "acc": "accuracy",
    "auc": "ROC AUC",
    "ap": "average precision",
    "lr": "learning rate",
    "images_per_s": "images per second",
}
SPLITS = {"train": "train", "val": "validation", "test": "test"}


class TensorBoardLog:
    """The log of a run. Every rank calls the same methods; rank 0 writes, and none does unless `wanted`.

    steps : of an epoch
    logged : attribute; the sums of the epoch when a step was last logged, part of a checkpoint
    """

    def __init__(self, output: str = "", steps: int = 0, *, wanted: bool = False):
        self.folder, self.steps, self.wanted = os.path.join(output, "tensorboard"), steps, wanted
        self.logged = Totals(0, 0, 0)
        self._writer: Any = None  # a SummaryWriter, on rank 0

    def open(self, done: int, flags: Mapping[str, object]) -> None:
        """Go on after `done` steps of the run. With 0, log `flags` and remove an earlier run's log."""
        if not distributed.is_main():
            return
        try:
            if done == 0:
                self._clear()
            if self.wanted:
                from torch.utils.tensorboard import SummaryWriter

                _hush_the_writers_thread()
                # readers leave out what comes before a purge and has its step or a later one
                self._writer = SummaryWriter(
                    self.folder, purge_step=done + 1 if done else None, flush_secs=FLUSH_EVERY_S
                )
        except ImportError:
            raise UserError("--tensorboard needs a package: pip install tensorboard, or leave the flag out") from None
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {system_message(error)}; name another --output") from None
        if self._writer is not None and done == 0:
            rows = "\n".join(f"| {name} | `{one_line(str(value))}` |" for name, value in flags.items())
            self._writer.add_text("flags", f"| flag | value |\n|---|---|\n{rows}", 0)
            charts = {chart: ["Multiline", [f"{chart}/train", f"{chart}/validation"]] for chart in ("loss", "accuracy")}
            self._writer.add_custom_scalars({"training and validation": charts})

    def _clear(self) -> None:
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else []:
            if name.startswith("events.out.tfevents."):
                os.unlink(os.path.join(self.folder, name))

    def due(self, done: int) -> bool:
        """Whether to log the step after which `done` of the epoch are done."""
        return self.wanted and done % EVERY_STEPS == 0

    def add_step(self, epoch: int, done: int, totals: Totals) -> None:
        """Log the means since the last logged step, from the sums of `epoch`, counted from 0."""
        loss, correct, count = (
            getattr(totals, name) - getattr(self.logged, name) for name in ("loss", "correct", "count")
        )
        self.logged = totals
        means = {"within the epoch/loss": loss / count, "within the epoch/accuracy": correct / count}
        self._add_scalars(epoch * self.steps + done, means)

    def add_epoch(self, row: Mapping[str, float]) -> None:
        """Log a row of the history; see run.HISTORY_COLUMNS."""
        self.logged = Totals(0, 0, 0)
        curves = {tag(name): value for name, value in row.items() if name not in ("epoch", "seconds")}
        self._add_scalars(row["epoch"] * self.steps, curves)

    def add_report(
        self, epochs: int, dataset: PhotoDataset, probabilities: np.ndarray, **metrics: float | None
    ) -> None:
        """Log the test split's metrics and, for one class per photo, pictures; then close.

        They stand one step after the last, so that a run that is resumed after its end takes them back too.

        probabilities : float of shape (photos, classes), in the order of `dataset`
        """
        if self._writer is None:
            return
        try:
            self._write_report(epochs * self.steps + 1, dataset, probabilities, metrics)
            self._writer.close()
        except OSError as error:
            raise self._explain(error) from None

    def _write_report(self, step: int, dataset: PhotoDataset, probabilities: np.ndarray, metrics: dict) -> None:
        for name, value in metrics.items():
            if value is not None:
                self._writer.add_scalar(tag(name), value, step)
        if dataset.labels.ndim > 1:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "picture.png")
            predictions = probabilities.argmax(1)
            plot_confusion_matrix(
                path, confusion_counts(dataset.labels, predictions, len(dataset.classes)), dataset.classes
            )
            self._add_picture("test/confusion matrix", path, step)
            chosen = np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset))).astype(int)
            photos = torch.stack([dataset[index][0] for index in chosen.tolist()])
            images, _ = to_device(photos, torch.empty(0), torch.device("cpu"))
            plot_predictions(
                path,
                list(denormalize(images)),
                [dataset.classes[label] for label in dataset.labels[chosen]],
                [dataset.classes[label] for label in predictions[chosen]],
                probabilities[chosen].max(1).tolist(),
            )
            self._add_picture("test/predictions", path, step)

    def _add_picture(self, name: str, path: str, step: int) -> None:
        with Image.open(path) as picture:
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def _add_scalars(self, step: float, scalars: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        with suppress(OSError):  # of the thread that writes; flush raises it again, where all ranks are
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Return when all is written. A checkpoint is saved after that, so it is never ahead of the curves."""
        if not self.wanted:
            return
        with distributed.failing_together():
            try:
                if self._writer is not None:
                    self._writer.flush()
            except OSError as error:
                raise self._explain(error) from None

    def _explain(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write to {self.folder} ({system_message(error)}); make room, or mend what it says, and go on with "
            "--resume"
        )


def _hush_the_writers_thread() -> None:
    """Keep the writer's thread from printing a traceback: its next call raises the same error."""
    hook = threading.excepthook

    def tell(args) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__name__ == "_AsyncWriterThread"):
            hook(args)

    threading.excepthook = tell


def tag(name: str) -> str:
    """The curve of a column of the history: "loss/validation" for "val_loss"."""
    split, _, rest = name.partition("_")
    return f"{NAMES.get(rest, rest)}/{SPLITS[split]}" if split in SPLITS else NAMES.get(name, name)
