"""The built-in sample: the same everywhere, drawn whole or not at all; files of the user are never touched."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import REPOSITORY
from PIL import Image

from pyimagesearch import config
from pyimagesearch.preparation.sample import draw
from pyimagesearch.preparation.sample.dishes import DISHES
from pyimagesearch.preparation.sample.draw import draw_sample
from pyimagesearch.preparation.sample.photo import draw_photo
from pyimagesearch.preparation.sample.shapes import Brush
from pyimagesearch.runtime.errors import UserError

FEW = (1, 0, 1)


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file under `folder`, by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A small sample, drawn in this process. Tests only read it."""
    dest = tmp_path_factory.mktemp("sample") / "Food-11"
    draw_sample(dest, counts=(2, 1, 1), workers=1)
    return dest


def test_layout_is_that_of_raw_food_11(sample):
    splits = {split: sorted(path.name for path in (sample / split).iterdir()) for split in config.SPLITS}
    assert splits["training"] == sorted(f"{c}_{n}.jpg" for c in range(11) for n in range(2))
    assert splits["validation"] == splits["evaluation"] == sorted(f"{c}_0.jpg" for c in range(11))
    assert (sample / "classes.txt").read_text(encoding="utf-8").splitlines() == config.CLASSES


def test_images_per_split_are_returned_also_when_nothing_is_left_to_do(sample):
    before = digests(sample)
    assert draw_sample(sample, counts=(2, 1, 1)) == {"training": 22, "validation": 11, "evaluation": 11}
    assert digests(sample) == before


@pytest.mark.training  # several processes
def test_any_number_of_workers_draws_the_same_bytes(sample, tmp_path):
    draw_sample(tmp_path / "again", counts=(2, 1, 1), workers=3)
    assert digests(tmp_path / "again") == digests(sample)
    assert not list(tmp_path.glob("*.partial"))


def test_a_picture_does_not_depend_on_how_many_others_there_are(sample, tmp_path):
    draw_sample(tmp_path / "few", counts=FEW, workers=1)
    few, more = digests(tmp_path / "few"), digests(sample)
    pictures = [name for name in few if name.endswith(".jpg")]
    assert len(pictures) == 22
    assert all(few[name] == more[name] for name in pictures)


def test_no_two_pictures_are_equal(sample, tmp_path):
    draw_sample(tmp_path / "other", seed=1, counts=FEW, workers=1)
    pictures = {**digests(sample), **{f"other/{name}": digest for name, digest in digests(tmp_path / "other").items()}}
    drawn = [digest for name, digest in pictures.items() if name.endswith(".jpg")]
    assert len(drawn) == 66
    assert len(set(drawn)) == 66


def test_pictures_are_rgb_jpegs_of_varied_size(sample):
    sizes = set()
    for path in sample.rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
    assert all(200 <= side <= 320 for size in sizes for side in size)
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)


@pytest.mark.parametrize("dish", DISHES.values(), ids=[" ".join(key).replace("/", "_") for key in DISHES])
def test_every_dish_fills_a_good_part_of_the_picture(dish):
    grey = (90, 90, 90)
    for number in range(2):
        image = Image.new("RGB", (300, 260), grey)
        light, middle = np.array([0.6, -0.8]), np.array([150.0, 130.0])
        Brush(image, np.random.default_rng(number), light, middle, unit=120.0, turn=60.0 * number).draw(dish)
        changed = (np.asarray(image) != grey).any(axis=2)
        assert 0.15 < changed.mean() < 1


def test_every_class_has_a_dish():
    assert list(dict.fromkeys(name for name, _ in DISHES)) == config.CLASSES


