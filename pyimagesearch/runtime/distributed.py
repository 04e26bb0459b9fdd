"""The ranks of a job: start, gather, agree.

Without a process group every function works as for a world of one: a reduction returns its input. No other file asks
whether there is a process group.
"""

import json
import os
import platform
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pyimagesearch import __version__, config
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, report
from pyimagesearch.runtime.launcher import GRACE_S, check_environment, launched, restart_count, run_id
from pyimagesearch.runtime.threads import available_cores

Item = TypeVar("Item")
# how long a rank waits for the others: longer than rank 0 takes to download weights, shorter than a night
TIMEOUT = timedelta(minutes=30)
JOIN_TIMEOUT = timedelta(minutes=10)  # how long it waits for them at the start
# flags that may differ between ranks: paths, which each host has its own of, and what changes no batch
MAY_DIFFER = {"cache_dir", "data", "images", "nproc", "origin", "output", "quiet", "workers"}
_store: dist.Store  # of the job: what ranks say to each other outside of collectives


@dataclass(frozen=True)
class Launch:
    """How this process was started and what it trains on."""

    parallel: str  # "none", "dp" (nn.DataParallel, one process), or of one process per device "ddp" or "fsdp"
    device: torch.device  # where this rank's model is
    gpus: int  # GPUs of the whole job
    devices: int  # GPUs or processes that share each global batch, at least 1


@contextmanager
def started(parallel: str = "auto") -> Iterator[Launch]:
    """Join the process group for the duration of the block; see start.

    After an error that ends all ranks together the group is left. After any other one the remaining ranks may be in a
    collective, and to leave the group, or to end as Python does, could wait for them: the process ends at once.
    """
    launch = start(parallel)
    try:
        yield launch
    except (UserError, SystemExit):
        stop()
        raise
    except BaseException as error:
        if world_size() > 1:
            _end_alone(error, launch)
        raise
    stop()


def _end_alone(error: BaseException, launch: Launch) -> NoReturn:
    """End this process after an error of its own. The first rank to do so prints it; its end is the others' error."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, which comes when one rank has failed
    try:
        first = _store.add(f"failed {restart_count()}", 1) == 1
    except RuntimeError:  # the process that held the store has ended
        first = True
    place = f"rank {rank()} of {world_size()} on {socket.gethostname()} ({launch.device}), "
    status = report(error, place) if first else 1
    for thread in threading.enumerate():  # a checkpoint that is being written
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(GRACE_S)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)


def start(parallel: str = "auto") -> Launch:
    """Join the process group that torchrun's environment variables announce, if any.

    parallel : "ddp", "fsdp", "dp" or "none"; "auto" is DistributedDataParallel under torchrun, nn.DataParallel for
        several GPUs in one process, and neither otherwise
    """
    if launched():
        check_environment()
    processes = int(os.environ["WORLD_SIZE"]) if launched() else 1
    if parallel in ("dp", "none") and processes > 1:
        raise UserError(
            f"--parallel {parallel} is for one process and torchrun started {processes}; leave --parallel out, or "
            "start with plain python"
        )
    gpus = torch.cuda.device_count()
    if parallel == "auto":
        parallel = "ddp" if launched() else "dp" if gpus > 1 else "none"
    if parallel in ("ddp", "fsdp"):
        device = _join(gpus)
        launch = Launch(parallel, device, world_size() if device.type == "cuda" else 0, world_size())
    else:
        gpus = gpus if parallel == "dp" else min(gpus, 1)
        launch = Launch(parallel, config.DEVICE, gpus, max(gpus, 1))
    # torchrun gives each process one thread; plain torch takes every core of the host, even in a container of two
    if local_world_size() > 1 or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores_of_rank())
    return launch


def _join(gpus: int) -> torch.device:
    """Join the process group: nccl for tensors on GPUs, gloo for tensors on CPUs and for objects.

    Returns this rank's device: a GPU of its own if the hosts have GPUs, else the CPU.
    """
    # Adam imports torch._dynamo. Imported within a group, parts of it keep the group as a default argument, so it would
    # outlive stop(), and its threads abort a process that ends while they run.
    import torch._dynamo

    global _store
    try:
        if launched():
            _store, number, processes = next(dist.rendezvous("env://", timeout=JOIN_TIMEOUT))
        else:  # `--parallel ddp` or fsdp without a launcher: a world of one
            _store, number, processes = dist.HashStore(), 0, 1
        _check_places(number, processes, gpus)
        device = torch.device("cuda", local_rank()) if gpus else torch.device("cpu")
        if gpus:
            torch.cuda.set_device(device)
        _store.set_timeout(TIMEOUT)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo", store=dist.PrefixStore("group", _store), rank=number,
            world_size=processes, timeout=TIMEOUT, device_id=device if gpus else None,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:  # torch's DistError, gloo's, or a port out of range
        raise UserError(
            f"cannot join the other ranks at {os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} "
            f"({str(error).splitlines()[0]}); start all of them within {JOIN_TIMEOUT.seconds // 60} minutes, with a "
            "MASTER_PORT that is free on MASTER_ADDR and open between the hosts"
        ) from None
    if _elastic() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and is_main():
        # https://github.com/pytorch/pytorch/issues/135712: a restart may use the addresses of the processes before it
        terminal.info("set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun, or its restarts may fail...")
    if not is_main():  # only rank 0 prints; errors go to stderr from any rank
        terminal.quiet = True
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return device


def _check_places(number: int, processes: int, gpus: int) -> None:
    """Raise UserError on rank 0, and SystemExit on the others, where the ranks do not fit the GPUs of their hosts."""
    _store.set(f"place {number}", json.dumps([socket.gethostname(), gpus, os.environ.get("LOCAL_RANK")]))
    fault = misplaced([json.loads(_store.get(f"place {other}")) for other in range(processes)])
    if fault is None:
        return
    _store.set(f"read {number}", "")
    if number > 0:
        raise SystemExit(2)
    _store.wait([f"read {other}" for other in range(processes)])  # the store may end with this rank
    raise UserError(fault)


def misplaced(places: Sequence) -> str | None:
    """What is wrong with the ranks' places, each [host, number of its GPUs, LOCAL_RANK or None]; None: nothing."""
    ranks_on = Counter(host for host, _, _ in places)
    for number, (host, gpus, local) in enumerate(places):
        if local is None and ranks_on[host] > 1:
            return (
                f"{ranks_on[host]} ranks run on {host}, and rank {number} has no LOCAL_RANK; set it to 0, 1, ... on "
                "each host (to SLURM_LOCALID or OMPI_COMM_WORLD_LOCAL_RANK), or start with torchrun"
            )
        if (gpus > 0) != (places[0][1] > 0):
            return (
                f"rank 0 on {places[0][0]} has {places[0][1]} GPUs and rank {number} on {host} has {gpus}; leave out "
                'the hosts without any, or hide them all with CUDA_VISIBLE_DEVICES=""'
            )
        if int(local or 0) >= gpus > 0:
            return (
                f"{host} has {gpus} GPUs, and rank {number} there has LOCAL_RANK {local}; start one process per GPU, "
                'or hide the GPUs with CUDA_VISIBLE_DEVICES=""'
            )
    return None


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


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


