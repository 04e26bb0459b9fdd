"""What starts the ranks: --nproc here, torchrun, or a program that sets the same environment variables."""

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable

from pyimagesearch.runtime import signals
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.threads import available_cores

NPROC = "nproc-"  # how torchrun's name of a job begins that --nproc started
# seconds between two looks for the launcher, and for a rank to save without it: nothing of a job outlives it by 10
LOOK_EVERY_S, GRACE_S = 1, 7


def run_by_torchrun(script: str, arguments: list[str], processes: int) -> int:
    """Run `script` in `processes` processes on this host with torch.distributed's own launcher.

    Returns the exit status: 0, that of a process that failed, or 128 + the number of the signal received.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if launched():
        raise UserError(
            f"--nproc {processes} starts processes, and a launcher has started this one (RANK and WORLD_SIZE are set); "
            "leave out one of the two"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    job = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=NPROC + uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, signals_to_handle=",".join(signals.names_here()),
    )  # fmt: skip
    try:
        elastic_launch(job, sys.executable)("-u", script, *arguments)
    except ChildFailedError as error:
        return _status({rank: failure.exitcode for rank, failure in error.failures.items()})
    except SignalException as stopped:
        return 128 + stopped.sigval
    return 0


def _status(exitcodes: dict[int, int]) -> int:
    """The exit status for those of the ranks that failed; -n, killed by signal n, is 128 + n as in a shell.

    Says which rank was killed. One that ended by itself has printed its error, and the others get torchrun's SIGTERM.
    """
    for rank, code in exitcodes.items():
        if code < 0 and -code != signal.SIGTERM:
            out_of_memory = "; does this host run out of memory? Try fewer --workers or a smaller --batch-size"
            advice = out_of_memory if -code == signal.SIGKILL else ""
            print(f"error: rank {rank} was killed by {signal.Signals(-code).name}{advice}", file=sys.stderr)
            return 128 - code
    code = max(exitcodes.values())
    return code if code > 0 else 128 - code


def launched() -> bool:
    """Whether torchrun, or another launcher with its environment variables, started this process."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def run_id() -> str:
    """torchrun's name of the job, which restarts keep; empty without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


def restart_count() -> int:
    """How often torchrun has restarted the processes of this job."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def check_environment() -> None:
    """Raise UserError unless the variables of a launcher are complete and fit each other."""
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise UserError(
            f"RANK and WORLD_SIZE are set, but not {' and '.join(missing)}; set them to the host of rank 0 and a free "
            "port there, start with torchrun, or unset RANK and WORLD_SIZE"
        )
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    given = {name: os.environ[name] for name in names if name in os.environ}
    for name, text in given.items():
        if not text.isdecimal():
            raise UserError(f"the environment variable {name} is {text!r}; expected a whole number")
    for name, count in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        if {name, count} <= given.keys() and int(given[name]) >= int(given[count]):
            raise UserError(f"{name} is {given[name]} and {count} is {given[count]}; expected 0 to {count} - 1")


def end_with_launcher() -> None:
    """Let a rank of torchrun or --nproc save and end after a launcher that was killed before it stopped its ranks.

    Other launchers may end before their ranks. On Windows a process keeps the number of its parent, and goes on.
    """
    launcher = os.getppid()

    def wait() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOK_EVERY_S)

    if run_id():
        end_after(wait, GRACE_S)


def end_after(wait: Callable[[], None], grace_s: float = 0) -> None:
    """When `wait()` returns, in a thread, send this process a SIGTERM; end it after `grace_s` wherever it is then."""

    def watch() -> None:
        wait()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
