"""How a dataset is built beside its place and moved there as a whole, so that no file of the user is lost.

Everything is made in `<dest>.partial`. At the end the old dataset is moved into that folder as `.replaced`, the folder
is renamed to `<dest>`, and `.replaced` is removed. A run may be killed at any point: the next one continues.
"""

import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from pyimagesearch import config
from pyimagesearch.data import labels_csv
from pyimagesearch.preparation.copying import Holder, copy, is_at
from pyimagesearch.preparation.source import CLASS_LIST, Photo, Source, Split, SplitPlan, first_few, plan_flags
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.files import TEMPORARY_SUFFIX, locked, read_json, write_json, write_text

# marks a folder as made here, and records: the source and its kind, the classes, how missing splits were drawn
# ("drawing"), whether each photo was decoded
MARKER = "prepared.json"
REJECTED_LIST = "rejected.csv"
CONFLICT_LIST = "conflicts.csv"  # the same photo in several classes; all of them are in the dataset
PARTIAL_SUFFIX = ".partial"
LOCK_SUFFIX = ".lock"  # beside the dataset, which is replaced as a whole
REPLACED = ".replaced"
OURS = {MARKER, REJECTED_LIST, CONFLICT_LIST, CLASS_LIST, labels_csv.LABELS_CSV}
OF_FILE_MANAGERS = {".DS_Store", "Thumbs.db", "desktop.ini"}
ANOTHER = "name another --dest, or give --overwrite to replace it with exactly what the source holds"


@contextmanager
def staged(dest: str | os.PathLike, source: Source, *, verify: bool, overwrite: bool) -> Iterator["Staging"]:
    """A Staging of `source`, to be finished in the block. A UserError in the block discards what was built.

    Ctrl-C and a full disk keep it in `<dest>.partial`, where the next run finds it. OSErrors become UserErrors.
    """
    left = ""
    try:
        staging = Staging(dest, source, verify=verify, overwrite=overwrite)
        with locked(staging.dest + LOCK_SUFFIX, staging.named, "--dest"):
            staging.begin()
            left = f"; finished photos are kept in {staging.partial} for the next run"
            try:
                yield staging
            except UserError:
                with suppress(OSError):
                    staging.discard()
                raise
    except BrokenPipeError:  # the reader of our output has gone, see errors.run
        raise
    except OSError as error:
        where = f" ({path})" if (path := error.filename2 or error.filename) else ""
        raise UserError(f"cannot make {os.fspath(dest)}: {error.strerror or error}{where}{left}") from error


