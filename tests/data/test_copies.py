"""Copies are found: equal bytes with little reading, near copies by a perceptual hash."""

import io

import numpy as np
import pytest
from helpers.photos import scene
from PIL import Image, ImageEnhance

from pyimagesearch.data import copies


def recompressed(image, quality):
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(io.BytesIO(content.getvalue()))


def distance(one, other):
    first, second = (copies.perceptual_hash(np.asarray(image)) for image in (one, other))
    return (first ^ second).bit_count()


@pytest.mark.parametrize("number", range(5))
def test_a_resized_recompressed_or_brighter_photo_is_a_near_copy_and_another_is_not(number):
    photo = scene(number)
    for other in (
        recompressed(photo, 30),
        photo.resize((40, 30), Image.Resampling.BILINEAR),
        photo.resize((224, 224), Image.Resampling.BICUBIC),
        ImageEnhance.Brightness(photo).enhance(1.1),
    ):
        assert distance(photo, other) <= copies.NEAR
    assert distance(photo, scene(number + 1)) > 2 * copies.NEAR


def test_photos_of_one_colour_or_a_few_pixels_have_no_hash():
    assert copies.perceptual_hash(np.full((50, 50, 3), 90, np.uint8)) is None
    assert copies.perceptual_hash(np.random.default_rng(0).integers(0, 256, (9, 50, 3), np.uint8)) is None


def test_near_groups_join_chains_over_blocks_and_leave_the_others():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 700, dtype=np.uint64).tolist()
    hashes[650] = hashes[3] ^ 0b111111  # six bits: near
    hashes[699] = hashes[650] ^ (0b111111 << 20)
    hashes[5] = hashes[690]
    hashes[9] = hashes[8] ^ 0b1111111  # seven: not
    assert copies.near_groups(hashes) == [[3, 650, 699], [5, 690]]
    assert copies.near_groups([]) == copies.near_groups([1]) == []


def test_equal_files_are_found_and_only_files_of_one_size_are_read(tmp_path, monkeypatch):
    contents = {"a": b"x", "b": b"y", "c": b"x", "d": b"one", "e": b"two", "f": b"one", "g": b"alone"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sizes = {str(tmp_path / name): len(content) for name, content in contents.items()}
    sizes[str(tmp_path / "gone")] = sizes[str(tmp_path / "gone too")] = 6
    read = []
    monkeypatch.setattr(copies, "digest", lambda path, digest=copies.digest: read.append(path[-1]) or digest(path))
    assert [[path[-1] for path in group] for group in copies.equal_files(sizes)] == [["a", "c"], ["d", "f"]]
    assert "g" not in read
