"""What a person sees while a script works: [INFO] lines, progress bars and tables."""

import os
import select
import sys
import time
import unicodedata
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

LOG_EVERY_S = 30  # where stderr is not a terminal
doing = "starting"  # what the last bar is about: an error's line says it
quiet = False  # no bars and no [INFO] lines: set by --quiet, and on every rank but 0 (see distributed)


def info(text: str) -> None:
    """Print an [INFO] line, unless quiet."""
    if not quiet:
        print(f"[INFO] {text}", flush=True)


def make_bar(title: str, total: int, *, first: int = 0):
    """A progress bar on stderr for `total` images, of which `first` are done; a context manager with update(images).

    On a terminal it is a tqdm bar that disappears at the end. In a log file it is a line every LOG_EVERY_S seconds and
    one at the end, or nothing if the work takes less.
    """
    from tqdm import tqdm  # late, because --help does not need it

    global doing
    doing = title
    if quiet:
        return tqdm(total=total, initial=first, disable=True)
    if not sys.stderr.isatty():
        return LogLines(title, total, first)
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # 0 if a program made the terminal
    return tqdm(total=total, initial=first, desc=title, unit=" images", leave=False, dynamic_ncols=sized)


def drop_closed_output() -> None:
    """Discard from now on what is written to a terminal that was closed, or to a pipe that nobody reads any more."""
    for stream in (1, 2) if hasattr(select, "poll") else ():
        poll = select.poll()
        poll.register(stream, 0)  # errors and hang-ups alone
        if poll.poll(0):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


class LogLines(AbstractContextManager):
    """Replaces the tqdm bar in a log file; see make_bar."""

    def __init__(self, title: str, total: int, first: int = 0):
        self.title, self.total, self.first, self.n = title, total, first, first
        self.postfix = ""
        self.began = self.printed = time.monotonic()

    def __exit__(self, *_) -> None:
        self.close()

    def update(self, images: int = 1) -> None:
        self.n += images
        if self.n < self.total and time.monotonic() - self.printed >= LOG_EVERY_S:
            self._print()

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        self.postfix = f", {text}"

    def close(self) -> None:
        if time.monotonic() - self.began >= LOG_EVERY_S:
            self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        seconds = self.printed - self.began
        rate = (self.n - self.first) / max(seconds, 1e-9)
        print(
            f"{self.title}: {self.n:,} of {self.total:,} images, {seconds:.0f} s, {rate:.1f} images/s{self.postfix}",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """`rows` as text in aligned columns; the columns in `left` are left-aligned, the others right-aligned.

    The last cell of a row with fewer cells may be wider than its column.
    """
    columns = max(map(len, rows))
    widths = [max(columns_of(row[n]) for row in rows if n < len(row) - (len(row) < columns)) for n in range(columns)]
    lines = []
    for row in rows:
        spaces = [" " * (width - columns_of(cell)) for cell, width in zip(row, widths, strict=False)]
        padded = [cell + spaces[n] if n in left else spaces[n] + cell for n, cell in enumerate(row)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def columns_of(text: str) -> int:
    """The width of `text` on a terminal: 2 columns for an East Asian wide letter, 0 for a combining accent."""
    widths = {"W": 2, "F": 2}
    return sum(widths.get(unicodedata.east_asian_width(c), 1) for c in text if not unicodedata.combining(c))
