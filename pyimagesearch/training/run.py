"""A run: all that changes while a model trains, what a checkpoint holds of it, and what it leaves behind."""

import csv
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import nn

from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.evaluation.metrics import best_epoch
from pyimagesearch.evaluation.reporting.report import assess, closing_lines, machine_facts, write_report
from pyimagesearch.models import parallel
from pyimagesearch.models.model_card import model_path, write_model_card
from pyimagesearch.models.sharding import gathered
from pyimagesearch.models.weights import read_state_dict
from pyimagesearch.runtime import distributed, launcher
from pyimagesearch.runtime.errors import UserError, system_message
from pyimagesearch.runtime.files import atomic_write
from pyimagesearch.runtime.signals import StopSignals
from pyimagesearch.runtime.terminal import info
from pyimagesearch.training.checkpoints import Checkpoints, check_same_run, checkpoint_folder, save_tensors, to_cpu
from pyimagesearch.training.tensorboard import TensorBoardLog

# "val_auc" too where photos have several labels: the mean ROC AUC over the labels
HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds", "images_per_s")


class Run:
    """All that changes while a model trains.

    args : resolved, see options.resolve; with the classes and the photos they are the run config
    history : one dictionary per epoch with the keys HISTORY_COLUMNS; losses are means over photos, accuracies are
        between 0 and 1, the learning rate is the first parameter group's
    epoch, step, totals : where the run stands: whole epochs, steps of the next one, and the sums of those steps
    """

    def __init__(
        self,
        args,
        launch: distributed.Launch,
        model: nn.Module,
        objective,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler,
        trainLoader,
    ):
        self.args, self.launch, self.device, self.output = args, launch, launch.device, args.output
        self.model, self.objective = model, objective
        self.optimizer, self.scheduler, self.scaler = optimizer, scheduler, scaler
        self.sampler = trainLoader.batch_sampler
        self.config = run_config(args, trainLoader.dataset)
        self.history: list[dict] = []
        self.epoch, self.step = 0, 0
        self.totals: Totals | None = None
        self.checkpoints = Checkpoints(checkpoint_folder(args.output))
        self.log = TensorBoardLog(args.output, self.sampler.steps, wanted=args.tensorboard)

    def begin(self, found: dict | None) -> None:
        """Go on from the checkpoint `found`; with None begin, and remove the checkpoints of an earlier run."""
        self.began = time.time()
        if found is None:
            self.checkpoints.clear()
        else:
            with distributed.failing_together():
                check_same_run(found["config"], self.config)
            self.load(found)
        with distributed.failing_together():
            self.log.open(self.epoch * self.sampler.steps + self.step, vars(self.args))

    # --- checkpoints ---

    def state(self, step: int = 0, totals: Totals | None = None) -> dict:
        """The run after `step` steps of the present epoch, whose sums so far are `totals`."""
        self.log.flush()
        return {
            "epoch": self.epoch,
            "step": step,
            "totals": None if totals is None else asdict(totals),
            "logged": asdict(self.log.logged),
            "model": parallel.model_state(self.model),
            "optimizer": gathered(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "config": self.config,
            "history": self.history,
            "best_epoch": best_epoch(self.history) if self.history else 0,
        }

    def load(self, state: dict) -> None:
        """Become what `state` says."""
        parallel.load_model_state(self.model, state["model"])
        parallel.load_optimizer_state(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history[:] = state["history"]
        self.log.logged = Totals(**state["logged"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.totals = state["totals"] and Totals(**state["totals"])

    def save(self, step: int = 0, totals: Totals | None = None) -> None:
        self.checkpoints.save(self.state(step, totals))

    def stop(self, number: int) -> None:
        """End the process after signal `number`; the run must be saved."""
        self.checkpoints.wait()
        print(
            f"[INFO] {signal.Signals(number).name}: saved in {self.checkpoints.folder}; go on with --resume", flush=True
        )
        raise SystemExit(128 + number)

    def stop_if_asked(self, stop: StopSignals) -> None:
        """End the process if any rank has received a signal; the run must be saved."""
        if number := distributed.all_reduce_max(stop.received)[0]:
            self.stop(number)

    # --- epochs ---

    def begin_epoch(self) -> None:
        self._epoch_began = time.monotonic()
        self._photos = self.sampler.size - min(self.step * self.sampler.global_batch, self.sampler.size)

    def end_steps(self) -> None:
        """The epoch's steps are done; validation comes."""
        self._images_per_s = self._photos / (time.monotonic() - self._epoch_began)

    def end_epoch(self, trained: Totals, validated: Totals) -> None:
        """Write and print the epoch's row of the history, keep the model if it is best, move the rate on, and save."""
        self.epoch, self.step, self.totals = self.epoch + 1, 0, None
        self.history.append({
            "epoch": self.epoch, "train_loss": trained.mean_loss, "train_acc": trained.accuracy,
            "val_loss": validated.mean_loss, "val_acc": validated.accuracy,
            "lr": self.optimizer.param_groups[0]["lr"], "seconds": time.monotonic() - self._epoch_began,
            "images_per_s": self._images_per_s, **({} if validated.auc is None else {"val_auc": validated.auc}),
        })  # fmt: skip
        self.scheduler.step()
        self.log.add_epoch(self.history[-1])
        weights = parallel.model_state(self.model)
        with distributed.failing_together():
            if distributed.is_main():
                self._write_epoch(weights)
        self.save()  # before printing, which fails where the terminal is gone
        print(f"[INFO] EPOCH: {self.epoch}/{self.args.epochs}")
        print(trained.summary("Train"), validated.summary("Val"), sep="\n", flush=True)

    def _write_epoch(self, weights: dict) -> None:
        try:
            write_history(os.path.join(self.output, "history.csv"), self.history)
            if self.epoch == self.kept_epoch:
                save_tensors(model_path(self.output), to_cpu(weights))
                self.write_card()
        except OSError as error:
            raise UserError(
                f"cannot write the model to {self.output} ({system_message(error)}); make room, or mend what it says, "
                "and go on with --resume"
            ) from None

    @property
    def kept_epoch(self) -> int:
        """The epoch, counted from 1, whose model is kept."""
        return len(self.history) if self.args.keep == "last" else best_epoch(self.history)

    def write_card(self, thresholds: list[float] | None = None, **metrics: float | None) -> dict:
        """Write and return the model card of the kept model, with validation's metrics and these."""
        row = self.history[self.kept_epoch - 1]
        validated = {name: row[name] for name in ("epoch", "val_loss", "val_acc", "val_auc") if name in row}
        return write_model_card(self.output, self.config, self.objective.task, {**validated, **metrics}, thresholds)

    # --- the end ---

    def report(self, valLoader, testLoader) -> None:
        """Evaluate the kept model on the test split; print, draw and write the report."""
        self.checkpoints.wait()
        info(f"total time taken to train the model: {time.time() - self.began:.2f}s")
        info("evaluating network...")
        self.load_kept()
        results = assess(self.model, self.objective, valLoader, testLoader)
        if self.device.type == "cuda":
            peaks = distributed.gather_objects(torch.cuda.max_memory_allocated(self.device) / 2**30)
            info(f"peak GPU memory of each process, GiB: {', '.join(f'{peak:.2f}' for peak in peaks)}")
        if not distributed.is_main():
            return
        card = self.write_card(results.thresholds, **results.metrics)
        valDS, testDS = valLoader.dataset, testLoader.dataset
        photos = {"training": self.sampler.size, "validation": len(valDS), "evaluation": len(testDS)}
        machine = machine_facts(self.launch)
        write_report(self.output, results, testDS, self.history, card, photos, machine)
        self.log.add_report(len(self.history), testDS, results.probabilities, **results.metrics)
        print(*closing_lines(self.history, results.metrics, len(testDS), self.kept_epoch, self.output), sep="\n")

    def load_kept(self) -> None:
        """Load the kept model's weights on every rank."""
        with distributed.failing_together():
            kept = read_state_dict(model_path(self.output)) if distributed.is_main() else {}
        parallel.load_model_state(self.model, distributed.broadcast_object(kept))


def run_config(args, dataset) -> dict:
    """What identifies a run: every resolved flag, the classes, and a fingerprint of the training photos."""
    return {
        **vars(args),
        "classes": dataset.classes,
        "photos": dataset.fingerprint(),
        "run_id": launcher.run_id(),
    }


def write_history(path: str | os.PathLike, history: Sequence[Mapping[str, float]]) -> None:
    """Write the history as CSV, one row per epoch, every float in full: reading it back gives the same numbers."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [*HISTORY_COLUMNS, *(["val_auc"] if "val_auc" in history[0] else [])]
        writer.writerow(columns)
        for row in history:
            writer.writerow([int(row["epoch"])] + [repr(float(row[name])) for name in columns[1:]])
