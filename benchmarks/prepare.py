"""prepare_dataset.py against cp -r of the same photos.

    python benchmarks/prepare.py --source Food-11 --json prepare.json
    python benchmarks/prepare.py --contenders class-folders csv --count 100000 --side 16    # the same photos, listed

The source is copied into a temporary folder first, so that it is in the page cache and hard links are possible. Seconds
are those of the whole process, from start to exit. All copies are kept until the end and need disk space: for minutes
after many files are deleted, ext4 takes several times as long to create new ones.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import measuring

FLAGS = {"no-verify": ["--no-verify"], "verify": [], "link": ["--no-verify", "--link"]}
LISTED = ("class-folders", "csv")  # the same generated photos without splits, linked
NAMES = ("cp", *FLAGS, *LISTED)


def copy(name: str, source: Path, folder: Path, count: int) -> measuring.Round:
    dest = Path(tempfile.mkdtemp(prefix=name, dir=folder), "dataset")
    begin = time.monotonic()
    if name == "cp":
        subprocess.run(["cp", "-r", source, dest], check=True)
    else:
        where = ["--source", f"{source}.csv", "--images", source] if name == "csv" else ["--source", source]
        measuring.run_script("prepare_dataset.py", *where, "--dest", dest, *FLAGS.get(name, FLAGS["link"]))
    seconds = time.monotonic() - begin
    return {"seconds": seconds, "photos_per_s": count / seconds}


def make_listed(folder: Path, count: int, side: int) -> None:
    """Class folders, and a CSV file of the same photos beside them: a path without suffix and a class in each row."""
    from made_photos import make_folder

    paths = sorted(make_folder(folder, count, side).rglob("*.jpg"))
    rows = [f"{path.parent.name}/{path.stem},{path.parent.name}\n" for path in paths]
    folder.with_suffix(".csv").write_text("".join(["image_id,label\n", *rows]))


def main() -> None:
    parser = measuring.parser("prepare_dataset.py against cp -r.", NAMES, slow=LISTED)
    parser.add_argument("--source", metavar="DIR", help="raw photos for prepare_dataset.py (default: generated)")
    parser.add_argument(
        "--count", type=measuring.size(33), default=3300, metavar="N", help="generated photos (%(default)s)"
    )
    parser.add_argument(
        "--side", type=measuring.size(8), default=348, metavar="PIXELS", help="their short side (%(default)s)"
    )
    args = parser.parse_args()
    if 0 < len(listed := {*args.contenders} & {*LISTED}) < len(args.contenders) or (listed and args.source):
        parser.error(f"{' and '.join(LISTED)} are compared with each other, of generated photos")
    report = measuring.Report(args)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        if args.source:
            shutil.copytree(args.source, source)
        elif listed:
            make_listed(source, args.count, args.side)
        else:
            from made_photos import make_folder

            for split in ("training", "validation", "evaluation"):
                make_folder(source / split, args.count // 3, args.side, flat=True)
        count = sum(len(names) for _, _, names in os.walk(source))
        turns = {name: lambda name=name: copy(name, source, Path(folder), count) for name in args.contenders}
        rounds = measuring.interleave(turns, args.rounds)
    report.add(f"Preparing {count} photos", rounds, "seconds", args.contenders[0], less_is_better=True)


if __name__ == "__main__":
    main()
