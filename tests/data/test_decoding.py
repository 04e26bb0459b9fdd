"""Photos of any format and mode are decoded to upright 8-bit RGB; broken ones are refused."""

import io
import os
import struct
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError, features

from pyimagesearch.data.decoding import (
    EXTENSIONS,
    MAX_PIXELS,
    describe_fault,
    open_photo,
    photo_size,
    photos_below,
    pixels_of,
    read_checked,
    read_photo,
    read_pixels,
    read_reduced,
    read_thumbnail,
    upright_rgb,
)
from pyimagesearch.preparation.copying import why_unreadable
from pyimagesearch.preparation.source import Split, walk_photos
from pyimagesearch.runtime.errors import UserError

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def save(path, image, **options):
    image.save(path, **options)
    return path


def pixels(path) -> np.ndarray:
    photo = read_photo(path)
    assert photo.mode == "RGB"
    found = np.asarray(photo)
    with open_photo(path) as image:
        assert np.array_equal(np.asarray(upright_rgb(image)), found)  # read_photo decodes most JPEGs with OpenCV
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


# --- the orientation --------------------------------------------------------------------------------------------------


def exif_block(tag: int, kind: int) -> bytes:
    """An EXIF block with orientation 6 and a tag of this type, right or wrong; its value is 8, or the bytes at 8."""
    entries = {ExifTags.Base.Orientation: struct.pack("<HHIHH", 274, 3, 1, 6, 0)}
    entries[tag] = struct.pack("<HHII", tag, kind, 1, 8)
    ordered = [entries[number] for number in sorted(entries)]
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(ordered)) + b"".join(ordered) + bytes(4)


def test_a_turned_photo_with_a_tag_of_any_type_is_turned_by_the_orientation_alone(tmp_path):
    upright = Image.new("RGB", (16, 32), RED)
    whole = save(tmp_path / "whole.jpg", upright.transpose(Image.Transpose.ROTATE_90), quality=95).read_bytes()
    path, tags = tmp_path / "some.jpg", [tag for tag in ExifTags.Base if tag < 0xA500 and tag != 274][::5]
    assert len(tags) > 30
    for tag in tags:
        for kind in range(1, 14):
            block = exif_block(tag, kind)
            path.write_bytes(whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:])
            assert why_unreadable(path) is None, (tag, kind)  # prepare_dataset.py
            with open_photo(path) as image:
                assert upright_rgb(image).size == (16, 32), (tag, kind)
            assert read_reduced(path)[0].shape == (32, 16, 3)  # training
            assert photo_size(path) == (16, 32)  # its cache
            assert read_thumbnail(path, 32).shape == (32, 16, 3)  # the picture of distributed_inference.py


def test_an_exif_block_that_is_damaged_turns_nothing(tmp_path):
    photo = Image.new("RGB", (8, 4), RED)
    for content in (b"Exif\0\0", b"Exif\0\0no TIFF header", exif_block(271, 2)[:20]):
        assert pixels(save(tmp_path / "some.png", photo, exif=content)).shape == (4, 8, 3)


# --- which files are photos -------------------------------------------------------------------------------------------

NO_PHOTOS = [".ipynb_checkpoints/a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg", ".thumbnails/a.jpg", "$RECYCLE.BIN/a.jpg",
             "#recycle/a.jpg", "._a.jpg", "Thumbs.db", "notes.txt", "notes.doc", "Makefile"]  # fmt: skip


def test_one_rule_says_which_files_of_a_folder_are_photos(tmp_path, photo):
    content = photo(tmp_path / "photo.jpg").read_bytes()
    images = [f"a{suffix}" for suffix in (*EXTENSIONS, ".JPG", "", ".orig", ".0001")] + ["below/b"]
    for name in (*images, *NO_PHOTOS):
        path = tmp_path / "cat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if name in images or name.endswith(".jpg") else b"BM, II: not an image, but words")
    os.mkfifo(tmp_path / "cat" / "pipe")
    folder, split = str(tmp_path / "cat"), Split("training", str(tmp_path))
    found = {os.path.relpath(path, folder) for path in photos_below(folder)}
    assert found == set(images)
    assert {os.path.relpath(path, folder) for path in walk_photos(folder, EXTENSIONS, split)} == found
    assert not split.rejected
    assert not any(map(why_unreadable, photos_below(folder)))


def test_files_whose_suffix_says_enough_are_not_opened(tmp_path, photo, monkeypatch):
    for name in ("a.jpg", "b.PNG", "c.txt"):
        photo(tmp_path / "a.png").rename(tmp_path / name)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("opened"))
    assert [os.path.basename(path) for path in photos_below(str(tmp_path))] == ["a.jpg", "b.PNG"]


