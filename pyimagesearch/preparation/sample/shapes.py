"""The shapes of drawn food. A dish is data, made of Shape and Group: a tuple is drawn part by part, of a list one part.

Lengths are in units of the dish, which reaches about 1 from its middle; x points right, y down. Angles are in degrees.
Outlines and paths are float arrays of shape (n, 2). A colour is a string of one or more "#rrggbb", one of which is
chosen at random, or a number: the tint of the Group around it, made that much lighter (above 1) or darker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

# how much red, green and blue change with the light: with equal changes a shaded yellow would look olive
TONE = (0.8, 1.0, 1.15)
Part: TypeAlias = Any  # a Shape, a Group, or a tuple or list of parts


def arc(first: float, last: float, radius: float, last_radius: float | None = None) -> np.ndarray:
    """A path around the origin from one angle to another; a spiral if the radius changes."""
    t = np.deg2rad(np.linspace(first, last, 60))[:, None]
    return np.linspace(radius, last_radius or radius, 60)[:, None] * np.hstack([np.cos(t), np.sin(t)])


def oval(rx: float, ry: float = 0.0, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """The outline of an ellipse, or of a circle of radius `rx`."""
    return arc(0, 354, 1) * (rx, ry or rx) + (x, y)


def box(width: float, height: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, height / 2) + (x, y)


def points(text: str, soft: float = 0.0) -> np.ndarray:
    """The points of "x,y x,y ...", in hundredths; their corners are cut (Chaikin), first by `soft` of each edge."""
    corners = np.array([pair.split(",") for pair in text.split()], dtype=float) / 100
    for share in (soft, 0.25, 0.25) if soft else ():
        edges = share * (np.roll(corners, -1, axis=0) - corners)
        corners = np.stack([corners + edges, np.roll(corners, -1, axis=0) - edges], axis=1).reshape(-1, 2)
    return corners


def strip(path: np.ndarray, *widths: float) -> np.ndarray:
    """The outline of a cord along `path`, whose width passes through `widths`."""
    along = np.gradient(path, axis=0)
    half = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    across = half * along[:, ::-1] * (-1, 1) / np.hypot(*along.T)[:, None]
    return np.vstack([path + across, (path - across)[::-1]])


@dataclass(frozen=True)
class Brush:
    """Draws on `image` (RGB) around the pixel `origin`; 1 is `unit` pixels; `light` is the unit vector to the light."""

    image: Image.Image
    rng: np.random.Generator
    light: np.ndarray
    origin: np.ndarray
    unit: float
    turn: float
    tint: Any = None  # (red, green, blue)

    def draw(self, part: Part) -> None:
        if isinstance(part, tuple):
            for each in part:
                self.draw(each)
        elif isinstance(part, list):
            self.draw(part[self.rng.integers(len(part))])
        else:
            part.draw(self)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(np.deg2rad(self.turn)), np.sin(np.deg2rad(self.turn))
        return self.unit * points @ np.array([[cos, sin], [-sin, cos]]) + self.origin

    def mix(self, colour: str | float) -> np.ndarray:
        """The colour as (red, green, blue) from 0 to 255; a named one varies, as no two apples are the same red."""
        if not isinstance(colour, str):
            return np.clip(self.tint * (1 + (colour - 1) * np.array(TONE)), 0, 255)
        rgb = ImageColor.getrgb(str(self.rng.choice(colour.split())))
        return np.clip(rgb + self.rng.normal(0, 4, 3) + self.rng.normal(0, 8), 0, 255)


@dataclass(frozen=True, eq=False)
class Shape:
    """A body with rounded edges and a shadow.

    The rounding reaches `puff` inwards (0: a flat patch; None: as far as the body is thick) and makes light and dark
    differ by `depth` (below 0: a hollow). `gloss` adds a shine, `rough` lumps; the radius varies by the share `wobble`.
    """

    outline: np.ndarray
    colour: str | float = 1.0
    puff: float | None = None
    depth: float = 0.4
    gloss: float = 0.0
    rough: float = 0.0
    wobble: float = 0.0

    def draw(self, brush: Brush) -> None:
        outline, colour = self.outline, brush.mix(self.colour)
        if self.wobble:
            angle, phases = np.arctan2(*outline.T), brush.rng.uniform(0, 2 * np.pi, 8)
            waves = sum(np.sin(k * angle + phases[k]) * brush.rng.normal() / k for k in (2, 3, 5, 7))
            outline = outline * (1 + self.wobble * waves)[:, None]
        corners = brush.pixels(outline)
        if self.puff == 0:
            ImageDraw.Draw(brush.image).polygon(corners.ravel().tolist(), tuple(colour.astype(int).tolist()))
            return
        (x, y), (dx, dy) = corners.T, np.diff(corners, axis=0, append=corners[:1]).T
        thickness = float(abs(np.sum(x * dy - y * dx)) / np.hypot(dx, dy).sum())  # the radius, if it is a circle
        reach = 0.5 * thickness if self.puff is None else self.puff * brush.unit
        shadow = min(0.25 * thickness, 0.1 * brush.unit) if self.depth > 0 else 0.0
        corner = np.maximum(corners.min(axis=0) - shadow - reach, 0).astype(int)
        size = np.minimum((corners.max(axis=0) + shadow + reach).astype(int) + 2, brush.image.size) - corner
        if size.min() < 4:
            return  # outside the picture
        mask = Image.new("L", size.tolist())
        ImageDraw.Draw(mask).polygon((corners - corner).ravel().tolist(), 255)
        half = mask.reduce(2)  # blurred shapes need no fine pixels
        if shadow:
            dark = half.filter(ImageFilter.GaussianBlur(max(1.0, shadow / 4))).point(lambda value: value // 2)
            place = (corner - brush.light * shadow).astype(int).tolist()
            brush.image.paste((22, 16, 12), tuple(place), dark.resize(mask.size, Image.Resampling.BILINEAR))
        brush.image.paste(self._surface(brush, half, mask.size, colour, reach), tuple(corner.tolist()), mask)

    def _surface(self, brush: Brush, half: Image.Image, size: tuple, colour: np.ndarray, reach: float) -> Image.Image:
        """The colour in light and shade, as if the mask (`half`: at half its size) were a cushion."""
        blur = max(1.0, reach / 4)
        height = np.asarray(half.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255
        down, right = np.gradient(height)
        shade = ((right * brush.light[0] + down * brush.light[1]) * -2.5 * blur).astype(np.float32)
        shade = np.asarray(Image.fromarray(shade).resize(size, Image.Resampling.BILINEAR))
        change = self.depth * shade
        if self.rough:
            cells = np.maximum(np.array(size[::-1]) // max(1.5, 0.05 * brush.unit), 1).astype(int) + 1
            lumps = Image.fromarray(brush.rng.standard_normal(cells, dtype=np.float32))
            change = change + self.rough * np.asarray(lumps.resize(size, Image.Resampling.BICUBIC))
        shine = 255 * self.gloss * np.maximum(shade - 0.25, 0)
        # channel by channel, because NumPy is slow over a last axis of 3
        channels = [value * (1 + tone * change) + shine for value, tone in zip(colour.tolist(), TONE, strict=True)]
        return Image.merge("RGB", [Image.fromarray(np.clip(each, 0, 255).astype(np.uint8)) for each in channels])


@dataclass(frozen=True, eq=False)
class Group:
    """Parts drawn at several places, with a tint and a size (or a range of sizes) of their own.

    The places are the points `at`, or `count` places (or a range) along this path or, with `fill`, all over the inside
    of this outline. `turn` varies by up to `swing`, and counts from the direction of the place if `outward`, from the
    photo's own if `upright`.
    """

    parts: Part
    at: np.ndarray | Sequence = ((0.0, 0.0),)
    count: int | tuple[int, int] = 0
    tint: str = ""
    size: float | tuple[float, float] = 1.0
    turn: float = 0.0
    swing: float = 0.0
    fill: bool = False
    outward: bool = False
    upright: bool = False

    def draw(self, brush: Brush) -> None:
        for place in self._places(brush.rng):
            turn = self.turn + brush.rng.uniform(-self.swing, self.swing) + (0 if self.upright else brush.turn)
            turn += np.rad2deg(np.arctan2(place[1], place[0])) if self.outward else 0
            unit = brush.unit * brush.rng.uniform(*np.broadcast_to(self.size, 2))
            tint = brush.mix(self.tint) if self.tint else brush.tint
            replace(brush, origin=brush.pixels(place), unit=unit, turn=turn, tint=tint).draw(self.parts)

    def _places(self, rng: np.random.Generator) -> np.ndarray:
        path = np.array(self.at)
        if not self.count:
            return path
        fewest, most = np.broadcast_to(self.count, 2)
        index = np.arange(rng.integers(fewest, most + 1))
        share, scale = (index + rng.uniform(0.4, 0.6, len(index))) / len(index), np.ones(len(index))
        if self.fill:  # like the seeds of a sunflower: evenly, but not in rows
            share, scale = (0.618 * index + rng.uniform(0, 0.1, len(index)) + rng.uniform()) % 1, np.sqrt(share)
        steps = np.arange(len(path))
        return np.stack([scale * np.interp(share * steps[-1], steps, column) for column in path.T], axis=1)
