"""What the sections of gpu_check.py share: their settings, drawn photos, and a run made of the package's own parts."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import measuring
import torch
from made_photos import make_dataset, make_folder

from pyimagesearch.create_dataloaders import open_splits
from pyimagesearch.evaluation.evaluate import Totals
from pyimagesearch.food_classifier import AMP_DTYPES, build_model, resolve_amp
from pyimagesearch.models.objectives import build_objective
from pyimagesearch.runtime.distributed import Launch
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.training.loop import train_epoch
from pyimagesearch.training.optimizer import Schedule, build_optimizer
from pyimagesearch.training.options import resolve, training_options
from pyimagesearch.training.run import Run

# for the processes that a section starts
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, (measuring.REPOSITORY / "benchmarks", measuring.REPOSITORY)))}


@dataclass(frozen=True)
class Kit:
    """The settings of a section.

    device : "cuda" or "cpu"
    quick : tiny shapes, whose figures say nothing
    seconds : after which the section is ended
    folder : empty; removed after the section
    """

    device: str
    quick: bool
    seconds: float
    folder: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    def launch(self) -> Launch:
        return Launch("none", torch.device(self.device), int(self.gpu), 1)

    def dataset(self, training: int, side: int, *, others: int = 11, distinct: int = 0) -> Path:
        """A drawn dataset of so many photos; with `distinct`, copies of so many, which take less time to draw."""
        given = make_folder(self.folder / "drawn", distinct, side) if distinct else None
        return make_dataset(self.folder / "dataset", (training, others, others), side, given)

    def take_turns(self, turns: Mapping[str, Callable], *, share: float = 1.0, warmups: int = 1) -> dict:
        """One to five rounds of measuring.interleave, those that begin within this share of the section's time."""
        until = self.began + 0.7 * self.seconds * share
        return measuring.interleave(turns, 1 if self.quick else 5, warmups=warmups, until=until)

    def as_time_allows(self, items: Sequence, found: "Findings") -> Iterator:
        """The items, while there is time for one that takes as long as the longest so far; others become a fact."""
        longest = 0.0
        for number, item in enumerate(items):
            began = time.monotonic()
            if began + longest > self.began + 0.9 * self.seconds:
                found.facts["no time was left for"] = ", ".join(map(str, items[number:]))
                return
            yield item
            longest = max(longest, time.monotonic() - began)


class Findings:
    """What a section found: facts by name, and claims, each with whether it holds and the figure that says so."""

    def __init__(self):
        self.facts: dict[str, str] = {}
        self.claims: dict[str, dict] = {}
        self.rounds: dict[str, dict] = {}

    def claim(self, sentence: str, holds: bool, found: str) -> None:
        self.claims[sentence] = {"holds": bool(holds), "found": found}


class Watch:
    """In place of StepHooks: calls `after_step(done, running)` after each step and does nothing else."""

    def __init__(self, after_step: Callable):
        self._after_step = after_step

    def ask(self) -> tuple:
        return ()

    def __enter__(self) -> "Watch":
        self._begun = False
        return self

    def __exit__(self, *_) -> None:
        pass

    def __call__(self, done: int, running, *agreed) -> None:
        if self._begun:  # not before the first step
            self._after_step(done, running)
        self._begun = True


def begin(launch: Launch, data: Path, output: Path, *flags):
    """(run, training's loader, validation's loader), made as train_distributed.py makes them, from scratch."""
    flags = ["--data", data, "--output", output, "--weights", "none", *flags]
    args = resolve(training_options([str(flag) for flag in flags]), launch, None)
    trainLoader, valLoader, _ = open_splits(args, launch.device)
    model = build_model(args, launch, trainLoader, pretrained=False)
    objective = build_objective(trainLoader.dataset, label_smoothing=0.0, balanced=False, device=launch.device)
    optimizer = build_optimizer(args, model)
    scheduler = Schedule(args.scheduler, optimizer, steps=trainLoader.batch_sampler.steps, epochs=args.epochs)
    scaler = torch.amp.GradScaler(launch.device.type, enabled=args.amp == "fp16")
    return Run(args, launch, model, objective, optimizer, scheduler, scaler, trainLoader), trainLoader, valLoader


def step_losses(run: Run, loader) -> list[float]:
    """The mean loss over the global batch, for each step of an epoch."""
    sums = [Totals(0, 0, 0)]
    train_epoch(run, loader, Watch(lambda done, running: sums.append(running.read())))
    return [(after.loss - before.loss) / (after.count - before.count) for before, after in pairwise(sums)]


def furthest(losses: list[float], reference: list[float]) -> float:
    """The largest relative difference of two lists of losses."""
    return max(abs(one - other) / abs(other) for one, other in zip(losses, reference, strict=True))


def refusal(device: str, amp: str) -> str:
    """Why --amp `amp` is refused on this device; empty if it is not."""
    if amp not in AMP_DTYPES:
        return f"{amp} is no choice of --amp"
    try:
        resolve_amp(amp, torch.device(device))
    except UserError as error:
        return one_line(error)
    return ""


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
