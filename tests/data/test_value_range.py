"""Grey photos of more than 8 bits: black and white are one pair of values per dataset, and stand in the model card."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import ONE
from PIL import Image

from pyimagesearch.create_dataloaders import get_dataloader, open_splits
from pyimagesearch.data import datasets, decoding
from pyimagesearch.data.decoding import read_pixels
from pyimagesearch.data.transforms import eval_transform, train_transform
from pyimagesearch.models.model_card import transform_of, write_model_card
from pyimagesearch.preparation.copying import why_unreadable
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training.checkpoints import check_same_run
from pyimagesearch.training.options import resolve, training_options

DEEP = {"12-bit PNG": (".png", np.uint16, 4095), "float TIFF of 0 to 255": (".tif", np.float32, 255)}


def save(folder, name, suffix, dtype, *values):
    """A photo of 16 x 16 pixels with these values in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, dtype), (16, 16))).save(folder / f"{name}{suffix}")


@pytest.fixture(params=DEEP)
def deep(request, tmp_path):
    """A dataset of two classes with a bright photo in one and a dark one in the other; and the value of white."""
    suffix, dtype, white = DEEP[request.param]
    for split in ("training", "validation", "evaluation"):
        save(tmp_path / split / "bright", "a", suffix, dtype, white)
        save(tmp_path / split / "dark", "a", suffix, dtype, white // 255)
    return tmp_path, white


def levels(dataset):
    return [int(dataset.pixels(index)[0].max()) for index in range(len(dataset))]


def options(data, *flags):
    args = training_options(["--data", str(data), "--image-size", "32", "--workers", "0", "--amp", "off", *flags])
    return resolve(args, ONE, None)


def test_photos_of_a_dataset_are_scaled_alike_in_training_validation_and_inference(deep, tmp_path):
    data, white = deep
    args = options(data)
    loaders = open_splits(args, ONE.device)
    assert [levels(loader.dataset) for loader in loaders] == [[255, 1]] * 3
    assert args.value_range == (0, white)
    config = {**vars(args), "classes": ["bright", "dark"]}
    transform = transform_of(write_model_card(str(tmp_path / "output"), config, "multi-class", {}))
    dark = next((data / "evaluation" / "dark").iterdir())
    assert read_pixels(dark, transform.value_range).max() == 1


def test_a_cache_has_the_range_of_its_dataset_and_is_rebuilt_for_another(deep, tmp_path):
    data, white = deep
    for given, expected in ((None, [255, 1]), ((0, 2 * white), [128, 1])):
        transform = replace(train_transform(32), value_range=given)
        dataset, _ = get_dataloader(data / "training", transform, 2, cache="disk", cache_dir=str(tmp_path), workers=0)
        assert dataset.cache is not None and levels(dataset) == pytest.approx(expected, abs=1)


def test_a_flag_gives_the_range_and_values_beyond_it_are_black_or_white(tmp_path):
    save(tmp_path / "training" / "a", "a", ".tif", np.float32, -1024, -1000, 0, 1000, 3071)
    save(tmp_path / "training" / "b", "b", ".tif", np.float32, 0)
    with pytest.raises(UserError, match=r"values from -1024 to 3071, expected 0 to 1 or .*; give .*--value-range LOW"):
        get_dataloader(tmp_path / "training", train_transform(32), 2, workers=0)
    assert why_unreadable(next((tmp_path / "training" / "a").iterdir())) is None  # preparing does not reject it
    given = options(tmp_path, "--value-range=-1000:1000").value_range
    dataset, _ = get_dataloader(tmp_path / "training", replace(train_transform(32), value_range=given), 2, workers=0)
    assert dataset.pixels(0)[0][0, :5, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("given", ["1", "2:1", "0:x", "1:1", "0:1:2", "nan:1", "0:inf"])
def test_a_range_that_is_none_is_one_line(given, capsys):
    with pytest.raises(SystemExit):
        options("dataset", "--value-range", given)
    assert "--value-range" in capsys.readouterr().err


def test_a_run_is_not_resumed_with_another_range(deep):
    data, white = deep
    args = options(data)
    open_splits(args, ONE.device)
    check_same_run(vars(args), vars(args))
    with pytest.raises(UserError, match=r"--value-range is .* and was"):
        check_same_run(vars(args), {**vars(args), "value_range": (0.0, 2.0 * white)})


def test_photos_of_8_bits_have_no_range_and_jpegs_are_not_even_opened(tmp_path, photo, monkeypatch):
    for name in ("a", "b"):
        photo(tmp_path / "training" / name / "a.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "open_photo", lambda *_: pytest.fail("opened"))
        assert datasets.open_split(tmp_path / "training", eval_transform()).sampled_range() is None
    photo(tmp_path / "training" / "b" / "b.png")
    dataset, _ = get_dataloader(tmp_path / "training", train_transform(32), 2, workers=0)
    assert dataset.transform == train_transform(32)


def test_a_sample_decides_where_there_are_many_photos(tmp_path, photo, monkeypatch):
    monkeypatch.setattr(datasets, "SAMPLE", 2)
    for name, white in (("0", 900), ("1", 65535), ("2", 3000), ("3", 65535)):
        save(tmp_path / "training" / "a", name, ".png", np.uint16, white)
    assert datasets.open_split(tmp_path / "training", eval_transform()).sampled_range() == (0, 4095)
