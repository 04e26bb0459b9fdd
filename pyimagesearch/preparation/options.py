"""The flags of prepare_dataset.py and distributed_inference.py, grouped by subject. Imports nothing heavy."""

import argparse

from pyimagesearch import config
from pyimagesearch.runtime.flags import Parser, add_quiet, number

# flags of prepare_dataset.py that make a dataset
CHECK_IGNORES = (
    "val_list", "test_list", "root", "images", "id_column", "label_columns", "group_column", "folds", "val_rate",
    "test_rate", "seed", "dest", "overwrite", "strict", "no_verify", "link",
)  # fmt: skip


def preparation_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of prepare_dataset.py."""
    parser = Parser(
        description="Sort photos into the class folders of training, validation and evaluation. Each is decoded once; "
        "what cannot be used is left out and listed in DEST/rejected.csv. The dataset appears whole or not at all; run "
        "again, it brings in what is new.",
    )
    origin = parser.add_argument_group("from where to where")
    one_of = origin.add_mutually_exclusive_group()
    one_of.add_argument(
        "--source", metavar="DIR", default=config.DATA_PATH,
        help="holds train, val and test (or training, validation, evaluation, ...) with photos named K_N.ext, K the "
        "number of the class, and classes.txt, one name a line, where the classes are not those of Food-11; or with a "
        "folder a class; or folders of classes without splits; or train.txt, val.txt and test.txt, a path and a class "
        "(its name, or its number in classes.txt) a line; or a CSV file, see below (default %(default)s)",
    )  # fmt: skip
    one_of.add_argument("--train-list", metavar="FILE", help="a text list of any name, in place of --source")
    one_of.add_argument(
        "--sample", action="store_true", help=f"draw the built-in sample in {config.SAMPLE_PATH} and take it as source"
    )
    one_of.add_argument(
        "--check", nargs="?", const=config.BASE_PATH, metavar="DIR",
        help="make nothing, and say whether the dataset DIR is fit to train on: counts, sizes, broken photos, photos "
        f"that are in two splits; exit status 1 where it is not (default {config.BASE_PATH})",
    )  # fmt: skip
    origin.add_argument("--val-list", metavar="FILE", help="goes with --train-list")
    origin.add_argument("--test-list", metavar="FILE", help="goes with --train-list")
    origin.add_argument(
        "--root", metavar="DIR", help="where the paths in text lists begin (default: in the folder of each list)"
    )
    for split, name, default in (("val", "validation", config.VAL_RATE), ("test", "evaluation", config.TEST_RATE)):
        origin.add_argument(
            f"--{split}-rate", type=number(float, 0, 1, above=True), metavar="RATE",
            help=f"share of each class's training photos that becomes {name} where the source has none; by a photo's "
            f"name and --seed, so that it stays there when others come; of a CSV the share of its groups (default "
            f"{default})",
        )  # fmt: skip
    origin.add_argument(
        "--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
        help="of the splits that are drawn, and of the sample (default %(default)s)",
    )  # fmt: skip
    origin.add_argument("--dest", metavar="DIR", default=config.BASE_PATH, help="the dataset (default %(default)s)")
    origin.add_argument(
        "--overwrite", action="store_true", help="replace whatever is at DEST with exactly what the source holds"
    )
    _add_table(parser.add_argument_group("a CSV file as source: several labels a photo"))
    how = parser.add_argument_group("how")
    how.add_argument("--strict", action="store_true", help="a file that cannot be used is an error: nothing is changed")
    how.add_argument("--no-verify", action="store_true", help="do not decode the photos: faster, finds no broken one")
    how.add_argument(
        "--link", action="store_true", help="hard-link: takes no space, but edited in place both photos change"
    )
    how.add_argument("--workers", type=number(int, 1, 1024), metavar="N", help="threads (default: one a core)")
    add_quiet(how, "the table of counts and what was left out; with --check, the problems and the verdict")
    args = parser.parse_args(arguments)
    if args.check is not None:
        idle = [name for name in CHECK_IGNORES if getattr(args, name) != parser.get_default(name)]
        if idle:
            parser.error(f"--check changes nothing; leave --{idle[0].replace('_', '-')} out")
    if (args.val_list or args.test_list) and not args.train_list:
        parser.error("--val-list and --test-list go with --train-list")
    _check_table(parser, args)
    return args


def _add_table(group) -> None:
    group.add_argument("--images", metavar="DIR", help="where the photos lie")
    group.add_argument(
        "--id-column", metavar="NAME", help="its values name the photos in --images, with their suffix or without"
    )
    group.add_argument(
        "--label-columns", nargs="+", metavar="NAME", help="of 0 and 1 (default: all columns that hold nothing else)"
    )
    group.add_argument(
        "--group-column", metavar="NAME",
        help="of a patient, say: photos of one group are all in one split (default: each photo is its own group)",
    )  # fmt: skip
    group.add_argument(
        "--folds", type=number(int, 2), metavar="K",
        help="for cross-validation: what is not evaluation becomes K folds, in place of training and validation",
    )  # fmt: skip


def _check_table(parser: Parser, args: argparse.Namespace) -> None:
    """The flags of a table of labels go together."""
    table = args.source.lower().endswith(".csv")
    if table and not (args.images and args.id_column):
        parser.error(f"{args.source} is a table of labels; say where its photos lie with --images, and --id-column")
    for name in ("images", "id_column", "label_columns", "group_column", "folds"):
        if not table and getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} goes with a CSV file as --source")
    if table and args.root:
        parser.error("--root goes with text lists; the photos of a CSV file are in --images")
    if args.folds and args.val_rate:
        parser.error("--folds takes the place of validation; leave --val-rate out")
