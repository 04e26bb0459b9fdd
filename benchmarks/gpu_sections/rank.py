"""One rank of a world that gpu_check.py starts, with a backend and devices that the scripts do not choose.

Its only argument is the JSON of: rank, world, backend, gpu, data, output, and runs, flags of train_distributed.py by
name. Rank 0 writes OUTPUT/found.json: for each run the losses of its steps, and with frozen BatchNorm ms a step.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch._dynamo  # see pyimagesearch.runtime.distributed
import torch.distributed as dist

from gpu_sections.correctness import BUFFERS
from gpu_sections.kit import Watch, begin, step_losses, synchronize
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.distributed import Launch
from pyimagesearch.training.loop import train_epoch


def main() -> None:
    settings = json.loads(sys.argv[1])
    rank, world, output = settings["rank"], settings["world"], Path(settings["output"])
    terminal.quiet = True
    device = torch.device("cpu")
    if settings["gpu"]:
        device = torch.device("cuda", rank if settings["backend"] == "nccl" else 0)
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    backend = "cpu:gloo,cuda:nccl" if settings["backend"] == "nccl" else "gloo"
    meeting = f"file://{output.absolute()}/meeting"
    dist.init_process_group(backend, meeting, timedelta(seconds=60), world_size=world, rank=rank)
    launch = Launch("ddp", device, world if settings["gpu"] else 0, world)
    found = {name: train(launch, settings["data"], output, flags) for name, flags in settings["runs"].items()}
    if rank == 0:
        (output / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def train(launch: Launch, data: str, output: Path, flags: list[str]) -> dict:
    run, loader, _ = begin(launch, data, output, *flags)
    found = {"losses": step_losses(run, loader), "broadcasts": run.model.broadcast_buffers, "ms": {}}
    for name, run.model.broadcast_buffers in BUFFERS.items() if "--freeze-bn" in flags else ():
        synchronize(launch.device.type)
        began = time.perf_counter()
        train_epoch(run, loader, Watch(lambda done, running: None))
        found["ms"][name] = 1000 * (time.perf_counter() - began) / run.sampler.steps
    return found


if __name__ == "__main__":
    main()
