"""Many small jobs on files, in threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from pyimagesearch import terminal

CHUNK = 16  # items that a thread takes at a time

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Sequence[T], workers: int | None, description: str) -> list[R]:
    """`function` of each item, in order, under a progress bar.

    Threads are enough, because Pillow decodes and the kernel copies without the interpreter's lock, and nothing is
    left behind when this process is killed. An exception, Ctrl-C too, ends them after the item each is at.
    """
    stop = Event()
    results: list[R] = []

    def work(chunk: Sequence[T]) -> list[R]:
        return [function(item) for item in chunk if not stop.is_set()]

    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    with terminal.make_bar(description, len(items)) as bar, ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in pool.map(work, chunks):
                results += chunk
                bar.update(len(chunk))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results
