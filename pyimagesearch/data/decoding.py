"""Which folders and files hold photos, and the one place that decodes them: upright, in 8-bit RGB."""

import functools
import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from pyimagesearch import config
from pyimagesearch.runtime.errors import UserError, one_line

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
# the formats that such a file may have; Pillow's others make no sense here, or run programs (EPS)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# Pillow warns of decompression bombs above this; decoding takes 8 bytes per pixel, 0.7 GB in all
MAX_PIXELS = 89_478_485
# a colour profile that differs from sRGB by no more than this, of 255, counts as sRGB: JPEG itself changes more
SAME_COLOUR = 3
END_OF_JPEG = b"\xff\xd9"
READ_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
Size = tuple[int, int]  # width and height, in pixels
Reduction = Callable[[int, int], int]  # from a photo's width and height: how many times smaller it may be, 1, 2, 4 or 8
# Pillow warns about odd metadata in photos that it reads well, and about large photos, which are refused here
warnings.filterwarnings("ignore", module="PIL")
# let Pillow keep four blocks of memory, of 16 MB at most, for the next photo: clearing new pages for each photo takes
# longer than decoding a small one
Image.core.set_blocks_max(max(4, Image.core.get_blocks_max()))


def find_splits(folder: str, suffix: str = "") -> dict[str, str]:
    """The paths of the splits in `folder`, by their names in config.SPLITS: folders, or files such as VAL.TXT if
    `suffix` is ".txt"."""
    found: dict[str, str] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = entry.name.lower()
        if not name.endswith(suffix) or not (entry.is_file() if suffix else entry.is_dir()):
            continue
        for split in config.SPLITS:
            if name.removesuffix(suffix) in config.SPLIT_NAMES[split]:
                if split in found:
                    both = f"{os.path.basename(found[split])} and {entry.name}"
                    raise UserError(f"{folder} has both {both} for {split}; keep one of them there")
                found[split] = entry.path
    return {split: found[split] for split in config.SPLITS if split in found}


def folders_in(folder: str) -> list[str]:
    """The paths of the folders directly in `folder`, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def is_hidden(name: str) -> bool:
    """Whether a folder of this name holds nothing of the user: hidden, or made by a system or an unpacker."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def photos_below(folder: str) -> list[str]:
    """The photos in `folder` in ImageFolder's order: sorted by the path of their folder, then by name.

    Links to folders are followed, except to a folder that the link itself lies in: the walk would never end.
    """
    found = []
    start = os.path.realpath(folder)
    parents = {folder: {start, *map(str, Path(start).parents)}}  # for each folder to visit, the folders it lies in
    for parent, folders, names in os.walk(folder, followlinks=True):
        above = parents.pop(parent) | {os.path.realpath(parent)}
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in above]
        parents.update((os.path.join(parent, name), above) for name in folders)
        found += [(parent, name) for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    return [os.path.join(parent, name) for parent, name in sorted(found)]


def read_photo(path) -> Image.Image:
    """Decode a photo to RGB, upright by its EXIF orientation; of an animation, the first frame.

    16-bit grey is scaled to 8 bits, transparency is laid on white, and colours with an ICC profile become sRGB. A
    broken file raises nearly any exception: OSError mostly, but struct.error and DecompressionBombError too.
    """
    with open_photo(path) as image:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))


def read_pixels(path) -> np.ndarray:
    """The pixels of read_photo, bit for bit: uint8 of shape (height, width, 3)."""
    return read_reduced(path)[0]


def read_reduced(path, reduction: Reduction | None = None) -> tuple[np.ndarray, Size]:
    """As read_pixels, but perhaps smaller, and the size of the whole photo.

    libjpeg then computes only the reduced photo, in a fraction of the time; other files are decoded whole.
    """
    if (found := _read_plain_jpeg(path, reduction)) is not None:
        return found
    pixels = np.array(read_photo(path))
    return pixels, pixels.shape[1::-1]


