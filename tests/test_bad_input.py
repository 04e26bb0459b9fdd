"""Input that is broken, odd or hostile: the right pixels, or one clear line and exit status 2.

Never a traceback, a hang, a file outside of the destination, or a photo that is lost. Modes, depths and palettes are in
test_photos.py, lists of classes and layouts in test_sources.py, checkpoints in test_checkpoint.py.
"""

import argparse
import csv
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from helpers.photos import REPOSITORY, draw_photo
from helpers.sources import SCRIPT, make_source, photo, rejected, tree
from PIL import Image, ImageCms
from torchvision import models

import distributed_inference
import train_distributed
from pyimagesearch.data.decoding import describe_fault, photo_size, read_photo, read_pixels
from pyimagesearch.evaluation import options as inference_options
from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.preparation import options as preparation_options
from pyimagesearch.preparation.copying import why_unreadable
from pyimagesearch.runtime import errors, files, flags, terminal
from pyimagesearch.training import options as training_options

# --- what a decoder meets ---------------------------------------------------------------------------------------------

RED, GREEN = (255, 0, 0), (0, 255, 0)


def encoded(image: Image.Image, kind: str, **settings) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def plain(mode: str, colour, size=(16, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def noise(size=(64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


NOISE = encoded(noise(), "JPEG", quality=90)
RED_JPEG = encoded(plain("RGB", RED), "JPEG", quality=95)


def profile(kind: str) -> bytes:
    """An ICC profile of sRGB; "swapped" has its red and green change places."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if kind == "swapped":
        at = {bytes(content[144 - 12 + 12 * i :][:4]): 132 + 12 * i for i in range(int.from_bytes(content[128:132]))}
        red, green = at[b"rXYZ"], at[b"gXYZ"]
        content[red : red + 4], content[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(content)


SRGB, SWAPPED = profile("sRGB"), profile("swapped")


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """`jpeg` with one more segment, right behind its first two bytes."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


def exif(orientation: int, kind: int = 3) -> bytes:
    """An EXIF block of one tag, the orientation, of TIFF's type `kind` (3 is a short)."""
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 274, kind, 1, orientation, 0) + b"\0\0\0\0"


def turned(orientation: int) -> tuple[bytes, list]:
    """A JPEG of four coloured quarters that is stored as `orientation` says, and the quarters of the upright photo."""
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16, :16], upright[:16, 16:], upright[16:, :16] = RED, GREEN, (0, 0, 255)
    turns = (lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: a.transpose(1, 0, 2), np.rot90,
             lambda a: np.rot90(a, 2).transpose(1, 0, 2), lambda a: np.rot90(a, -1))  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation - 1](upright)))
    return with_segment(encoded(stored, "JPEG", quality=95), 0xE1, exif(orientation)), [
        RED,
        GREEN,
        (0, 0, 255),
        (0,) * 3,
    ]


def ycck() -> bytes:
    """A red JPEG in YCCK: one of CMYK in which Adobe's segment says that the first three are YCbCr."""
    y, cb, cr = 179, 171, 1  # cyan, which is red to Adobe, who counts ink backwards
    ink = encoded(plain("CMYK", (255 - y, 255 - cb, 255 - cr, 0)), "JPEG", quality=100, subsampling=0)
    adobe = ink.index(b"Adobe")
    return ink[: adobe + 11] + b"\x02" + ink[adobe + 12 :]


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(*chunks: bytes, size=(2, 1)) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join((header, *chunks)) + chunk(b"IEND", b"")


PNG_ROW = zlib.compress(b"\0" + bytes(RED + GREEN))

