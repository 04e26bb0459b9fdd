"""Which reader a source needs: the flags say so, or what lies in the folder."""

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pyimagesearch import config
from pyimagesearch.data.decoding import find_splits
from pyimagesearch.preparation.options import TABLE_SUFFIXES, table_flags
from pyimagesearch.preparation.readers import archives, class_folders, csv_table, file_names, parquet, text_lists
from pyimagesearch.preparation.readers.file_names import tables_in
from pyimagesearch.preparation.source import Source, first_few
from pyimagesearch.preparation.splitting import SplitRates
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError

UNPACKED_SUFFIX = ".unpacked"
READERS = (file_names, class_folders, text_lists)  # each has KIND and found(folder)


@contextmanager
def opened_source(args: Namespace) -> Iterator[Source]:
    """As read_source, but archives and parquet files, also of --check, are unpacked beside --dest during the block."""
    args = Namespace(**{**vars(args), "source": args.source if args.check is None else args.check})
    folder = os.path.realpath(args.dest) + UNPACKED_SUFFIX
    archives.discard(folder)
    if args.sample or args.train_list or not is_packed(args.source):
        yield read_source(args)
        return
    shards = _shards(args.source)
    with archives.unpacking(args.source, shards or [args.source], folder, args.max_unpacked) as place:
        if shards:
            source = parquet.read(args.source, shards, place, args.label_column)
        else:
            unpacked = archives.unpack(args.source, place)
            images = args.images and os.path.join(unpacked, args.images)
            inner = {"source": _table_in(unpacked, args) or unpacked, "images": images}
            source = read_source(Namespace(**{**vars(args), **inner}))
        left_out = [f"left out: {'; '.join(first_few(place.left_out, 3))}"] if place.left_out else []
        yield replace(source, packed=args.source, notes=[*source.notes, *left_out])


def is_packed(path: str) -> bool:
    """Whether `path` is an archive, a parquet file or a folder of such files."""
    return archives.kind_of(path) is not None or bool(_shards(path))


def _shards(path: str) -> list[str]:
    """The parquet file at `path`, or those below a folder that no other reader takes, sorted."""
    if not os.path.isdir(path):
        return [path] * (archives.kind_of(path) == "parquet")
    if any(reader.found(path) for reader in READERS):
        return []
    return sorted(str(shard) for shard in Path(path).rglob("*.parquet"))


def _table_in(folder: str, args: Namespace) -> str | None:
    """The CSV file of training, or the only one, in an archive that no other reader takes ; flags ask for one too."""
    inner, flags = class_folders.only_way(folder), table_flags(args)
    if (args.label_pattern or any(reader.found(inner) for reader in READERS)) and not flags:
        return None
    tables = [path for place in dict.fromkeys((folder, inner)) for path in tables_in(place)]
    training = find_splits(os.path.dirname(tables[0]), ".csv").get("training") if tables else None
    if len(tables) > 1 and training is None:
        shown = ", ".join(os.path.relpath(path, folder) for path in tables)
        raise UserError(f"{folder} holds several tables, {shown}; unpack it, and name one with --source")
    if flags and not tables:
        raise UserError(f"{folder} holds no CSV file, which {flags[0]} goes with; leave it out")
    return training or next(iter(tables), None)


def read_source(args: Namespace) -> Source:
    """List the photos of the source that the flags name, see options.preparation_options; no photo is opened."""
    if args.source.lower().endswith(TABLE_SUFFIXES):
        columns = csv_table.Columns(
            args.id_column, args.label_columns, args.group_column, args.label_column, args.uncertain
        )
        rates = args.val_rate or config.VAL_RATE, args.test_rate or config.TEST_RATE
        return csv_table.read(args.source, args.images, columns, SplitRates(*rates, args.folds or 0, args.seed))
    lists = {"training": args.train_list, "validation": args.val_list, "evaluation": args.test_list}
    if args.train_list:
        return text_lists.read_lists({name: path for name, path in lists.items() if path}, args.root, args.label_column)
    folder = _sample_folder(args) if args.sample else args.source
    return read_folder(folder, args.root, args.label_column, args.label_pattern)


def read_folder(
    folder: str | os.PathLike, root: str | None = None, label_column: str | None = None, pattern: str | None = None
) -> Source:
    """List the photos in `folder`, of the kind that is found there, or in the only folder below that has photos."""
    named = os.fspath(folder)
    if not os.path.isdir(named):
        raise UserError(_where_to_get(named))
    is_inside = find_splits(named) or find_splits(named, ".txt")
    folder = named if is_inside else class_folders.only_way(named)
    source = file_names.read_labelled(folder, pattern) if pattern else _read_kind(folder, root, label_column)
    if folder == named:
        return source
    return replace(source, folder=named, notes=[*source.notes, f"its photos are in {os.path.relpath(folder, named)}"])


def _read_kind(folder: str, root: str | None, label_column: str | None) -> Source:
    """The photos in `folder`, of the one kind that is found there."""
    readers = [reader for reader in READERS if reader.found(folder)]
    if len(readers) != 1:
        found = " as well as ".join(reader.KIND.layout for reader in readers) or "nothing that can be read"
        lists = "; move one away, or name the lists with --train-list" if text_lists in readers else ""
        kinds = "; or ".join(reader.KIND.layout for reader in (*READERS, parquet))
        raise UserError(f"{folder} holds {found}; expected {kinds}{lists}{file_names.suggestion(folder)}")
    if readers[0] is text_lists:
        return text_lists.read_lists(find_splits(folder, ".txt"), root, label_column)
    if idle := "--root" if root is not None else "--label-column" if label_column is not None else None:
        raise UserError(f"{folder} holds {readers[0].KIND.layout}; leave out {idle}, which goes with text lists")
    return readers[0].read(folder)


def _sample_folder(args: Namespace) -> str:
    """Draw the built-in sample if it is missing; returns its folder."""
    from pyimagesearch.preparation.sample import draw

    if not os.path.isdir(config.SAMPLE_PATH):
        terminal.info(f"drawing the sample in {config.SAMPLE_PATH}...")
    try:
        draw.draw_sample(config.SAMPLE_PATH, seed=args.seed, workers=args.workers)
    except OSError as error:
        raise UserError(f"cannot draw the sample in {config.SAMPLE_PATH}: {error.strerror or error}") from error
    return config.SAMPLE_PATH


def _where_to_get(folder: str) -> str:
    what = "is not a folder" if os.path.lexists(folder) else "does not exist"
    return (
        f"the source {folder} {what}; Food-11 is available from EPFL (mmspg.epfl.ch) and on Kaggle (vermaavi/food11; "
        f"trolukovich/food11-image-dataset has it in class folders); expected {config.DATA_PATH}/"
        f"{'|'.join(config.SPLITS)}/K_N.jpg with K the number of the class, 0 to {len(config.CLASSES) - 1}; name "
        "another folder with --source, or use --sample for a drawn one"
    )
