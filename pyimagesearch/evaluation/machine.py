"""What a run trains on, in words."""

import platform
import shlex
import sys

import torch

from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.threads import available_cores


def machine_facts(launch: distributed.Launch) -> dict[str, str]:
    """The facts of this host and of the launch, by what a person calls them."""
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": str(available_cores()),
        "GPUs": f"{launch.gpus} x {torch.cuda.get_device_name(launch.device)}" if launch.gpus else "none",
        "command": shlex.join(sys.argv),
        "processes": f"{distributed.world_size()} (--parallel {launch.parallel})",
    }


def processor() -> str:
    """The model of this host's processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # Linux; platform knows the family only
            named = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(named, "") or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()