class Staging:
    """The dataset that is at `dest` now, if any, and the one that will replace it; making one changes nothing."""

    def __init__(self, dest: str | os.PathLike, source: Source, *, verify: bool, overwrite: bool):
        self.named = os.fspath(dest)  # in messages
        self.dest = os.path.realpath(dest)
        self.partial = self.dest + PARTIAL_SUFFIX
        self.source, self.overwrite = source, overwrite
        self.marker = {
            "source": one_line(os.path.realpath(source.origin)),
            "kind": source.kind.name,
            "classes": source.classes,
            "drawing": source.plan and asdict(source.plan),
            **source.settings,
            "corrections": source.corrections,
            "verified": verify,
        }
        self.offered = self._planned()  # before any photo is decoded
        self._check_place()

    def begin(self) -> None:
        """Read the present dataset and make the partial folder, or reuse that of an interrupted run."""
        self._recover()
        self.old = read_marker(self.dest)
        if self.overwrite and self.old and self.old["classes"] != self.source.classes:
            self.old = None
        if not self.overwrite and os.path.isdir(self.dest):
            self._check_old()
        self._check_nothing_lost()
        self._open()

    def folder(self, split: Split) -> str:
        """Where the photos of `split` are built."""
        return os.path.join(self.partial, split.name)

    def holders(self, split: Split) -> list[Holder]:
        """The folders that may hold photos of `split`: of an interrupted run, and of the present dataset."""
        holders = [Holder(self.folder(split), self.marker["verified"])]
        if self.old:
            holders.append(Holder(os.path.join(self.dest, split.name), self.old["verified"]))
        return holders

    def _planned(self) -> dict[str, Photo]:
        """The photos by their paths in the dataset."""
        return {os.path.join(split.name, photo.target): photo for split in self.source.splits for photo in split.photos}

    def _check_place(self) -> None:
        """Raise UserError if dest and source overlap, or dest cannot be replaced as a whole."""
        roots = {self.source.origin, *(split.folder for split in self.source.splits)}  # a split may be a link
        if self.source.kind.walked:
            roots.add(self.source.folder)
        else:
            roots |= {os.path.dirname(photo.path) for photo in self.offered.values()}
        for root in sorted(roots):
            for ours in (self.dest, self.partial):
                if self.source.kind.walked and _within(ours, root):
                    table = ", or with --images only the folder of the photos" * (root != self.source.origin)
                    raise UserError(
                        f"the dataset {ours} would lie in its source {root}; name a --dest outside of it{table}"
                    )
                if _within(root, ours):
                    raise UserError(f"the source {root} lies in the dataset {ours}; name another --dest")
        for path in (self.dest, self.partial):
            if os.path.lexists(path) and not os.path.isdir(path):
                raise UserError(f"{path} is a file; name another --dest")
        if os.path.ismount(self.dest) or _within(os.getcwd(), self.dest):
            what = "is a mount point" if os.path.ismount(self.dest) else "holds the current folder"
            raise UserError(f"{self.dest} {what} and cannot be replaced as a whole; name another --dest, or one in it")

    def _recover(self) -> None:
        """Finish the exchange of the old and the new dataset if a run was killed in it."""
        if not os.path.lexists(self.dest) and os.path.isdir(os.path.join(self.partial, REPLACED)):
            os.rename(self.partial, self.dest)
        if read_marker(self.dest):
            shutil.rmtree(os.path.join(self.dest, REPLACED), ignore_errors=True)

    def _check_old(self) -> None:
        """Raise UserError unless the present dataset can be updated from this source with these settings."""
        if not self.old:
            if there := sorted(list_files(self.dest)):
                raise UserError(
                    f"{self.named} was not made by this script and holds {', '.join(first_few(there, 3))}; {ANOTHER}"
                )
            return
        if (theirs := self.old["classes"]) != (ours := self.source.classes):
            differing = next(
                (f"{one!r} there, {two!r} here" for one, two in zip(theirs, ours, strict=False) if one != two),
                f"{len(theirs)} there, {len(ours)} here",
            )
            raise UserError(f"{self.named} was made with other classes ({differing}); {ANOTHER}")
        if (old_flags := plan_flags(_plan_of(self.old))) != (flags := plan_flags(self.source.plan)):
            raise UserError(
                f"{self.named} was made with {old_flags}, and photos would change their split with {flags}; give the "
                f"same flags, {ANOTHER}"
            )
        for name, ours in {**self.source.settings, "corrections": self.source.corrections}.items():
            if (theirs := self.old.get(name)) != ours:
                raise UserError(f"{self.named} was made with other {name} ({theirs} there, {ours} here); {ANOTHER}")

    def _check_nothing_lost(self) -> None:
        """Raise UserError if the present dataset holds a file that the source does not provide."""
        if self.overwrite or not os.path.isdir(self.dest):
            return
        planned = self._planned()
        there = list_files(self.dest)
        # copies of photos that are known as broken by now are no loss: a dataset made with --no-verify may have them
        offered = [(target, self.offered[target]) for target in there & set(self.offered)]
        broken = {target for target, photo in offered if is_at(photo, os.path.join(self.named, target))}
        if foreign := sorted(there - set(planned) - OURS - broken):
            count, some = f"{len(foreign)} files" if len(foreign) > 1 else "a file", ", ".join(first_few(foreign, 3))
            raise UserError(f"{self.named} holds {count} that {self.source.origin} does not provide: {some}; {ANOTHER}")
        for target in sorted(there & set(planned)):
            self._check_unchanged(os.path.join(self.named, target), planned[target])

    def _check_unchanged(self, path: str, photo: Photo) -> None:
        if is_at(photo, path):
            return
        if os.lstat(path).st_mtime_ns > photo.mtime_ns:
            raise UserError(f"{path} was changed since it was copied from {photo.path}; {ANOTHER}")
        if self.old and self.old["source"] != self.marker["source"]:
            raise UserError(
                f"{self.named} was made from another source, {self.old['source']}, and its {os.path.basename(path)} "
                f"differs from that of {self.source.folder}; {ANOTHER}"
            )

    def _open(self) -> None:
        """Make the partial folder, or reuse that of an interrupted run with the same marker."""
        if os.path.isdir(self.partial):
            left = read_marker(self.partial)
            if not left and not all(name.endswith(TEMPORARY_SUFFIX) for name in os.listdir(self.partial)):
                raise UserError(f"{self.partial}, where the dataset would be built, is not this script's; move it away")
            if left == self.marker:
                return
            self.discard()
        os.makedirs(self.partial)
        write_json(os.path.join(self.partial, MARKER), self.marker)

    def finish(self) -> bool:
        """Move the dataset to its place. Returns False if the present one is up to date and was left untouched."""
        self._check_nothing_lost()
        planned = self._planned()
        texts = {**self.source.texts(), REJECTED_LIST: labels_csv.csv_text(("path", "reason"), self.source.rejected)}
        if conflicts := self.source.conflicts():
            texts[CONFLICT_LIST] = labels_csv.csv_text(("photo", "path", "class"), conflicts)
        new = _keep_only(self.partial, set(planned) | {MARKER})
        if new == {MARKER} and self._is_up_to_date(planned, texts):
            self.discard()
            return False
        for target in sorted(set(planned) - new):
            self._take_over(target, planned[target])
        for name, text in texts.items():
            write_text(os.path.join(self.partial, name), text)
        if lost := sorted(set(planned) - list_files(self.partial)):
            raise UserError(f"{self.partial} lost {lost[0]}: does its file system ignore case, or is another run busy?")
        self._exchange()
        return True

    def _is_up_to_date(self, planned: Mapping[str, Photo], texts: Mapping[str, str]) -> bool:
        if not self.old or (self.marker["verified"] and not self.old["verified"]):
            return False
        if plan_flags(_plan_of(self.old)) != plan_flags(self.source.plan):  # with --overwrite
            return False
        return list_files(self.dest) == {*planned, MARKER, *texts} and all(
            Path(self.dest, name).read_bytes() == text.encode() for name, text in texts.items()
        )

    def _take_over(self, target: str, photo: Photo) -> None:
        """Hard-link an unchanged photo of the old dataset into the new one, or copy it where links are impossible."""
        new = os.path.join(self.partial, target)
        os.makedirs(os.path.dirname(new), exist_ok=True)
        try:
            os.link(os.path.join(self.dest, target), new)
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
        """Remove the partial folder, the marker last: if this run is killed, the next one knows the rest as ours."""
        if os.path.isdir(self.partial):
            _keep_only(self.partial, {MARKER})
            shutil.rmtree(self.partial)


