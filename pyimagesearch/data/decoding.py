"""Which folders and files hold photos, and the one place that decodes them: upright, in 8-bit RGB."""

import contextlib
import functools
import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from pyimagesearch import config
from pyimagesearch.runtime.errors import UserError, one_line

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif",
    ".jp2", ".avif", ".heic", ".heif",
)  # fmt: skip
NO_IMAGES = (".csv", ".json", ".md", ".npy", ".py", ".txt", ".xml", ".yaml")  # suffixes of files that are not opened
# names of files and folders, in lower case, that systems and unpackers leave and nobody takes for photos
SYSTEM_NAMES = {
    "__macosx", "@eadir", "$recycle.bin", "#recycle", "lost+found", "system volume information", "thumbs.db",
    "desktop.ini",
}  # fmt: skip
# the formats that such a file may have; Pillow's others make no sense here, or run programs (EPS)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# formats that need a newer Pillow or another package, and what to install
RARE_FORMATS = {"AVIF": "'pillow>=11.3'", "HEIF": "pillow-heif", "JPEG2000": "a Pillow built with OpenJPEG"}
SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff", "PNG": rb"\x89PNG\r\n", "GIF": rb"GIF8[79]a", "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]", "BMP": rb"BM....\0\0\0\0", "JPEG2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "AVIF": rb"....ftypavi[fs]", "HEIF": rb"....ftyp(hei|hev|mif1|msf1)", "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
}  # fmt: skip
DEEP_FORMATS = ("PNG", "TIFF", "JPEG2000")  # in which photos may have grey of more than 8 bits
# white in such a photo by its type, where that of its dataset is not known; and in a dataset, the first that holds all
# values: a dark photo of 12 bits alone looks like one of 8 (https://github.com/aiff22/PyNET/issues/2)
WHITE_BY_TYPE = {"I": (65535,), "F": (1, 255)}
WHITES = (255, 1023, 4095, 16383, 65535)
BITS = ExifTags.Base.BitsPerSample
SAMPLE_RANGE = ExifTags.Base.SMinSampleValue, ExifTags.Base.SMaxSampleValue
# Pillow warns of decompression bombs above this; decoding takes 8 bytes per pixel, 0.7 GB in all
MAX_PIXELS = 89_478_485
# a colour profile that differs from sRGB by no more than this, of 255, counts as sRGB: JPEG itself changes more
SAME_COLOUR = 3
END_OF_JPEG = b"\xff\xd9"
READ_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
Size = tuple[int, int]  # width and height, in pixels
ValueRange = tuple[float, float]  # the values of black and white in grey photos of more than 8 bits
Reduction = Callable[[int, int], int]  # from a photo's width and height: how many times smaller it may be, 1, 2, 4 or 8
# Pillow warns about odd metadata in photos that it reads well, and about large photos, which are refused here
warnings.filterwarnings("ignore", module="PIL")
# let Pillow keep four blocks of memory, of 16 MB at most, for the next photo: clearing new pages for each photo takes
# longer than decoding a small one
Image.core.set_blocks_max(max(4, Image.core.get_blocks_max()))
# bytes of a text or ICC profile in a PNG, above which Pillow refuses the photo: 1 MB would be too few (Pillow#8363)
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no one's photo: hidden, or made by a system or an unpacker."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_photo(folder: str, name: str) -> bool:
    """Whether this file counts as a photo: by its suffix, else by its first bytes. It may turn out to be unreadable."""
    lower = name.lower()
    if is_hidden(name) or lower.endswith(NO_IMAGES):
        return False
    return lower.endswith(EXTENSIONS) or image_format(os.path.join(folder, name)) is not None


def image_format(path: str | os.PathLike | io.BytesIO) -> str | None:
    """The format of an image with any name, by its first bytes; None for other files and what cannot be opened."""
    if isinstance(path, io.BytesIO):
        start = path.getvalue()[:16]
    else:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
                return None
            with open(path, "rb") as file:
                start = file.read(16)
        except OSError:
            return None
    return next((name for name, bytes_ in SIGNATURES.items() if re.match(bytes_, start, re.DOTALL)), None)


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


