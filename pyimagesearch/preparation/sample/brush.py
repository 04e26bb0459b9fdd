"""A brush: shapes with light and shadow on them, in a frame that can be moved, turned and scaled.

Outlines and paths are float arrays of shape (n, 2) in the brush's own units: x to the right, y down, the dish within
about 1 of the middle. Colours are (red, green, blue) from 0 to 255. Angles are in radians.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = Sequence[float]
# how much of light and shadow each of red, green and blue takes: yellow that fell evenly would turn olive
TONE = (0.8, 1.0, 1.15)


def oval(rx: float, ry: float, x: float = 0.0, y: float = 0.0, turn: float = 0.0) -> np.ndarray:
    """The outline of an ellipse around (x, y), turned by `turn`."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return moved(np.stack([rx * np.cos(t), ry * np.sin(t)], axis=1), x, y, turn)


def wobbly(rng: np.random.Generator, rx: float, ry: float, wobble: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """An ellipse drawn by an unsteady hand: its radius varies by about the share `wobble`."""
    t = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    waves = sum(rng.normal() / k * np.sin(k * t + rng.uniform(0, 6.3)) for k in (2, 3, 5, 7))
    radius = 1 + wobble * waves
    return np.stack([x + rx * radius * np.cos(t), y + ry * radius * np.sin(t)], axis=1)


def smooth(corners: Sequence[Sequence[float]], rounds: int = 3) -> np.ndarray:
    """A closed outline with its corners cut (Chaikin's algorithm), so that a few corners make a soft shape."""
    points = np.asarray(corners, dtype=float)
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        cuts = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1)
        points = cuts.reshape(-1, 2)
    return points


def bend(start: Sequence[float], middle: Sequence[float], end: Sequence[float]) -> np.ndarray:
    """The path from `start` to `end` that is drawn towards `middle` (a quadratic Bezier curve)."""
    t = np.linspace(0, 1, 16)[:, None]
    return (1 - t) ** 2 * np.asarray(start) + 2 * t * (1 - t) * np.asarray(middle) + t**2 * np.asarray(end)


def moved(points: np.ndarray, x: float, y: float, turn: float = 0.0) -> np.ndarray:
    """`points` turned by `turn` around the origin, then shifted by (x, y)."""
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([x + cos * points[:, 0] - sin * points[:, 1], y + sin * points[:, 0] + cos * points[:, 1]], axis=1)


def noise(rng: np.random.Generator, width: int, height: int, cell: float, stretch: float = 1.0) -> np.ndarray:
    """Smooth noise, float32 (height, width) around 0 with deviation near 0.7; its lumps are `cell` pixels wide."""
    columns, rows = int(width / (cell * stretch)) + 2, int(height / cell) + 2
    lumps = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    return np.asarray(lumps.resize((width, height), Image.Resampling.BICUBIC))


def scatter(rng: np.random.Generator, count: int, radius: float, gap: float = 0.0) -> list[tuple[float, float]]:
    """Up to `count` spots within `radius` of the middle, no two of them nearer than `gap`."""
    spots: list[tuple[float, float]] = []
    for _ in range(20 * count):
        r, t = radius * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        spot = (r * np.cos(t), r * np.sin(t))
        if not gap or all((spot[0] - x) ** 2 + (spot[1] - y) ** 2 >= gap**2 for x, y in spots):
            spots.append(spot)
        if len(spots) == count:
            break
    return spots


def scaled(colour: Colour, factor: float) -> tuple[int, ...]:
    """`colour` made darker (factor below 1) or lighter, as whole numbers that Pillow takes."""
    toned = (channel * (1 + (factor - 1) * tone) for channel, tone in zip(colour, TONE, strict=True))
    return tuple(int(min(255, max(0, channel))) for channel in toned)


def _lit(colour: Colour, lightness: np.ndarray, shine: np.ndarray) -> Image.Image:
    """An RGB image of `colour` under `lightness`, with white `shine` on it (both (height, width), shine up to 1).

    Shadows turn warm and lights white by TONE. Channel by channel, as NumPy is slow over a last axis of 3.
    """
    change = lightness - 1
    channels = (value * (1 + tone * change) + 255 * shine for value, tone in zip(colour, TONE, strict=True))
    return Image.merge("RGB", [Image.fromarray(np.clip(channel, 0, 255).astype(np.uint8)) for channel in channels])


