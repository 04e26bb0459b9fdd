"""The sources that prepare_dataset can read, told apart by what lies in them."""

import os
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from pyimagesearch import config, raw_layout
from pyimagesearch.errors import UserError
from pyimagesearch.source_files import Source, Split


class Kind(NamedTuple):
    """A kind of source: what it looks like, in words and as a look into a folder, and how it is read."""

    layout: str
    found: Callable[[str], bool]
    read: Callable[[str], Source]


KINDS = (Kind(raw_layout.LAYOUT, raw_layout.found, raw_layout.read),)


def read_source(folder: str | os.PathLike) -> Source:
    """List the photos of a source of any kind; no photo is opened.

    Raises
    ------
    UserError : the folder is missing, or not of exactly one kind; or see the `read` of its kind
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise UserError(_where_to_get(folder))
    kinds = [kind for kind in KINDS if kind.found(folder)]
    if len(kinds) != 1:
        what = " and ".join(kind.layout for kind in kinds) or "none of the sources that are read"
        raise UserError(f"{folder} holds {what}; expected one of: {'; '.join(kind.layout for kind in KINDS)}")
    return kinds[0].read(folder)


def _where_to_get(folder: str) -> str:
    what = "is not a folder" if os.path.lexists(folder) else "does not exist"
    return (
        f"the source {folder} {what}; Food-11 can be had from EPFL (mmspg.epfl.ch) and on Kaggle (vermaavi/food11; "
        f"trolukovich/food11-image-dataset has it in class folders), and must lie as {config.DATA_PATH}/"
        f"{'|'.join(config.SPLITS)}/K_N.jpg with K the number of the class, 0 to {len(config.CLASSES) - 1}; name "
        "another folder with --source, or use --sample for a drawn one"
    )


def check_complete(source: Source) -> list[str]:
    """The classes of which no split has a photo.

    Raises
    ------
    UserError : a split has no photo at all, or none of a class that another split has: training would refuse that
    """
    counts = {split.name: Counter(photo.label for photo in split.photos) for split in source.splits}
    for split in source.splits:
        if not split.photos:
            raise UserError(f"{split.folder} has no usable photo{_left_out(split)}; expected photos in it")
    largest = max(counts, key=lambda name: len(counts[name]))
    for split in source.splits:
        if lacking := sorted(set(counts[largest]) - set(counts[split.name])):
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise UserError(
                f"{split.folder} has no usable photo of class {source.classes[lacking[0]]!r}{more} ({largest} has "
                f"{len(counts[largest])} classes, {split.name} {len(counts[split.name])}){_left_out(split)}; add some, "
                f"named {lacking[0]}_N.jpg, or remove the class from every split"
            )
    return [name for label, name in enumerate(source.classes) if label not in counts[largest]]


def _left_out(split: Split) -> str:
    if not split.rejected:
        return ""
    path, reason = split.rejected[0]
    return f", {len(split.rejected)} left out ({os.path.relpath(path, split.folder)}: {reason})"


def check_none_rejected(source: Source) -> None:
    """Raise UserError, which names the first few, when anything was left out of the source."""
    if rejected := source.rejected:
        first = "; ".join(f"{path}: {reason}" for path, reason in rejected[:3])
        more = f"; and {len(rejected) - 3} more" if len(rejected) > 3 else ""
        count = f"{len(rejected)} files" if len(rejected) > 1 else "a file"
        raise UserError(f"{source.folder} has {count} that cannot be used, which --strict forbids: {first}{more}")
