"""How a person's mistake is told: one line that says what was found, what was expected and what to do."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A mistake in flags, files or data. Its text is the one line that the person reads; the exit status is 2."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit: 2 after a UserError, 130 after Ctrl-C, else what `main` returned (None is 0)."""
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe lacks most letters that file and class names may have
        stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # the reader of our output, `head` for one, has left; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:  # a full disk, a folder that cannot be written: the machine's state, not our mistake
        print(f"error: {one_line(system_message(error))}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def system_message(error: OSError) -> str:
    """What the system says went wrong, and with which file."""
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")


def one_line(text: object) -> str:
    """`text` on one line, for a terminal: control characters and undecodable bytes of file names are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))
