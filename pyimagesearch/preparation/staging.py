"""How a dataset is built beside its place and put there whole, so that nothing of a person's is lost.

Everything is made in `<dest>.partial`. The last act moves the old dataset into it, under the name `.replaced`, moves
that folder to `<dest>`, and removes what was replaced. Killed at any point, the next run finds out and goes on.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict

from pyimagesearch.data import labels_csv
from pyimagesearch.preparation.copying import Holder, copy, is_at
from pyimagesearch.preparation.source import CLASS_LIST, Photo, Rejected, Source, Split, SplitPlan
from pyimagesearch.preparation.splitting import plan_flags
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import TEMPORARY_SUFFIX, write_json, write_text

# makes a folder known as one of ours: its source and of what kind, its classes, how splits were drawn that the source
# lacks, and whether each photo was decoded
MARKER = "prepared.json"
REJECTED_LIST = "rejected.csv"
PARTIAL_SUFFIX = ".partial"
REPLACED = ".replaced"
OURS = {MARKER, REJECTED_LIST, CLASS_LIST, labels_csv.LABELS_CSV}
OF_FILE_MANAGERS = {".DS_Store", "Thumbs.db", "desktop.ini"}
ANOTHER = "name another --dest, or give --overwrite to replace it with exactly what the source holds"


@contextmanager
def staged(dest: str | os.PathLike, source: Source, *, verify: bool, overwrite: bool) -> Iterator["Staging"]:
    """A Staging of `source`, to be finished in the block. An error in the data discards what was built.

    Ctrl-C and a full disk leave it in `<dest>.partial`, where the next run finds it.

    Raises
    ------
    UserError : see Staging; also in place of any OSError of the block but BrokenPipeError
    """
    staging = None
    try:
        staging = Staging(dest, source, verify=verify, overwrite=overwrite)
        yield staging
    except UserError:
        if staging:
            with suppress(OSError):
                staging.discard()
        raise
    except BrokenPipeError:  # the reader of our output has left, see errors.run
        raise
    except OSError as error:
        where = f" ({path})" if (path := error.filename2 or error.filename) else ""
        left = f"; what is done waits in {staging.partial} for the next run" if staging else ""
        raise UserError(f"cannot make {os.fspath(dest)}: {error.strerror or error}{where}{left}") from error


class Staging:
    """The dataset that is at `dest` now, if any, and the one that takes its place at the end.

    Attributes
    ----------
    dest, partial : the absolute path of the dataset, symbolic links resolved, and of the folder in which it is built

    Raises
    ------
    UserError : `dest` lies in the source or the source in it, is in use, holds what this script did not put there, or
        was made from another source or class list, and `overwrite` is not given
    """

    def __init__(self, dest: str | os.PathLike, source: Source, *, verify: bool, overwrite: bool):
        self.named = os.fspath(dest)
        self.dest = os.path.realpath(dest)
        self.partial = self.dest + PARTIAL_SUFFIX
        self.source, self.overwrite = source, overwrite
        origin = one_line(os.path.realpath(source.origin))
        self.facts = {
            "source": origin,
            "kind": source.kind.name,
            "classes": source.classes,
            "drawing": source.drawing and asdict(source.drawing),
            **source.settings,
            "verified": verify,
        }
        self.offered = self._planned()  # before any photo is decoded
        self._check_place()
        self._recover()
        self.old = read_marker(self.dest)
        if overwrite and self.old and self.old["classes"] != source.classes:
            self.old = None
        self._check_old()
        self.check_nothing_lost()
        self._open()

    def folder(self, split: Split) -> str:
        """Where the photos of `split` are to be put."""
        return os.path.join(self.partial, split.name)

    def holders(self, split: Split) -> list[Holder]:
        """Where photos of `split` may be already: in what an interrupted run left, and in the present dataset."""
        holders = [Holder(self.folder(split), self.facts["verified"])]
        if self.old:
            holders.append(Holder(os.path.join(self.dest, split.name), self.old["verified"]))
        return holders

    def check_nothing_lost(self) -> None:
        """Raise UserError when the present dataset holds a file that is not in the source as it is now known."""
        if self.overwrite or not os.path.isdir(self.dest):
            return
        planned = self._planned()
        there = list_files(self.dest)
        # a copy of what has proved broken since is no loss: a dataset made with --no-verify may have it
        broken = {target for target in there & set(self.offered) if is_at(self.offered[target], self._at(target))}
        if foreign := sorted(there - set(planned) - OURS - broken):
            count = f"{len(foreign)} files" if len(foreign) > 1 else "a file"
            raise UserError(
                f"{self.named} holds {count} that {self.source.origin} does not provide: {_some(foreign)}; {ANOTHER}"
            )
        for target in sorted(there & set(planned)):
            if not is_at(planned[target], self._at(target)):
                self._check_changed(self._at(target), planned[target])

    def _check_changed(self, path: str, photo: Photo) -> None:
        if os.lstat(path).st_mtime_ns > photo.mtime_ns:
            raise UserError(f"{path} was changed since it was copied from {photo.path}; {ANOTHER}")
        if self.old and self.old["source"] != self.facts["source"]:
            raise UserError(
                f"{self.named} was made from another source, {self.old['source']}, and its {os.path.basename(path)} "
                f"differs from that of {self.source.folder}; {ANOTHER}"
            )

    def _at(self, target: str) -> str:
        return os.path.join(self.named, target)

    def _planned(self) -> dict[str, Photo]:
        """Each photo by its path below the dataset."""
        return {os.path.join(split.name, photo.target): photo for split in self.source.splits for photo in split.photos}

    def _check_place(self) -> None:
        """The dataset, the source and the person must not stand in each other's way."""
        roots = {self.source.origin, *(split.folder for split in self.source.splits)}  # a split may be a link
        if self.source.kind.walked:
            roots.add(self.source.folder)
        else:
            roots |= {os.path.dirname(photo.path) for photo in self.offered.values()}
        for root in sorted(roots):
            for ours in (self.dest, self.partial):
                if self.source.kind.walked and _within(ours, root):
                    raise UserError(f"the dataset {ours} would lie in its source {root}; name a --dest outside of it")
                if _within(root, ours):
                    raise UserError(f"the source {root} lies in the dataset {ours}; name another --dest")
        for path in (self.dest, self.partial):
            if os.path.lexists(path) and not os.path.isdir(path):
                raise UserError(f"{path} is a file; name another --dest")
        if os.path.ismount(self.dest) or _within(os.getcwd(), self.dest):
            what = "is a mount point" if os.path.ismount(self.dest) else "holds the folder that you are in"
            raise UserError(f"{self.dest} {what} and cannot be replaced as a whole; name another --dest, one in it say")

    def _recover(self) -> None:
        """Finish the exchange of old and new in which a run was killed."""
        if not os.path.lexists(self.dest) and os.path.isdir(os.path.join(self.partial, REPLACED)):
            os.rename(self.partial, self.dest)
        if read_marker(self.dest):
            shutil.rmtree(os.path.join(self.dest, REPLACED), ignore_errors=True)

    def _check_old(self) -> None:
        if self.overwrite or not os.path.isdir(self.dest):
            return
        if not self.old:
            if there := sorted(list_files(self.dest)):
                raise UserError(f"{self.named} was not made by this script and holds {_some(there)}; {ANOTHER}")
        elif self.old["classes"] != self.source.classes:
            theirs, ours = self.old["classes"], self.source.classes
            differing = next(
                (f"{one!r} there, {two!r} here" for one, two in zip(theirs, ours, strict=False) if one != two),
                f"{len(theirs)} there, {len(ours)} here",
            )
            raise UserError(f"{self.named} was made with other classes ({differing}); {ANOTHER}")
        elif (theirs := plan_flags(_drawing(self.old))) != (ours := plan_flags(self.source.drawing)):
            raise UserError(
                f"{self.named} was made with {theirs}, and photos would change their split with {ours}; give the same, "
                f"{ANOTHER}"
            )
        for name, ours in self.source.settings.items():
            if self.old and (theirs := self.old.get(name)) != ours:
                raise UserError(f"{self.named} was made with other {name} ({theirs} there, {ours} here); {ANOTHER}")

    def _open(self) -> None:
        """Make the partial folder, or take up the one that an interrupted run of the same kind left."""
        if os.path.isdir(self.partial):
            left = read_marker(self.partial)
            names = os.listdir(self.partial)
            if not left and not all(name.endswith(TEMPORARY_SUFFIX) for name in names):
                raise UserError(f"{self.partial}, where the dataset would be built, is not this script's; move it away")
            if left == self.facts:
                return
            self.discard()
        os.makedirs(self.partial)
        write_json(os.path.join(self.partial, MARKER), self.facts)

    def finish(self) -> bool:
        """Put the dataset in its place. False when the one that is there is right already, and was left untouched.

        Raises
        ------
        UserError : see check_nothing_lost
        """
        self.check_nothing_lost()
        planned = self._planned()
        new = _keep_only(self.partial, set(planned) | {MARKER})
        if self._is_right_already(planned, new):
            self.discard()
            return False
        for target in sorted(set(planned) - new):
            self._take_over(target, planned[target])
        for name, text in self._lists().items():
            write_text(os.path.join(self.partial, name), text)
        if lost := sorted(set(planned) - list_files(self.partial)):
            raise UserError(f"{self.partial} lost {lost[0]}: does its file system ignore case, or is another run busy?")
        self._exchange()
        return True

    def _is_right_already(self, planned: dict[str, Photo], new: set[str]) -> bool:
        if not self.old or new != {MARKER} or (self.facts["verified"] and not self.old["verified"]):
            return False
        lists = self._lists()
        if list_files(self.dest) != {*planned, MARKER, *lists}:
            return False
        return all(_text(os.path.join(self.dest, name)) == text for name, text in lists.items())

    def _lists(self) -> dict[str, str]:
        return {**self.source.lists(), REJECTED_LIST: rejected_csv(self.source.rejected)}

    def _take_over(self, target: str, photo: Photo) -> None:
        """Bring an unchanged photo of the old dataset into the new one: a hard link, or a copy where there are none."""
        old, new = os.path.join(self.dest, target), os.path.join(self.partial, target)
        os.makedirs(os.path.dirname(new), exist_ok=True)
        try:
            os.link(old, new)
        except OSError:
            copy(photo, new)

    def _exchange(self) -> None:
        replaced = os.path.join(self.partial, REPLACED)
        if os.path.isdir(self.dest):
            os.rename(self.dest, replaced)
        try:
            os.rename(self.partial, self.dest)
        except OSError:
            if os.path.isdir(replaced):
                os.rename(replaced, self.dest)
            raise
        shutil.rmtree(os.path.join(self.dest, REPLACED), ignore_errors=True)

    def discard(self) -> None:
        """Remove the partial folder; the marker last, by which the next run knows it should this one be killed."""
        if os.path.isdir(self.partial):
            _keep_only(self.partial, {MARKER})
            shutil.rmtree(self.partial)