# name of the file -> (its content, its first row of pixels or, of a plain one, the colour)
READ = {
    "png-by-another-name.jpg": (encoded(plain("RGB", RED), "PNG"), RED),
    "jpeg-by-another-name.png": (RED_JPEG, RED),
    "gif.gif": (encoded(plain("RGB", GREEN).quantize(4), "GIF"), GREEN),
    "moving.gif": (encoded(plain("P", 0), "GIF", save_all=True, append_images=[plain("P", 1)] * 3), (0,) * 3),
    "moving.webp": (encoded(plain("RGB", RED), "WEBP", save_all=True, append_images=[plain("RGB", GREEN)]), RED),
    "moving.png": (encoded(plain("RGB", RED), "PNG", save_all=True, append_images=[plain("RGB", GREEN)]), RED),
    "whole.webp": (encoded(plain("RGB", RED), "WEBP", lossless=True), RED),
    "transparent.webp": (encoded(plain("RGBA", (255, 0, 0, 0)), "WEBP", lossless=True), (255,) * 3),
    "deep.tif": (encoded(Image.fromarray(np.full((4, 4), 0x8080, np.uint16)), "TIFF"), (128,) * 3),
    "pages.tif": (encoded(plain("RGB", RED), "TIFF", save_all=True, append_images=[plain("RGB", GREEN)]), RED),
    "packed.tif": (encoded(plain("RGB", RED), "TIFF", compression="tiff_lzw"), RED),
    "cmyk.jpg": (encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), RED),
    "cmyk.tif": (encoded(plain("CMYK", (0, 255, 255, 0)), "TIFF"), RED),
    "ycck.jpg": (ycck(), RED),
    "grey.jpg": (encoded(plain("L", 77), "JPEG"), (77,) * 3),
    "progressive.jpg": (encoded(plain("RGB", RED), "JPEG", quality=95, progressive=True), RED),
    "several.mpo": (encoded(plain("RGB", RED), "MPO", save_all=True, append_images=[plain("RGB", GREEN)]), RED),
    "more-behind-it.jpg": (RED_JPEG + b"more" * 1000, RED),
    "one-pixel.png": (encoded(plain("RGB", RED, (1, 1)), "PNG"), RED),
    "one-pixel.jpg": (encoded(plain("RGB", RED, (1, 1)), "JPEG", quality=95), RED),
    "tall.png": (encoded(plain("RGB", RED, (1, 20_000)), "PNG"), RED),
    "wide.jpg": (encoded(plain("RGB", RED, (20_000, 1)), "JPEG", quality=95), RED),
    "exif-of-noise.jpg": (with_segment(RED_JPEG, 0xE1, b"Exif\0\0" + bytes(range(256))), RED),
    "exif-cut-off.jpg": (with_segment(RED_JPEG, 0xE1, exif(6)[:14]), RED),
    "exif-empty.jpg": (with_segment(RED_JPEG, 0xE1, b"Exif\0\0"), RED),
    "orientation-nine.jpg": (with_segment(RED_JPEG, 0xE1, exif(9)), RED),
    "orientation-a-text.jpg": (with_segment(RED_JPEG, 0xE1, exif(0x3600, kind=2)), RED),
    "orientation-a-fraction.jpg": (with_segment(RED_JPEG, 0xE1, exif(6, kind=5)), RED),
    "srgb-profile.jpg": (encoded(plain("RGB", RED), "JPEG", quality=95, icc_profile=SRGB), RED),
    "other-profile.jpg": (encoded(plain("RGB", RED), "JPEG", quality=95, icc_profile=SWAPPED), GREEN),
    "other-profile.png": (encoded(plain("RGB", RED), "PNG", icc_profile=SWAPPED), GREEN),
    "other-profile.tif": (encoded(plain("RGB", RED), "TIFF", icc_profile=SWAPPED), GREEN),
    "other-profile.webp": (encoded(plain("RGB", RED), "WEBP", lossless=True, icc_profile=SWAPPED), GREEN),
    "profile-and-alpha.png": (encoded(plain("RGBA", (255, 0, 0, 51)), "PNG", icc_profile=SWAPPED), (204, 255, 204)),
    "profile-and-palette.png": (encoded(plain("RGB", RED).quantize(4), "PNG", icc_profile=SWAPPED), GREEN),
    "profile-of-noise.jpg": (encoded(plain("RGB", RED), "JPEG", quality=95, icc_profile=bytes(range(200))), RED),
    "profile-cut-off.jpg": (encoded(plain("RGB", RED), "JPEG", quality=95, icc_profile=SWAPPED[:200]), RED),
    "profile-of-colour.jpg": (encoded(plain("L", 77), "JPEG", icc_profile=SWAPPED), (77,) * 3),
    "profile-of-light.jpg": (encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=95, icc_profile=SWAPPED), RED),
    "wrong-checksum-of-the-pixels.png": (png(chunk(b"IDAT", PNG_ROW, checksum=1)), [RED, GREEN]),
    "unknown-chunk.png": (png(chunk(b"quUx", b"x" * 99), chunk(b"IDAT", PNG_ROW)), [RED, GREEN]),
}  # fmt: skip

