"""How errors reach a person, for the whole package.

Functions raise UserError for a person's mistakes in flags, files or data. Its text is one line: what was found, what
was expected, what to do. The script prints it to stderr and exits with status 2. Docstrings name only other exceptions.
"""

import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import NoReturn

from pyimagesearch.runtime import terminal

# what torch's RuntimeErrors say where memory is short, and where another rank has ended
MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory", "STATUS_ALLOC_FAILED", "MPS backend out of memory")
CONNECTION = ("gloo/", "Connection closed by peer", "NCCL")


class UserError(Exception):
    """A mistake in flags, files or data; see above."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit with what it returned (None is 0), or with the status of `report`."""
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe cannot encode most letters of file and class names
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        status = report(error)
    sys.exit(status)


def report(error: BaseException, where: str = "") -> int:
    """Print one line about `error` to stderr; returns the exit status: 2 after a UserError, 130 after Ctrl-C.

    where : the rank, where there are several
    """
    if isinstance(error, BrokenPipeError):  # the reader of our output, for example `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python would complain at exit
        return 141
    if isinstance(error, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
        return 130
    if isinstance(error, UserError):
        text, status = str(error), 2
    elif isinstance(error, OSError):  # a full disk, a read-only folder: the machine's state, not a bug
        text, status = where + system_message(error), 2
    else:
        text, status = f"{where}{terminal.doing}: {_unexpected(error)}", 1
    print(f"error: {one_line(text)}", file=sys.stderr)
    return status


def _unexpected(error: BaseException) -> str:
    """What happened and what to try; the traceback of a bug is printed. torch's errors are known by name and text."""
    kind = type(error).__name__
    text = textwrap.shorten(str(error), 160, placeholder=" ...") or kind
    if is_out_of_memory(error):
        return (
            f"out of memory ({text}); in training try a smaller --batch-size with a larger --accumulate, --amp, or a "
            "smaller --image-size"
        )
    if kind.startswith("Dist") or (kind == "RuntimeError" and any(words in str(error) for words in CONNECTION)):
        return f"the connection to another rank is lost: it was killed, it hangs, or its host is gone ({text})"
    traceback.print_exception(error)
    return f"{kind}: {text}; this is a bug: please report it with the traceback above"


def is_out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or any(words in str(error) for words in MEMORY)


def system_message(error: OSError) -> str:
    """The system's reason, and the file concerned."""
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def one_line(text: object) -> str:
    """`text` as one line for a terminal: control characters and undecodable bytes of file names are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))
