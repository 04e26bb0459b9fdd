"""Parquet files as source, as the Hugging Face hub serves data sets."""

import io
import os
import sys

import numpy as np
import pytest
from helpers.sources import photos, rejected, shard, tree
from PIL import Image

import prepare_dataset
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.preparation.readers import archives, detect
from pyimagesearch.runtime.errors import UserError

parquet = pytest.importorskip("pyarrow.parquet")
NAMES = ["Éclair", "Noodles/Pasta", "Soup"]


def encoded(number):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


PHOTOS = [encoded(number) for number in range(36)]


def prepare(source, dest, *flags):
    """Run the script in this process."""
    args = preparation_options(["--source", str(source), "--dest", str(dest), *flags])
    with detect.opened_source(args) as opened:
        return prepare_dataset.prepare(args, opened)


def rows(first, count, classes=3):
    return [(PHOTOS[number], number % classes) for number in range(first, first + count)]


@pytest.fixture
def hub(tmp_path):
    """A folder of shards with a README, as the hub has it."""
    folder = tmp_path / "hub"
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001-ab12")):
        shard(folder / "data" / f"{name}.parquet", rows(9 * number, 9), NAMES)
    shard(folder / "data" / "test-00000-of-00001.parquet", rows(27, 9), NAMES)
    (folder / "README.md").write_text("x")
    return folder


def test_shards_become_splits_and_the_metadata_names_the_classes(hub, tmp_path, capsys):
    prepare(hub, tmp_path / "dataset")
    out = capsys.readouterr().out
    assert f"{hub} holds parquet files\n" in out
    made = photos(tmp_path / "dataset")
    assert len(made) == 36
    assert "validation/Noodles/Pasta/validation-00000-of-00001-ab12-000001.jpg" in made
    assert (tmp_path / "dataset" / "classes.txt").read_text() == "Éclair\nNoodles/Pasta\nSoup\n"
    copied = tmp_path / "dataset" / "training" / "Soup" / "train-00001-of-00002-000005.jpg"
    assert copied.read_bytes() == PHOTOS[14]
    before = tree(tmp_path / "dataset")
    prepare(hub, tmp_path / "dataset")
    assert "nothing new" in capsys.readouterr().out
    assert tree(tmp_path / "dataset") == before
    assert sorted(os.listdir(tmp_path)) == ["dataset", "hub"]


def test_one_file_is_split_and_numbers_or_texts_without_names_are_the_classes(tmp_path):
    numbers = shard(tmp_path / "numbers.parquet", [(photo, label * 5) for photo, label in rows(0, 36)])
    prepare(numbers, tmp_path / "of-numbers")
    assert sorted(os.listdir(tmp_path / "of-numbers" / "training")) == ["00", "05", "10"]
    texts = shard(tmp_path / "texts.parquet", [(photo, NAMES[label]) for photo, label in rows(0, 36)])
    prepare(texts, tmp_path / "of-texts")
    assert sorted(os.listdir(tmp_path / "of-texts" / "training")) == ["Noodles", "Soup", "Éclair"]
    assert len(photos(tmp_path / "of-numbers")) == len(photos(tmp_path / "of-texts")) == 36


def test_rows_that_cannot_be_used_are_listed(tmp_path):
    odd = [(b"no photo", 0), (None, 1), (b"", 1), (PHOTOS[30], -1), (PHOTOS[31], 3), (PHOTOS[32], None)]
    prepare(shard(tmp_path / "train.parquet", rows(0, 27) + odd, NAMES), tmp_path / "dataset")
    assert rejected(tmp_path / "dataset") == {
        "train-000027.jpg": "not an image",
        "train-000028.jpg": "empty",
        "train-000029.jpg": "empty",
        "train-000030.jpg": "the class '-1' is neither one of the 3 names of classes nor a number from 0 to 2",
        "train-000031.jpg": "the class '3' is neither one of the 3 names of classes nor a number from 0 to 2",
        "train-000032.jpg": "the class '' is neither one of the 3 names of classes nor a number from 0 to 2",
    }
    assert len(photos(tmp_path / "dataset")) == 27


