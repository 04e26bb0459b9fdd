"""What a person sees while a script works: lines that inform, and bars, which in a log file are a line now and then."""

import os
import sys
import time
import unicodedata
from collections.abc import Collection, Sequence

LOG_EVERY_S = 30  # where stderr is no terminal
quiet = False  # set by --quiet, and on every rank but 0: neither bars nor lines that only inform


def info(text: str) -> None:
    """Print a line that only informs: one that --quiet leaves out."""
    if not quiet:
        print(f"[INFO] {text}", flush=True)


def make_bar(title: str, total: int, *, first: int = 0):
    """A context manager whose `update(images)` shows on stderr how far the work is, and which goes when it is done.

    On a terminal it is a tqdm bar. In a log file it is a line every LOG_EVERY_S seconds and one at the end, and nothing
    for work that is done before the first is due.

    Parameters
    ----------
    title : "epoch 1/20"
    total, first : images altogether, and how many were done before
    """
    from tqdm import tqdm  # late: --help needs none

    if quiet:
        return tqdm(total=total, initial=first, disable=True)
    if not sys.stderr.isatty():
        return LogLines(title, total, first)
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # not so where a program made the terminal
    return tqdm(total=total, initial=first, desc=title, unit=" images", leave=False, dynamic_ncols=sized)


class LogLines:
    """What stands in for a tqdm bar in a log file; see make_bar."""

    def __init__(self, title: str, total: int, first: int = 0):
        self.title, self.total, self.first, self.n = title, total, first, first
        self.postfix = ""
        self.began = self.told = time.monotonic()

    def __enter__(self) -> "LogLines":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def update(self, images: int = 1) -> None:
        self.n += images
        if self.n < self.total and time.monotonic() - self.told >= LOG_EVERY_S:
            self._tell()

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        self.postfix = f", {text}"

    def close(self) -> None:
        if time.monotonic() - self.began >= LOG_EVERY_S:
            self._tell()

    def _tell(self) -> None:
        self.told = time.monotonic()
        seconds = self.told - self.began
        rate = (self.n - self.first) / max(seconds, 1e-9)
        print(
            f"{self.title}: {self.n:,} of {self.total:,} images, {seconds:.0f} s, {rate:.1f} images/s{self.postfix}",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """`rows` of cells, in columns. A row that ends early ends with a cell that may be longer than its column is wide.

    left : the columns whose cells begin at the same place; those of the others end there
    """
    columns = max(map(len, rows))
    widths = [
        max(columns_of(row[column]) for row in rows if column < len(row) - (len(row) < columns))
        for column in range(columns)
    ]  # fmt: skip

    def line(row: Sequence[str]) -> str:
        padded = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - columns_of(cell))
            padded.append(cell + space if column in left else space + cell)
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, rows))


def columns_of(text: str) -> int:
    """The columns of a terminal that `text` takes: two for a letter of East Asia, none for an accent on another."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
