"""Start a script in several processes of this host, for people without torchrun."""

import os
import sys
import uuid

from pyimagesearch.runtime import signals
from pyimagesearch.runtime.threads import available_cores


def run_by_torchrun(script: str, arguments: list[str], processes: int) -> int:
    """Run `script` in `processes` processes on this host with torch.distributed's own launcher.

    Returns the exit status: 0, that of the first process that failed, or 128 + the number of the signal received.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    job = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, signals_to_handle=",".join(signals.NAMES),
    )  # fmt: skip
    try:
        elastic_launch(job, sys.executable)("-u", script, *arguments)
    except ChildFailedError as error:  # the process has printed its own error
        exitcode = error.get_first_failure()[1].exitcode
        return 128 - exitcode if exitcode < 0 else exitcode  # -n, killed by signal n, is 128 + n in a shell
    except SignalException as stopped:
        return 128 + stopped.sigval
    return 0


def restart_count() -> int:
    """How often torchrun has restarted the processes of this job."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
