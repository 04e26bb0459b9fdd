"""Files are written whole or not at all, and a folder by one run at a time."""

import errno
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, system_message

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TEMPORARY_SUFFIX = ".tmp"
# a network share that cannot flush a folder (https://github.com/libgit2/libgit2/issues/5356); EIO and ENOSPC are errors
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # such as NFS without its lock daemon


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open a new file that replaces `path` when the block ends without an exception; mode "w" is UTF-8 text.

    The file is written beside `path` under a temporary name, flushed to the disk and renamed. After a crash or on a
    full disk `path` is the old file or the new one, never a part. Missing folders are made.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(temporary, mode.replace("w", "x"), **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Make the names in `folder` survive a power cut, where the system can. Windows does this by itself."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


@contextmanager
def locked(path: str, folder: str, flag: str) -> Iterator[None]:
    """Hold the lock file `path` of `folder`, which `flag` names, during the block. It is free when this process dies.

    Raises UserError where the file cannot be made, or, naming the owner, where another process holds it.
    """
    try:
        file = _lock_file(path, folder, flag)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {system_message(error)}; name another {flag}") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            os.unlink(path)  # while it is locked: nobody else has it then
        file.close()


def _lock_file(path: str, folder: str, flag: str) -> IO[str]:
    """The file `path`, locked, with the owner's name in it; closing it ends the lock."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            _lock(file)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                owner = file.read() or "another run"
                raise UserError(
                    f"{folder} is in use by {owner}; wait until it ends, stop it, or name another {flag}"
                ) from None
            if error.errno not in NO_LOCKS:
                raise
            terminal.info(f"{folder} cannot be locked ({system_message(error)}): let no other run use it...")
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # its owner removed it after it was opened here
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    file.flush()
    return file


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        file.seek(2**30)  # not the text, since nobody could read it
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:  # not flock, which forked DataLoader workers would hold after this process was killed
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def refuse_unwritable(path: str | os.PathLike, advice: str = "name another file") -> None:
    """Raise UserError, with `advice`, before the work if atomic_write could not write `path` after it."""
    path = os.fspath(path)
    if not os.path.basename(path) or (os.path.exists(path) and not os.path.isfile(path)):
        raise UserError(f"cannot write to {path!r}: it is not a regular file; name one")
    probe = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        write_text(probe, "")
        os.unlink(probe)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}; {advice}") from None


def write_text(path: str | os.PathLike, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)


def read_json(path: str | os.PathLike, keys: Collection[str]) -> dict | None:
    """The dictionary in a JSON file, if the file is whole and the dictionary has all `keys`; else None."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and set(keys) <= value.keys() else None


def write_json(path: str | os.PathLike, value: object) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
