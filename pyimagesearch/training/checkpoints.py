"""What is saved of a run, how it is never half-written, how it comes back."""

import os
import re
import threading
from typing import Any

import torch

from pyimagesearch.runtime import distributed, launcher
from pyimagesearch.runtime.errors import UserError, system_message
from pyimagesearch.runtime.files import TEMPORARY_SUFFIX, atomic_write, write_text
from pyimagesearch.runtime.terminal import info

# epochs that are done, and steps of the next one
CHECKPOINT_NAME = "checkpoint-{epoch:04d}-{step:06d}.pt"
PATTERN = re.compile(r"checkpoint-(\d+)-(\d+)\.pt")
KEEP = 2


class Checkpoints:
    """A folder of checkpoints: the newest two and the one after the best epoch are kept.

    A checkpoint is what run.Run.state gives. Only rank 0 writes.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = os.fspath(folder)
        self._writer: threading.Thread | None = None
        self._failure: OSError | None = None

    def save(self, state: dict) -> None:
        """Copy `state` now and write it while training goes on.

        Raises
        ------
        UserError : this save or the one before failed; what was saved earlier is intact
        """
        self.wait()
        if distributed.is_main():
            self._writer = threading.Thread(target=self._write, args=(to_cpu(state),))
            self._writer.start()

    def wait(self) -> None:
        """Return when all is on the disk. Every rank calls this at the same time.

        Raises
        ------
        UserError : it could not be written
        """
        with distributed.failing_together():
            if self._writer is not None:
                self._writer.join()
                self._writer = None
            if (failure := self._failure) is not None:
                self._failure = None
                raise UserError(
                    f"cannot save a checkpoint in {self.folder} ({system_message(failure)}); those before it are "
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
        """The newest checkpoint that is whole, its tensors on the CPU, on every rank; None where there is no file.

        Nothing in a file is executed. One that cannot be loaded is named, and the one before it is tried.

        Raises
        ------
        UserError : there are files and none can be loaded
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
            except Exception:  # the unpickler raises nearly anything of a damaged file
                print(f"[INFO] passing over {path}, which is no whole checkpoint...")
        if names:
            raise UserError(f"no checkpoint in {self.folder} can be loaded; begin again with --restart")
        return None

    def check_writable(self) -> None:
        """Raise UserError where no file can be written, so that nobody learns it after the first epoch."""
        with distributed.failing_together():
            if distributed.is_main():
                probe = os.path.join(self.folder, f"probe{TEMPORARY_SUFFIX}")
                try:
                    write_text(probe, "")
                    os.unlink(probe)
                except OSError as error:
                    raise UserError(
                        f"cannot write to {self.folder}: {system_message(error)}; name another --output"
                    ) from None

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
        except RuntimeError as error:  # so torch tells of a write that failed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _load(path: str) -> dict:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not {"epoch", "step", "identity"} <= state.keys():
        raise ValueError("it lacks what a checkpoint has")
    return state


def to_cpu(value: Any) -> Any:
    """`value` with every tensor in it copied to the CPU, so that training may go on changing the original."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_cpu(item) for item in value)
    return value


# --- going on, or beginning ------------------------------------------------------------------------------------------


def find_start(checkpoints: Checkpoints, *, resume: bool, restart: bool) -> dict | None:
    """The checkpoint from which a run goes on, or None where it begins. A run that torchrun restarts goes on by itself.

    Parameters
    ----------
    resume, restart : the two flags; without either, a run that is not finished is not begun again

    Raises
    ------
    UserError : an unfinished run would be lost, or the folder cannot be written
    """
    checkpoints.check_writable()
    if restart and not launcher.restart_count():  # a restarted job was given the flag when it first began
        return None
    state = checkpoints.newest()
    if state is None:
        if resume:
            info(f"no checkpoint in {checkpoints.folder}: starting from the beginning...")
        return None
    done, wanted = state["epoch"], state["identity"]["epochs"]
    if not resume and not distributed.restarted(state["identity"]["run id"]):
        if done < wanted:
            raise UserError(
                f"{checkpoints.folder} holds a run that is not finished ({done} of {wanted} epochs); go on with "
                "--resume, throw it away with --restart, or write to another --output"
            )
        return None
    info(f"resuming after {done} epochs and {state['step']} steps...")
    return state


def check_same_run(state: dict, identity: dict) -> None:
    """Raise UserError, naming the flags, where a run of `identity` would not be the one that `state` was saved of.

    The number of epochs may grow; the number of processes, and of the parts in which each takes its share, may change.
    """
    before, free = state["identity"], ("epochs", "accumulate", "run id")
    if differing := [name for name in identity if name not in free and identity[name] != before.get(name)]:
        # what was saved by an older version knows nothing of newer flags
        parts = (f"{name} is {identity[name]} and was {before.get(name, 'not there yet')}" for name in differing)
        raise UserError(
            f"cannot resume another run: {'; '.join(parts)}; resume with what it was, or begin anew with --restart"
        )
