"""The dataset appears whole or not at all, new photos are added, and no file of the user is lost."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers.photos import REPOSITORY
from helpers.sources import SCRIPT, photo, photos, rejected, tree

from pyimagesearch.preparation.readers import detect
from pyimagesearch.preparation.staging import staged


def test_a_second_run_reports_nothing_new_and_touches_nothing(run, tmp_path):
    run()
    before, made = tree(tmp_path / "dataset"), (tmp_path / "dataset").stat().st_ino
    assert "nothing new" in run().out
    assert tree(tmp_path / "dataset") == before
    assert (tmp_path / "dataset").stat().st_ino == made


def test_new_and_newer_photos_are_added_and_the_others_not_copied_again(run, source, tmp_path):
    run()
    before = tree(tmp_path / "dataset")
    photo(source / "training" / "0_5.jpg")
    photo(source / "training" / "1_0.jpg", size=(40, 40))
    os.utime(source / "training" / "1_0.jpg")
    assert "nothing new" not in run().out
    after = tree(tmp_path / "dataset")
    new, newer = b"training/Noodles/Pasta/0_5.jpg", b"training/Rice/1_0.jpg"
    assert set(after) - set(before) == {new}
    assert after[newer][2] == (source / "training" / "1_0.jpg").read_bytes()
    unchanged = [name for name in before if name.endswith(b".jpg") and name != newer]
    assert all(after[name] == before[name] for name in unchanged)  # the inode too: no copy
    assert sorted(os.listdir(tmp_path)) == ["dataset", "source"]


def test_photos_that_were_verified_are_not_decoded_again(run, source, tmp_path):
    run()
    damaged = source / "training" / "0_0.jpg"
    facts = damaged.stat()
    damaged.write_bytes(b"x" * facts.st_size)  # would be rejected if it were read
    os.utime(damaged, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert "nothing new" in run().out


def add_a_file(dataset):
    (dataset / "training" / "notes.txt").write_text("mine")


def add_a_photo(dataset):
    photo(dataset / "training" / "Rice" / "mine.jpg")


def edit_a_photo(dataset):
    with open(dataset / "training" / "Rice" / "1_0.jpg", "ab") as file:
        file.write(b"retouched")


def link_a_split_elsewhere(dataset):
    (dataset / "more").symlink_to("/tmp")


def make_it_foreign(dataset):
    (dataset / "prepared.json").unlink()


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (add_a_file, "training/notes.txt"),
        (add_a_photo, "training/Rice/mine.jpg"),
        (edit_a_photo, "was changed since"),
        (link_a_split_elsewhere, "more"),
        (make_it_foreign, "not made by this script"),
    ],
)
def test_files_of_the_user_are_named_and_kept_until_overwrite(run, source, tmp_path, alter, said):
    run()
    alter(tmp_path / "dataset")
    before = tree(tmp_path / "dataset")
    error = run(status=2).err
    assert said in error
    assert "--overwrite" in error
    assert tree(tmp_path / "dataset") == before
    run("--overwrite")
    assert (tmp_path / "dataset" / "training/Rice/1_0.jpg").read_bytes() == (source / "training/1_0.jpg").read_bytes()
    assert len(photos(tmp_path / "dataset")) == 12
    assert not (tmp_path / "dataset" / "training" / "notes.txt").exists()
    assert sorted(os.listdir(tmp_path)) == ["dataset", "source"]


def test_a_photo_that_the_source_lost_or_broke_is_not_dropped_without_overwrite(run, source, tmp_path):
    run()
    before = tree(tmp_path / "dataset")
    (source / "training" / "0_0.jpg").write_text("broken since")
    assert "training/Noodles/Pasta/0_0.jpg" in run(status=2).err
    (source / "training" / "0_0.jpg").unlink()
    assert "training/Noodles/Pasta/0_0.jpg" in run(status=2).err
    assert tree(tmp_path / "dataset") == before


def test_another_class_list_is_refused(run, source, tmp_path):
    run()
    (source / "classes.txt").write_text("Noodles/Pasta\nBarley\n")
    assert "'Rice' there, 'Barley' here" in run(status=2).err
    run("--overwrite")
    assert (tmp_path / "dataset" / "training" / "Barley").is_dir()
    assert not (tmp_path / "dataset" / "training" / "Rice").exists()


def test_another_source_with_the_same_names_is_refused(run, source, tmp_path):
    run()
    source.rename(tmp_path / "moved")
    assert "nothing new" in run("--source", tmp_path / "moved").out  # the same photos in another place are the same
    photo(tmp_path / "moved" / "training" / "0_0.jpg", size=(50, 50))
    os.utime(tmp_path / "moved" / "training" / "0_0.jpg")
    assert "another source" in run("--source", tmp_path / "moved", status=2).err


@pytest.mark.parametrize("dest", ["source", "source/training/x", ".", "file", "source.link/x", "linked"])
def test_a_dest_that_is_or_holds_or_lies_in_the_source_is_refused(run, source, tmp_path, dest):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "source.link").symlink_to(source)
    (tmp_path / "linked").symlink_to(source)
    before = tree(source)
    run("--dest", tmp_path / dest, "--overwrite", status=2)
    assert tree(source) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_partial_folder_of_someone_else_is_left_alone(run, tmp_path):
    (tmp_path / "dataset.partial").mkdir()
    (tmp_path / "dataset.partial" / "mine.txt").write_text("mine")
    assert "dataset.partial" in run("--overwrite", status=2).err
    assert (tmp_path / "dataset.partial" / "mine.txt").read_text() == "mine"


def many(source, count=300):
    for number in range(count):
        photo(source / "training" / f"0_{100 + number}.jpg", size=(250, 250))
    return count + 12


def started(source, dataset, *arguments):
    command = [sys.executable, SCRIPT, "--source", source, "--dest", dataset, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def wait_for_photos(partial, process, count=20):
    """Wait until `partial` holds some photos."""
    for _ in range(2000):
        if len(list(partial.rglob("*.jpg"))) >= count or process.poll() is not None:
            return
        time.sleep(0.005)


def test_a_closed_output_is_no_disk_error_and_the_next_run_continues(run, source, tmp_path):
    """`head` closes the output early: print then raises BrokenPipeError."""
    with (
        pytest.raises(BrokenPipeError),
        staged(tmp_path / "dataset", detect.read_folder(source), verify=True, overwrite=False),
    ):
        raise BrokenPipeError
    run()
    assert len(photos(tmp_path / "dataset")) == 12


def test_ctrl_c_leaves_no_dataset_and_the_next_run_copies_only_the_rest(run, source, tmp_path):
    total = many(source, 1500)
    process = started(source, tmp_path / "dataset")
    wait_for_photos(tmp_path / "dataset.partial", process)
    os.killpg(process.pid, signal.SIGINT)
    asked = time.monotonic()
    _, error = process.communicate(timeout=20)
    assert time.monotonic() - asked < 3
    assert (process.returncode, error) == (130, b"\ninterrupted\n")
    assert not (tmp_path / "dataset").exists()
    before = {name: facts for name, facts in tree(tmp_path / "dataset.partial").items() if name.endswith(b".jpg")}
    assert 0 < len(before) < total
    run()
    after = tree(tmp_path / "dataset")
    assert len(photos(tmp_path / "dataset")) == total
    assert all(after[name] == facts for name, facts in before.items())


@pytest.mark.training  # many processes
def test_a_kill_at_any_moment_leaves_the_old_dataset_or_the_new_one(run, source, tmp_path):
    run()
    old = {name: facts[2] for name, facts in tree(tmp_path / "dataset").items() if name.endswith(b".jpg")}
    many(source)
    chance = random.Random(0)
    for _ in range(8):
        process = started(source, tmp_path / "dataset")
        time.sleep(chance.uniform(0.2, 1.2))
        process.kill()
        process.communicate()
        now = {name: facts[2] for name, facts in tree(tmp_path / "dataset").items() if name.endswith(b".jpg")}
        assert len(now) in (12, 312)
        assert old.items() <= now.items()
    run()
    assert len(photos(tmp_path / "dataset")) == 312
    assert sorted(os.listdir(tmp_path)) == ["dataset", "source"]
    assert not [path for path in (tmp_path / "dataset").rglob(".*")]


def test_after_a_kill_between_the_two_renames_the_next_run_finishes_the_exchange(run, source, tmp_path):
    run()
    expected = photos(tmp_path / "dataset")
    (tmp_path / "dataset").rename(tmp_path / "dataset.partial")
    (tmp_path / "dataset.partial" / ".replaced").mkdir()
    photo(tmp_path / "dataset.partial" / ".replaced" / "old.jpg")
    assert "nothing new" in run().out
    assert photos(tmp_path / "dataset") == expected
    assert sorted(os.listdir(tmp_path)) == ["dataset", "source"]


def test_photos_left_by_an_unverified_run_are_decoded(run, source, tmp_path):
    (source / "training" / "0_5.jpg").write_text("not a photo")
    run("--no-verify")
    (tmp_path / "dataset").rename(tmp_path / "dataset.partial")
    (tmp_path / "dataset.partial" / "training" / "Rice" / "1_9.jpg").write_text("of a photo that is gone")
    run()
    assert rejected(tmp_path / "dataset") == {"training/0_5.jpg": "not an image"}
    assert len(photos(tmp_path / "dataset")) == 12


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can write")
def test_an_unwritable_place_is_one_clear_line(run):
    assert "cannot write to /proc/self/dataset" in run("--dest", "/proc/self/dataset", status=2).err


def test_a_disk_that_fills_up_leaves_the_old_dataset(run, source, tmp_path):
    run()
    before = tree(tmp_path / "dataset")
    photo(source / "training" / "0_5.jpg", size=(2000, 2000))
    limit = 20_000  # bytes a file may have: writing more fails as on a full disk, with another errno
    code = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        f"sys.argv = ['x', '--source', {str(source)!r}, '--dest', {str(tmp_path / 'dataset')!r}];"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "File too large" in ended.stderr
    assert tree(tmp_path / "dataset") == before
    run()
    assert len(photos(tmp_path / "dataset")) == 13


def test_a_dataset_that_another_process_prepares_is_refused_and_nothing_is_touched(run, tmp_path):
    run()
    before = tree(tmp_path)
    assert "dataset.lock" not in before  # removed when its owner had finished
    code = (
        "import sys; from pyimagesearch.runtime.files import locked\n"
        "with locked(sys.argv[1], 'dataset', '--dest'): print('locked', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "dataset.lock")], cwd=REPOSITORY, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert owner.stdout.readline() == "locked\n"
    assert f"in use by process {owner.pid} on " in run("--overwrite", status=2).err
    owner.communicate("")
    assert tree(tmp_path) == before
