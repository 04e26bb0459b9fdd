"""What prepare_dataset.py and copy_images make of a source, what they leave out, and what they print."""

import errno
import os
import subprocess
import sys
from functools import partial

import pytest
from helpers.sources import SCRIPT, photo, photos, rejected, tree
from PIL import Image

import prepare_dataset
from pyimagesearch import config
from pyimagesearch.preparation import copying
from pyimagesearch.preparation.sample import draw
from pyimagesearch.runtime.errors import UserError


def test_copy_images_prints_the_two_lines_of_the_tutorial_and_keeps_times(tmp_path, capsys):
    for name in ("0_3.jpg", "6_0.jpg", "deeper/10_1.png"):
        photo(tmp_path / "training" / name)
    there = f"{tmp_path}/dataset/training"
    prepare_dataset.copy_images(str(tmp_path / "training"), there)
    expected = f"[INFO] total images found: 3...\n[INFO] total images copied to {there}: 3...\n"
    assert capsys.readouterr().out == expected
    for copied in ("Bread/0_3.jpg", "Noodles/Pasta/6_0.jpg", "Vegetable/Fruit/10_1.png"):
        assert os.stat(f"{there}/{copied}").st_mtime_ns == 10**18 + 123_456_789


def test_copy_images_names_and_leaves_out_what_it_cannot_use(tmp_path, capsys):
    photo(tmp_path / "training" / "0_0.jpg")
    photo(tmp_path / "training" / "-1_0.jpg")
    left_out = prepare_dataset.copy_images(tmp_path / "training", tmp_path / "out")
    assert [os.path.basename(path) for path, _ in left_out] == ["-1_0.jpg"]
    shown = capsys.readouterr()
    assert "found: 2..." in shown.out
    assert "out: 1..." in shown.out
    assert "-1_0.jpg: not named K_N.ext" in shown.err
    assert photos(tmp_path / "out") == ["Bread/0_0.jpg"]


def test_copy_images_takes_other_classes(tmp_path):
    photo(tmp_path / "training" / "1_0.jpg")
    prepare_dataset.copy_images(tmp_path / "training", tmp_path / "out", classes=["a", "b"])
    assert photos(tmp_path / "out") == ["b/1_0.jpg"]
    with pytest.raises(UserError, match="dot"):
        prepare_dataset.copy_images(tmp_path / "training", tmp_path / "out", classes=["a", "../b"])


# the command


