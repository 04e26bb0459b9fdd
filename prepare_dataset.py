"""Sort the photos of Food-11 into class folders: Food-11/training/0_12.jpg becomes dataset/training/Bread/0_12.jpg.

    python prepare_dataset.py                                     # Food-11/ -> dataset/
    python prepare_dataset.py --sample                            # no Food-11 at hand: draw a sample first
    python prepare_dataset.py --source my-photos --dest my-set    # photos with class numbers, names in classes.txt
    python prepare_dataset.py --source flower_photos --val-rate 0.2 --test-rate 0.1    # a folder a class, no splits
    python prepare_dataset.py --source lists --root photos        # train.txt, val.txt, test.txt: a path and a class
    python prepare_dataset.py --source train.csv --images train --id-column StudyInstanceUID --group-column PatientID
    python prepare_dataset.py --check                             # is dataset/ fit to train on?

Each photo is decoded once; what cannot be used is left out and listed in rejected.csv. The dataset appears whole or not
at all: after an interruption the old one is there still, and the next run goes on. Run again, it brings in what is new.
"""

import os
import shlex
import sys

from pyimagesearch import config
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.runtime import errors
from pyimagesearch.runtime.errors import UserError, one_line


def copy_images(rootDir, destiDir, *, classes=None, verify=True, link=False, workers=None):
    """Copy the photos K_N.ext below `rootDir` to `destiDir`/<name of class K>/K_N.ext.

    Parameters
    ----------
    rootDir, destiDir : folders; the second is made where it is missing, and a photo that is there already, with the
        same size and modification time, is not copied again
    classes : the names of the classes, by number; None takes config.CLASSES
    verify : decode each photo once
    link : make hard links in place of copies
    workers : threads; None takes one a core

    Returns
    -------
    list of (path, reason) : what was left out; the first few are named on stderr

    Raises
    ------
    UserError : `rootDir` is no folder, or `classes` cannot be class folders
    OSError : `destiDir` cannot be written
    """
    from pyimagesearch.preparation import copying, source
    from pyimagesearch.preparation.readers import numbered_files

    classes = config.CLASSES if classes is None else classes
    source.check_classes(classes, "the list of classes")
    split = numbered_files.read_split(rootDir, classes)
    holders = [copying.Holder(os.fspath(destiDir), verified=False)]
    copying.copy_split(split, destiDir, holders=holders, verify=verify, link=link, workers=workers)
    for line in copying.describe_rejected(split.rejected):
        print(line, file=sys.stderr)
    return split.rejected


def main() -> int:
    args = preparation_options()  # before the imports that take a moment
    from pyimagesearch.preparation import copying, splitting, staging
    from pyimagesearch.preparation.readers import csv_table, detect
    from pyimagesearch.runtime import terminal

    terminal.quiet = args.quiet
    if args.check is not None:
        from pyimagesearch.preparation.check import check

        return check(args.check, workers=args.workers)
    source = read_source(args)
    if args.strict:
        detect.check_none_rejected(source)
    tabular = isinstance(source, csv_table.TableSource)
    if not tabular:
        rates = {"validation": args.val_rate, "evaluation": args.test_rate}
        former = None if args.overwrite else staging.former_drawing(args.dest)
        source = splitting.draw_missing(source, rates, args.seed, former)
    detect.check_complete(source)
    terminal.info(detect.describe_source(source))

    with staging.staged(args.dest, source, verify=not args.no_verify, overwrite=args.overwrite) as stage:
        terminal.info("copying images...")
        for split in source.splits:
            copying.copy_split(
                split,
                stage.folder(split),
                shown_as=os.path.join(args.dest, split.name),
                holders=stage.holders(split),
                verify=not args.no_verify,
                link=args.link,
                workers=args.workers,
            )
        if args.strict:
            detect.check_none_rejected(source)
        unused = detect.check_complete(source)
        changed = stage.finish()

    if source.rejected:
        where = one_line(os.path.join(args.dest, staging.REJECTED_LIST))
        print(f"[INFO] left out: {len(source.rejected)}, listed in {where}")
        print(*copying.describe_rejected(source.rejected), sep="\n")
    print(csv_table.count_rows_table(source) if tabular else copying.count_table(source))
    if unused:
        print(f"[INFO] no split has a photo of: {', '.join(unused)}")
    if not changed:
        print(f"[INFO] nothing new: {one_line(args.dest)} held all of it already, and nothing was copied")
    data = "" if args.dest == config.BASE_PATH else f" --data {one_line(shlex.quote(args.dest))}"
    terminal.info(f"next: python train_distributed.py{data}{' --fold all' if args.folds else ''}")
    return 0


def read_source(args):
    """The pyimagesearch.source_files.Source that the flags name."""
    from pyimagesearch.preparation import splitting
    from pyimagesearch.preparation.readers import csv_table, detect, text_lists

    if args.images:
        columns = csv_table.Columns(args.id_column, args.label_columns, args.group_column)
        rates = args.val_rate or config.VAL_RATE, args.test_rate or config.TEST_RATE
        sides = splitting.SplitRates(*rates, args.folds or 0, args.seed)
        return csv_table.read(args.source, args.images, columns, sides)
    lists = {"training": args.train_list, "validation": args.val_list, "evaluation": args.test_list}
    if args.train_list:
        return text_lists.read_lists({name: path for name, path in lists.items() if path}, args.root)
    return detect.read_source(draw_sample(args) if args.sample else args.source, args.root)


def draw_sample(args) -> str:
    """Draw the built-in sample where it is not there yet; returns its folder."""
    from pyimagesearch.preparation.sample import draw
    from pyimagesearch.runtime import terminal

    if not os.path.isdir(config.SAMPLE_PATH):
        terminal.info(f"drawing the sample in {config.SAMPLE_PATH}...")
    try:
        draw.draw_sample(config.SAMPLE_PATH, seed=args.seed, workers=args.workers)
    except OSError as error:
        raise UserError(f"cannot draw the sample in {config.SAMPLE_PATH}: {error.strerror or error}") from error
    return config.SAMPLE_PATH


if __name__ == "__main__":
    errors.run(main)