def test_the_label_can_be_named_where_there_are_several(tmp_path):
    path = shard(tmp_path / "train.parquet", rows(0, 36), place=["x", "y"] * 18)
    prepare(path, tmp_path / "dataset", "--label-column", "place")
    assert sorted(os.listdir(tmp_path / "dataset" / "training")) == ["x", "y"]


def lack_a_shard(hub):
    (hub / "data" / "train-00001-of-00002.parquet").unlink()


def truncate(hub):
    path = hub / "data" / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:500])


def leave_a_pointer(hub):
    (hub / "data" / "train-00001-of-00002.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")


def damage_pages(hub):
    path = hub / "data" / "train-00001-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[40:3000] = bytes(2960)
    path.write_bytes(content)


def have_other_columns(hub):
    shard(hub / "data" / "train-00001-of-00002.parquet", rows(0, 9), extra=[1] * 9)


def belong_nowhere(hub):
    (hub / "data" / "train-00001-of-00002.parquet").rename(hub / "data" / "more.parquet")
    (hub / "data" / "train-00000-of-00002.parquet").rename(hub / "data" / "train.parquet")


def name_a_class_outside(hub):
    for path in (hub / "data").iterdir():
        shard(path, rows(0, 9), ["a", "../../evil", "c"])


def repeat_a_photo(hub):
    """A bomb: one photo in the dictionary of the column, in many rows."""
    path = shard(hub / "data" / "train-00001-of-00002.parquet", [(PHOTOS[0] + bytes(100_000), 0)] * 900, NAMES)
    parquet.write_table(parquet.read_table(path), path, row_group_size=900)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lack_a_shard, "lacks 1 of 2 shards of train, the first is 00001"),
        (truncate, "is no parquet file, or not a whole one"),
        (leave_a_pointer, "is no parquet file, or not a whole one"),
        (damage_pages, "cannot read"),
        (have_other_columns, "has other columns than"),
        (belong_nowhere, "more.parquet is of no split"),
        (name_a_class_outside, "the class name '../../evil' cannot be used"),
        (repeat_a_photo, "--max-unpacked"),
    ],
)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(hub, tmp_path, monkeypatch, spoil, said):
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    spoil(hub)
    before = tree(tmp_path)
    with pytest.raises(UserError) as refused:
        prepare(hub, tmp_path / "dataset")
    assert said in str(refused.value)
    assert archives.INNER not in str(refused.value)
    assert tree(tmp_path) == before
    assert os.listdir(tmp_path) == ["hub"]


def test_columns_that_are_not_clear_are_listed_with_their_types(tmp_path):
    path = shard(tmp_path / "train.parquet", rows(0, 9), place=["x"] * 9)
    parquet.write_table(parquet.read_table(path).rename_columns(["image", "fine", "place"]), path)
    with pytest.raises(
        UserError, match=r"the columns image \(struct.*\), fine \(int64\), place \(string\); .*--label-col"
    ):
        prepare(path, tmp_path / "dataset")


def test_parquet_files_are_checked_without_leaving_anything(hub, tmp_path, monkeypatch, capsys):
    shard(hub / "data" / "test-00000-of-00001.parquet", rows(0, 9), NAMES)  # the photos of training again
    monkeypatch.setattr(sys, "argv", ["prepare_dataset.py", "--check", str(hub)])
    monkeypatch.chdir(tmp_path)
    assert prepare_dataset.main() == 1
    out = capsys.readouterr().out
    assert "problem: 9 photos in more than one split\n" in out and archives.INNER not in out
    assert {*os.listdir(tmp_path)} <= {"hub", "hub-near-copies.png"}


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    path = shard(tmp_path / "train.parquet", rows(0, 9))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        prepare(path, tmp_path / "dataset")