def photos_below(folder: str) -> list[str]:
    """The photos in `folder` in ImageFolder's order: sorted by the path of their folder, then by name.

    Links to folders are followed, except to a folder that the link itself lies in: the walk would never end.
    """
    found = []
    start = os.path.realpath(folder)
    parents = {folder: {start, *map(str, Path(start).parents)}}  # for each folder to visit, the folders it lies in
    for parent, folders, names in os.walk(folder, followlinks=True):
        above = parents.pop(parent) | {os.path.realpath(parent)}
        visible = [name for name in folders if not is_hidden(name)]
        folders[:] = [name for name in visible if os.path.realpath(os.path.join(parent, name)) not in above]
        parents.update((os.path.join(parent, name), above) for name in folders)
        found += [(parent, name) for name in names if is_photo(parent, name)]
    return [os.path.join(parent, name) for parent, name in sorted(found)]


def read_photo(path) -> Image.Image:
    """Decode a photo as training does, see upright_rgb. A broken file raises nearly any exception, not only OSError."""
    return Image.fromarray(read_pixels(path))


def upright_rgb(image: Image.Image, value_range: ValueRange | None = None) -> Image.Image:
    """`image` in 8-bit RGB, upright by its EXIF orientation; of an animation, the first frame.

    Grey of more bits is scaled to 8, transparency is laid on white, and colours with an ICC profile become sRGB.
    """
    image.load()
    return _turned(_to_rgb(image, value_range), _orientation(image))


def read_pixels(path, value_range: ValueRange | None = None) -> np.ndarray:
    """The pixels of a photo, a path or the file in memory, see upright_rgb: uint8 of shape (height, width, 3)."""
    return read_reduced(path, value_range=value_range)[0]


def read_reduced(
    path, reduction: Reduction | None = None, value_range: ValueRange | None = None
) -> tuple[np.ndarray, Size]:
    """As read_pixels, but perhaps smaller, and the size of the whole photo.

    libjpeg then computes only the reduced photo, in a fraction of the time; other files are decoded whole.
    """
    if (found := _read_plain_jpeg(path, reduction)) is not None:
        return found
    with open_photo(path) as image:
        pixels = pixels_of(image, value_range)
    return pixels, pixels.shape[1::-1]


