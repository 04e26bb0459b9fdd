"""The cache of decoded photos: right, never stale, never half written, and with the same part of each photo."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data import cache
from pyimagesearch.data.cache import cache_path, open_cache
from pyimagesearch.data.datasets import PhotoFolder
from pyimagesearch.data.decoding import read_pixels
from pyimagesearch.data.transforms import eval_transform, train_transform
from pyimagesearch.runtime.errors import UserError

CACHES = ("disk", "device")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable"),
]


@pytest.fixture
def folder(photos, photo):
    """Photos of noise: wide, high, small, and rotated by EXIF."""
    root = photos({"a": 3, "b": 2}, size=(60, 40))
    photo(root / "a" / "high.png", (50, 120))
    photo(root / "b" / "small.png", (9, 7))
    exif = Image.Exif()
    exif[274] = 6
    Image.open(root / "a" / "000.png").save(root / "b" / "turned.jpg", exif=exif)
    return root


def smooth(root, size=(120, 90)):
    """Photos without fine detail: copies of any size show the same."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    for number in range(6):
        waves = [128 + 90 * np.sin((x + 9 * number) / 40), 128 + 90 * np.cos(y / 30), 60 + number * 20 + 0 * x]
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(path)
    return root


def opened(root, path, short_side=32):
    data = PhotoFolder(root, None)
    return data, open_cache(data, os.fspath(path), short_side)


def is_new(root, path, short_side=32) -> bool:
    """Whether opening the cache rebuilds the file at `path`."""
    before = os.stat(path).st_ino, os.stat(path).st_mtime_ns
    opened(root, path, short_side)
    return (os.stat(path).st_ino, os.stat(path).st_mtime_ns) != before


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_copy_has_the_shape_of_its_photo_and_no_photo_is_enlarged(folder, tmp_path):
    data, cache = opened(folder, tmp_path / "cache")
    sizes = {os.path.basename(data.path(i)): cache.pixels(i).shape for i in range(len(data))}
    assert sizes["000.png"] == (32, 48, 3)
    assert sizes["high.png"] == (77, 32, 3)
    assert sizes["small.png"] == (7, 9, 3)
    assert sizes["turned.jpg"] == (48, 32, 3)
    full = [cache.full_size(index) for index in range(len(data))]
    assert full == [read_pixels(data.path(index)).shape[1::-1] for index in range(len(data))]


def test_a_copy_shows_its_photo(folder, tmp_path):
    data, cache = opened(folder, tmp_path / "cache")
    for index in range(len(data)):
        height, width, _ = cache.pixels(index).shape
        expected = np.asarray(Image.fromarray(read_pixels(data.path(index))).resize((width, height), Image.BILINEAR))
        assert np.abs(cache.pixels(index).astype(int) - expected).max() <= 1


def test_a_spawned_process_gets_the_cache_without_its_pixels(folder, tmp_path):
    _, cache = opened(folder, tmp_path / "cache")
    text = pickle.dumps(cache)
    assert len(text) < 1000
    assert np.array_equal(pickle.loads(text).pixels(2), cache.pixels(2))


def test_a_second_start_reuses_the_file(folder, tmp_path):
    opened(folder, tmp_path / "cache")
    assert not is_new(folder, tmp_path / "cache")


def touch(root):
    os.utime(root / "a" / "000.png", ns=(1, 1))


CHANGES = {
    "a photo was added": lambda root: shutil.copy(root / "a" / "000.png", root / "a" / "more.png"),
    "a photo was removed": lambda root: (root / "a" / "001.png").unlink(),
    "a photo was renamed": lambda root: (root / "a" / "001.png").rename(root / "a" / "other.png"),
    "a photo was moved to another class": lambda root: (root / "a" / "001.png").rename(root / "b" / "other.png"),
    "a photo was modified": touch,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_photos_rebuilds_the_cache(folder, tmp_path, change):
    opened(folder, tmp_path / "cache")
    CHANGES[change](folder)
    assert is_new(folder, tmp_path / "cache")
    data, cache = opened(folder, tmp_path / "cache")
    assert len(cache.sizes) == len(data)


def test_another_size_makes_another_cache(folder, tmp_path):
    opened(folder, tmp_path / "cache")
    assert is_new(folder, tmp_path / "cache", short_side=16)
    assert cache_path("dataset/training", 32) != cache_path("dataset/training", 16)


@pytest.mark.parametrize("content", [b"", b"photo cache 1   ", b"something else altogether"])
def test_a_broken_cache_is_replaced(folder, tmp_path, content):
    (tmp_path / "cache").write_bytes(content)
    _, cache = opened(folder, tmp_path / "cache")
    assert cache.pixels(0).shape == (32, 48, 3)


def test_the_cache_lies_beside_the_dataset_or_in_the_chosen_folder(tmp_path):
    assert cache_path(tmp_path / "dataset" / "training", 256) == f"{tmp_path}/dataset.cache/training-256.pixels"
    assert cache_path(tmp_path / "dataset" / "training", 64, "fast") == os.path.join("fast", "training-64.pixels")


# --- faults --------- -----------------------------------------------------------------------------------------------


def test_a_photo_that_cannot_be_read_is_named_and_nothing_is_left(folder, tmp_path):
    (folder / "b" / "001.png").write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"cannot read .*b/001.png: not an image; remove or replace it"):
        opened(folder, tmp_path / "cache" / "file")
    assert not (tmp_path / "cache").exists() or not os.listdir(tmp_path / "cache")


