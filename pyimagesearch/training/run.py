"""A run: all that changes while a model trains, and the trained model that comes of it."""

import csv
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
import torchvision
from torch import nn

from pyimagesearch import config
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.evaluation.metrics import best_epoch
from pyimagesearch.models import parallel
from pyimagesearch.models.model_card import _finite, card_path, model_path
from pyimagesearch.models.weights import read_state_dict
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError, system_message
from pyimagesearch.runtime.files import atomic_write, write_json
from pyimagesearch.training.checkpoints import save_tensors, to_cpu
from pyimagesearch.training.tensorboard import TensorBoardLog

# of photos with several labels "val_auc" too, the macro ROC AUC
HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds", "images_per_s")


def write_history(path: str | os.PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Write the history as CSV, one row an epoch, every float in full: reading it back gives the same numbers.

    Parameters
    ----------
    path : where the file is to be
    history : one mapping an epoch with the keys HISTORY_COLUMNS: epochs count from 1, losses are means over samples,
        accuracies are shares between 0 and 1
    """
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [*HISTORY_COLUMNS, *(["val_auc"] if "val_auc" in history[0] else [])]
        writer.writerow(columns)
        for row in history:
            writer.writerow([int(row["epoch"])] + [repr(float(row[name])) for name in columns[1:]])


@dataclass
class Run:
    """All that changes while a model trains.

    Parameters
    ----------
    identity : what decides the training stream, by the name of its flag, and what else a later start must know
    output : the folder of the trained model and its history, which rank 0 writes
    log : what it tells TensorBoard
    task : of the objective, "single-label" or "multi-label"
    history : one row an epoch, see reporting.HISTORY_COLUMNS
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    scheduler: torch.optim.lr_scheduler.LRScheduler
    identity: dict
    output: str
    log: TensorBoardLog = field(default_factory=TensorBoardLog)
    task: str = "single-label"
    history: list[dict] = field(default_factory=list)

    def state(self, epoch: int, step: int = 0, totals: Totals | None = None) -> dict:
        """The run after `epoch` whole epochs and `step` steps of the next, whose sums so far are `totals`."""
        self.log.flush()
        return {
            "epoch": epoch,
            "step": step,
            "totals": None if totals is None else asdict(totals),
            "logged": asdict(self.log.logged),
            "model": parallel.unwrap(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "identity": self.identity,
            "history": self.history,
            "best_epoch": best_epoch(self.history) if self.history else 0,
        }

    def load(self, state: dict) -> Totals | None:
        """Become what `state` says; returns the sums of the epoch in whose middle it was saved, if it was."""
        parallel.unwrap(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history[:] = state["history"]
        self.log.logged = Totals(**state["logged"])
        return state["totals"] and Totals(**state["totals"])

    def end_epoch(self, trained: Totals, validated: Totals, seconds: float, images_per_s: float) -> None:
        """Write down an epoch, move the learning rate on, and keep the model if it is the one to keep.

        seconds : training and validation; images_per_s : of training alone
        """
        epoch = len(self.history) + 1
        self.history.append({
            "epoch": epoch, "train_loss": trained.mean_loss, "train_acc": trained.accuracy,
            "val_loss": validated.mean_loss, "val_acc": validated.accuracy,
            "lr": self.optimizer.param_groups[0]["lr"], "seconds": seconds, "images_per_s": images_per_s,
            **({} if validated.auc is None else {"val_auc": validated.auc}),
        })  # fmt: skip
        self.scheduler.step()
        self.log.add_epoch(self.history[-1])
        with distributed.failing_together():
            if distributed.is_main():
                self._write_epoch(epoch)

    def _write_epoch(self, epoch: int) -> None:
        try:
            write_history(os.path.join(self.output, "history.csv"), self.history)
            if epoch == self.kept_epoch:
                save_tensors(model_path(self.output), to_cpu(parallel.unwrap(self.model).state_dict()))
                self.write_facts()
        except OSError as error:
            raise UserError(
                f"cannot write the model to {self.output} ({system_message(error)}); make "
                "room, or mend what it says, and go on with --resume"
            ) from None

    @property
    def kept_epoch(self) -> int:
        """The epoch, counted from 1, whose model is kept."""
        return len(self.history) if self.identity["keep"] == "last" else best_epoch(self.history)

    def load_kept(self) -> None:
        """Let the model be the one that was kept, on every rank."""
        model = parallel.unwrap(self.model)
        with distributed.failing_together():
            if distributed.is_main():
                model.load_state_dict(read_state_dict(model_path(self.output)))
        parallel.broadcast_state(model)

    def write_facts(self, thresholds: list[float] | None = None, **metrics: float | None) -> None:
        """Write what inference must know of the kept model, and what a person wants to, into the .json beside it.

        thresholds : of a multi-label model, one a class: the probability from which on a photo is said to have it
        """
        row = self.history[self.kept_epoch - 1]
        validated = {name: row[name] for name in ("epoch", "val_loss", "val_acc", "val_auc") if name in row}
        facts = {
            "architecture": self.identity["model"],
            "channels": self.identity["channels"],
            "classes": self.identity["classes"],
            "image_size": self.identity["image size"],
            "mean": config.MEAN,
            "std": config.STD,
            "task": self.task,
            **({} if thresholds is None else {"thresholds": thresholds}),
            "metrics": {name: _finite(value) for name, value in {**validated, **metrics}.items()},
            "training": {name: value for name, value in self.identity.items() if name not in ("classes", "run id")},
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
            },
        }
        write_json(card_path(self.output), facts)