def _read_plain_jpeg(path, reduction: Reduction | None) -> tuple[np.ndarray, Size] | None:
    """read_reduced by OpenCV, which is faster than Pillow; None unless the file is a sound JPEG in grey or sRGB."""
    try:
        with open_photo(path, formats=("JPEG",)) as image:
            profile = image.info.get("icc_profile")
            if image.mode not in ("L", "RGB") or (profile and _transform_to_srgb(profile, image.mode)):
                return None
            size, orientation = _upright_size(image), _orientation(image)
        in_memory = isinstance(path, io.BytesIO)
        content = np.frombuffer(path.getvalue(), np.uint8) if in_memory else np.fromfile(path, np.uint8)
        if content[-2:].tobytes() != END_OF_JPEG:  # OpenCV would fill up a truncated one
            return None
        flags = READ_REDUCED.get(reduction(*size) if reduction else 1, cv2.IMREAD_COLOR)
        pixels: Any = cv2.imdecode(content, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        if orientation != 1:
            pixels = np.array(_turned(Image.fromarray(pixels), orientation))
    except Exception:  # both libraries raise nearly anything; upright_rgb then says what is wrong
        return None
    return pixels, size


def pixels_of(image: Any, value_range: ValueRange | None = None) -> np.ndarray:
    """The pixels of an image in memory, see upright_rgb."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim < 2 or image.shape[2:] not in ((), (3,), (4,)):
            found = f"{image.dtype} of shape {image.shape}"
            raise ValueError(f"{found}; expected uint8 of shape (height, width, 3) or (height, width)")
        image = Image.fromarray(image)
    return np.array(upright_rgb(image, value_range))


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
    if not isinstance(path, io.BytesIO):
        _check_regular(path)
    try:
        image: Any = Image.open(path, formats=formats)
    except UnidentifiedImageError:
        kind = image_format(path)
        if formats is not FORMATS or kind is None or kind in FORMATS:
            raise
        image = _open_rare(path, kind)
    if image.format == "TIFF" and image.tag_v2.get(ExifTags.Base.NewSubfileType) == 1:
        image.close()
        raise OSError("its first image is a preview, as in raw files of cameras; convert it to JPEG")
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise OSError(f"{width} x {height} pixels, more than the {MAX_PIXELS:,} that are read")
    return image


def read_file(path) -> io.BytesIO:
    """The file of a photo in memory; functions here that only read a photo take it in place of a path."""
    _check_regular(path)
    return io.BytesIO(Path(path).read_bytes())


def _check_regular(path) -> None:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe would wait for a writer
        raise OSError("not a regular file")


def _open_rare(path, kind: str) -> Image.Image:
    """Open an image of the format `kind`, for which something may have to be installed."""
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    readable = [name for name in RARE_FORMATS if name in Image.OPEN]
    try:
        return Image.open(path, formats=readable)
    except UnidentifiedImageError:
        if kind in readable:  # it is damaged
            raise
        install = f"pip install {RARE_FORMATS[kind]}, or " if kind in RARE_FORMATS else ""
        raise OSError(f"an image of the format {kind}; {install}convert it to JPEG") from None


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
    """1 to 8; 1 also where the EXIF block is damaged, which may hold anything and raise nearly anything."""
    try:
        found: Any = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return 1
    return int(found) if found in range(1, 9) else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        return image
    bare = Image.fromarray(np.asarray(image))  # exif_transpose writes all tags anew; a wrong one fails (Pillow#8965)
    bare.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(bare)


def _upright_size(image: Any) -> Size:
    width, height = image.size
    if image.format == "TIFF":  # newer versions of Pillow have swapped its size already
        width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)  # these turn by 90 degrees


def _to_rgb(image: Any, value_range: ValueRange | None) -> Image.Image:
    """`image` of any mode as 8-bit RGB."""
    if image.mode[0] in WHITE_BY_TYPE:  # grey of more bits, "I", "I;16" or "F"; 8 bits are enough for a classifier
        values = np.nan_to_num(np.asarray(image))
        low, high = value_range or _usual_range(image, values, WHITE_BY_TYPE[image.mode[0]])
        values = values if image.mode == "F" else values.astype(np.int64)
        values = (values.clip(low, high) - low) * (255 / (high - low))
        image = Image.fromarray(values.round().astype(np.uint8))
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


def is_deep(path) -> bool:
    """Whether the photo at `path` is grey of more than 8 bits. Of most formats only the first bytes are read."""
    if image_format(path) not in DEEP_FORMATS:
        return False
    with open_photo(path) as image:
        return image.mode[0] in WHITE_BY_TYPE


def own_range(path) -> ValueRange:
    """The range that a photo of which is_deep is likely to use, a path or the file in memory."""
    with open_photo(path) as image:
        whites = (1, *WHITES) if image.mode == "F" else WHITES
        return _usual_range(image, np.nan_to_num(np.asarray(image)), whites)


def _usual_range(image: Any, values: np.ndarray, whites: Sequence[int]) -> ValueRange:
    """Black and white in a grey image of more than 8 bits: by its TIFF tags, or 0 and the first of `whites` that fits.

    PNG's sBIT chunk does not change them: samples fill the whole range all the same (PNG specification, 11.3.2.7).
    """
    tags = getattr(image, "tag_v2", {})
    with contextlib.suppress(KeyError, TypeError, ValueError):  # no such tag, or not a number
        black, white = (float(np.ravel(tags[tag])[0]) for tag in SAMPLE_RANGE)
        if black < white:
            return black, white
    if image.mode != "F" and (bits := np.ravel(tags.get(BITS, 16))[0]) < 16:
        return 0, float(2**bits - 1)
    least, most = values.min(), values.max()
    for white in whites:
        beyond = white / 2 if image.mode == "F" and white <= 255 else 0  # filters overshoot the range
        if -beyond <= least and most <= white + beyond:
            return 0, white
    raise ValueError(
        f"values from {least:g} to {most:g}, expected 0 to {' or 0 to '.join(map(str, whites))}; give "
        "train_distributed.py --value-range LOW:HIGH, or scale it"
    )


@functools.lru_cache(maxsize=16)  # making one takes longer than a small photo; a camera's photos share one profile
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from the ICC `profile` to sRGB; None where it changes nothing visible, or is broken."""
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