def read_marker(folder: str) -> dict | None:
    """What is known of a folder that this script made; None of any other."""
    try:
        with open(os.path.join(folder, MARKER), encoding="utf-8") as file:
            facts = json.load(file)
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and {"source", "classes", "verified"} <= set(facts) else None


def former_drawing(dest: str | os.PathLike) -> SplitPlan | None:
    """How splits were drawn for the dataset at `dest`, or for one that an interrupted run was making there."""
    dest = os.path.realpath(dest)
    return _drawing(read_marker(dest) or read_marker(dest + PARTIAL_SUFFIX) or {})


def _drawing(facts: Mapping) -> SplitPlan | None:
    noted = facts.get("drawing")  # what an older version made has none
    return SplitPlan(**noted) if noted else None


def rejected_csv(rejected: Sequence[Rejected]) -> str:
    """The files that were left out as CSV: path, relative to the source, and reason. Undecodable bytes are escaped."""
    text = io.StringIO()
    usual = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    usual.writerow(Rejected._fields)
    for row in rejected:  # the usual writer leaves a lone "\r", which ends a line when it is read, without quotes
        (quoting if "\r" in row.path else usual).writerow(row)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()


def list_files(folder: str) -> set[str]:
    """The relative paths of all files below `folder`, links to folders among them; not those of file managers."""
    found = set()
    for parent, folders, names in os.walk(folder):
        names += [name for name in folders if os.path.islink(os.path.join(parent, name))]
        below = _below(parent, folder)
        found |= {below + name for name in names if name not in OF_FILE_MANAGERS}
    return found


def _keep_only(folder: str, kept: set[str]) -> set[str]:
    """Remove all files below `folder` but `kept`, then empty folders; returns which of `kept` are there."""
    there = set()
    for parent, folders, names in os.walk(folder, topdown=False):
        names += [name for name in folders if os.path.islink(os.path.join(parent, name))]
        below = _below(parent, folder)
        for name in names:
            if below + name in kept:
                there.add(below + name)
            else:
                os.unlink(os.path.join(parent, name))
        if parent != folder and not os.listdir(parent):
            os.rmdir(parent)
    return there


def _below(parent: str, folder: str) -> str:
    """What stands before a name in `parent` to make it relative to `folder`."""
    return "" if parent == folder else os.path.relpath(parent, folder) + os.sep


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def _within(path: str, folder: str) -> bool:
    """Whether `path`, which need not exist, is `folder` or lies in it, whatever links and spellings lead there."""
    path = os.path.realpath(path)
    while True:
        if os.path.exists(path) and os.path.exists(folder) and os.path.samefile(path, folder):
            return True
        if (parent := os.path.dirname(path)) == path:
            return False
        path = parent
