"""The flags of prepare_dataset.py, grouped by subject. Imports nothing heavy, so that --help is immediate."""

import argparse

from pyimagesearch import config
from pyimagesearch.runtime.flags import Parser, add_quiet, number

TABLE_SUFFIXES = (".csv", ".tsv")  # of a --source that is a table
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")  # of one that may hold a table


def preparation_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of prepare_dataset.py."""
    parser = Parser(
        description="Sort photos into class folders for training, validation and evaluation. Each photo is decoded "
        "once; unusable files are left out and listed in DEST/rejected.csv. The dataset appears whole or not at all. "
        "Another run adds what is new.",
    )
    places = parser.add_argument_group("source and dataset")
    _add_source(places.add_mutually_exclusive_group())
    places.add_argument("--val-list", metavar="FILE", help="validation photos, with --train-list")
    places.add_argument("--test-list", metavar="FILE", help="evaluation photos, with --train-list")
    places.add_argument("--root", metavar="DIR", help="folder of the paths in text lists (default: that of each list)")
    places.add_argument(
        "--label-pattern", metavar="REGEX",
        help="the class is the group `label` of this regular expression, which must match a photo's whole path below "
        "--source, or below its split; or prefix (cat_12.jpg), suffix (12_cat.jpg), parent (the folder of the photo) "
        "or top (the topmost folder)",
    )  # fmt: skip
    places.add_argument("--dest", metavar="DIR", default=config.BASE_PATH, help="the dataset (default %(default)s)")
    places.add_argument(
        "--max-unpacked", type=number(float, 0, above=True), metavar="GB",
        help="the most that an archive or parquet files may take unpacked (default: 200 times their size, at most 200)",
    )  # fmt: skip
    places.add_argument(
        "--exclude", nargs="+", metavar="FILE",
        help="label_issues.csv of a training in which you have marked photos: in the column drop to leave them out, in "
        "new_label to put them in another class; several files count one after another",
    )  # fmt: skip
    places.add_argument("--overwrite", action="store_true", help="replace DEST with exactly what the source holds")
    _add_splits(parser.add_argument_group("splits that the source lacks"))
    _add_table(parser.add_argument_group("a CSV file as source, or text lists with further columns"))
    how = parser.add_argument_group("how to copy")
    how.add_argument("--strict", action="store_true", help="fail if any file is unusable, and change nothing")
    how.add_argument("--no-verify", action="store_true", help="do not decode photos: faster, but finds no broken ones")
    how.add_argument("--link", action="store_true", help="hard links: no extra space, but edits change both photos")
    how.add_argument("--workers", type=number(int, 1, 1024), metavar="N", help="threads (default: one per core)")
    add_quiet(how, "the table of counts and the files left out; with --check, the problems and the verdict")
    args = parser.parse_args(arguments)
    if args.check is not None:
        changed = [name for name, value in vars(args).items() if value != parser.get_default(name)]
        if idle := [f"--{name.replace('_', '-')}" for name in changed if name not in ("check", "workers", "quiet")]:
            parser.error(f"--check changes nothing; leave {' and '.join(idle)} out")
    if (args.val_list or args.test_list) and not args.train_list:
        parser.error("--val-list and --test-list go with --train-list")
    if args.label_pattern and (args.train_list or args.sample or args.source.lower().endswith(TABLE_SUFFIXES)):
        parser.error("--label-pattern goes with a folder as --source")
    _check_table(parser, args)
    return args


def _add_source(group) -> None:
    group.add_argument(
        "--source", metavar="DIR", default=config.DATA_PATH,
        help="a folder with train, val and test (or training, validation, evaluation, ...) that hold photos named "
        "K_N.ext, K the class number (names in classes.txt, one per line, unless they are Food-11's), or a folder per "
        "class; or a folder per class without splits; or train.txt, val.txt and test.txt, each line a path and a class "
        "(its name, or its number in classes.txt); or a zip or tar archive of such a folder; or parquet files with the "
        "bytes of a photo and a label per row; or a CSV file, see below (default %(default)s)",
    )  # fmt: skip
    group.add_argument("--train-list", metavar="FILE", help="text list of any name, instead of --source")
    group.add_argument("--sample", action="store_true", help=f"use the built-in sample, drawn in {config.SAMPLE_PATH}")
    group.add_argument(
        "--check", nargs="?", const=config.BASE_PATH, metavar="DIR",
        help="make no dataset; check the dataset DIR for training: counts, sizes, broken photos, photos in two splits, "
        f"near copies, drawn in DIR-near-copies.png; exit status 1 if there are problems (default {config.BASE_PATH})",
    )  # fmt: skip


def _add_splits(group) -> None:
    for split, name, default in (("val", "validation", config.VAL_RATE), ("test", "evaluation", config.TEST_RATE)):
        group.add_argument(
            f"--{split}-rate", type=number(float, 0, 1, above=True), metavar="RATE",
            help=f"share of each class's training photos that becomes {name}, drawn by file name and --seed: a "
            f"photo keeps its split when others are added; for groups of a CSV file, about that (default {default})",
        )  # fmt: skip
    group.add_argument(
        "--group-near-copies", action="store_true",
        help="keep photos of a class that look alike (resized, recompressed, of a burst) in one split, as photos of "
        "equal bytes always are; --check finds them too",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
        help="for drawn splits and the sample (default %(default)s)",
    )  # fmt: skip


def _add_table(group) -> None:
    group.add_argument("--images", metavar="DIR", help="the folder of the photos (default: that of the CSV file)")
    group.add_argument(
        "--id-column", metavar="NAME",
        help="each photo's path in --images, with or without suffix (default: the column that names photos)",
    )  # fmt: skip
    labels = group.add_mutually_exclusive_group()
    labels.add_argument(
        "--label-column", metavar="NAME",
        help="one class per photo: the column of it, or its number from 1 on (default: the column with classes, where "
        "there are not several columns of 0 and 1)",
    )  # fmt: skip
    labels.add_argument(
        "--label-columns", nargs="+", metavar="NAME",
        help="several labels per photo: columns of 0 and 1 (default: all such columns, where there are several)",
    )  # fmt: skip
    group.add_argument(
        "--uncertain", choices=("ignore", "zero", "one"),
        help="labels of -1 are not known, or count as 0 or 1 (default: ignore; asked for where no label is 0)",
    )  # fmt: skip
    group.add_argument(
        "--group-column", metavar="NAME",
        help="a patient, for example: all photos of a group go to one split (default: each photo is a group)",
    )  # fmt: skip
    group.add_argument(
        "--folds", type=number(int, 2), metavar="K",
        help="cross-validation: K folds instead of training and validation; evaluation stays apart",
    )  # fmt: skip


def table_flags(args: argparse.Namespace) -> list[str]:
    """The flags given that only a CSV file as source has."""
    names = ("images", "id_column", "label_columns", "uncertain", "group_column", "folds")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]


def _check_table(parser: Parser, args: argparse.Namespace) -> None:
    table = args.source.lower().endswith(TABLE_SUFFIXES)
    if not table and not args.source.lower().endswith(ARCHIVE_SUFFIXES) and (given := table_flags(args)):
        parser.error(f"{given[0]} goes with a CSV file as --source")
    if table and args.root:
        parser.error("--root goes with text lists; the photos of a CSV file are in --images")
    if args.folds and args.val_rate:
        parser.error("--folds takes the place of validation; leave --val-rate out")
