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


# --- the layouts of docs/data.md, by name: each makes what its command there names, and returns the photos per class --


def _numbered(folder, names):
    for split in config.SPLITS:
        draw(folder / split, *(f"{label}_{number}.jpg" for label in range(len(names)) for number in range(2)))
    return dict.fromkeys(names, 6)


def _food_11(folder):
    return _numbered(folder / "Food-11", [name.split("/")[0] for name in config.CLASSES])


def _own_numbers(folder):
    counts = _numbered(folder / "my-photos", ["Bread", "Rice"])
    (folder / "my-photos" / "classes.txt").write_text("Bread\nRice\n")
    return counts


def _class_folders(folder):
    draw(folder / "flowers", *(f"{name}/{number}.jpg" for name in ("rose", "tulip") for number in range(6)))
    return {"rose": 6, "tulip": 6}


def _numbered_folders(folder):
    draw(folder / "signs", *(f"{label}/{number}.jpg" for label in (1, 2) for number in range(6)))
    (folder / "signs" / "classes.txt").write_text("stop\nyield\n")
    return {"stop": 6, "yield": 6}


def _folders_in_splits(folder):
    draw(folder / "pets", *(f"train/{name}/{number}.jpg" for name in ("cat", "dog") for number in range(6)))
    draw(folder / "pets", "test/cat/a.jpg", "test/dog/a.jpg")
    return {"cat": 7, "dog": 7}


def _folders_around(folder):
    inner = folder / "download" / "archive" / "data"
    draw(inner, *(f"{split}/{name}/{split}.jpg" for split in ("train", "valid", "test") for name in ("cat", "dog")))
    draw(folder / "download", "__MACOSX/archive/x.jpg")
    (folder / "download" / "README.md").touch()
    return {"cat": 3, "dog": 3}


def _before_the_number(folder):
    names = ("Abyssinian", "great_pyrenees")
    draw(folder / "oxford-pets", *(f"images/{name}_{number}.jpg" for name in names for number in range(5)))
    return dict.fromkeys(names, 5)


def _after_the_number(folder):
    names = ("kitchen", "living_room")
    draw(folder / "rooms", *(f"{number}_{name}.jpg" for name in names for number in range(5)))
    return dict.fromkeys(names, 5)


def _folder_of_the_photo(folder):
    names = ("benign", "malignant")
    draw(folder / "scans", *(f"patient-{number}/{name}/1.jpg" for name in names for number in range(5)))
    return dict.fromkeys(names, 5)


def _any_pattern(folder):
    draw(folder / "birds", *(f"2024/{number}-{name}-left.jpg" for name in ("owl", "wren") for number in range(5)))
    return {"owl": 5, "wren": 5}


def _lists(folder):
    draw(folder / "photos", *(f"{number}.jpg" for number in range(12)))
    (folder / "lists").mkdir()
    for split, numbers in {"train": range(8), "val": range(8, 10), "test": range(10, 12)}.items():
        lines = (f"{number}.jpg {('cat', 'dog')[number % 2]}\n" for number in numbers)
        (folder / "lists" / f"{split}.txt").write_text("".join(lines))
    return {"cat": 6, "dog": 6}


def _archive(folder):
    """flowers.zip: class folders in one folder; returns the photos of each class."""
    draw(folder / "in" / "flowers", *(f"{name}/{number}.jpg" for name in ("rose", "tulip") for number in range(6)))
    pack(folder / "in", folder / "flowers.zip")
    shutil.rmtree(folder / "in")
    return {"rose": 6, "tulip": 6}


def _parquet(folder):
    """birds/: shards as the Hugging Face hub serves them; returns the photos of each class."""
    for first, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        paths = [draw(folder, f"{first}-{number}.jpg") / f"{first}-{number}.jpg" for number in range(6)]
        rows = [(path.read_bytes(), number % 2) for number, path in enumerate(paths)]
        shard(folder / "birds" / "data" / f"{name}.parquet", rows, ["owl", "wren"])
        for path in paths:
            path.unlink()
    return {"owl": 9, "wren": 9}


def _csv_of_classes(folder):
    """train.csv as Kaggle has it: an id without suffix, and a class; the photos are in images."""
    return _listed(folder, "train.csv", "image_id,label", lambda n, name: f"{n},{name}")


def _csv_of_another_machine(folder):
    """labels.csv as pandas wrote it on Windows: an index, absolute paths, numbers with names, splits, semicolons."""
    splits = ["train", "train", "val", "test"]
    return _listed(
        folder, "labels.csv", "\ufeff;path;label;name;split",
        lambda n, name: f"{n};C:\\data\\images\\{n}.jpg;{int(name == 'dog')}.0;{name};{splits[n // 2 % 4]}",
    )  # fmt: skip


def _csv_with_groups(folder):
    """labels.csv with a patient for each two photos."""
    return _listed(folder, "labels.csv", "file,label,patient", lambda n, name: f"{n}.jpg,{name},p{n // 2}")


def csv_with_unknown_labels(folder):
    """train.csv as CheXpert has it: labels of 1, 0, -1 for uncertain, and empty cells."""
    cells = ["1.0,0.0", "-1.0,1.0", ",0.0", "0.0,"]
    return _listed(folder, "train.csv", "Path,Sex,Edema,Cough", lambda n, _: f"v1/images/{n}.jpg,F,{cells[n % 4]}")


def _list_with_columns(folder):
    """train.txt with a header, and a fine and a coarse class."""
    row = "images/{0}.jpg,{1} {2},{1}"
    return _listed(
        folder / "classified", "train.txt", "path,fine,coarse", lambda n, name: row.format(n, name, n // 2 % 2)
    )


def _listed(folder, name, header, row):
    draw(folder / "images", *(f"{number}.jpg" for number in range(12)))
    rows = [header, *(row(number, ("cat", "dog")[number % 2]) for number in range(12))]
    (folder / name).write_text("".join(f"{text}\n" for text in rows))
    return {"cat": 6, "dog": 6}


LAYOUTS = {
    "Food-11": _food_11,
    "other classes, in `classes.txt`": _own_numbers,
    "a folder per class": _class_folders,
    "numbered folders, and `classes.txt`": _numbered_folders,
    "a folder per class in each split": _folders_in_splits,
    "folders around everything": _folders_around,
    "the class before a number": _before_the_number,
    "the class after a number": _after_the_number,
    "the class is the innermost folder": _folder_of_the_photo,
    "the class elsewhere in the path": _any_pattern,
    "text lists": _lists,
    "a list with more columns": _list_with_columns,
    "a CSV file with a class per photo": _csv_of_classes,
    "a CSV file of another computer, with splits": _csv_of_another_machine,
    "a CSV file with patients": _csv_with_groups,
    "an archive of folders, lists or a table": _archive,
    "parquet files of the Hugging Face hub": _parquet,
}


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