def test_classes_differ_by_colour_alone():
    """The nearest of the eleven mean colour histograms is right for far more than one in eleven pictures."""

    def histogram(class_index: int, number: int) -> np.ndarray:
        pixels = np.asarray(draw_photo(class_index, np.random.default_rng([class_index, number])).resize((48, 48)))
        middle = pixels[8:40, 8:40].reshape(-1, 3) // 52
        return np.sqrt(np.bincount(middle @ (25, 5, 1), minlength=125) / len(middle))

    known = np.array([np.mean([histogram(c, n) for n in range(6)], axis=0) for c in range(11)])
    guesses = [(c, np.argmin(((known - histogram(c, n)) ** 2).sum(axis=1))) for c in range(11) for n in range(6, 9)]
    assert np.mean([truth == guess for truth, guess in guesses]) > 0.4


def test_a_folder_with_anything_else_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0_0.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="photos holds files that are not the sample"):
        draw_sample(tmp_path / "photos", counts=FEW, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert (tmp_path / "photos" / "0_0.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("other", [{"seed": 3, "counts": (2, 1, 1)}, {"seed": 0, "counts": FEW}])
def test_a_sample_of_another_seed_or_of_other_counts_is_refused_and_left_alone(sample, other):
    before = digests(sample)
    with pytest.raises(UserError, match=r"holds a sample of seed 0 with counts .*, expected seed"):
        draw_sample(sample, **other, workers=1)
    assert digests(sample) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "Food-11").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        draw_sample(tmp_path / "Food-11", counts=FEW, workers=1)
    assert (tmp_path / "Food-11").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "Food-11").mkdir()
    assert draw_sample(tmp_path / "Food-11", counts=FEW, workers=1)["training"] == 11
    assert len(list((tmp_path / "Food-11" / "training").iterdir())) == 11


def test_what_a_killed_run_left_is_deleted(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(draw.shutil, "rmtree", lambda *_, **__: None)  # a killed run does not clean up
        patch.setattr(draw, "_draw_file", lambda picture: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            draw_sample(tmp_path / "Food-11", seed=5, counts=FEW, workers=1)
    (tmp_path / "Food-11.partial" / "training").mkdir()
    (tmp_path / "Food-11.partial" / "training" / "half.jpg").write_bytes(b"half a picture")
    draw_sample(tmp_path / "Food-11", counts=FEW, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["Food-11"]
    assert not (tmp_path / "Food-11" / "training" / "half.jpg").exists()


def test_a_partial_folder_of_the_user_is_refused_and_left_alone(tmp_path):
    (tmp_path / "Food-11.partial").mkdir()
    (tmp_path / "Food-11.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"Food-11\.partial is in the way"):
        draw_sample(tmp_path / "Food-11", counts=FEW, workers=1)
    assert (tmp_path / "Food-11.partial" / "thesis.txt").read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(picture):
        raise OSError("No space left on device")

    monkeypatch.setattr(draw, "_draw_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        draw_sample(tmp_path / "Food-11", counts=FEW, workers=1)
    assert list(tmp_path.iterdir()) == []


def start_drawing(dest: Path) -> subprocess.Popen:
    """Start a process, in its own group, that draws a large sample with two workers; return when pictures appear."""
    program = f"from pyimagesearch.preparation.sample.draw import draw_sample; draw_sample({str(dest)!r}, workers=2)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: len(list(Path(f"{dest}.partial").glob("*/*.jpg"))) > 4)
    return process


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.training  # several processes
@pytest.mark.skipif(os.name == "nt", reason="signals to a process group are POSIX")
def test_ctrl_c_leaves_neither_half_a_sample_nor_workers(tmp_path):
    process = start_drawing(tmp_path / "Food-11")
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
    assert process.wait(timeout=30) != 0
    wait_until(lambda: group_is_gone(process.pid), 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.training  # several processes
@pytest.mark.skipif(os.name == "nt", reason="signals to a process group are POSIX")
def test_workers_end_with_a_killed_parent_and_the_next_run_succeeds(tmp_path):
    process = start_drawing(tmp_path / "Food-11")
    process.kill()
    process.wait(timeout=30)
    wait_until(lambda: group_is_gone(process.pid), 10)
    assert [path.name for path in tmp_path.iterdir()] == ["Food-11.partial"]
    draw_sample(tmp_path / "Food-11", counts=FEW, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["Food-11"]
