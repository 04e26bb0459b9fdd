"""Everything that knows about ranks: start, wrap, share, gather, rank 0, stop.

With one process every function here is a no-op of the same shape: world size 1, a share is the whole, a gather the
identity. No other file asks whether a process group exists.
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
    """How this process was started and what it trains on.

    parallel : "none", "dp" (nn.DataParallel, one process) or "ddp" (DistributedDataParallel, one process a device)
    device : where this rank's model lives
    gpus : the GPUs of the whole job
    devices : what the global batch is shared by, GPUs or processes, at least 1
    """

    parallel: str
    device: torch.device
    gpus: int
    devices: int


# --- start and stop --------------------------------------------------------------------------------------------------


def start(parallel: str = "auto") -> Launch:
    """Join the process group that torchrun announces in the environment, if it does, and say how this process trains.

    Parameters
    ----------
    parallel : "auto" takes DistributedDataParallel under torchrun, nn.DataParallel for several GPUs in one process, and
        neither otherwise; "ddp", "dp" and "none" ask for one of them

    Raises
    ------
    UserError : `parallel` does not go with the launch, or this host has fewer GPUs than processes
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
    # torchrun leaves each process one thread, and torch would take every core of a host of which a container has two
    if launch.device.type == "cpu" and (local_world_size() > 1 or "OMP_NUM_THREADS" not in os.environ):
        torch.set_num_threads(cores_of_rank())
    return launch


def _own_device(gpus: int) -> torch.device:
    """One GPU a process where this host has GPUs, else the CPU."""
    if gpus == 0:
        return torch.device("cpu")
    if local_world_size() > gpus:
        raise UserError(
            f"{local_world_size()} processes were started on this host, which has {gpus} GPUs; start one a GPU, or "
            'hide the GPUs with CUDA_VISIBLE_DEVICES=""'
        )
    device = torch.device("cuda", local_rank())
    torch.cuda.set_device(device)
    return device


def _join(device: torch.device) -> None:
    """Tensors on GPUs travel by nccl; those on the CPU, signals and objects among them, by gloo."""
    # Adam imports this, and parts of it that are imported within a group hold on to it as a default argument: it would
    # outlive stop(), and its threads abort a process that ends while they run
    import torch._dynamo  # noqa: F401

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if launched():
        dist.init_process_group(backend, timeout=TIMEOUT)
    else:  # `--parallel ddp` without a launcher: a world of one
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    if _elastic() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and is_main():
        # https://github.com/pytorch/pytorch/issues/135712: a restart may meet the addresses of the processes before it
        terminal.info("set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun, or its restarts may fail...")
    if not is_main():
        terminal.quiet = True
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  only rank 0 tells; errors go to stderr, from any rank


@contextmanager
def started(parallel: str = "auto") -> Iterator[Launch]:
    """A block within the process group; see start.

    The group is left at the end, and after an error that ends all ranks together. After any other, other ranks may be
    waiting in it, and leaving it could wait for them.
    """
    launch = start(parallel)
    try:
        yield launch
    except (UserError, SystemExit):
        stop()
        raise
    stop()


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launched() -> bool:
    """Whether a launcher, torchrun or another that speaks its environment variables, started this process."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


# --- who am I --------------------------------------------------------------------------------------------------------


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size() -> int:
    """The processes of this job on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is rank 0, which alone prints, draws and writes."""
    return rank() == 0


def cores_of_rank() -> int:
    """The cores that this rank may use, when the ranks of this host share them evenly."""
    return max(1, available_cores() // local_world_size())


def run_id() -> str:
    """torchrun's name of the job, the same after each of its restarts; empty without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


def restarted(begun_by: str) -> bool:
    """Whether torchrun started this process to go on with the run that the job `begun_by` (a run_id) began.

    The count of restarts alone does not tell: it stays when a host leaves or joins.
    """
    return _elastic() and begun_by == run_id()


def _elastic() -> bool:
    """Whether torchrun starts the processes of this job again when they fail."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


# --- share, agree, gather --------------------------------------------------------------------------------------------


def rank_slice(count: int) -> slice:
    """This rank's part of `count` items: contiguous, and no two ranks' parts differ by more than one item."""
    return slice(rank() * count // world_size(), (rank() + 1) * count // world_size())


def sum_over_ranks(values: Tensor) -> Tensor:
    """The element-wise sum of every rank's `values` (any shape and dtype, the same on each)."""
    return _reduce(values, dist.ReduceOp.SUM)


def max_over_ranks(values: Tensor) -> Tensor:
    """The element-wise maximum of every rank's `values` (any shape and dtype, the same on each)."""
    return _reduce(values, dist.ReduceOp.MAX)


def _reduce(values: Tensor, operation: dist.ReduceOp) -> Tensor:
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values, operation)
    return values


def gather_objects(item: Item) -> list[Item]:
    """Every rank's `item`, in the order of ranks, on every rank. Pickled: meant for a few arrays an epoch."""
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


def all_reduce_max(*numbers: int) -> list[int]:
    """The maximum over all ranks of each number. It travels between the hosts' CPUs: no rank waits for a GPU."""
    return max_over_ranks(torch.tensor(numbers, dtype=torch.int64)).tolist()


@contextmanager
def failing_together() -> Iterator[None]:
    """A block that every rank enters: when it ends in UserError on any of them, it ends them all.

    The first rank that met an error raises it and so tells it once; the others leave silently with the same exit
    status, in place of waiting for a rank that is gone.
    """
    failure = None
    try:
        yield
    except UserError as error:
        failure = error
    teller = world_size() - all_reduce_max(0 if failure is None else world_size() - rank())[0]
    if teller < world_size():
        raise failure if failure is not None and rank() == teller else SystemExit(2)


def in_step(batches: Iterable[Item]) -> Iterator[Item]:
    """The items of `batches`, as many on every rank, handed out when each rank has its own; see failing_together."""
    iterator, end = iter(batches), object()
    while True:
        with failing_together():
            batch = next(iterator, end)
        if batch is end:
            return
        yield batch


def main_first(function: Callable[[], Item]) -> Item:
    """Call `function()` on rank 0, and when that is done on the others, which find on the disk what rank 0 fetched."""
    return _some_first(is_main(), function)


def host_first(function: Callable[[], Item]) -> Item:
    """As main_first, but on the first rank of each host, since each host has a disk of its own."""
    return _some_first(local_rank() == 0, function)


def _some_first(first: bool, function: Callable[[], Item]) -> Item:
    for turn in (True, False):
        with failing_together():
            if first is turn:
                result = function()
    return result
