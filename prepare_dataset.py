"""Sort the photos of Food-11 into class folders: Food-11/training/0_12.jpg becomes dataset/training/Bread/0_12.jpg.

    python prepare_dataset.py                                     # Food-11/ -> dataset/
    python prepare_dataset.py --sample                            # without Food-11: draw a sample first
    python prepare_dataset.py --source my-photos --dest my-set    # photos with class numbers, names in classes.txt
    python prepare_dataset.py --source flower_photos --val-rate 0.2 --test-rate 0.1    # a folder per class, no splits
    python prepare_dataset.py --source flowers.zip                # an archive, or parquet files of the Hugging Face hub
    python prepare_dataset.py --source lists --root photos        # train.txt, val.txt, test.txt: a path and a class
    python prepare_dataset.py --source train.csv --images train --id-column StudyInstanceUID --group-column PatientID
    python prepare_dataset.py --dest better --exclude label_issues.csv    # what you marked after a training
    python prepare_dataset.py --check                             # is dataset/ fit to train on?

Each photo is decoded once; unusable files are left out and listed in rejected.csv. The dataset appears whole or not at
all: an interrupted run leaves the old one as it was, and the next run continues. Another run adds what is new.
"""

import os
import shlex
import sys

from pyimagesearch import config
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.runtime import errors
from pyimagesearch.runtime.errors import one_line


def copy_images(rootDir, destiDir, *, classes=None, verify=True, link=False, workers=None):
    """Copy the photos K_N.ext below `rootDir` to `destiDir`/<name of class K>/K_N.ext.

    A photo that is there already, with the same size and modification time, is not copied again. Returns the list of
    (path, reason) of all files that were left out; the first few are printed on stderr.

    classes : the names of the classes, by number; None takes config.CLASSES
    verify : decode each photo once
    link : make hard links instead of copies
    workers : threads; None starts one per core
    """
    from pyimagesearch.preparation import copying, source
    from pyimagesearch.preparation.readers import class_names, file_names

    classes = config.CLASSES if classes is None else classes
    class_names.check_class_names(classes, "the list of classes")
    split = file_names.read_split(rootDir, classes)
    holders = [copying.Holder(os.fspath(destiDir), verified=False)]
    copying.copy_split(split, destiDir, holders=holders, verify=verify, link=link, workers=workers)
    source.print_first(split.rejected, sys.stderr)
    return split.rejected


def main() -> int:
    args = preparation_options()  # before the slow imports
    from pyimagesearch.preparation import check
    from pyimagesearch.preparation.readers import detect
    from pyimagesearch.runtime import terminal

    terminal.quiet = args.quiet
    if args.check is not None and not detect.is_packed(args.check):
        return check.check(args.check, workers=args.workers)
    with detect.opened_source(args) as source:
        return prepare(args, source) if args.check is None else check.check_source(source, workers=args.workers)


def prepare(args, source) -> int:
    """Make the dataset of a source, see options.preparation_options; returns the exit status."""
    from pyimagesearch.preparation import copying, splitting, staging
    from pyimagesearch.preparation.source import correct_labels, print_first
    from pyimagesearch.runtime import terminal

    if args.strict:
        source.check_none_rejected()
    rates = {"validation": args.val_rate, "evaluation": args.test_rate}
    former = None if args.overwrite else staging.former_plan(args.dest)
    splitting.find_copies(source, args.workers)
    source = splitting.draw_missing(
        source, rates, args.seed, former, near_copies=args.group_near_copies, workers=args.workers
    )
    if args.exclude:
        correct_labels(source, args.exclude)
    source.check_complete()
    terminal.info(source.summary())

    with staging.staged(args.dest, source, verify=not args.no_verify, overwrite=args.overwrite) as stage:
        terminal.info("copying images...")
        for split in source.splits:
            copying.copy_split(
                split,
                stage.folder(split),
                shown_as=os.path.join(args.dest, split.name),
                holders=stage.holders(split),
                verify=not args.no_verify,
                link=None if source.packed else args.link,  # the unpacked photos are removed at the end
                workers=args.workers,
            )
        if args.strict:
            source.check_none_rejected()
        remarks = source.check_complete()
        changed = stage.finish()

    if source.rejected:
        where = one_line(os.path.join(args.dest, staging.REJECTED_LIST))
        print(f"[INFO] left out: {len(source.rejected)}, listed in {where}")
        print_first(source.rejected)
    if conflicts := source.conflicts():
        where = one_line(os.path.join(args.dest, staging.CONFLICT_LIST))
        print(f"[INFO] the same photo in several classes: {conflicts[-1][0]}, listed in {where}")
    print(source.table())
    for remark in remarks:
        terminal.info(remark)
    if not changed:
        print(f"[INFO] nothing new: {one_line(args.dest)} is up to date, and nothing was copied")
    data = "" if args.dest == config.BASE_PATH else f" --data {one_line(shlex.quote(args.dest))}"
    terminal.info(f"next: python train_distributed.py{data}{' --fold all' if args.folds else ''}")
    return 0


if __name__ == "__main__":
    errors.run(main)