def restarted(first_run_id: str) -> bool:
    """Whether torchrun started this process to continue the run that the job `first_run_id` began.

    The restart count cannot tell: it does not change when a host joins or leaves.
    """
    return _elastic() and first_run_id == run_id()


def _elastic() -> bool:
    """Whether torchrun restarts the processes of this job when they fail."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


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
    """Rank 0's `item` on every rank. Tensors in it, on the CPU, follow one by one: only the rest is pickled."""
    if world_size() == 1:
        return item
    outline = [tree_map_only(Tensor, lambda tensor: tensor.to("meta"), item)]
    dist.broadcast_object_list(outline, src=0)

    def send_or_receive(tensor: Tensor) -> Tensor:
        tensor = torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor
        dist.broadcast(tensor, src=0)
        return tensor

    return tree_map_only(Tensor, send_or_receive, item if is_main() else outline[0])


@contextmanager
def failing_together(ask: Callable[[], Iterable[int]] = tuple) -> Iterator[list[int]]:
    """A block that every rank enters, and that ends on every rank when it raises UserError on any.

    The first rank with an error raises it. The others raise SystemExit(2), so the error is printed once and no rank
    waits for one that has left. After the block, the list that it yielded holds the maximum over the ranks of each
    number that `ask()` returned.
    """
    failure: UserError | None = None
    agreed: list[int] = []
    try:
        yield agreed
    except UserError as error:
        failure = error
    code, *agreed[:] = all_reduce_max(0 if failure is None else world_size() - rank(), *ask())
    if code:
        raise failure if failure is not None and code == world_size() - rank() else SystemExit(2)


def in_step(batches: Iterable[Item], ask: Callable[[], Iterable[int]]) -> Iterator[tuple[Item, list[int]]]:
    """The items of `batches`, equally many on every rank. Each is yielded when all ranks have theirs.

    With each come the numbers on which the ranks agree, see failing_together: one reduction serves both.
    """
    iterator, end = iter(batches), object()
    while True:
        with failing_together(ask) as agreed:
            batch: Any = next(iterator, end)
        if batch is end:
            return
        yield batch, agreed


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


def check_same_start(args) -> None:
    """Raise UserError unless all ranks have the same flags and versions. Comes before any collective of a flag."""
    import numpy
    import torchvision

    flags = {f"--{name.replace('_', '-')}": value for name, value in vars(args).items() if name not in MAY_DIFFER}
    versions = {module.__name__: str(module.__version__) for module in (torch, torchvision, numpy)}
    check_same({**flags, **versions, "python": platform.python_version(), "pyimagesearch": __version__})


def check_same(facts: Mapping[str, object]) -> None:
    """Raise UserError, naming rank, host and what differs, unless `facts` are rank 0's. Every rank calls this."""
    here = f"rank {rank()} on {socket.gethostname()}"
    there, expected = broadcast_object((here, dict(facts)))
    names = [name for name in {**expected, **facts} if facts.get(name, "missing") != expected.get(name, "missing")]
    with failing_together():
        if names:
            values = [f"{name} is {facts.get(name, 'missing')} and {expected.get(name, 'missing')}" for name in names]
            more = f" (and {len(names) - 4} more)" if len(names) > 4 else ""
            raise UserError(f"{here} and {there} differ: {'; '.join(values[:4])}{more}; start all ranks alike")