def _read_plain_jpeg(path, reduction: Reduction | None) -> tuple[np.ndarray, Size] | None:
    """read_reduced by OpenCV, which is faster than Pillow; None unless the file is a sound JPEG in grey or sRGB."""
    try:
        with open_photo(path, formats=("JPEG",)) as image:
            profile = image.info.get("icc_profile")
            if image.mode not in ("L", "RGB") or (profile and _transform_to_srgb(profile, image.mode)):
                return None
            size, orientation = _upright_size(image), _orientation(image)
        content = np.fromfile(path, np.uint8)
        if content[-2:].tobytes() != END_OF_JPEG:  # OpenCV would fill up a truncated one
            return None
        flags = READ_REDUCED.get(reduction(*size) if reduction else 1, cv2.IMREAD_COLOR)
        pixels: Any = cv2.imdecode(content, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        if orientation != 1:
            stored = Image.fromarray(pixels)
            stored.getexif()[ExifTags.Base.Orientation] = orientation
            pixels = np.array(ImageOps.exif_transpose(stored))
    except Exception:  # both libraries raise nearly anything; read_photo then says what is wrong
        return None
    return pixels, size


def photo_size(path) -> Size:
    """The size of read_photo's result, without decoding the photo."""
    with open_photo(path) as image:
        return _upright_size(image)


def read_thumbnail(path, side: int) -> np.ndarray:
    """The photo shrunk to at most `side` pixels a side: uint8 of shape (height, width, 3)."""
    photo = read_photo(path)
    photo.thumbnail((side, side))
    return np.asarray(photo)


def open_photo(path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open a photo without decoding it; OSError for one of more than MAX_PIXELS."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # opening a pipe would wait for a writer
        raise OSError("not a regular file")
    image = Image.open(path, formats=formats)
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise OSError(f"{width} x {height} pixels, more than the {MAX_PIXELS:,} that are read")
    return image


def describe_fault(error: Exception) -> str:
    """Why a photo cannot be read, by the exception of read_photo: one line, without the path."""
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own, above 2 x MAX_PIXELS
        return f"more than the {MAX_PIXELS:,} pixels that are read"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError):
        return f"cannot be read: {one_line(error.strerror or error)}"
    return f"cannot be decoded: {one_line(error) or type(error).__name__}"


def read_checked(read: Callable, path, *arguments):
    """`read(path, *arguments)`; any exception becomes a UserError that names the photo."""
    try:
        return read(path, *arguments)
    except Exception as error:  # Pillow raises nearly anything for broken files
        raise UserError(f"cannot read {path}: {describe_fault(error)}; remove or replace it") from error


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)  # a broken file may hold anything here


def _upright_size(image: Any) -> Size:
    width, height = image.size
    if image.format == "TIFF":  # newer versions of Pillow have swapped its size already
        width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)  # these turn by 90 degrees


def _to_rgb(image: Any) -> Image.Image:
    """`image` of any mode as 8-bit RGB."""
    if image.mode.startswith("I"):  # 16-bit grey, "I" or "I;16"; 8 bits are enough for a classifier
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((grey / 257).round().astype(np.uint8))
    elif image.mode == "F":  # by convention 0 to 1
        image = Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    profile = image.info.get("icc_profile")
    if profile and (transform := _transform_to_srgb(profile, image.mode)):
        image = ImageCms.applyTransform(image, transform)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


@functools.lru_cache(maxsize=16)  # making one takes longer than a small photo; a camera's photos share one profile
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from the ICC `profile` to sRGB; None where it changes nothing visible.

    A profile that is broken, or made for another mode, is ignored, as browsers do.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        out = "RGBA" if mode == "RGBA" else "RGB"
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, out)
        cube = Image.fromarray(np.indices((16, 16, 16), np.uint8).reshape(3, 64, 64).transpose(1, 2, 0) * 17)
        before = cube.convert(mode)
        after: Any = ImageCms.applyTransform(before, transform)
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        return None  # ImportError: a Pillow built without littlecms
    levels = np.asarray(after.convert("RGB")).astype(int) - np.asarray(before.convert("RGB"))
    return transform if np.abs(levels).max() > SAME_COLOUR else None
