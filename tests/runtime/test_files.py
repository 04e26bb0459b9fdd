"""Files are written whole or not at all."""

import json
import os
import subprocess
import sys

import pytest
from helpers.photos import REPOSITORY

from pyimagesearch.runtime import files
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import atomic_write, refuse_unwritable, write_json, write_text


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_write(path, "w") as file:
        file.write("half of the n")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "half of the n"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path, "w") as file:
        file.write("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError("no space left on device")

    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = (
        "import os, sys\nfrom pyimagesearch.runtime.files import atomic_write\n"
        "with atomic_write(sys.argv[1], 'w') as file:\n    file.write('half'); file.flush(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], cwd=REPOSITORY, timeout=60).returncode == 9
    assert path.read_text() == "old"


def test_the_bytes_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(files.os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    write_text(tmp_path / "file.txt", "text")
    assert calls[:2] == ["fsync", "replace"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "file.txt", "Käse\n面包\n")
    assert (tmp_path / "file.txt").read_bytes() == "Käse\n面包\n".encode()


def test_json_is_indented_and_not_escaped(tmp_path):
    value = {"classes": ["Käse", "面包"], "lr": 0.1}
    write_json(tmp_path / "file.json", value)
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "Käse" in text and text.count("\n") > 3 and text.endswith("}\n")


@pytest.mark.parametrize("name", ["new.csv", "there.csv", "new/folder/new.csv"])
def test_checking_a_writable_path_changes_nothing(tmp_path, name):
    (tmp_path / "there.csv").write_text("old")
    refuse_unwritable(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "old"


@pytest.mark.parametrize("name", ["", "folder", "new/", "pipe", "file/new.csv"])
def test_an_unwritable_path_is_refused_before_the_work(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot write to"):
        refuse_unwritable(f"{tmp_path}/{name}" if name else "")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]
