"""How errors reach a person, for the whole package.

Functions raise UserError for a person's mistakes in flags, files or data. Its text is one line: what was found, what
was expected, what to do. The script prints it to stderr and exits with status 2. Docstrings name only other exceptions.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A mistake in flags, files or data; see above."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit: 2 after a UserError, 130 after Ctrl-C, else what `main` returned (None is 0)."""
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe cannot encode most letters of file and class names
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # the reader of our output, for example `head`, has left; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:  # a full disk, a read-only folder: the machine's state, not a bug
        print(f"error: {one_line(system_message(error))}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def system_message(error: OSError) -> str:
    """The system's reason, and the file concerned."""
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def one_line(text: object) -> str:
    """`text` as one line for a terminal: control characters and undecodable bytes of file names are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))
