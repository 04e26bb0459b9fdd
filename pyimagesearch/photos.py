"""The one place that decodes a photo: any file that Pillow reads becomes right 8-bit RGB, upright."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pyimagesearch.errors import one_line

# above this Pillow warns of decompression bombs; 8 bytes a pixel while decoding make it 0.7 GB
MAX_PIXELS = 89_478_485

# 8 bits are enough for a classifier; 16-bit grey comes in these modes
SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# levels of 255 by which a colour profile may differ from sRGB and be taken for it: less than JPEG itself changes
SAME_COLOUR = 3


def read_photo(path) -> Image.Image:
    """The photo at `path`, wholly decoded, RGB, turned as its EXIF orientation says; of an animation the first frame.

    16-bit grey is scaled to 8 bits, transparency lies on white, colours of another profile (ICC) become those of sRGB.

    Raises
    ------
    OSError : no such file, no permission, not an image, truncated, of more than MAX_PIXELS
    Exception : nearly any other, struct.error and Image.DecompressionBombError among them, of a broken file
    """
    with Image.open(path) as image:
        refuse_bomb(image)
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


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
    except (
        ImageCms.PyCMSError,
        ImportError,
        OSError,
        TypeError,
        ValueError,
    ):  # ImportError: a Pillow without littlecms
        return None
    levels = np.asarray(after.convert("RGB")).astype(int) - np.asarray(before.convert("RGB"))
    return transform if np.abs(levels).max() > SAME_COLOUR else None
