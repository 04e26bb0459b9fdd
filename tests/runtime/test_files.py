"""Files are written whole or not at all."""

import errno
import json
import os
import signal
import socket
import stat
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


@pytest.mark.parametrize("number", ["EINVAL", "ENOTSUP", "EBADF", "EACCES"])
def test_a_share_that_cannot_flush_a_folder_is_no_error(tmp_path, monkeypatch, number):
    fail_for_folders(monkeypatch, getattr(errno, number))
    write_text(tmp_path / "file.txt", "text")
    assert (tmp_path / "file.txt").read_text() == "text"


def test_a_disk_error_of_a_folder_is_an_error(tmp_path, monkeypatch):
    fail_for_folders(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="failed"):
        write_text(tmp_path / "file.txt", "text")


def fail_for_folders(monkeypatch, number: int) -> None:
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "failed")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)


HOLD = """
import os, sys, time
from pyimagesearch.runtime.errors import run
from pyimagesearch.runtime.files import locked
def main():
    with locked(sys.argv[1], "runs/x", "--output"):
        child = os.fork() if "fork" in sys.argv else 1
        if child:
            print("locked", child, flush=True)
        if "hold" in sys.argv:
            time.sleep(60)
run(main)
"""


def hold(path, *words) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(path), *words]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_process_is_refused_with_the_owner_and_touches_nothing(tmp_path):
    path = tmp_path / "new" / ".lock"
    owner = hold(path, "hold")
    assert owner.stdout.readline().startswith("locked")
    before = path.read_text(), path.stat().st_mtime_ns, os.listdir(tmp_path / "new")
    second = hold(path)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, out) == (2, "")
    assert f"runs/x is in use by process {owner.pid} on {socket.gethostname()} since 20" in err
    assert "name another --output" in err and len(err.splitlines()) == 1
    assert (path.read_text(), path.stat().st_mtime_ns, os.listdir(tmp_path / "new")) == before
    owner.kill()
    owner.communicate()


def test_a_killed_owner_frees_the_lock_at_once_though_its_forked_child_lives(tmp_path):
    """As a DataLoader's workers do for a while."""
    owner = hold(tmp_path / ".lock", "hold", "fork")
    child = int(owner.stdout.readline().split()[1])
    owner.kill()
    owner.wait()
    second = hold(tmp_path / ".lock")
    assert second.wait(60) == 0
    os.kill(child, signal.SIGKILL)
    owner.communicate()
    second.communicate()
    assert os.listdir(tmp_path) == []


def test_a_lock_that_was_removed_while_it_was_awaited_is_made_again(tmp_path, monkeypatch):
    """The owner ends between the open and the lock of the next one, who then holds a file without a name."""
    path, opened = tmp_path / ".lock", []
    real = files._lock

    def lock(file):
        if not opened:
            path.unlink()
        opened.append(file.name)
        real(file)

    monkeypatch.setattr(files, "_lock", lock)
    with files.locked(str(path), "x", "--output"):
        assert path.read_text() and len(opened) == 2
    assert not path.exists()


@pytest.mark.parametrize("number", ["ENOLCK", "ENOTSUP", "ENOSYS"])
def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys, number):
    def lock(file):
        raise OSError(getattr(errno, number), "no locks available")

    monkeypatch.setattr(files, "_lock", lock)
    with files.locked(str(tmp_path / ".lock"), "runs/x", "--output"):
        pass
    out = capsys.readouterr().out
    assert out == "[INFO] runs/x cannot be locked (no locks available): let no other run use it...\n"
