"""A run: all that changes while a model trains, what a checkpoint holds of it, and what it leaves behind."""

import csv
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor, nn

from pyimagesearch import config
from pyimagesearch.data.transforms import MixedLabels
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.evaluation.metrics import best_epoch
from pyimagesearch.evaluation.reporting.label_issues import LABEL_ISSUES, LabelIssues, predicted_margins
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
from pyimagesearch.training.optimizer import MovingAverage, Schedule
from pyimagesearch.training.tensorboard import TensorBoardLog

# "lr": the rate of the epoch's last step. More columns: "val_auc" where photos have several labels, the mean ROC AUC
# over them; "gpu_gib" on GPUs, the most memory that a process has held on its own since it began
HISTORY_COLUMNS = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds", "images_per_s")
RESERVE = 0.05  # share of the time left that a plan leaves free, so that slightly slower epochs do not cut it off


class Run:
    """All that changes while a model trains.

    args : resolved, see options.resolve; with the classes and the photos they are the run config
    history : one dictionary per epoch with the keys HISTORY_COLUMNS; losses are means over photos, accuracies are
        between 0 and 1, the learning rate is the first parameter group's
    epoch, step, totals : where the run stands: whole epochs, steps of the next one, and the sums of those steps
    evaluated : the model that is validated, kept and reported: the one that trains, or its moving average
    """

    def __init__(
        self,
        args,
        launch: distributed.Launch,
        model: nn.Module,
        objective,
        optimizer: torch.optim.Optimizer,
        scheduler: Schedule,
        scaler: torch.amp.GradScaler,
        trainLoader,
    ):
        self.args, self.launch, self.device, self.output = args, launch, launch.device, args.output
        self.model, self.objective = model, objective
        self.optimizer, self.scheduler, self.scaler = optimizer, scheduler, scaler
        self.evaluated = parallel.copy_for_evaluation(model, launch) if args.ema else model
        unwrapped = parallel.unwrap(model), parallel.unwrap(self.evaluated)
        self.average = MovingAverage(*unwrapped, args.ema) if args.ema else None
        self.sampler = trainLoader.batch_sampler
        self.dataset, self.margins = trainLoader.dataset, LabelMargins(objective, trainLoader)
        self.config = run_config(args, trainLoader.dataset)
        self.history: list[dict] = []
        self.epoch, self.step = 0, 0
        self.totals: Totals | None = None
        self._clock = time.monotonic()  # when the run began, had it not been interrupted
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
        if self.args.shares != "equal":
            self.sampler.shares.tell(self.done)
        with distributed.failing_together():
            self.log.open(self.done, vars(self.args))

    @property
    def done(self) -> int:
        """The steps of the whole run that are done."""
        return self.epoch * self.sampler.steps + self.step

    @property
    def last_epoch(self) -> int:
        """The epoch with which the schedule ends, counted from 1: --epochs, or what --max-time leaves of them."""
        return self.scheduler.plan[2]

    @property
    def finished(self) -> bool:
        since_best = len(self.history) - best_epoch(self.history) if self.history else 0
        return self.epoch >= self.last_epoch or since_best >= (self.args.patience or math.inf)

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
            "average": parallel.model_state(self.evaluated) if self.average else None,
            "plan": self.scheduler.plan,
            "seconds": time.monotonic() - self._clock,
            "finished": self.finished,
            "config": self.config,
            "history": self.history,
            "best_epoch": best_epoch(self.history) if self.history else 0,
            "margins": self.margins.gathered(),
            "shares": [self.sampler.shares.plan, self.sampler.shares.pace],
        }

    def load(self, state: dict) -> None:
        """Become what `state` says."""
        parallel.load_model_state(self.model, state["model"])
        parallel.load_optimizer_state(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            parallel.load_model_state(self.evaluated, state["average"])
        self.history[:] = state["history"]
        self.log.logged = Totals(**state["logged"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.totals = state["totals"] and Totals(**state["totals"])
        self._clock -= state.get("seconds", 0)
        self.margins.sums |= state.get("margins", {})  # earlier versions had none
        self.scheduler.plan = state.get("plan", self.scheduler.plan)
        self.sampler.shares.load(*state.get("shares", ([], [])))
        before = state["config"]
        if (before["epochs"], before.get("max_time")) != (self.args.epochs, self.args.max_time):
            self.scheduler.stretch(self.done, self.args.epochs)
            self._plan()
        self.scheduler.move_to(self.done)

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

    def end_step(self, step: int) -> None:
        """The optimizer has taken the epoch's step `step`, counted from 0: the average and the rate move on."""
        done = self.epoch * self.sampler.steps + step + 1
        if self.average:
            self.average.update(done - 1)
        self.scheduler.move_to(done)
        self.sampler.shares.correct(done, self.sampler.global_batch)

    def end_steps(self) -> None:
        """The epoch's steps are done; validation comes."""
        self._images_per_s = self._photos / (time.monotonic() - self._epoch_began)

    def end_epoch(self, trained: Totals, validated: Totals) -> None:
        """Write and print the epoch's row of the history, keep the model if it is best, plan the rest, and save."""
        self.epoch, self.step, self.totals = self.epoch + 1, 0, None
        self.history.append({
            "epoch": self.epoch, "train_loss": trained.mean_loss, "train_acc": trained.accuracy,
            "val_loss": validated.mean_loss, "val_acc": validated.accuracy,
            "lr": self.scheduler.rate(self.done - 1), "seconds": time.monotonic() - self._epoch_began,
            "images_per_s": self._images_per_s, **({} if validated.auc is None else {"val_auc": validated.auc}),
            **self._memory(),
        })  # fmt: skip
        planned = self.last_epoch
        if self.epoch < planned:
            self._plan()
        self.log.add_epoch(self.history[-1])
        weights = parallel.model_state(self.evaluated)
        with distributed.failing_together():
            if distributed.is_main():
                self._write_epoch(weights)
        self.save()  # before printing, which fails where the terminal is gone
        print(f"[INFO] EPOCH: {self.epoch}/{self.last_epoch}")
        print(trained.summary("Train"), validated.summary("Val"), sep="\n", flush=True)
        if self.epoch == self.last_epoch < planned:
            info("--max-time leaves no time for another epoch: ending here, before the schedule does...")
        elif self.epoch < self.last_epoch and self.finished:
            info(f"no better epoch within --patience {self.args.patience}: ending here...")

    def _memory(self) -> dict[str, float]:
        """The most that a process has held on its GPU since it began."""
        if self.device.type != "cuda":
            return {}
        return {"gpu_gib": distributed.all_reduce_max(torch.cuda.max_memory_allocated(self.device))[0] / 2**30}

    def _plan(self) -> None:
        """Let the schedule end with the last epoch for which --max-time leaves time; rank 0's clock decides."""
        if not (self.args.max_time and self.history):
            return
        left = self.args.max_time - (time.monotonic() - self._clock)
        epoch_s = max(row["seconds"] for row in self.history[-2:])  # of two: after a resumption, one may be short
        fitting = max(int(left * (1 - RESERVE) / epoch_s), self.step > 0)  # an epoch that has begun is ended
        last = distributed.broadcast_object(min(self.epoch + fitting, self.args.epochs))
        if last != self.last_epoch:
            self.scheduler.stretch(self.done, last)

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

    def write_card(self, thresholds: list[float] | None = None, temperature=None, **metrics: float | None) -> dict:
        """Write and return the model card of the kept model, with validation's metrics and these."""
        row = self.history[self.kept_epoch - 1]
        validated = {name: row[name] for name in ("epoch", "val_loss", "val_acc", "val_auc") if name in row}
        measured = {**validated, **metrics}
        return write_model_card(self.output, self.config, self.objective.task, measured, thresholds, temperature)

    # --- the end ---

    def report(self, valLoader, testLoader) -> None:
        """Evaluate the kept model on the test split; print, draw and write the report."""
        self.checkpoints.wait()
        info(f"total time taken to train the model: {time.time() - self.began:.2f}s")
        info("evaluating network...")
        self.load_kept()
        results = assess(self.evaluated, self.objective, valLoader, testLoader, calibrate=self.args.calibrate)
        if self.device.type == "cuda":
            peaks = distributed.gather_objects(torch.cuda.max_memory_allocated(self.device) / 2**30)
            info(f"peak GPU memory of each process, GiB: {', '.join(f'{peak:.2f}' for peak in peaks)}")
        if not distributed.is_main():
            return
        card = self.write_card(results.thresholds, results.temperature, **results.metrics)
        valDS, testDS = valLoader.dataset, testLoader.dataset
        predicted = (valDS, results.validated), (testDS, results.probabilities)
        margins = [predicted_margins(self.objective, answers, dataset.labels) for dataset, answers in predicted]
        datasets = dict(zip(config.SPLITS, (self.dataset, valDS, testDS), strict=True))
        issues = LabelIssues(self.args.data, datasets, [self.margins.means(), *margins])
        write_report(self.output, results, issues, self.history, card, machine_facts(self.launch))
        self.log.add_report(len(self.history), testDS, results.probabilities, **results.metrics)
        print(f"[INFO] labels: {issues.found()}; {LABEL_ISSUES} has the most suspicious first")
        print(*closing_lines(self.history, results.metrics, len(testDS), self.kept_epoch, self.output), sep="\n")

    def load_kept(self) -> None:
        """Load the kept model's weights on every rank."""
        with distributed.failing_together():
            kept = read_state_dict(model_path(self.output)) if distributed.is_main() else {}
        parallel.load_model_state(self.evaluated, distributed.broadcast_object(kept))


class LabelMargins:
    """The margins of the training photos' labels, see objectives, summed over the epochs.

    What a rank adds stays on its device until `gathered` is called.
    sums : "margins", "counts" and "rivals", in the shape of the labels; rivals are of each photo's last epoch
    """

    def __init__(self, objective, loader):
        self.objective, self.sampler, shape = objective, loader.batch_sampler, loader.dataset.labels.shape
        self.sums = {"margins": torch.zeros(shape, dtype=torch.float64)}
        self.sums |= {name: torch.zeros(shape, dtype=torch.int32) for name in ("counts", "rivals")}
        self._added: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, epoch: int, step: int, logits: Tensor, labels: Tensor | MixedLabels) -> None:
        """Add this rank's share of a step; mixed photos do not count."""
        if isinstance(labels, MixedLabels):
            return
        margins, rivals = self.objective.margins(logits, labels)
        mine = self.sampler.batch(epoch, step)[self.sampler.mine(epoch, step)]
        self._added.append((torch.from_numpy(mine), margins, rivals))

    def gathered(self) -> dict[str, Tensor]:
        """The sums over all ranks. Every rank calls this, at the latest at the end of each epoch."""
        mine = [torch.cat(parts).cpu().numpy() for parts in zip(*self._added, strict=True)]
        self._added = []
        for part in filter(None, distributed.gather_objects(mine)):
            rows, margins, rivals = map(torch.from_numpy, part)
            known = margins.isfinite()
            self.sums["margins"].index_add_(0, rows, margins.where(known, 0).double())
            self.sums["counts"].index_add_(0, rows, known.int())
            self.sums["rivals"][rows] = rivals.int()
        return self.sums

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean margins (NaN where none counts), which are the area under the margin, and the rivals."""
        return (self.sums["margins"] / self.sums["counts"]).numpy(), self.sums["rivals"].numpy()


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
        columns = list(dict.fromkeys([*HISTORY_COLUMNS, *(name for row in history for name in row)]))
        writer.writerow(columns)
        for row in history:  # of a run that went on on other devices, not all have "gpu_gib"
            exact = (repr(float(row[name])) if name in row else "" for name in columns[1:])
            writer.writerow([int(row["epoch"]), *exact])