# --- formats that need something, and Pillow's limits -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "the format HEIF; pip install pillow-heif, or convert it to JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "the format JPEG XL; convert it to JPEG"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_what_to_do(tmp_path, monkeypatch, start, said):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    (tmp_path / "phone.jpg").write_bytes(start + bytes(64))
    assert said in (why_unreadable(tmp_path / "phone.jpg") or "")


@pytest.mark.parametrize(("name", "feature"), [("a.avif", "avif"), ("a.jp2", "jpg_2000")])
def test_rarer_formats_are_read_where_pillow_reads_them(tmp_path, photo, name, feature):
    if not features.check(feature):
        pytest.skip(f"this Pillow does not write {feature}")
    path = save(tmp_path / name, Image.new("RGB", (32, 16), RED), quality=100)
    assert np.abs(pixels(path) - RED).max() < 8


def test_raw_files_of_cameras_are_refused_as_they_begin_with_a_preview(tmp_path):
    path = save(tmp_path / "some.dng", Image.new("RGB", (8, 8)), format="TIFF", tiffinfo={254: 1})
    assert "a preview" in (why_unreadable(path) or "")


def test_a_png_with_a_long_text_or_profile_is_read(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "x" * 5_000_000, zip=True)
    text.add_itxt("more", "y" * 5_000_000, zip=True)
    some = Image.new("RGB", (2, 1), RED)
    assert pixels(save(tmp_path / "text.png", some, pnginfo=text)).tolist() == [[list(RED)] * 2]
    assert pixels(save(tmp_path / "profile.png", some, icc_profile=bytes(5_000_000))).tolist() == [[list(RED)] * 2]


# --- the range of values ----------------------------------------------------------------------------------------------


def tiff(path, values, dtype, **tags):
    return save(path, image([values], dtype), tiffinfo={getattr(ExifTags.Base, tag): tags[tag] for tag in tags})


def packed_12_bits(path):
    """A TIFF of two pixels of 12 bits, 0x800 and 0xfff."""
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0\x0c\0\0\0" + b"\x80\x0f\xff\0" + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def test_black_and_white_are_those_of_the_file_s_tags_or_its_type(tmp_path):
    limits = {"SMinSampleValue": 100.0, "SMaxSampleValue": 4100.0}
    for dtype in (np.uint16, np.float32):
        assert pixels(tiff(tmp_path / "a.tif", [0, 100, 2100, 4100, 9000], dtype, **limits))[0, :, 0].tolist() == [
            0, 0, 128, 255, 255,
        ]  # fmt: skip
    assert pixels(packed_12_bits(tmp_path / "a.tif"))[0, :, 0].tolist() == [128, 255]
    assert pixels(tiff(tmp_path / "a.tif", [0, 51, 255, 256], np.float32))[0, :, 0].tolist() == [0, 51, 255, 255]
    assert pixels(tiff(tmp_path / "a.tif", [0, 4095], np.uint16))[0, :, 0].tolist() == [0, 16]


def test_values_beyond_any_known_range_are_refused_with_what_to_do(tmp_path):
    for values, dtype in (([0, 3000], np.float32), ([-1024, 3071], np.int32), ([0, 70_000], np.int32)):
        path = tiff(tmp_path / "a.tif", values, dtype)
        with pytest.raises(UserError) as refused:
            read_checked(read_pixels, path)
        assert f"values from {min(values)} to {max(values):g}, expected 0 to " in str(refused.value)
        assert "--value-range LOW:HIGH" in str(refused.value) and "\n" not in str(refused.value)
        assert why_unreadable(path) is None  # preparing keeps it: training may be given its range
        assert read_pixels(path, (values[0], values[1]))[0, :, 0].tolist() == [0, 255]


# --- images in memory -------------------------------------------------------------------------------------------------


def test_an_image_in_memory_has_the_pixels_that_its_file_has(tmp_path, photo):
    exif = Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "turned.png", Image.open(photo(tmp_path / "a.png")), exif=exif)
    expected = read_pixels(path)
    assert np.array_equal(pixels_of(Image.open(io.BytesIO(path.read_bytes()))), expected)
    assert np.array_equal(pixels_of(expected), expected)
    assert np.array_equal(pixels_of(expected[..., 0]), np.repeat(expected[..., :1], 3, axis=-1))
    for wrong in (expected / 255, expected[0, 0], expected[None], expected.transpose(2, 0, 1)):
        with pytest.raises(ValueError, match="expected uint8 of shape"):
            pixels_of(wrong)
