"""Many small jobs on files in threads, and the number of cores for them."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from pyimagesearch.runtime import terminal

CHUNK = 16  # items that a thread takes at a time
UPDATE_EVERY_S = 0.1  # of the progress bar
T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Sequence[T], workers: int | None, description: str) -> list[R]:
    """`function` of each item, in order, with a progress bar; `workers` is the number of threads, None one per core.

    Threads are enough: Pillow decodes and the kernel copies without the interpreter's lock. They leave nothing behind
    when this process is killed. After an exception, or Ctrl-C, each thread finishes its current item and ends.
    """
    workers = workers or available_cores()
    stop = Event()
    results: list[Any] = [None] * len(items)
    starts = iter(range(0, len(items), CHUNK))  # of all threads: taking the next one is atomic
    done: list[range] = []

    def work() -> None:
        for start in starts:
            chunk = range(start, min(start + CHUNK, len(items)))
            for index in chunk:
                if stop.is_set():
                    return
                results[index] = function(items[index])
            done.append(chunk)

    with terminal.make_bar(description, len(items)) as bar, ThreadPoolExecutor(workers) as pool:
        threads = [pool.submit(work) for _ in range(workers)]
        try:
            while True:  # polling, because waking this thread for each chunk would keep the others waiting
                ended, going = wait(threads, UPDATE_EVERY_S, FIRST_EXCEPTION)
                bar.update(sum(map(len, done)) - bar.n)
                for thread in ended:
                    thread.result()
                if not going:
                    return results
        except BaseException:
            stop.set()
            raise


def available_cores() -> int:
    """The cores that this process may use: its affinity, on Linux at most the quota of its container (cgroup)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores(default=cores)))


def _cgroup_cores(default: int) -> int:
    """The quota in cores: from cgroup v2's cpu.max ("200000 100000" is two cores), else from the two files of v1."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join(Path("/sys/fs/cgroup", name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        return default if quota in ("max", "-1") else max(1, round(int(quota) / int(period)))
    return default