@dataclass(frozen=True)
class Brush:
    """Draws on `image` (RGB) around the pixel (x, y), `unit` pixels to 1, turned by `turn`, lit from `light`.

    `light` is the direction in which the light stands, a vector of length 1 in pixels. All of chance comes from `rng`.
    """

    image: Image.Image
    rng: np.random.Generator
    light: tuple[float, float]
    x: float
    y: float
    unit: float
    turn: float = 0.0

    def at(self, x: float, y: float, size: float = 1.0, turn: float = 0.0) -> "Brush":
        """A brush whose origin is this one's (x, y), with units `size` times as long, turned by `turn` more."""
        (px, py) = self._pixels(np.array([[x, y]]))[0]
        return replace(self, x=px, y=py, unit=float(self.unit * size), turn=self.turn + turn)

    def hue(self, *colours: Colour, spread: float = 8.0) -> tuple[int, ...]:
        """One of `colours`, a little off, as no two apples are the same red."""
        colour = np.asarray(colours[self.rng.integers(len(colours))], dtype=float)
        return scaled(colour + self.rng.normal(0, spread / 2, 3) + self.rng.normal(0, spread), 1.0)

    def fill(self, outline: np.ndarray, colour: Colour) -> None:
        """A flat patch."""
        ImageDraw.Draw(self.image).polygon(self._corners(outline), fill=scaled(colour, 1.0))

    def line(self, path: np.ndarray, width: float, colour: Colour) -> None:
        """A flat line with round ends and round corners."""
        self._line(self._pixels(path), width * self.unit, colour)

    def strand(self, path: np.ndarray, width: float, colour: Colour, edge: float = 0.62) -> None:
        """A round cord (noodle, stalk, grain): an edge of the lightness `edge`, the body, a ridge towards the light."""
        pixels, wide = self._pixels(path), width * self.unit
        self._line(pixels - np.array(self.light) * wide * 0.12, wide * 1.25, scaled(colour, edge))
        self._line(pixels, wide, colour)
        self._line(pixels + np.array(self.light) * wide * 0.18, wide * 0.4, scaled(colour, 1.14))

    def solid(
        self,
        outline: np.ndarray,
        colour: Colour,
        *,
        puff: float = 0.2,
        depth: float = 0.4,
        gloss: float = 0.0,
        rough: float = 0.0,
        cell: float = 0.04,
        shadow: float = 0.05,
    ) -> None:
        """A body with round edges, and its shadow on what lies under it.

        `puff` is how far the rounding reaches inward and `depth` how strongly light and dark differ there (negative
        depth: a hollow). `gloss` adds a shine, `rough` lumps of the size `cell`; `shadow` is how far the shadow falls.
        """
        corners = np.array(self._corners(outline))
        margin = int((shadow + puff) * self.unit) + 2
        left, top = np.maximum(corners.min(axis=0).astype(int) - margin, 0)
        right, bottom = np.minimum(corners.max(axis=0).astype(int) + margin, self.image.size)
        if left >= right or top >= bottom:
            return  # out of the picture
        size = (int(right - left), int(bottom - top))
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in corners], fill=255)
        small = mask.reduce(2)  # blurred shapes need no fine pixels
        if shadow:
            self._cast_shadow(small, mask.size, (left, top), shadow * self.unit)
        shade = self._shade(small, mask.size, puff * self.unit)
        lightness = 1 + depth * shade
        if rough:
            lightness += rough * noise(self.rng, *size, max(1.5, cell * self.unit))
        shine = gloss * np.maximum(shade - 0.25, 0)
        self.image.paste(_lit(colour, lightness, shine), (int(left), int(top)), mask)

    def _shade(self, small: Image.Image, size: tuple[int, int], reach: float) -> np.ndarray:
        """How much each pixel faces the light, from about -1 to 1, if the mask were a cushion `reach` pixels round.

        `small` is the mask at half its `size`; the answer is float32 (height, width).
        """
        blur = max(1.0, reach / 4)
        height = np.asarray(small.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255
        down, right = np.gradient(height)
        shade = -(right * self.light[0] + down * self.light[1]) * blur * 2.5
        return np.asarray(Image.fromarray(shade).resize(size, Image.Resampling.BILINEAR))

    def _cast_shadow(self, small: Image.Image, size: tuple[int, int], corner: tuple[int, int], reach: float) -> None:
        soft = small.filter(ImageFilter.GaussianBlur(max(1.0, reach / 4))).point(lambda value: int(value * 0.5))
        x, y = (int(corner[i] - self.light[i] * reach) for i in (0, 1))
        self.image.paste((22, 16, 12), (x, y), soft.resize(size, Image.Resampling.BILINEAR))

    def _line(self, pixels: np.ndarray, width: float, colour: Colour) -> None:
        draw, width = ImageDraw.Draw(self.image), max(1, round(width))
        fill = scaled(colour, 1.0)
        draw.line([tuple(pixel) for pixel in pixels.tolist()], fill=fill, width=width, joint="curve")
        for x, y in pixels[[0, -1]].tolist():
            draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=fill)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        return moved(np.asarray(points, dtype=float) * self.unit, self.x, self.y, self.turn)

    def _corners(self, outline: np.ndarray) -> list[tuple[float, float]]:
        return [tuple(pixel) for pixel in self._pixels(outline).tolist()]
