"""How photos are copied from a source into a folder: each decoded once, copied whole or not at all, never twice."""

import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from typing import NamedTuple

from pyimagesearch.data.decoding import describe_fault, read_pixels
from pyimagesearch.preparation.source import Photo, Rejected, Split
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import TEMPORARY_SUFFIX
from pyimagesearch.runtime.threads import in_threads


class Holder(NamedTuple):
    """A folder that may hold some of the photos already; `verified` if all that it holds were decoded once."""

    folder: str
    verified: bool


def copy_split(
    split: Split,
    destination: str | os.PathLike,
    *,
    shown_as: str | os.PathLike | None = None,
    holders: Sequence[Holder] = (),
    verify: bool = True,
    link: bool | None = False,
    workers: int | None = None,
) -> None:
    """Copy a split's photos to `destination`/<class>/<file name>; print how many were found and how many are there.

    Photos that cannot be decoded move from `split.photos` to `split.rejected`. A photo that is in one of `holders` with
    the same size and modification time is not copied, and not decoded if that holder is verified.

    shown_as : the name of `destination` in messages
    link : make hard links instead of copies; None: where the file system can
    """
    destination = os.fspath(destination)
    terminal.info(f"total images found: {split.found}...")
    holders = [holder for holder in holders if os.path.isdir(holder.folder)]
    for folder in {os.path.dirname(os.path.join(destination, photo.target)) for photo in split.photos}:
        os.makedirs(folder, exist_ok=True)

    def place(photo: Photo) -> str | None:
        holding = [holder for holder in holders if is_at(photo, os.path.join(holder.folder, photo.target))]
        if verify and not any(holder.verified for holder in holding) and (fault := why_unreadable(photo.path)):
            return fault
        if not holding:
            copy(photo, os.path.join(destination, photo.target), link=link)
        return None

    faults = in_threads(place, split.photos, workers, split.name)
    placed = list(zip(split.photos, faults, strict=True))
    split.photos = [photo for photo, fault in placed if fault is None]
    split.rejected += [Rejected(photo.path, fault) for photo, fault in placed if fault is not None]
    shown_as = one_line(os.fspath(destination if shown_as is None else shown_as))
    terminal.info(f"total images copied to {shown_as}: {len(split.photos)}...")


def why_unreadable(path: str | os.PathLike) -> str | None:
    """Decode the photo at `path`: the reason why training could not read it, or None."""
    try:
        read_pixels(path, value_range=(0, 1))  # any will do: that of the dataset is decided when training begins
    except Exception as error:  # Pillow raises nearly any exception for a broken file
        return describe_fault(error)
    return None


def is_at(photo: Photo, path: str) -> bool:
    """Whether the file at `path` is a copy of `photo`: it has the same size and modification time."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    # some file systems keep whole seconds only (FAT: every second one); NTFS keeps 100 ns
    tolerance = 2_000_000_000 if status.st_mtime_ns % 1_000_000_000 == 0 else 1_000
    return status.st_size == photo.size and abs(status.st_mtime_ns - photo.mtime_ns) < tolerance


def copy(photo: Photo, target: str, *, link: bool | None = False) -> None:
    """Copy or hard-link `photo`, see copy_split, with its times and mode; a half-written copy is never at `target`."""
    # not files.atomic_write: it waits for the disk after each file, too slow for thousands of photos
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        linked = link is not False and _hard_link(photo.path, temporary, necessary=link is True)
        if not linked and not _copy_in_kernel(photo.path, temporary):
            shutil.copy2(photo.path, temporary)
        os.replace(temporary, target)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _copy_in_kernel(path: str, target: str) -> bool:
    """Copy a file with its times and mode in few system calls; file systems that share blocks copy no data.

    Returns False where the system cannot do that; `target` may then be half-written.
    """
    # shutil.copy2 runs more Python code: with several threads, the interpreter's lock then costs more than the copying
    try:
        source = os.open(path, os.O_RDONLY)
        try:
            status = os.fstat(source)
            copied = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                left = status.st_size
                while left and (count := os.copy_file_range(source, copied, left)):
                    left -= count
                os.utime(copied, ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fchmod(copied, stat.S_IMODE(status.st_mode))
            finally:
                os.close(copied)
        finally:
            os.close(source)
    except (AttributeError, OSError):  # not Linux, or two file systems, or an error that copy2 will raise again
        return False
    return not left  # some network file systems report the end of the file too early


def _hard_link(path: str, link: str, necessary: bool) -> bool:
    try:
        os.link(os.path.realpath(path), link)  # the target of a symbolic link
        return True
    except OSError as error:
        if not necessary:
            return False
        raise UserError(
            f"cannot hard-link {path} into {os.path.dirname(link)}: {error.strerror}; leave --link out to copy, or "
            "name a --dest on the file system of the source"
        ) from None
