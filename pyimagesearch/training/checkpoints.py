"""Checkpoints: written whole or not at all while training goes on, found again, and checked against the run's flags."""

import os
import re
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pyimagesearch.models.model_card import current_names
from pyimagesearch.runtime import distributed, launcher
from pyimagesearch.runtime.errors import UserError, system_message
from pyimagesearch.runtime.files import TEMPORARY_SUFFIX, atomic_write, refuse_unwritable
from pyimagesearch.runtime.terminal import info
from pyimagesearch.training.options import training_options

CHECKPOINT_NAME = "checkpoint-{epoch:04d}-{step:06d}.pt"  # whole epochs, and steps of the next one
PATTERN = re.compile(r"checkpoint-(\d+)-(\d+)\.pt")
KEEP = 2
# flags that may differ between a run and its resumption: they do not change the training stream
MAY_CHANGE = {
    "accumulate", "activation_checkpointing", "batch_size", "cache_dir", "calibrate", "checkpoint_every", "compile",
    "data", "epochs", "fit_batch", "limit", "lr_batch_size", "max_time", "nproc", "origin", "output", "parallel",
    "partial_weights", "parts_for_memory", "patience", "plan", "quiet", "recipe", "restart", "resume", "run_id",
    "shares", "tensorboard", "workers",
}  # fmt: skip


def find_start(args) -> dict | None:
    """The checkpoint from which a run goes on; None where it begins. A run that torchrun restarts goes on by itself.

    Raises UserError where an unfinished run would be lost, or --output cannot be written.
    """
    checkpoints = Checkpoints(checkpoint_folder(args.output))
    checkpoints.check_writable()
    if args.restart and not launcher.restart_count():  # a restarted job was given the flag when it first began
        return None
    state = checkpoints.newest()
    if state is None:
        if args.resume:
            info(f"no checkpoint in {checkpoints.folder}: starting from the beginning...")
        return None
    done, wanted = state["epoch"], state["config"]["epochs"]
    if not args.resume and not distributed.restarted(state["config"]["run_id"]):
        if not state["finished"]:
            raise UserError(
                f"{checkpoints.folder} holds a run that is not finished ({done} of {wanted} epochs); go on with "
                "--resume, discard it with --restart, or write to another --output"
            )
        return None
    info(f"resuming after {done} epochs and {state['step']} steps...")
    return state


def check_same_run(before: Mapping, now: Mapping) -> None:
    """Raise UserError, naming the flags, unless a run of config `now` goes on where one of config `before` stood."""
    # the cosine's rate and the growing side of images depend on the number of epochs
    free = MAY_CHANGE - {"epochs"} if now["scheduler"] == "cosine" or now.get("grow_from", 1) < 1 else MAY_CHANGE
    before = vars(training_options([])) | dict(before)  # a flag that an earlier version did not have had its default
    if differing := [name for name in now if name not in free and now[name] != before.get(name)]:
        parts = (f"{_flag(name)} is {now[name]} and was {before.get(name, 'not known')}" for name in differing)
        raise UserError(
            f"cannot resume another run: {'; '.join(parts)}; resume with what it was, or begin anew with --restart"
        )


def _flag(name: str) -> str:
    special = {"classes": "the list of classes", "photos": "the fingerprint of the training photos"}
    return special.get(name, f"--{name.replace('_', '-')}")


def checkpoint_folder(output: str) -> str:
    return os.path.join(output, "checkpoints")


class Checkpoints:
    """A folder of checkpoints: the newest two and the one after the best epoch are kept.

    A checkpoint is what training.run.Run.state returns. Only rank 0 writes.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = os.fspath(folder)
        self._writer: threading.Thread | None = None
        self._failure: OSError | None = None

    def save(self, state: dict) -> None:
        """Copy `state` now and write it in a thread. Every rank calls this.

        Raises UserError where this save or the one before failed; what was saved earlier is intact.
        """
        self.wait()
        if distributed.is_main():
            self._writer = threading.Thread(target=self._write, args=(to_cpu(state),))
            self._writer.start()

    def wait(self) -> None:
        """Return when all is on the disk. Every rank calls this at the same time."""
        with distributed.failing_together():
            if self._writer is not None:
                self._writer.join()
                self._writer = None
            if (failure := self._failure) is not None:
                self._failure = None
                raise UserError(
                    f"cannot save a checkpoint in {self.folder} ({system_message(failure)}); the earlier ones are "
                    "intact: make room, or mend what it says, and go on with --resume"
                )

    def _write(self, state: dict) -> None:
        try:
            save_tensors(os.path.join(self.folder, CHECKPOINT_NAME.format(**state)), state)
            self._prune(state["best_epoch"])
        except OSError as error:
            self._failure = error

    def _prune(self, best_epoch: int) -> None:
        """Remove what is neither new nor best, and what a killed run left of a file."""
        best = CHECKPOINT_NAME.format(epoch=best_epoch, step=0)
        old = [name for name in self.names()[:-KEEP] if name != best]
        torn = [name for name in os.listdir(self.folder) if name.endswith(TEMPORARY_SUFFIX)]
        for name in old + torn:
            os.unlink(os.path.join(self.folder, name))

    def names(self) -> list[str]:
        """The checkpoints in the folder, oldest first."""
        found = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        numbered = [(tuple(map(int, match.groups())), match[0]) for match in map(PATTERN.fullmatch, found) if match]
        return [name for _, name in sorted(numbered)]

    def newest(self) -> dict | None:
        """The newest whole checkpoint, its tensors on the CPU, on every rank; None where there is no file.

        Nothing in a file is executed. One that cannot be loaded is named, and the one before it is tried.
        """
        state = None
        with distributed.failing_together():
            if distributed.is_main():
                state = self._newest()
        return distributed.broadcast_object(state)

    def _newest(self) -> dict | None:
        names = self.names()
        for name in reversed(names):
            path = os.path.join(self.folder, name)
            try:
                return _load(path)
            except Exception:  # the unpickler raises nearly anything for a damaged file
                print(f"[INFO] skipping {path}, which is no whole checkpoint...")
        if names:
            raise UserError(f"no checkpoint in {self.folder} can be loaded; begin again with --restart")
        return None

    def check_writable(self) -> None:
        """Raise UserError now, and not after the first epoch, where no file can be written."""
        with distributed.failing_together():
            if distributed.is_main():
                refuse_unwritable(os.path.join(self.folder, "checkpoint"), "name another --output")

    def clear(self) -> None:
        """Remove every checkpoint, for a run that begins."""
        if distributed.is_main():
            for name in self.names():
                os.unlink(os.path.join(self.folder, name))


def save_tensors(path: str, value: Any) -> None:
    """torch.save `value`, whole or not at all. Raises OSError."""
    with atomic_write(path) as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:  # torch's form of a write that failed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _load(path: str) -> dict:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "identity" in state:  # its name in earlier versions
        state["config"] = state.pop("identity")
    if not {"epoch", "step", "config"} <= state.keys():
        raise ValueError("it lacks what a checkpoint has")
    state["config"] = current_names(state["config"])
    state.setdefault("finished", state["epoch"] >= state["config"]["epochs"])  # earlier versions
    return state


def to_cpu(value: Any) -> Any:
    """`value` with every tensor in it copied to the CPU, so that training may go on changing the original."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), value)
