"""Which files are photos, and the one place that decodes them: each becomes right 8-bit RGB, upright."""

import functools
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from pyimagesearch.runtime.errors import UserError, one_line

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# what a file named like a photo may hold; others that Pillow knows run programs (EPS) or make no sense here
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# above this Pillow warns of decompression bombs; 8 bytes a pixel while decoding make it 0.7 GB
MAX_PIXELS = 89_478_485
# 8 bits are enough for a classifier; 16-bit grey comes in these modes
SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# levels of 255 by which a colour profile may differ from sRGB and be taken for it: less than JPEG itself changes
SAME_COLOUR = 3
END_OF_JPEG = b"\xff\xd9"
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# of odd metadata in photos that it reads well, and of as many pixels as are refused here
warnings.filterwarnings("ignore", module="PIL")
# Pillow gives a photo's memory back to the system unless it is told to keep some, 16 MB at most each, for the next
# photo: to have new pages cleared for each takes longer than to decode a small one
Image.core.set_blocks_max(max(4, Image.core.get_blocks_max()))
# what undoes each EXIF orientation; 1 is upright
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_photo(path) -> Image.Image:
    """The photo at `path`, wholly decoded, RGB, turned as its EXIF orientation says; of an animation the first frame.

    16-bit grey is scaled to 8 bits, transparency lies on white, colours of another profile (ICC) become those of sRGB.

    Raises
    ------
    OSError : no such file, no permission, not an image, truncated, of more than MAX_PIXELS
    Exception : nearly any other, struct.error and Image.DecompressionBombError among them, of a broken file
    """
    with open_photo(path) as image:
        refuse_bomb(image)
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


def read_pixels(path) -> np.ndarray:
    """The pixels of `read_photo(path)`, the same to the last bit: uint8 of shape (height, width, 3). Raises as it does.

    A JPEG that is as most are goes to libjpeg-turbo by OpenCV, in less time than by Pillow, which has the last word.
    """
    return read_enough(path, lambda width, height: 1)[0]


def read_enough(path, reduction: Callable[[int, int], int]) -> tuple[np.ndarray, tuple[int, int]]:
    """As read_pixels, but perhaps smaller, and the (width, height) of the photo itself.

    reduction : of how many pixels in a row one is enough, 1, 2, 4 or 8, given the photo's width and height; libjpeg
        then computes no more, in a fraction of the time. Only of plain JPEGs is less read than there is
    """
    if (found := _read_plain_jpeg(path, reduction)) is not None:
        return found
    pixels = np.array(read_photo(path))
    return pixels, pixels.shape[1::-1]


def _read_plain_jpeg(path, reduction: Callable[[int, int], int]) -> tuple[np.ndarray, tuple[int, int]] | None:
    """read_enough of a JPEG in grey or in the colours of sRGB; None of any other file, or of one that is not sound."""
    try:
        with open_photo(path, formats=["JPEG"]) as image:
            refuse_bomb(image)
            profile = image.info.get("icc_profile")
            if image.mode not in ("L", "RGB") or (profile and _transform_to_srgb(profile, image.mode)):
                return None
            size = _upright_size(image)
            turn = TURNS.get(_orientation(image))
        content = np.fromfile(path, np.uint8)
        if content[-2:].tobytes() != END_OF_JPEG:  # OpenCV would fill up a truncated one
            return None
        pixels = cv2.imdecode(content, REDUCED[reduction(*size)] | cv2.IMREAD_IGNORE_ORIENTATION)
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    except Exception:  # both raise nearly anything; of a file that nobody can read, Pillow says what is wrong
        return None
    return (pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))), size


