"""How photos get from a source into a folder: each verified once, copied whole or not at all, never twice."""

import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pyimagesearch.data.decoding import describe_fault, read_photo
from pyimagesearch.preparation.source import Photo, Rejected, Source, Split
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import TEMPORARY_SUFFIX
from pyimagesearch.runtime.threads import in_threads

SHOWN = 5  # rejected files that are named on the terminal


class Holder(NamedTuple):
    """A folder that may hold some of the photos already, and whether those in it are known to be readable."""

    folder: str
    verified: bool


def copy_split(
    split: Split,
    destination: str | os.PathLike,
    *,
    shown_as: str | os.PathLike | None = None,
    holders: Sequence[Holder] = (),
    verify: bool = True,
    link: bool = False,
    workers: int | None = None,
) -> None:
    """Copy a split's photos to `destination`/<class>/<file name> and print how many were found and how many are there.

    A photo that one of `holders` has, with the same size and modification time, is not copied; it is not decoded
    either when the holder is verified. What cannot be read moves from `split.photos` to `split.rejected`.

    Parameters
    ----------
    split : changed in place, see above
    destination : made where it is missing
    shown_as : the name of `destination` in what is printed
    verify : decode each photo once
    link : make hard links in place of copies
    workers : threads; None takes one a core

    Raises
    ------
    UserError : `link` is asked for where it is not possible
    OSError : `destination` cannot be written
    """
    destination = os.fspath(destination)
    terminal.info(f"total images found: {split.found}...")
    holders = [holder for holder in holders if os.path.isdir(holder.folder)]
    for folder in {os.path.dirname(os.path.join(destination, photo.target)) for photo in split.photos}:
        os.makedirs(folder, exist_ok=True)

    def place(photo: Photo) -> str | None:
        holding = [holder for holder in holders if is_at(photo, os.path.join(holder.folder, photo.target))]
        if verify and not any(holder.verified for holder in holding):
            fault = why_unreadable(photo.path)
            if fault:
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
    """The reason why training could not read the photo at `path`, which is wholly decoded here; None when it can."""
    try:
        read_photo(path)
    except Exception as error:  # Pillow's readers of broken files raise nearly anything
        return describe_fault(error)
    return None


def is_at(photo: Photo, path: str) -> bool:
    """Whether the file at `path` is a copy of `photo`, judged by size and modification time."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    # a whole number of seconds may be all that a file system keeps (FAT: every second one); NTFS keeps 100 ns
    tolerance = 2_000_000_000 if there.st_mtime_ns % 1_000_000_000 == 0 else 1_000
    return there.st_size == photo.size and abs(there.st_mtime_ns - photo.mtime_ns) < tolerance


def copy(photo: Photo, target: str, *, link: bool = False) -> None:
    """Copy `photo`, with its times and mode, or hard-link it; a half-written copy never has the name `target`.

    This is not files.atomic_write, which waits for the disk with each file: too slow for thousands of photos.

    Raises
    ------
    UserError : the photo cannot be hard-linked there
    OSError : the photo cannot be copied
    """
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        if link:
            _hard_link(photo.path, temporary)
        elif not _copy_in_kernel(photo.path, temporary):
            shutil.copy2(photo.path, temporary)
        os.replace(temporary, target)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _copy_in_kernel(path: str, target: str) -> bool:
    """Copy a file, its times and mode, in as few system calls as there are, and next to none of time and space where
    the file system can share blocks. False where that is not possible: `target` may then be half-written.

    Threads that do more in Python than this spend more time on handing its lock round than on copying.
    """
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
    except (AttributeError, OSError):  # not Linux; from one file system to another; or an error that copy2 tells of
        return False
    return not left  # some network file systems report an end that is none


def _hard_link(path: str, link: str) -> None:
    try:
        os.link(os.path.realpath(path), link)  # of a symbolic link, what it leads to
    except OSError as error:
        raise UserError(
            f"cannot hard-link {path} into {os.path.dirname(link)}: {error.strerror}; leave --link out to copy, or "
            "name a --dest on the file system of the source"
        ) from None


def describe_rejected(rejected: Sequence[Rejected]) -> list[str]:
    """Lines for the terminal: the first few of the files that were left out, with their reasons, and how many more."""
    lines = [f"  {one_line(path)}: {reason}" for path, reason in rejected[:SHOWN]]
    if len(rejected) > SHOWN:
        lines.append(f"  and {len(rejected) - SHOWN} more")
    return lines


def count_table(source: Source) -> str:
    """How many photos each class (row) has in each split (column), with totals."""
    splits = [split.name for split in source.splits]
    counts = [Counter(photo.label for photo in split.photos) for split in source.splits]
    rows = [["class", *splits]]
    rows += [[name, *(str(count[label]) for count in counts)] for label, name in enumerate(source.classes)]
    rows.append(["total", *(str(len(split.photos)) for split in source.splits)])
    return terminal.table(rows)
