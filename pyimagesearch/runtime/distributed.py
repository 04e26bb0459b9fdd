"""The ranks of a job: start, gather, agree.

Without a process group every function works as for a world of one: a rank's slice is the whole, a reduction returns its
input. No other file asks whether there is a process group.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pyimagesearch import config
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.threads import available_cores

Item = TypeVar("Item")
# how long a rank waits for the others: longer than rank 0 takes to download weights, shorter than a night
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Launch:
    """How this process was started and what it trains on."""

    parallel: str  # "none", "dp" (nn.DataParallel, one process) or "ddp" (DistributedDataParallel, one per device)
    device: torch.device  # where this rank's model is
    gpus: int  # GPUs of the whole job
    devices: int  # GPUs or processes that share each global batch, at least 1


@contextmanager
def started(parallel: str = "auto") -> Iterator[Launch]:
    """Join the process group for the duration of the block; see start.

    The group is left at the end, and after an error that ends all ranks together. After any other error the remaining
    ranks may still be waiting in a collective, and leaving the group could wait for them.
    """
    launch = start(parallel)
    try:
        yield launch
    except (UserError, SystemExit):
        stop()
        raise
    stop()


def start(parallel: str = "auto") -> Launch:
    """Join the process group that torchrun's environment variables announce, if any.

    parallel : "ddp", "dp" or "none"; "auto" is DistributedDataParallel under torchrun, nn.DataParallel for several GPUs
        in one process, and neither otherwise
    """
    processes = int(os.environ["WORLD_SIZE"]) if launched() else 1
    if parallel in ("dp", "none") and processes > 1:
        raise UserError(
            f"--parallel {parallel} is for one process and torchrun started {processes}; leave --parallel out, or "
            "start with plain python"
        )
    gpus = torch.cuda.device_count()
    if parallel == "auto":
        parallel = "ddp" if launched() else "dp" if gpus > 1 else "none"
    if parallel == "ddp":
        device = _own_device(gpus)
        _join(device)
        launch = Launch("ddp", device, world_size() if device.type == "cuda" else 0, world_size())
    else:
        gpus = gpus if parallel == "dp" else min(gpus, 1)
        launch = Launch(parallel, config.DEVICE, gpus, max(gpus, 1))
    # torchrun gives each process one thread; plain torch takes every core of the host, even in a container of two
    if local_world_size() > 1 or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores_of_rank())
    return launch


def _own_device(gpus: int) -> torch.device:
    """One GPU per process if this host has GPUs, else the CPU."""
    if gpus == 0:
        return torch.device("cpu")
    if local_world_size() > gpus:
        raise UserError(
            f"{local_world_size()} processes were started on this host, which has {gpus} GPUs; start one per GPU, or "
            'hide the GPUs with CUDA_VISIBLE_DEVICES=""'
        )
    device = torch.device("cuda", local_rank())
    torch.cuda.set_device(device)
    return device


def _join(device: torch.device) -> None:
    """Join the process group: nccl for tensors on GPUs, gloo for tensors on CPUs and for objects."""
    # Adam imports torch._dynamo. Imported within a group, parts of it keep the group as a default argument, so it would
    # outlive stop(), and its threads abort a process that ends while they run.
    import torch._dynamo  # noqa: F401

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if launched():
        dist.init_process_group(backend, timeout=TIMEOUT)
    else:  # `--parallel ddp` without a launcher: a world of one
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    if _elastic() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and is_main():
        # https://github.com/pytorch/pytorch/issues/135712: a restart may use the addresses of the processes before it
        terminal.info("set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun, or its restarts may fail...")
    if not is_main():  # only rank 0 prints; errors go to stderr from any rank
        terminal.quiet = True
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launched() -> bool:
    """Whether torchrun, or another launcher with its environment variables, started this process."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size() -> int:
    """The number of processes of this job on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is rank 0, the only one that prints, draws and writes."""
    return rank() == 0


def cores_of_rank() -> int:
    """This rank's even share of the host's available cores, at least 1."""
    return max(1, available_cores() // local_world_size())


def run_id() -> str:
    """torchrun's name of the job, which restarts keep; empty without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


def restarted(first_run_id: str) -> bool:
    """Whether torchrun started this process to continue the run that the job `first_run_id` began.

    The restart count cannot tell: it does not change when a host joins or leaves.
    """
    return _elastic() and first_run_id == run_id()


def _elastic() -> bool:
    """Whether torchrun restarts the processes of this job when they fail."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def rank_slice(count: int) -> slice:
    """This rank's contiguous part of `count` items. The parts of two ranks differ by at most one item."""
    return slice(rank() * count // world_size(), (rank() + 1) * count // world_size())


def all_reduce_sum(values: Tensor) -> Tensor:
    """The element-wise sum of `values` over all ranks, on every rank. Any shape and dtype, the same on each rank."""
    return _all_reduce(values, dist.ReduceOp.SUM)


def all_reduce_min(values: Tensor) -> Tensor:
    """The element-wise minimum, as all_reduce_sum."""
    return _all_reduce(values, dist.ReduceOp.MIN)


def all_reduce_max(*numbers: int) -> list[int]:
    """The maximum of each number over all ranks. It is computed on CPUs, so no rank waits for its GPU."""
    return _all_reduce(torch.tensor(numbers, dtype=torch.int64), dist.ReduceOp.MAX).tolist()


def _all_reduce(values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values, operation)
    return values


def gather_objects(item: Item) -> list[Item]:
    """The `item` of every rank, in rank order, on every rank. Pickled: meant for a few arrays per epoch."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def broadcast_object(item: Item) -> Item:
    """Rank 0's `item` on every rank."""
    if world_size() == 1:
        return item
    items = [item]
    dist.broadcast_object_list(items, src=0)
    return items[0]


@contextmanager
def failing_together() -> Iterator[None]:
    """A block that every rank enters, and that ends on every rank when it raises UserError on any.

    The first rank with an error raises it. The others raise SystemExit(2), so the error is printed once and no rank
    waits for one that has left.
    """
    failure = None
    try:
        yield
    except UserError as error:
        failure = error
    failed = world_size() - all_reduce_max(0 if failure is None else world_size() - rank())[0]
    if failed < world_size():
        raise failure if failure is not None and rank() == failed else SystemExit(2)


def in_step(batches: Iterable[Item]) -> Iterator[Item]:
    """The items of `batches`, equally many on every rank. Each is yielded when all ranks have theirs."""
    iterator, end = iter(batches), object()
    while True:
        with failing_together():
            batch: Any = next(iterator, end)
        if batch is end:
            return
        yield batch


def main_first(function: Callable[[], Item], *, per_host: bool = False) -> Item:
    """Call `function()` on rank 0, then on the others, which find on the disk what rank 0 wrote.

    per_host : call it on the first rank of each host first, because each host has its own disk
    """
    first = local_rank() == 0 if per_host else is_main()
    for turn in (True, False):
        with failing_together():
            if first is turn:
                result = function()
    return result
