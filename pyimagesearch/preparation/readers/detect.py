"""The sources that prepare_dataset can read, told apart by what lies in them."""

import os
from collections import Counter

from pyimagesearch import config
from pyimagesearch.preparation.readers import class_folders, csv_table, numbered_files, text_lists
from pyimagesearch.preparation.source import Source, Split
from pyimagesearch.preparation.splitting import plan_flags
from pyimagesearch.runtime.errors import UserError, one_line

READERS = (numbered_files, class_folders, text_lists)  # each has KIND, found(folder) and read(folder)


def read_source(folder: str | os.PathLike, root: str | None = None) -> Source:
    """List the photos of a source of any kind, in the splits that it has; no photo is opened.

    Parameters
    ----------
    root : where the paths in text lists begin

    Raises
    ------
    UserError : the folder is missing, or not of exactly one kind; or see the `read` of its kind
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise UserError(_where_to_get(folder))
    readers = [reader for reader in READERS if reader.found(folder)]
    if len(readers) != 1:
        found = " as well as ".join(reader.KIND.layout for reader in readers) or "nothing that can be read"
        lists = "; move one away, or name the lists with --train-list" if text_lists in readers else ""
        kinds = "; or ".join(reader.KIND.layout for reader in READERS)
        raise UserError(f"{folder} holds {found}; expected {kinds}{lists}")
    if root is None:
        return readers[0].read(folder)
    if readers[0] is not text_lists:
        raise UserError(f"{folder} holds {readers[0].KIND.layout}; leave out --root, which goes with text lists")
    return text_lists.read(folder, root)


def describe_source(source: Source) -> str:
    """Of what kind the source is, and how the splits that it lacks are drawn."""
    line = f"{one_line(source.origin)} holds {source.kind.name}"
    if source.drawing:
        drawn = " and ".join(name for name in config.SPLITS if name in source.drawing.rates)
        line += f"; {drawn} drawn by {plan_flags(source.drawing)}"
    return "; ".join([line, *map(one_line, source.notes)])


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
    if isinstance(source, csv_table.TableSource):
        return csv_table.unused_labels(source)
    counts = {split.name: Counter(photo.label for photo in split.photos) for split in source.splits}
    largest = max(counts, key=lambda name: len(counts[name]))
    for split in source.splits:
        drawn = source.drawing is not None and split.name in {"training", *source.drawing.rates}
        lacks = f"{f'the {split.name} part of ' * drawn}{split.folder} has no usable photo"
        if not split.photos:
            raise UserError(f"{lacks}{_left_out(source, split)}; {source.kind.advice}")
        if lacking := sorted(set(counts[largest]) - set(counts[split.name])):
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            advice = "take what is left out away, so that another is drawn" if drawn else source.kind.advice
            raise UserError(
                f"{lacks} of class {source.classes[lacking[0]]!r}{more} ({largest} has {len(counts[largest])} classes, "
                f"{split.name} {len(counts[split.name])}){_left_out(source, split)}; {advice}, or remove the class "
                "from every split"
            )
    return [name for label, name in enumerate(source.classes) if label not in counts[largest]]


def _left_out(source: Source, split: Split) -> str:
    if not split.rejected:
        return ""
    path, reason = split.rejected[0]
    return f", {len(split.rejected)} left out ({source.relative(path)}: {reason})"


def check_none_rejected(source: Source) -> None:
    """Raise UserError, which names the first few, when anything was left out of the source."""
    if rejected := source.rejected:
        first = "; ".join(f"{path}: {reason}" for path, reason in rejected[:3])
        more = f"; and {len(rejected) - 3} more" if len(rejected) > 3 else ""
        count = f"{len(rejected)} files" if len(rejected) > 1 else "a file"
        raise UserError(f"{source.origin} has {count} that cannot be used, which --strict forbids: {first}{more}")
