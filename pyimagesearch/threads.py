"""Many small jobs on files, in threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

from pyimagesearch import terminal
from pyimagesearch.cores import available_cores

CHUNK = 16  # items that a thread takes at a time
SHOWN_EVERY = 0.1  # seconds

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Sequence[T], workers: int | None, description: str) -> list[R]:
    """`function` of each item, in order, under a progress bar.

    Threads are enough, because Pillow decodes and the kernel copies without the interpreter's lock, and nothing is
    left behind when this process is killed. An exception, Ctrl-C too, ends them after the item each is at.

    workers : threads; None takes one a core
    """
    workers = workers or available_cores()
    stop = Event()
    results: list[R | None] = [None] * len(items)
    waiting: SimpleQueue[range | None] = SimpleQueue()
    for start in range(0, len(items), CHUNK):
        waiting.put(range(start, min(start + CHUNK, len(items))))
    for _ in range(workers):
        waiting.put(None)
    done: list[range] = []

    def work() -> None:
        for chunk in iter(waiting.get, None):
            for index in chunk:
                if stop.is_set():
                    return
                results[index] = function(items[index])
            done.append(chunk)

    with terminal.make_bar(description, len(items)) as bar, ThreadPoolExecutor(workers) as pool:
        threads = [pool.submit(work) for _ in range(workers)]
        try:
            while True:  # looking now and then: to be woken for each chunk would keep the threads waiting
                ended, going = wait(threads, SHOWN_EVERY, FIRST_EXCEPTION)
                bar.update(sum(map(len, done)) - bar.n)
                for thread in ended:
                    thread.result()
                if not going:
                    return results
        except BaseException:
            stop.set()
            raise
