"""For tests of preparation: a small source, the command, and what it made."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from PIL import Image

import prepare_dataset
from pyimagesearch import config

SCRIPT = Path(prepare_dataset.__file__).resolve()


def photo(path, color="red", size=(16, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, "JPEG")
    os.utime(path, ns=(10**18, 10**18 + 123_456_789))
    return path


def draw(folder, *names):
    """Make photos of different colours at these paths below `folder`."""
    for name in names:
        photo(folder / name, tuple(hashlib.sha256(name.encode()).digest()[:3]))
    return folder


def make_source(tmp_path):
    """Two classes, two photos of each in each split."""
    for split in config.SPLITS:
        for label in range(2):
            for number in range(2):
                photo(tmp_path / "source" / split / f"{label}_{number}.jpg", (label * 90, number * 90, 0))
    (tmp_path / "source" / "classes.txt").write_text("Noodles/Pasta\nRice\n")
    return tmp_path / "source"


def archive_layout(folder):
    """flowers.zip: class folders in one folder; returns the photos of each class."""
    draw(folder / "in" / "flowers", *(f"{name}/{number}.jpg" for name in ("rose", "tulip") for number in range(6)))
    pack(folder / "in", folder / "flowers.zip")
    shutil.rmtree(folder / "in")
    return {"rose": 6, "tulip": 6}


def parquet_layout(folder):
    """birds/: shards as the Hugging Face hub serves them; returns the photos of each class."""
    for first, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        paths = [draw(folder, f"{first}-{number}.jpg") / f"{first}-{number}.jpg" for number in range(6)]
        rows = [(path.read_bytes(), number % 2) for number, path in enumerate(paths)]
        shard(folder / "birds" / "data" / f"{name}.parquet", rows, ["owl", "wren"])
        for path in paths:
            path.unlink()
    return {"owl": 9, "wren": 9}


def runner(tmp_path, *origin):
    """A function that runs the command with `origin`, --dest tmp_path/dataset and more arguments."""

    def run(*arguments, status=0, **options):
        command = [sys.executable, SCRIPT, *origin, "--dest", tmp_path / "dataset", *arguments]
        ended = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60, check=False, **options)
        ended.out, ended.err = os.fsdecode(ended.stdout), os.fsdecode(ended.stderr)
        assert ended.returncode == status, ended.err
        assert "Traceback" not in ended.err
        assert status != 2 or ended.err.count("\n") == 1
        return ended

    return run


def tree(folder):
    """Every file below `folder`: its path, inode, time and content."""
    return {
        os.fsencode(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def photos(dataset):
    return sorted(str(path.relative_to(dataset)) for path in dataset.rglob("*.jpg"))


def rejected(dataset):
    with open(dataset / "rejected.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["path"]: row["reason"] for row in rows}


def pack(folder, archive):
    """Make an archive of what is in `folder`, of the kind that its suffix says; returns its path."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))
    else:
        kind = archive.suffix[1:].replace("tgz", "gz")
        with tarfile.open(archive, "w" if kind == "tar" else f"w:{kind}") as file:
            for path in sorted(folder.iterdir()):
                file.add(path, path.name)
    return archive


def shard(path, rows, names=None, **columns):
    """Write a parquet file as the Hugging Face hub serves them, of (bytes, label) per row; `names` are the classes."""
    import pyarrow
    from pyarrow import parquet

    photos = [{"bytes": content, "path": f"{number}.jpg"} for number, (content, _) in enumerate(rows)]
    table = pyarrow.table({"image": photos, "label": [label for _, label in rows], **columns})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=4)
    return path