def test_a_photo_that_becomes_truncated_leaves_the_old_cache(folder, tmp_path):
    opened(folder, tmp_path / "cache")
    whole = (folder / "a" / "high.png").read_bytes()
    (folder / "a" / "high.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"high\.png"):
        opened(folder, tmp_path / "cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "photos"]


def test_a_disk_that_is_too_small_is_reported_before_anything_is_written(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000, total=2000)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"the cache of 8 photos needs .* MB to spare; make room, .*--cache none"):
        opened(folder, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_is_reported(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot (write|read) the cache .*--cache none"):
        opened(folder, tmp_path / "file" / "cache")


def test_a_cache_that_leaves_too_little_of_a_gpu_to_the_model_is_refused(folder, tmp_path, monkeypatch):
    data, data.cache = opened(folder, tmp_path / "cache")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 2 * 10**6))
    with pytest.raises(UserError, match=r"needs .* GB, and cuda has 0\.0 GB for it: .*--cache disk"):
        cache.DeviceLoader(data, [], torch.device("cuda"))


# --- the same stream -------------------------------------------------------------------------------------------------


def stream(root, cache, *, transform=None, epochs=2, shuffle=True, **options):
    options = {"workers": 0, "cache_size": 1000, "device": torch.device("cpu"), **options}
    transform = transform or train_transform(48)
    _, loader = get_dataloader(root, transform, 4, shuffle, seed=5, cache=cache, **options)
    assert len(loader) == 2
    return [batch for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize("augment", ["tutorial", "light"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("cache_size", [1000, 60])
def test_every_cache_gives_the_same_samples_and_the_same_part_of_each(tmp_path, cache, cache_size, augment):
    root = smooth(tmp_path / "data" / "training")
    transform = train_transform(48, augment, sides=(24,))
    reference = stream(root, "none", transform=transform)
    cached = stream(root, cache, transform=transform, cache_size=cache_size)
    assert len(cached) == len(reference)
    for (images, labels), (others, other_labels) in zip(cached, reference, strict=True):
        assert (images.shape, images.dtype) == (others.shape, others.dtype)
        assert torch.equal(labels, other_labels)
        difference = (images.int() - others.int()).abs()
        assert difference.median() <= 1
        assert (difference > 12).float().mean() < 0.06  # on the border of the black corners


def test_a_cache_of_copies_of_full_size_changes_no_pixel(folder):
    none, disk = (stream(folder, cache, shuffle=False) for cache in ("none", "disk"))
    assert all(torch.equal(a, b) for one, two in zip(none, disk, strict=True) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("cache", CACHES)
def test_evaluation_sees_each_photo_in_order(folder, cache):
    (images, _), (rest, _) = stream(folder, cache, transform=eval_transform(48), epochs=1, shuffle=False)
    (expected, _), (others, _) = stream(folder, "none", transform=eval_transform(48), epochs=1, shuffle=False)
    assert (images.shape, rest.shape) == (expected.shape, others.shape)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_read_the_same_from_the_disk(folder, workers):
    alone, many = (stream(folder, "disk", workers=count) for count in (0, workers))
    assert all(torch.equal(a, b) for one, two in zip(alone, many, strict=True) for a, b in zip(one, two, strict=True))


def test_both_caches_remove_the_detail_that_a_smaller_square_cannot_show(photos):
    root = photos({"a": 4, "b": 4}, size=(80, 60))  # noise
    disk, device = (
        torch.cat([images for images, _ in stream(root, cache, transform=eval_transform(48), epochs=1, shuffle=False)])
        for cache in CACHES
    )
    assert float(device.float().std()) == pytest.approx(float(disk.float().std()), rel=0.1)


def test_both_caches_remove_more_detail_while_the_side_is_smaller(photos):
    root = photos({"a": 4, "b": 4}, size=(80, 60))
    transform = train_transform(48, "light", sides=(16,))
    for disk, device in zip(*(stream(root, cache, transform=transform) for cache in CACHES), strict=True):
        assert disk[0].shape == device[0].shape
        assert float(device[0].float().std()) == pytest.approx(float(disk[0].float().std()), rel=0.1)


@pytest.mark.parametrize("cache", ("none", *CACHES))
def test_grey_photos_have_one_channel(folder, cache):
    images, _ = stream(folder, cache, transform=train_transform(48, channels=1))[0]
    assert images.shape == (4, 1, 48, 48)


def test_any_transform_of_images_gets_the_copies_too(folder):
    _, loader = get_dataloader(folder, lambda image: torch.tensor(image.size), 8, False, workers=0, cache="disk")
    (sizes, _), *_ = loader
    assert [60, 40] in sizes.tolist()