def test_help_needs_no_heavy_imports(tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['prepare_dataset.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "finally: print({'torch', 'PIL', 'imutils', 'cv2', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    options = {"env": {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}, "capture_output": True, "text": True}
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, **options)
    assert "--sample" in ended.stdout
    assert ended.stderr.strip() == "set()"


def test_the_dataset_has_class_folders_the_class_list_and_an_empty_list_of_rejected_files(run, source, tmp_path):
    ended = run()
    said = f"[INFO] {source} holds photos named K_N\n[INFO] copying images...\n[INFO] total images found: 4...\n"
    assert ended.out.startswith(said)
    assert f"[INFO] total images copied to {tmp_path / 'dataset' / 'training'}: 4...\n" in ended.out
    assert ended.out.splitlines()[-1] == f"[INFO] next: python train_distributed.py --data {tmp_path / 'dataset'}"
    for split in config.SPLITS:
        for name, target in {"0_1.jpg": "Noodles/Pasta/0_1.jpg", "1_0.jpg": "Rice/1_0.jpg"}.items():
            copied = tmp_path / "dataset" / split / target
            assert copied.read_bytes() == (source / split / name).read_bytes()
            assert copied.stat().st_mtime_ns == (source / split / name).stat().st_mtime_ns
    assert len(photos(tmp_path / "dataset")) == 12
    assert (tmp_path / "dataset" / "classes.txt").read_text() == "Noodles/Pasta\nRice\n"
    assert (tmp_path / "dataset" / "rejected.csv").read_text() == "path,reason\n"
    assert sorted(os.listdir(tmp_path)) == ["dataset", "source"]


def test_the_default_dataset_needs_no_flag_for_training(source, tmp_path):
    source.rename(tmp_path / "Food-11")
    ended = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "[INFO] total images copied to dataset/training: 4...\n" in ended.stdout
    assert ended.stdout.endswith("[INFO] next: python train_distributed.py\n")


def test_what_cannot_be_decoded_is_left_out_and_listed(run, source, tmp_path):
    whole = photo(tmp_path / "whole.jpg", size=(200, 200)).read_bytes()
    (source / "training" / "0_5.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "training" / "0_6.jpg").write_bytes(b"")
    (source / "validation" / "0_7.jpg").write_text("not a photo")
    (source / "validation" / "0_8.eps.jpg").touch()
    (source / "evaluation" / "0_9.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    (source / "evaluation" / "0_10.jpg").symlink_to("nowhere")
    Image.new("1", (10_000, 10_000)).save(source / "training" / "0_11.png")  # a few kB that make 300 MB
    ended = run()
    found = rejected(tmp_path / "dataset")
    said = {
        "training/0_5.jpg": "truncated",
        "training/0_6.jpg": "empty",
        "training/0_11.png": "10000 x 10000 pixels",
        "validation/0_7.jpg": "not an image",
        "validation/0_8.eps.jpg": "not named K_N.ext",
        "evaluation/0_9.jpg": "not an image",
        "evaluation/0_10.jpg": "leads nowhere",
    }
    assert found.keys() == said.keys()
    assert all(part in found[name] for name, part in said.items())
    assert "[INFO] left out: 7, listed in " in ended.out
    assert "training/0_6.jpg: empty" in ended.out
    assert len(photos(tmp_path / "dataset")) == 12


def test_no_verify_does_not_decode(run, source, tmp_path):
    (source / "training" / "0_5.jpg").write_text("not a photo")
    run("--no-verify")
    assert "training/Noodles/Pasta/0_5.jpg" in photos(tmp_path / "dataset")
    run()  # now each is decoded, also those that are there already
    assert rejected(tmp_path / "dataset") == {"training/0_5.jpg": "not an image"}
    assert len(photos(tmp_path / "dataset")) == 12


@pytest.mark.parametrize("content", [b"", b"not a photo"])
def test_strict_makes_a_rejected_file_an_error_and_changes_nothing(run, source, tmp_path, content):
    run()
    before = tree(tmp_path / "dataset")
    (source / "training" / "0_5.jpg").write_bytes(content)
    assert "training/0_5.jpg: " in run("--strict", status=2).err
    assert tree(tmp_path / "dataset") == before
    assert sorted(os.listdir(tmp_path)) == ["dataset", "source"]


def test_a_class_with_broken_photos_only_is_an_error_and_nothing_is_made(run, source, tmp_path):
    for path in (source / "training").glob("1_*"):
        path.write_text("broken")
    error = run(status=2).err
    assert "training has no usable photo of class 'Rice', which validation has" in error
    assert "1_0.jpg: not an image" in error
    assert os.listdir(tmp_path) == ["source"]


def test_links_share_the_photo_and_symbolic_links_are_followed(run, source, tmp_path):
    elsewhere = photo(tmp_path / "elsewhere" / "x.jpg")
    (source / "training" / "0_5.jpg").symlink_to(elsewhere)
    run("--link")
    assert (tmp_path / "dataset/training/Noodles/Pasta/0_5.jpg").samefile(elsewhere)
    assert not (tmp_path / "dataset/training/Noodles/Pasta/0_5.jpg").is_symlink()
    assert (tmp_path / "dataset/training/Rice/1_0.jpg").samefile(source / "training" / "1_0.jpg")
    run("--overwrite", "--dest", tmp_path / "copied")
    assert not (tmp_path / "copied/training/Noodles/Pasta/0_5.jpg").is_symlink()


def test_odd_names_are_copied_and_printed_on_one_line(run, source, tmp_path):
    odd = os.fsdecode(b"a 'b' \"c\" \n \xf0\x9f\x8d\x9e \xff")
    photo(tmp_path / "source" / "training" / odd / "0_5.jpg")
    photo(tmp_path / "source" / "training" / odd / "x.jpg")
    source.rename(tmp_path / f"source {odd}")
    ended = run("--source", tmp_path / f"source {odd}", "--dest", tmp_path / f"dataset {odd}")
    assert len(photos(tmp_path / f"dataset {odd}")) == 13
    (path,) = rejected(tmp_path / f"dataset {odd}")
    assert path == "training/a 'b' \"c\" \n \U0001f35e \\udcff/x.jpg"
    assert (
        len(ended.out.splitlines()) == 8 + 2 + 4 + 2
    )  # copying, what was left out, the table, small classes, what comes next
    assert "nothing new" in run("--source", tmp_path / f"source {odd}", "--dest", tmp_path / f"dataset {odd}").out


def test_the_longest_names_are_copied(run, source, tmp_path):
    photo(source / "training" / f"0_{'1' * 249}.jpg")
    run()
    assert len(photos(tmp_path / "dataset")) == 13


@pytest.mark.parametrize(
    "arguments",
    [("--workers", "0"), ("--workers", "x"), ("--seed", "-1"), ("--sample",), ("--frobnicate",), ("positional",)],
)
def test_nonsense_on_the_command_line_exits_with_2(source, tmp_path, arguments):
    command = [sys.executable, SCRIPT, "--source", source, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ") and len(ended.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["source"]


def test_the_sample_is_drawn_and_prepared(tmp_path, monkeypatch, capsys):
    drawn = partial(draw.draw_sample, counts=(1, 1, 1), workers=1)
    monkeypatch.setattr(draw, "draw_sample", lambda dest, seed, workers: drawn(dest, seed=seed))
    monkeypatch.setattr(sys, "argv", ["prepare_dataset.py", "--sample", "--seed", "3"])
    monkeypatch.chdir(tmp_path)
    prepare_dataset.main()
    assert capsys.readouterr().out.startswith(
        "[INFO] drawing the sample in Food-11-sample...\n[INFO] Food-11-sample ho"
    )
    assert sorted(os.listdir(tmp_path)) == ["Food-11-sample", "dataset"]
    assert len(photos(tmp_path / "dataset")) == 33


@pytest.mark.parametrize(
    ("there", "counts"),
    [(5_123_456_789, True), (5_123_456_700, True), (5_000_000_000, True), (4_000_000_000, True), (5_123_000_000, False),
     (3_000_000_000, False), (6_123_456_789, False)],
)  # fmt: skip
def test_times_are_compared_with_the_precision_of_the_file_system(tmp_path, there, counts):
    copied = photo(tmp_path / "0_0.jpg")
    os.utime(copied, ns=(there, there))
    of_source = copying.Photo("x", "x", 0, copied.stat().st_size, 5_123_456_789)
    assert copying.is_at(of_source, str(copied)) is counts
    assert not copying.is_at(of_source._replace(size=1), str(copied))


def _refuse(*_):
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.mark.parametrize("kernel", ["copies", "refuses", "copies a part", "has no such call"])
def test_a_copy_has_the_bytes_the_times_and_the_mode_whatever_the_kernel_can_do(tmp_path, monkeypatch, kernel):
    if kernel == "has no such call":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    elif kernel != "copies":
        one_byte = [lambda source, target, count: os.write(target, os.read(source, 1)), lambda *_: 0]
        call = _refuse if kernel == "refuses" else lambda *given: one_byte.pop(0)(*given)
        monkeypatch.setattr(os, "copy_file_range", call, raising=False)
    path = photo(tmp_path / "0_0.jpg")
    path.chmod(0o640)
    status = path.stat()
    target = tmp_path / "copy.jpg"
    copying.copy(copying.Photo(str(path), "x", 0, status.st_size, status.st_mtime_ns), str(target))
    assert target.read_bytes() == path.read_bytes()
    assert (target.stat().st_mtime_ns, target.stat().st_mode) == (status.st_mtime_ns, status.st_mode)
    assert sorted(os.listdir(tmp_path)) == ["0_0.jpg", "copy.jpg"]
