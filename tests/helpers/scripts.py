"""A script of the project, run as a person does."""

import os
import subprocess
import sys

from helpers.photos import REPOSITORY


def run(script: str, *arguments, folder=REPOSITORY, status: int = 0, processes: int = 0) -> tuple[str, str]:
    """The script's standard output and error; it must end with `status`."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes else []
    command = [sys.executable, *torchrun, REPOSITORY / script, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr
