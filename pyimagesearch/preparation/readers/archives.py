"""An archive as source: what readers need of it is unpacked beside the dataset for the time of the run.

Only regular files are written, under names that are checked here: no archive can write or link anywhere else.
"""

import calendar
import os
import posixpath
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

from pyimagesearch.data.decoding import EXTENSIONS, is_hidden
from pyimagesearch.preparation.source import first_few, folded
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line, system_message

# by the first bytes of a file
SIGNATURES = {
    b"PK\3\4": "zip", b"PK\5\6": "zip", b"\x1f\x8b": "tar", b"BZh": "tar", b"\xfd7zXZ\0": "tar", b"PAR1": "parquet",
    b"Rar!": "RAR", b"7z\xbc\xaf\x27\x1c": "7-Zip", b"\x28\xb5\x2f\xfd": "Zstandard",
}  # fmt: skip
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".parquet")
NEEDED = (*EXTENSIONS, ".txt", ".csv", ".tsv", "")  # suffixes of members that a reader may take
INNER = "by-prepare_dataset"  # the only entry of a temporary folder; it shows that the folder is ours
# an archive may unpack to MAX_RATIO times its size, or SMALL if that is more, but at most to MAX_UNPACKED bytes
MAX_RATIO = 200  # photos hardly shrink in an archive; deflate can reach 1032
SMALL = 256 * 2**20
MAX_UNPACKED = 200 * 2**30  # ImageNet has 150 GB
MAX_DEPTH = 64  # nested folders
PER_MEMBER = 512  # bytes that a member counts besides its content: millions of empty ones are a bomb too
MAX_HEADER = 2**20  # bytes of one extended header in a tar, which tarfile reads into memory


def kind_of(path: str) -> str | None:
    """The kind of archive at `path` by its first bytes, see SIGNATURES; None for a folder or any other file."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        start = file.read(262)
    kind = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), None)
    return kind or ("tar" if start[257:] == b"ustar" or path.lower().endswith(".tar") else None)


class Place:
    """The folder into which the source `origin`, the files `packed`, is unpacked, to at most `limit` GB."""

    def __init__(self, folder: str, origin: str, packed: Sequence[str], limit: float | None):
        self.folder, self.origin = folder, origin
        default = min(MAX_UNPACKED, max(SMALL, MAX_RATIO * sum(map(os.path.getsize, packed))))
        self.limit = default if limit is None else limit * 2**30
        self.size = 0
        self.names: set[str] = set()  # of the files to write, folded
        self.left_out: list[str] = []

    def refuse(self, name: str, fault: str) -> NoReturn:
        raise UserError(f"{self.origin} has a member {name[:100]!r} {fault}; nothing was unpacked from it")

    def grow(self, size: int) -> None:
        """Count the bytes of one more member."""
        self.size += size + PER_MEMBER
        if size < 0 or self.size > self.limit:
            raise UserError(
                f"{self.origin} would take more than {self.limit / 2**30:.3g} GB unpacked, which looks like a bomb; if "
                "it is none, allow more with --max-unpacked"
            )

    def path_of(self, name: str, size: int, fault: str | None = None, link: str | None = None) -> str | None:
        """Where the member `name` is to be written; None if it is left out, as a `link` to a path in the archive is."""
        if fault:
            self.refuse(name, fault)
        if _leads_outside(name):
            self.refuse(name, "that leads outside of the archive")
        if link is not None and _leads_outside(posixpath.normpath(link)):
            self.refuse(name, f"that links to {link[:100]!r}, outside of the archive")
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        if len(parts) > MAX_DEPTH:
            self.refuse(name, f"in more than {MAX_DEPTH} nested folders")
        self.grow(size)
        if name.endswith(("/", "\\")) or any(map(is_hidden, parts)):
            return None
        if name.lower().endswith(PACKED) or link is not None:
            self.left_out.append(f"{name}, {'an archive' if link is None else 'a link'}")
            return None
        if os.path.splitext(name)[1].lower() not in NEEDED:
            return None
        if (key := folded("/".join(parts))) in self.names:
            self.refuse(name, "twice, or two whose names differ only by case")
        self.names.add(key)
        return os.path.join(self.folder, *parts)

    def write(self, path: str, file: IO[bytes], seconds: float) -> None:
        """Copy `file` to `path`, with `seconds` since 1970 as its time."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        checksum = 0
        with open(path, "xb") as copy:
            while block := file.read(2**20):
                checksum = zlib.crc32(block, checksum)
                copy.write(block)
        # many archives have one time for all members: the checksum, as microseconds, tells an edited photo from the old
        time = int(min(max(0, seconds), 2**32)) * 10**9 + checksum % 10**6 * 1000
        os.utime(path, ns=(time, time))


def _leads_outside(name: str) -> bool:
    return bool(re.match(r"[/\\]|[A-Za-z]:", name)) or "\0" in name or ".." in re.split(r"[/\\]", name)


@contextmanager
def unpacking(origin: str, packed: Sequence[str], folder: str, limit: float | None) -> Iterator[Place]:
    """A Place in the temporary `folder`, which is removed at the end. Errors in the block name `origin` instead."""
    discard(folder)
    if os.path.lexists(folder):
        raise UserError(f"{folder}, where {origin} would be unpacked, is not this script's; move it away")
    place = Place(os.path.join(folder, INNER), origin, packed, limit)
    made = [folder, *(str(parent) for parent in Path(folder).parents if not parent.is_dir())]
    try:
        os.makedirs(place.folder)
        yield place
    except UserError as error:
        raise UserError(str(error).replace(place.folder, origin)) from error
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)
        with suppress(OSError):  # a parent that holds the dataset now
            for path in made:
                os.rmdir(path)


def discard(folder: str) -> None:
    """Remove the temporary folder that a killed run left; anything else stays."""
    if os.path.isdir(folder) and not os.path.islink(folder) and set(os.listdir(folder)) <= {INNER}:
        shutil.rmtree(folder)


def unpack(path: str, place: Place) -> str:
    """Unpack the archive at `path`; returns the folder of its content."""
    kind = kind_of(path)
    if kind not in ("zip", "tar"):
        raise UserError(f"{path} is of the kind {kind}, not a zip or tar archive; unpack it, and name the folder")
    terminal.info(f"unpacking {one_line(path)}...")
    try:
        members = _members_of_zip(path) if kind == "zip" else _members_of_tar(path, place)
        checked = ((place.path_of(*facts), opened, seconds) for *facts, opened, seconds in members)
        for target, opened, seconds in [*checked] if kind == "zip" else checked:  # a tar is read in one pass
            if target:
                with opened() as file:
                    place.write(target, file, seconds)
    except UserError:
        raise
    except Exception as error:  # zipfile, tarfile and the decompressors raise nearly any exception for a broken file
        reason = str(error).partition(":\n")[0] or type(error).__name__  # tarfile adds a line for each format
        fault = f"it is damaged, or no {kind} archive ({reason})"
        if isinstance(error, OSError) and error.errno is not None:  # a full disk, for example
            fault = system_message(error)
        raise UserError(f"cannot unpack {path}: {fault}") from error
    if not os.listdir(place.folder):
        inner = "; ".join(first_few(place.left_out, 3))
        raise UserError(f"{path} holds no photo" + f", but {inner}: unpack it, and name that one" * bool(inner))
    return place.folder


def _members_of_zip(path: str) -> Iterator[tuple]:
    """The arguments of Place.path_of for each member, a function that opens it, and its time, in seconds since 1970."""
    archive = zipfile.ZipFile(path)  # open until the last member is read
    for member in archive.infolist():
        name, link, seconds = member.filename, None, 0
        if not member.flag_bits & 0x800:  # zipfile takes such a name for cp437, though many are UTF-8
            with suppress(UnicodeError):
                name = name.encode("cp437").decode()
        kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the archive is not from Unix
        device = kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        fault = "that is encrypted" if member.flag_bits & 1 else "that is a device" if device else None
        if kind == stat.S_IFLNK and not fault:
            target = os.fsdecode(archive.read(member)) if member.file_size < 4096 else ".."
            link = posixpath.join(posixpath.dirname(name), target)
        with suppress(ValueError):  # month 0; the time zone is not known: any will do if it is always the same
            seconds = calendar.timegm((*member.date_time, 0, 0, 0))
        yield name, member.file_size, fault, link, partial(archive.open, member), seconds


class _Header(tarfile.TarInfo):
    """A header that is refused where tarfile would read any number of bytes into memory, or go back."""

    @classmethod
    def frombuf(cls, *arguments):
        header = super().frombuf(*arguments)
        if header.size < 0 or (header.type in b"xgXLK" and header.size > MAX_HEADER):  # extended headers, long names
            raise tarfile.ReadError(f"the header of {header.name[:100]!r} has {header.size:,} bytes")
        return header


def _members_of_tar(path: str, place: Place) -> Iterator[tuple]:
    """See _members_of_zip."""
    with tarfile.open(path, tarinfo=_Header, encoding="utf-8", errors="surrogateescape") as archive:
        while member := archive.next():
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            name, link = _decoded(member.name) + "/" * member.isdir(), None
            if member.issym() or member.islnk():
                link = posixpath.join(posixpath.dirname(name) * member.issym(), _decoded(member.linkname))
            fault = "that is a device" if member.isdev() else None
            yield name, member.size, fault, link, partial(archive.extractfile, member), member.mtime
        while rest := archive.fileobj.read(2**20):  # type: ignore[union-attr]  # up to the checksum at the end of gzip
            place.grow(len(rest))


def _decoded(name: str) -> str:
    """A name in a tar, taken for Latin-1 where it is not UTF-8."""
    raw = os.fsencode(name)
    with suppress(UnicodeDecodeError):
        return raw.decode()
    return raw.decode("latin-1")