def photo_size(path) -> tuple[int, int]:
    """Width and height, in pixels, of what read_photo gives of `path`, which is not decoded. Raises as that does."""
    with open_photo(path) as image:
        refuse_bomb(image)
        width, height = image.size
        if image.format == "TIFF":  # of which newer versions of Pillow have turned the size already
            width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
        return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def open_photo(path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """The photo at `path`, opened, but neither decoded nor refused for its size. Raises as read_photo does."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # opening a pipe would wait for a writer
        raise OSError("not a regular file")
    return Image.open(path, formats=formats)


def _orientation(image: Image.Image) -> int:
    """As EXIF has it: 1 is upright, with 5 to 8 width and height change places; anything at all in a broken file."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return image.size[::-1] if _orientation(image) in (5, 6, 7, 8) else image.size


def refuse_bomb(image: Image.Image) -> None:
    """Raise OSError where `image`, opened but not decoded yet, has more than MAX_PIXELS."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise OSError(f"{width} x {height} pixels, more than the {MAX_PIXELS:,} that are read")


def describe_fault(error: Exception) -> str:
    """What an exception of read_photo says of the photo, on one line and without its path."""
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own, of twice as many
        return f"more than the {MAX_PIXELS:,} pixels that are read"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError):
        return f"cannot be read: {one_line(error.strerror or error)}"
    return f"cannot be decoded: {one_line(error) or type(error).__name__}"


@contextmanager
def naming_faults(path) -> Iterator[None]:
    """Within the block, whatever a reader raises of the photo at `path` becomes the line that tells a person of it."""
    try:
        yield
    except Exception as error:  # Pillow's readers of broken files raise nearly anything
        raise UserError(f"cannot read {path}: {describe_fault(error)}; remove or replace it") from error


def read_thumbnail(path, side: int) -> np.ndarray:
    """The photo at `path`, at most `side` pixels long: uint8 of shape (height, width, 3). Raises as read_photo does."""
    photo = read_photo(path)
    photo.thumbnail((side, side))
    return np.asarray(photo)


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` of any mode as 8-bit RGB."""
    if image.mode in SIXTEEN_BIT:
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((grey / 257).round().astype(np.uint8))
    elif image.mode == "F":  # by convention 0 to 1
        image = Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    image = to_srgb(image)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def to_srgb(image: Image.Image) -> Image.Image:
    """`image`, of any mode but P, in the colours of sRGB where its ICC profile says that they are others.

    A profile that is broken, or not for the mode of the image, is passed over, as browsers do.
    """
    profile = image.info.get("icc_profile")
    transform = _transform_to_srgb(profile, image.mode) if profile else None
    return image if transform is None else ImageCms.applyTransform(image, transform)


@functools.lru_cache(maxsize=16)  # making one takes longer than a small photo; a camera's photos share one profile
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What brings colours of `mode` from `profile` to sRGB; None where that changes nothing that can be seen."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        out = "RGBA" if mode == "RGBA" else "RGB"
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, out)
        cube = Image.fromarray(np.indices((16, 16, 16), np.uint8).reshape(3, 64, 64).transpose(1, 2, 0) * 17)
        before = cube.convert(mode)
        after = ImageCms.applyTransform(before, transform)
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        return None  # ImportError: of a Pillow that was built without littlecms
    levels = np.asarray(after.convert("RGB")).astype(int) - np.asarray(before.convert("RGB"))
    return transform if np.abs(levels).max() > SAME_COLOUR else None


def photos_below(folder: str) -> list[str]:
    """The photos in `folder`, in the order of ImageFolder: folders sorted by path, then files by name.

    Links to folders are followed, but none to a folder that the walk has come through: it would go round for ever.
    """
    found = []
    start = os.path.realpath(folder)
    above = {folder: {start, *map(str, Path(start).parents)}}  # of each folder to come, the folders it lies in
    for parent, folders, names in os.walk(folder, followlinks=True):
        through = above.pop(parent) | {os.path.realpath(parent)}
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in through]
        above.update((os.path.join(parent, name), through) for name in folders)
        found += [(parent, name) for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    return [os.path.join(parent, name) for parent, name in sorted(found)]
