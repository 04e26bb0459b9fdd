"""Photos of any format and mode are decoded to upright 8-bit RGB; broken ones are refused."""

import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from pyimagesearch.data.decoding import MAX_PIXELS, describe_fault, photo_size, read_photo, read_pixels, read_reduced

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def save(path, image, **options):
    image.save(path, **options)
    return path


def pixels(path) -> np.ndarray:
    photo = read_photo(path)
    assert photo.mode == "RGB"
    found = np.asarray(photo)
    assert np.array_equal(read_pixels(path), found)  # decodes most JPEGs with OpenCV
    assert photo_size(path) == photo.size
    return found.astype(int)


def image(rows, dtype=np.uint8, mode=None) -> Image.Image:
    made = Image.fromarray(np.array(rows, dtype))
    return made if mode is None else made.convert(mode)


def palette_with_a_transparent_colour(path):
    made = Image.new("P", (2, 1))
    made.putpalette([*RED, *GREEN])
    made.putdata([0, 1])
    return save(path, made, transparency=1)


# name -> (a function that makes the file, its row of pixels in RGB)
FILES = {
    "colour.png": (lambda path: save(path, image([[RED, GREEN]])), [RED, GREEN]),
    "grey.png": (lambda path: save(path, image([[0, 100, 255]])), [(0,) * 3, (100,) * 3, WHITE]),
    "one_bit.png": (lambda path: save(path, image([[0, 255]], mode="1")), [(0,) * 3, WHITE]),
    "palette.gif": (lambda path: save(path, image([[RED, GREEN]]).quantize(4)), [RED, GREEN]),
    "transparent_palette.png": (palette_with_a_transparent_colour, [RED, WHITE]),
    "transparent_colour.png": (lambda path: save(path, image([[RED, GREEN]]), transparency=RED), [WHITE, GREEN]),
    "grey_alpha.png": (
        lambda path: save(path, Image.merge("LA", [image([[0, 0, 0]]), image([[255, 51, 0]])])),
        [(0,) * 3, (204,) * 3, WHITE],
    ),
    "colour_alpha.png": (
        lambda path: save(path, image([[(*RED, 255), (*RED, 51), (*RED, 0)]])),
        [RED, (255, 204, 204), WHITE],
    ),
    "sixteen_bit.png": (
        lambda path: save(path, image([[0, 257, 100 * 257, 65535]], np.uint16)),
        [(0,) * 3, (1,) * 3, (100,) * 3, WHITE],
    ),
    "sixteen_bit.tif": (lambda path: save(path, image([[0, 65535]], np.uint16)), [(0,) * 3, WHITE]),
    "float.tif": (
        lambda path: save(path, image([[-0.1, 0, 0.2, 1, 1.2, np.nan]], np.float32)),
        [(0,) * 3, (0,) * 3, (51,) * 3, WHITE, WHITE, (0,) * 3],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_mode_becomes_right_rgb(tmp_path, name):
    make, expected = FILES[name]
    assert pixels(make(tmp_path / name))[0].tolist() == [list(pixel) for pixel in expected]


@pytest.mark.parametrize("extension", ["tif", "jpg"])
def test_cmyk_becomes_rgb(tmp_path, extension):
    ink = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
    ink.paste((0, 0, 0, 255), (8, 0, 16, 8))
    found = pixels(save(tmp_path / f"ink.{extension}", ink))
    assert np.abs(found[0, 2] - RED).max() < 8
    assert found[0, 13].max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stands_upright_whichever_way_the_camera_was_held(tmp_path, orientation):
    upright = np.arange(6 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
    # the stored rows and columns of each orientation (EXIF 2.3, tag 274)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(stored))
    assert pixels(save(tmp_path / "turned.png", stored, exif=exif)).tolist() == upright.tolist()
    pixels(save(tmp_path / "turned.jpg", stored.resize((30, 20)), exif=exif))


def test_an_animation_becomes_its_first_frame(tmp_path):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN))
    path = save(tmp_path / "moving.gif", first, save_all=True, append_images=[second])
    assert pixels(path)[0, 0].tolist() == list(RED)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_a_truncated_photo_is_refused(tmp_path, photo, extension):
    path = photo(tmp_path / f"whole.{extension}", (64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    for read in (read_photo, read_pixels):
        with pytest.raises(OSError):
            read(path)


def test_a_jpeg_with_flipped_bits_never_crashes_and_is_read_where_pillow_reads_it(tmp_path, photo):
    whole = photo(tmp_path / "whole.jpg", (64, 64)).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "hurt.jpg"
    read = 0
    for _ in range(60):
        content = bytearray(whole)
        for position in random.integers(len(whole), size=3):
            content[position] ^= 1 << random.integers(8)
        path.write_bytes(content)
        try:
            width, height = read_photo(path).size
        except Exception:
            continue
        assert read_pixels(path).shape == (height, width, 3)
        read += 1
    assert 0 < read < 60


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_jpegs_of_all_kinds_are_decoded_alike(tmp_path, photo, mode, settings):
    noise = Image.open(photo(tmp_path / "noise.png", (50, 37))).convert(mode)
    pixels(save(tmp_path / "some.jpg", noise, **settings))


def save_black(path, width, height):
    """A PNG of one bit per pixel: a small file, however many pixels."""
    return save(path, Image.new("1", (width, height)))


@pytest.mark.parametrize(
    ("size", "said"), [((10_000, 8_948), "10000 x 8948 pixels"), ((20_000, 9_000), f"more than the {MAX_PIXELS:,}")]
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_photo_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch, size, said):
    path = save_black(tmp_path / "bomb.png", *size)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(Exception) as caught:
        read_photo(path)
    assert said in describe_fault(caught.value)
    assert "that are read" in describe_fault(caught.value)


def test_a_photo_of_60_megapixels_is_read(tmp_path):
    assert read_photo(save_black(tmp_path / "large.png", 10_000, 6_000)).size == (10_000, 6_000)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnidentifiedImageError("cannot identify image file '/a/b.jpg'"), "not an image"),
        (FileNotFoundError(2, "No such file or directory", "/a/b.jpg"), "cannot be read: No such file or directory"),
        (struct.error("unpack\nrequires"), "cannot be decoded: unpack\\nrequires"),
        (KeyError(), "cannot be decoded: KeyError"),
    ],
)
def test_the_reason_for_refusing_a_photo_is_one_line(error, said):
    assert describe_fault(error) == said


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "some.jpg").write_bytes(content)
    with pytest.raises(OSError):
        read_photo(tmp_path / "some.jpg")


def test_a_photo_that_was_read_no_longer_needs_its_file(tmp_path, photo):
    path = photo(tmp_path / "here.jpg")
    read = read_photo(path)
    path.unlink()
    assert read.resize((4, 4)).getpixel((0, 0)) is not None


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("times", [1, 2, 4, 8])
def test_a_jpeg_can_be_decoded_at_a_reduced_size(tmp_path, times, orientation):
    y, x = np.mgrid[0:120, 0:200]
    smooth = Image.fromarray(np.stack([x, y * 2, 255 - x], axis=-1).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / "smooth.jpg", smooth, quality=95, exif=exif)
    asked = []
    found, size = read_reduced(path, lambda *size: asked.append(size) or times)
    whole = read_photo(path)
    assert asked == [size] == [whole.size]
    assert found.shape == (size[1] // times, size[0] // times, 3)
    expected = np.asarray(whole.resize((size[0] // times, size[1] // times), Image.BOX)).astype(int)
    assert np.abs(found - expected).max() <= 6


def test_any_other_file_is_decoded_whole(tmp_path, photo):
    pixels, size = read_reduced(photo(tmp_path / "some.png", (64, 32)), lambda width, height: 4)
    assert pixels.shape == (32, 64, 3) and size == (64, 32)