# name of the file -> (its content, the message)
REFUSED = {
    "nothing.jpg": (b"", "not an image"),
    "text.jpg": (b"Dear reader,\n", "not an image"),
    "page.jpg": (b"<!DOCTYPE html><title>404 Not Found</title>", "not an image"),
    "program.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
    "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not an image"),
    "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "HEIF"),
    "zeros.jpg": (bytes(4096), "not an image"),
    "begins-late.jpg": (b"\n\n" + RED_JPEG, "not an image"),
    "only-its-first-bytes.jpg": (b"\xff\xd8\xff", "not an image"),
    "no-pixels.png": (png(), "cannot be"),
    "pixels-of-noise.png": (png(chunk(b"IDAT", b"noise")), "cannot be"),
    "wrong-checksum-of-a-comment.png": (png(chunk(b"tEXt", b"x", checksum=1), chunk(b"IDAT", PNG_ROW)), "not an image"),
    "no-width.png": (png(chunk(b"IDAT", PNG_ROW), size=(0, 5)), "not an image"),
    "bomb.png": (png(chunk(b"IDAT", PNG_ROW), size=(60_000, 60_000)), "more than the 89,478,485 pixels"),
    "large.png": (png(chunk(b"IDAT", PNG_ROW), size=(10_000, 9_000)), "more than the 89,478,485"),
    "bomb-in-a-comment.png": (
        png(chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100_000_000))), chunk(b"IDAT", PNG_ROW)), "cannot be",
    ),
    "cut.gif": (encoded(noise().quantize(), "GIF")[:1500], "cannot be"),
    "cut.webp": (encoded(noise(), "WEBP")[:900], "cannot be"),
    "cut.bmp": (encoded(noise(), "BMP")[:900], "cannot be"),
    "cut.tif": (encoded(noise(), "TIFF", compression="tiff_lzw")[:900], "not an image"),
    "cut.png": (encoded(noise(), "PNG")[:900], "cannot be"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _as_in_a_script(monkeypatch):
    """pytest turns every warning on; and a script that ran in this process leaves `quiet` as it was told."""
    warnings.filterwarnings("ignore", module="PIL")
    monkeypatch.setattr(terminal, "quiet", False)


@pytest.mark.parametrize("name", READ)
def test_an_odd_photo_has_the_right_pixels(tmp_path, name):
    content, expected = READ[name]
    (tmp_path / name).write_bytes(content)
    pixels = read_pixels(tmp_path / name)
    assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
    assert np.array_equal(pixels, read_photo(tmp_path / name))
    assert photo_size(tmp_path / name) == pixels.shape[1::-1]
    assert np.abs(pixels[0].astype(int) - expected).max() <= 6  # JPEG
    assert why_unreadable(tmp_path / name) is None


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_photo_is_refused_in_one_line(tmp_path, capfd, name):
    content, said = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    for read in (read_photo, read_pixels):
        with pytest.raises(Exception) as caught:
            read(tmp_path / name)
        assert said in describe_fault(caught.value)
    fault = why_unreadable(tmp_path / name)
    assert fault == describe_fault(caught.value)
    assert fault.isprintable() and str(tmp_path) not in fault
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("length", np.linspace(1, len(NOISE) - 1, 20, dtype=int).tolist())
def test_a_jpeg_that_is_cut_off_anywhere_is_refused(tmp_path, length):
    (tmp_path / "cut.jpg").write_bytes(NOISE[:length])
    for read in (read_photo, read_pixels):
        with pytest.raises(OSError):
            read(tmp_path / "cut.jpg")
    assert why_unreadable(tmp_path / "cut.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_stands_upright_in_either_decoder(tmp_path, orientation):
    content, quarters = turned(orientation)
    (tmp_path / "turned.jpg").write_bytes(content)
    for pixels in (read_pixels(tmp_path / "turned.jpg"), np.asarray(read_photo(tmp_path / "turned.jpg"))):
        found = pixels[[4, 4, 27, 27], [4, 27, 4, 27]].astype(int)
        assert np.abs(found - quarters).max() <= 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_photo_that_is_not_decoded_is_that_of_the_upright_one(tmp_path, kind, orientation):
    settings = Image.Exif()
    settings[274] = orientation
    noise((20, 8)).save(tmp_path / "turned", kind, exif=settings)
    size = read_photo(tmp_path / "turned").size
    assert photo_size(tmp_path / "turned") == size == ((20, 8) if orientation < 5 else (8, 20))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / "x.jpg")
    for read in (read_photo, read_pixels):
        with pytest.raises(OSError):
            read(tmp_path / "x.jpg")
    assert why_unreadable(tmp_path / "x.jpg").startswith("cannot be read: ")


# --- odd files in the source of prepare_dataset.py --------------------------------------------------------------------

LONG = "0_" + "7" * 249 + ".jpg"
ODD_FOLDER = os.fsdecode(b"a 'b' \"c\" $HOME `ls` \n\t \xf0\x9f\x8d\x9e \xff --help")
CUT = NOISE[: len(NOISE) // 2]


def link(target):
    return lambda path: path.symlink_to(target)


def write(content):
    return lambda path: path.write_bytes(content)


# path in the source -> (how it is made, the reason in rejected.csv, None where it is in the dataset or "" in neither)
FOUND = {
    "training/0_10.jpg": (write(CUT), "truncated"),
    "training/0_11.jpg": (write(b""), "empty"),
    "training/0_12.jpg": (write(b"text"), "not an image"),
    "training/0_13.jpg": (write(READ["png-by-another-name.jpg"][0]), None),
    "training/0_14.jpg": (write(READ["ycck.jpg"][0]), None),
    "training/0_15.png": (write(REFUSED["bomb.png"][0]), "more than the 89,478,485 pixels"),
    "training/0_16.jpg": (link("nowhere"), "a link that leads nowhere"),
    "training/0_17.jpg": (link("0_17.jpg"), "a link that leads nowhere"),
    "training/0_18.jpg": (link("0_0.jpg"), None),
    "training/0_19.jpg": (lambda path: path.mkdir(), "a folder, not a photo"),
    "training/0_20.jpg": (os.mkfifo, "not a regular file"),
    "training/0_21.jpg": (link("/dev/zero"), "not a regular file"),
    "training/loop": (link("."), "a link to a folder"),
    "training/out": (link("/"), "a link to a folder"),
    "training/.hidden.jpg": (write(NOISE), ""),
    "training/.hidden/0_31.jpg": (write(NOISE), ""),
    "training/notes.txt": (write(b"mine"), ""),
    f"training/{LONG}": (write(NOISE), None),
    f"training/{ODD_FOLDER}/0_22.jpg": (write(NOISE), None),
    f"training/{ODD_FOLDER}/x y.jpg": (write(NOISE), "not named K_N.ext"),
    "training/0_23.JPG": (write(NOISE), None),
    "training/0_24.jpg.exe": (write(NOISE), "of a kind that is not read"),
    "training/-1_25.jpg": (write(NOISE), "not named K_N.ext"),
    "training/2_26.jpg": (write(NOISE), "there is no class 2"),
    "training/99999999999999999999_27.jpg": (write(NOISE), "there is no class"),
    "training/deep/er/0_28.jpg": (write(NOISE), None),
    "training/deep/er/0_0.jpg": (write(NOISE), "has the same name and class"),
    "training/\uff10_29.jpg": (write(NOISE), "not named K_N.ext"),  # a digit of another script
    "training/0_30.webp": (write(NOISE), "of a kind that is not read"),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """All of FOUND in one source, prepared once: (the source, the dataset, the finished process)."""
    folder = tmp_path_factory.mktemp("found")
    source = make_source(folder)
    for name, (make, _) in FOUND.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        make(source / name)
    before = tree(source)
    command = [sys.executable, SCRIPT, "--source", source, "--dest", folder / "dataset"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    assert tree(source) == before
    assert sorted(os.listdir(folder)) == ["dataset", "source"]
    return source, folder / "dataset", ended


def test_a_source_full_of_odd_files_is_prepared(prepared):
    _, _, ended = prepared
    assert (ended.returncode, ended.stderr) == (0, b"")
    text = ended.stdout.decode()
    assert "left out: " in text and "\x1b" not in text


@pytest.mark.parametrize("name", FOUND)
def test_each_file_of_a_source_is_in_the_dataset_or_named_with_its_reason(prepared, name):
    source, dataset, _ = prepared
    reason = FOUND[name][1]
    told = rejected(dataset).get(name.encode(errors="backslashreplace").decode())
    copied = [path for path in dataset.glob(f"training/**/{os.path.basename(name)}") if path.is_file()]
    if reason is None:
        assert told is None
        assert [path.read_bytes() for path in copied] == [(source / name).read_bytes()]
        assert not copied[0].is_symlink()
    elif reason:
        assert told and reason in told
        assert not any(path.read_bytes() == NOISE for path in copied)
    else:
        assert told is None and not copied


# classes.txt -> the error, or the class folders that result
LISTS = {
    "A\r\nB\r\n": ["A", "B"],
    "\ufeff A \n\n\n\tB\n\n": ["A", "B"],
    "Noodles/Pasta\nRice": ["Noodles", "Rice"],
    "面包\n🍞 'x' \"y\" $z": ["面包", "🍞 'x' \"y\" $z"],
    f"{'x' * 255}\nB": ["x" * 255, "B"],
    "": "names no class",
    "A\nA\n": "share one folder",
    "Rice\nrice\n": "share one folder",
    "A/x\nA/y\n": "share one folder",
    "../../evaded\nB\n": "begins with a dot",
    "A/../../../evaded\nB\n": "begins with a dot",
    "/tmp/evaded\nB\n": "absolute path",
    "C:\\evaded\nB\n": "backslash",
    "..\\evaded\nB\n": "backslash",
    "A\0\nB\n": "control character",
    "A\x1b[31m\nB\n": "control character",
    f"{'x' * 256}\nB": "longer than 255 bytes",
    "only one\n": "photos of one class, 'only one'",
}


@pytest.mark.parametrize("content", LISTS, ids=range(len(LISTS)))
def test_a_list_of_classes_makes_these_folders_or_is_one_line(tmp_path, run, source, content):
    expected = LISTS[content]
    (source / "classes.txt").write_bytes(content.encode())
    if isinstance(expected, list):
        run()
        folders = [path.name for path in (tmp_path / "dataset" / "training").iterdir()]
        assert sorted(folders) == sorted(expected)
    else:
        assert expected in run(status=2).err
        assert not (tmp_path / "dataset").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "dataset"}
    assert not [path for path in tmp_path.parent.rglob("evaded*")]


# --- every flag ------------------------------------------------------------------------------------------------------

OPTIONS = {
    "prepare": preparation_options.preparation_options,
    "train": training_options.training_options,
    "infer": inference_options.inference_options,
}
NO_NUMBER = ("", " ", "many", "-1", "nan", "inf", "1e999", "0x10", "1,5", "1\n2", "9" * 5000)


class _Parsed(Exception):
    """Carries the parser of a script."""


def every_flag():
    """(script, action) of every flag of the three scripts, read from their parsers."""

    def caught(parser, arguments=None):
        raise _Parsed(parser)

    for script, function in OPTIONS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flags.Parser, "parse_args", caught)
            with pytest.raises(_Parsed) as found:
                function([])
        for action in found.value.args[0]._actions:
            if action.option_strings and "--help" not in action.option_strings:
                yield script, action


def nonsense(action: argparse.Action) -> list[list[str]]:
    """Command lines that give `action` values that make no sense."""
    flag = action.option_strings[0]
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return [[f"{flag}=yes"], [f"{flag}="]]
    if action.choices:
        values = ["", "nonsense"]
    elif action.type is None:
        values = [""]
    else:
        values = [*(set(NO_NUMBER) - {"1,5"} if action.dest == "shares" else NO_NUMBER)]
        try:
            action.type("0.5")
        except argparse.ArgumentTypeError:  # a whole number
            values += ["0.5", "9" * 30]
    return [[f"{flag}={value}"] for value in values]


FLAGS = [(script, action.option_strings[0], nonsense(action)) for script, action in every_flag()]


@pytest.mark.parametrize(("script", "flag", "lines"), FLAGS, ids=[f"{script} {flag}" for script, flag, _ in FLAGS])
def test_nonsense_for_any_flag_is_one_line_that_names_it(capsys, script, flag, lines):
    for arguments in lines:
        with pytest.raises(SystemExit) as caught:
            OPTIONS[script](arguments)
        out, err = capsys.readouterr()
        assert (caught.value.code, out) == (2, ""), arguments
        assert err.startswith("error: ") and err.count("\n") == 1 and flag in err
        assert len(err) < 500


def ended(main, monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """The exit status of a script's `main`, run in this process, and what it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        errors.run(main)
    return caught.value.code or 0, capsys.readouterr().err


def one_line_of(status_and_error: tuple[int, str]) -> str:
    status, error = status_and_error
    assert status == 2, error
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


SMALL = ["--weights", "none", "--image-size", "32", "--epochs", "1", "--batch-size", "4", "--workers", "0"]


@pytest.fixture
def small(dataset, tmp_path, monkeypatch):
    """Small data, and tmp_path for the present folder, in which the test may leave nothing but `dataset`."""
    made = dataset(("Green", "Red"), 2, 1, 1, (8, 8))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize("value", ["no/such", "file", "x" * 300, "/proc/self/none"])
@pytest.mark.parametrize("flag", ["--data", "--weights"])
def test_training_from_a_place_that_cannot_be_is_one_line(small, tmp_path, monkeypatch, capsys, flag, value):
    (tmp_path / "file").write_text("mine")
    one_line_of(ended(train_distributed.main, monkeypatch, capsys, "--data", small, *SMALL, flag, value))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and small not in path.parents] == ["file"]


@pytest.mark.parametrize("value", ["file", "file/deeper", "x" * 300, "/proc/self/none"])
def test_training_to_a_place_that_cannot_be_is_one_line_and_no_time_lost(small, tmp_path, monkeypatch, capsys, value):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("pyimagesearch.training.loop.train_epoch", lambda *_, **__: pytest.fail("trained"))
    one_line_of(ended(train_distributed.main, monkeypatch, capsys, "--data", small, *SMALL, "--output", value))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("flag", ["--source", "--dest", "--check"])
@pytest.mark.parametrize("value", ["file", "file/deeper", "x" * 300, "/proc/self/none"])
def test_preparing_from_or_to_a_place_that_cannot_be_is_one_line(run, tmp_path, flag, value):
    if flag == "--check":
        command = [sys.executable, SCRIPT, flag, value]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        one_line_of((done.returncode, done.stderr))
    else:
        (tmp_path / "file").write_text("mine")
        run(flag, value, status=2)
        assert (tmp_path / "file").read_text() == "mine"
        assert sorted(os.listdir(tmp_path)) == ["file", "source"]


# --- a trained model that is not as it should be ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    """The state_dict of a DenseNet121 that tells two classes apart, untrained."""
    torch.manual_seed(0)
    return FoodClassifier(models.densenet121(weights=None), 2).state_dict()


FACTS = {"architecture": "densenet121", "classes": ["Green", "Red"], "image_size": 32}


@pytest.fixture
def output(tmp_path, weights):
    """output(state, facts) leaves a model as training does, and returns its folder."""

    def leave(state=None, facts=FACTS):
        (tmp_path / "output").mkdir()
        torch.save(weights if state is None else state, tmp_path / "output" / "food_classifier.pth")
        text = facts if isinstance(facts, str) else json.dumps(facts)
        (tmp_path / "output" / "food_classifier.json").write_text(text)
        return tmp_path / "output"

    return leave


# name -> (what takes the place of the state_dict, the model card, the message)
MODELS = {
    "another architecture": (lambda good: {"conv1.weight": torch.zeros(8, 3, 7, 7)}, FACTS, "no densenet121"),
    "other classes": (lambda good: good, {**FACTS, "classes": ["a", "b", "c"]}, "of 3 classes"),
    "the json of another": (lambda good: good, {**FACTS, "architecture": "densenet169"}, "densenet169"),
    "an architecture of nobody": (lambda good: good, {**FACTS, "architecture": "../x"}, "no model"),
    "an architecture that is a number": (lambda good: good, {**FACTS, "architecture": 7}, "damaged"),
    "no state_dict": (lambda good: [1, 2], FACTS, "state_dict"),
    "nothing": (lambda good: {}, FACTS, "state_dict"),
    "a name that is no text": (lambda good: {1: torch.zeros(1)}, FACTS, "state_dict"),
    "one tensor missing": (lambda good: dict(list(good.items())[:-1]), FACTS, "densenet121"),
    "json cut off": (lambda good: good, '{"architecture": "den', "damaged"),
    "json of a list": (lambda good: good, [1], "damaged"),
    "json without classes": (lambda good: good, {"architecture": "densenet121"}, "damaged"),
    "classes of numbers": (lambda good: good, {**FACTS, "classes": [1, 2]}, "damaged"),
    "no image size": (lambda good: good, {**FACTS, "image_size": "large"}, "damaged"),
    "an image size of nothing": (lambda good: good, {**FACTS, "image_size": -5}, "damaged"),
    "an image size without end": (lambda good: good, {**FACTS, "image_size": 10**9}, "damaged"),
    "json without end": (lambda good: good, "[" * 100_000, "damaged"),
    "json of noise": (lambda good: good, "\0\1\2", "damaged"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_what_its_json_says_is_one_line(tmp_path, monkeypatch, capsys, output, weights, name):
    state, facts, said = MODELS[name]
    folder = output(state(weights), facts)
    draw_photo(tmp_path / "a.jpg")
    arguments = ("--output", folder, "--images", tmp_path / "a.jpg", "--workers", "0")
    assert said in one_line_of(ended(distributed_inference.main, monkeypatch, capsys, *arguments))


@pytest.mark.parametrize("cut", [0, 1, 1000])
def test_a_damaged_file_of_weights_is_one_line(tmp_path, monkeypatch, capsys, output, cut):
    folder = output()
    path = folder / "food_classifier.pth"
    path.write_bytes(path.read_bytes()[:cut])
    draw_photo(tmp_path / "a.jpg")
    one_line_of(
        ended(distributed_inference.main, monkeypatch, capsys, "--output", folder, "--images", tmp_path / "a.jpg")
    )
    one_line_of(ended(train_distributed.main, monkeypatch, capsys, "--data", "x", *SMALL, "--weights", path))


# --- photos that inference is given -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predicted(tmp_path_factory, weights):
    """All of READ, REFUSED and some odd names, predicted in one run: what was said of each, by its name."""
    folder = tmp_path_factory.mktemp("inference")
    (folder / "output").mkdir()
    (folder / "photos").mkdir()
    torch.save(weights, folder / "output" / "food_classifier.pth")
    (folder / "output" / "food_classifier.json").write_text(json.dumps(FACTS))
    for name, (content, _) in {**READ, **REFUSED}.items():
        (folder / "photos" / name).write_bytes(content)
    os.mkfifo(folder / "photos" / "pipe.jpg")
    (folder / "photos" / "loop").symlink_to(".")
    (folder / "photos" / "nowhere.jpg").symlink_to("nowhere")
    for name in (b"\xff\n\x1b[31m.jpg", b"--help.jpg", b"=1+1,x'\".jpg"):
        (folder / "photos" / os.fsdecode(name)).write_bytes(RED_JPEG)
    command = [sys.executable, REPOSITORY / "distributed_inference.py", "--images", "photos", "--csv", "said.csv"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--workers", "0", "--pages", "0"], cwd=folder, env=environment, capture_output=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    with open(folder / "said.csv", newline="", encoding="utf-8") as file:
        return {os.path.relpath(row["path"], "photos"): row for row in csv.DictReader(file)}


def test_inference_answers_for_every_photo_that_can_be_read_and_says_why_not_of_the_others(predicted):
    readable = {*READ} | {r"\udcff\n\x1b[31m.jpg", "--help.jpg", "=1+1,x'\".jpg"}
    broken = {*REFUSED, "pipe.jpg", "nowhere.jpg"}
    assert {name for name, row in predicted.items() if row["prediction"] and not row["error"]} == readable
    assert {name for name, row in predicted.items() if row["error"] and not row["prediction"]} == broken
    for name, (_, said) in REFUSED.items():
        assert said in predicted[name]["error"]


# --- places that cannot be written ------------------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path):
    """A file system of 64 kB."""
    (tmp_path / "full").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path / "full"]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    yield tmp_path / "full"
    subprocess.run(["umount", tmp_path / "full"], check=True)


def test_a_full_disk_is_one_line_and_leaves_no_half_dataset(run, source, full):
    for number in range(9):
        photo(source / "training" / f"0_{50 + number}.jpg", size=(2000, 2000))
    assert "No space left" in run("--dest", full / "dataset", status=2).err
    assert not (full / "dataset").exists()


def test_predictions_on_a_full_disk_are_one_line(tmp_path, monkeypatch, capsys, output, full):
    (full / "filler").write_bytes(bytes(60_000))
    for number in range(100):
        (tmp_path / "photos" / ("x" * 60)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / ("x" * 60) / f"{number}.jpg").write_bytes(b"no photo")
    folder = output()
    arguments = ("--output", folder, "--images", tmp_path / "photos", "--csv", full / "said.csv", "--workers", "0")
    assert "No space left" in one_line_of(ended(distributed_inference.main, monkeypatch, capsys, *arguments))
    assert os.listdir(full) == ["filler"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_line(run, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    run("--dest", tmp_path / "closed" / "dataset", status=2)
    with pytest.raises(OSError):
        files.write_text(tmp_path / "closed" / "x", "x")
    assert os.listdir(tmp_path / "closed") == []
