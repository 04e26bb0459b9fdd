"""What food stands on, and the light it stands in: tables, plates, bowls, boards, pans, chopsticks; lamp and lens."""

import numpy as np
from PIL import Image

from pyimagesearch.preparation.sample.brush import Brush, noise, oval, smooth

WOOD = ((150, 100, 62), (112, 74, 48), (196, 154, 108), (92, 62, 46), (176, 128, 92))
CLOTH = ((196, 58, 56), (70, 106, 168), (84, 140, 98), (214, 160, 70), (128, 92, 150), (96, 104, 116))
STONE = (
    (70, 74, 80),
    (206, 202, 196),
    (110, 134, 140),
    (148, 168, 160),
    (170, 150, 160),
    (52, 62, 84),
    (222, 206, 180),
)
CHINA = (
    (242, 242, 238),
    (236, 240, 244),
    (246, 240, 226),
    (122, 158, 190),
    (64, 78, 96),
    (196, 120, 96),
    (150, 178, 150),
)


def table(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A bare table seen from above: wood, cloth or stone; an RGB image."""
    pixels = (_wood, _cloth, _stone)[rng.integers(3)](rng, width, height)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _wood(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    upright = rng.uniform() < 0.5
    if upright:
        width, height = height, width
    grain = 0.07 * noise(rng, width, height, 2.5, stretch=30) + 0.07 * noise(rng, width, height, 14, stretch=12)
    rows, plank = np.arange(height), rng.uniform(40, 90)
    planks = (rows / plank + rng.uniform()).astype(int)
    lightness = 1 + grain + 0.06 * rng.standard_normal(planks.max() + 1)[planks][:, None]
    lightness[np.flatnonzero(np.diff(planks))] *= 0.55
    boards = lightness[:, :, None] * np.array(WOOD[rng.integers(len(WOOD))])
    return boards.transpose(1, 0, 2) if upright else boards


def _cloth(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Gingham, or stripes where only one of the two directions is woven in colour."""
    colour, ground = np.array(CLOTH[rng.integers(len(CLOTH))]), np.array((240, 236, 228))
    y, x = np.mgrid[:height, :width]
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(11, 26)
    across = ((x * np.cos(turn) + y * np.sin(turn)) // pitch) % 2
    along = ((y * np.cos(turn) - x * np.sin(turn)) // pitch) % 2
    share = (across + along) / 2 if rng.uniform() < 0.6 else across * 0.8
    weave = 1 + 0.04 * rng.standard_normal((height, width))
    return (ground + (colour - ground) * share[:, :, None]) * weave[:, :, None]


def _stone(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    clouds = (
        0.05 * noise(rng, width, height, 40) + 0.04 * noise(rng, width, height, 9) + 0.02 * noise(rng, width, height, 2)
    )
    return (1 + clouds)[:, :, None] * np.array(STONE[rng.integers(len(STONE))])


def photograph(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """`image` as a camera sees it: light that falls off to one side, a warm or cold lamp, exposure, noise."""
    pixels = np.asarray(image, dtype=np.float32)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    falloff = 1 + rng.uniform(0, 0.16) * (x * np.cos(turn) + y * np.sin(turn)) - rng.uniform(0, 0.12) * (x * x + y * y)
    warmth = rng.normal(0, 0.03)
    lamp = rng.uniform(0.86, 1.1) * np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
    grain = rng.uniform(1, 4) * rng.standard_normal((height, width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(pixels * falloff[:, :, None] * lamp + grain, 0, 255).astype(np.uint8))


def plate(brush: Brush, radius: float = 1.12) -> None:
    """A round plate with a rim."""
    china = brush.hue(*CHINA, spread=4)
    brush.solid(oval(radius, radius), china, puff=0.12, depth=0.22, shadow=0.09)
    if brush.rng.uniform() < 0.4:
        ring = oval(radius * 0.93, radius * 0.93)
        brush.line(np.vstack([ring, ring[:1]]), 0.025, brush.hue(*CLOTH))
    brush.solid(oval(radius * 0.74, radius * 0.74), np.array(china) * 0.97, puff=0.1, depth=-0.22, shadow=0)


def bowl(brush: Brush, radius: float = 1.0) -> None:
    """A deep round bowl seen from above; what is in it fills 0.84 of its radius."""
    china = brush.hue(*CHINA, *CLOTH, spread=6)
    brush.solid(oval(radius, radius), china, puff=0.1, depth=0.35, shadow=0.14)
    brush.solid(oval(radius * 0.9, radius * 0.9), np.array(china) * 0.72, puff=0.2, depth=-0.5, shadow=0)


def board(brush: Brush) -> None:
    """A wooden cutting board with a handle."""
    wood = brush.hue((206, 164, 112), (170, 120, 78), (226, 190, 140))
    corners = [
        (-1.15, -0.8),
        (1.1, -0.8),
        (1.1, -0.16),
        (1.42, -0.16),
        (1.42, 0.16),
        (1.1, 0.16),
        (1.1, 0.8),
        (-1.15, 0.8),
    ]
    brush.solid(smooth(np.repeat(corners, 2, axis=0)), wood, puff=0.05, depth=0.3, rough=0.03, cell=0.05, shadow=0.08)
    for y in brush.rng.uniform(-0.7, 0.7, 7):
        brush.line(np.array([(-1.05, y), (1.0, y)]), 0.012, np.array(wood) * 0.86)
    brush.fill(oval(0.06, 0.06, 1.28), np.array(wood) * 0.4)


def pan(brush: Brush) -> None:
    """A black frying pan."""
    iron = brush.hue((48, 48, 52), (62, 56, 54), spread=4)
    brush.solid(
        smooth([(0.8, -0.14), (2.2, -0.1), (2.2, 0.1), (0.8, 0.14)]), np.array(iron) * 0.9, puff=0.1, shadow=0.1
    )
    brush.solid(oval(1.12, 1.12), np.array(iron) * 1.25, puff=0.08, depth=0.5, shadow=0.12)
    brush.solid(oval(1.0, 1.0), iron, puff=0.2, depth=-0.5, rough=0.04, shadow=0)


def cutlery(brush: Brush, kind: str) -> None:
    """A spoon, or a pair of chopsticks, lying beside the middle from the upper left to the lower right."""
    if kind == "spoon":
        metal = (190, 192, 198)
        brush.solid(smooth([(0, -0.05), (1.2, -0.035), (1.2, 0.035), (0, 0.05)]), metal, puff=0.06, gloss=0.4)
        brush.solid(oval(0.26, 0.17, -0.15), metal, puff=0.16, depth=-0.5, gloss=0.4)
        return
    wood = brush.hue((150, 60, 40), (60, 44, 40), (196, 150, 100))
    for y, slope in ((-0.07, 0.03), (0.07, -0.05)):
        stick = np.array([(-1.3, y - 0.02), (1.3, y + slope - 0.035), (1.3, y + slope + 0.035), (-1.3, y + 0.02)])
        brush.solid(stick, wood, puff=0.04, shadow=0.06)