def read_marker(folder: str) -> dict | None:
    """What prepared.json records of a folder that this script made; None for any other folder."""
    return read_json(os.path.join(folder, MARKER), ("source", "classes", "verified"))


def former_plan(dest: str | os.PathLike) -> SplitPlan | None:
    """How splits were drawn for the dataset at `dest`, or by an interrupted run; `moved` is where its photos are."""
    dest = os.path.realpath(dest)
    folder = dest if read_marker(dest) else dest + PARTIAL_SUFFIX
    if plan := _plan_of(read_marker(folder) or {}):
        for path in list_files(folder):
            split, _, name = unicodedata.normalize("NFC", path.replace(os.sep, "/")).partition("/")
            if split in config.SPLITS:
                plan.moved[name] = split
    return plan


def _plan_of(marker: Mapping) -> SplitPlan | None:
    drawing = marker.get("drawing")  # missing in datasets of the first version
    return SplitPlan(**drawing) if drawing else None


def list_files(folder: str) -> set[str]:
    """The relative paths of all files below `folder`, without those of file managers."""
    return {path for path in _files_below(folder) if os.path.basename(path) not in OF_FILE_MANAGERS}


def _files_below(folder: str) -> Iterator[str]:
    """The relative paths of all files below `folder`; a link to a folder counts as a file."""
    start = len(os.path.join(folder, ""))
    for parent, folders, names in os.walk(folder):
        paths = [os.path.join(parent, name) for name in folders]
        yield from (path[start:] for path in paths if os.path.islink(path))
        yield from (os.path.join(parent, name)[start:] for name in names)


def _keep_only(folder: str, kept: set[str]) -> set[str]:
    """Remove all files below `folder` but `kept`, and empty folders; returns those of `kept` that exist."""
    there = set(_files_below(folder))
    for path in there - kept:
        os.unlink(os.path.join(folder, path))
    for parent, _, _ in os.walk(folder, topdown=False):
        if parent != folder and not os.listdir(parent):
            os.rmdir(parent)
    return there & kept


def _within(path: str, folder: str) -> bool:
    """Whether `path`, which need not exist, is `folder` or lies in it, through any links and spellings."""
    path = os.path.realpath(path)
    above = [path, *map(str, Path(path).parents)] if os.path.exists(folder) else []
    return any(os.path.samefile(parent, folder) for parent in above if os.path.exists(parent))
