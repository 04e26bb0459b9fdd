"""What several rooms' tests need: small photos in class folders, and a script run as a person does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import REPOSITORY, draw_photo
from helpers.sources import make_source, runner
from PIL import Image


def pytest_addoption(parser):
    parser.addoption("--fuzz-minutes", type=float, default=0, help="let test_fuzz.py draw new input for so long")


@pytest.fixture(scope="session", autouse=True)
def _one_thread_per_process():
    """Small tensors gain nothing from more, and several test runs at once lose much."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def imagenet() -> dict:
    """A state_dict as torchvision's densenet121 has it, of 1000 classes, unlike a new model in all its weights."""
    import torch
    from torchvision import models

    torch.manual_seed(7)
    state = models.densenet121(weights=None).state_dict()
    return {name: value + 1 if value.ndim == 1 else value for name, value in state.items()}


@pytest.fixture
def photo():
    """photo(path, size, colour) draws one, see draw_photo."""
    return draw_photo


@pytest.fixture
def photos(tmp_path):
    """photos({"Bread": 3, "Noodles/Pasta": 2}) draws so many photos of each class, and returns the folder."""

    def draw(counts: dict[str, int], root: Path | str = "photos", **options) -> Path:
        folder = tmp_path / root
        for name, count in counts.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                draw_photo(folder / name / f"{number:03}.png", **options)
        return folder

    return draw


@pytest.fixture
def dataset(tmp_path):
    """dataset(("Red", "Green")) draws a prepared dataset of three splits whose classes are colours, and returns it."""

    def draw(
        classes: tuple[str, ...] = ("Blue", "Green", "Red"),
        training: int = 8,
        validation: int = 4,
        evaluation: int = 4,
        size: tuple[int, int] = (40, 40),
        root: Path | str = "dataset",
    ) -> Path:
        folder = tmp_path / root
        for split, count in (("training", training), ("validation", validation), ("evaluation", evaluation)):
            for number, name in enumerate(classes):
                hue = np.array(Image.new("HSV", (1, 1), (255 * number // len(classes), 255, 200)).convert("RGB"))[0, 0]
                for n in range(count):
                    draw_photo(folder / split / name / f"{n:03}.png", size, tuple(hue.tolist()))
        return folder

    return draw


@pytest.fixture
def run_script(tmp_path):
    """run_script("train_distributed.py", "--help") runs it in an empty folder and returns the CompletedProcess."""

    def run(name: str, *arguments, timeout: float = 120, python: tuple[str, ...] = (), **settings):
        command = [sys.executable, *python, REPOSITORY / name, *arguments]
        settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": timeout, **settings}
        return subprocess.run([os.fspath(part) for part in command], check=False, **settings)

    return run


@pytest.fixture
def source(tmp_path):
    """A small source for prepare_dataset.py: two classes in the raw layout, two photos of each in each split."""
    return make_source(tmp_path)


@pytest.fixture
def run(tmp_path, source):
    """run("--strict", status=2) runs prepare_dataset.py on that source, see helpers.sources.runner."""
    return runner(tmp_path, "--source", source)
