"""Seafood, vegetables and fruit: each public function draws one kind around the brush's origin."""

import numpy as np

from pyimagesearch.preparation.sample.brush import Brush, bend, moved, oval, scatter, smooth, wobbly
from pyimagesearch.preparation.sample.table import board, pan, plate

LEAF = ((64, 132, 48), (84, 152, 58), (48, 106, 46))


def leaf(brush: Brush, size: float) -> None:
    """A leaf of basil or parsley, `size` from the middle to its tip."""
    brush.solid(
        smooth([(0, -size), (size * 0.5, 0), (0, size), (-size * 0.5, 0)], 2), brush.hue(*LEAF), puff=0.05, shadow=0.03
    )
    brush.line(np.array([(0, -size * 0.6), (0, size * 0.6)]), 0.015, (150, 190, 110))


def _lemon(brush: Brush, radius: float) -> None:
    brush.solid(oval(radius, radius), (250, 210, 40), puff=0.04, shadow=0.05)
    brush.fill(oval(radius * 0.86, radius * 0.86), (253, 246, 200))
    for angle in np.arange(8) * np.pi / 4:
        segment = np.array([(0.1, 0), (0.76, -0.26), (0.82, 0), (0.76, 0.26)]) * radius
        brush.fill(moved(segment, 0, 0, angle), (252, 226, 90))


def fish(brush: Brush) -> None:
    """A whole fish with scales, fins and a round eye, and slices of lemon."""
    (plate, board)[brush.rng.integers(2)](brush.at(0, 0, 1.08))
    skin = np.array(brush.hue((132, 158, 178), (104, 140, 170), (124, 164, 184)), dtype=float)
    for x in (-0.55, 0.0, 0.45):
        _lemon(brush.at(x, 0.48 * (-1) ** brush.rng.integers(2)), 0.22)
    tail = [(0.7, 0), (1.2, -0.42), (1.08, 0), (1.2, 0.42)]
    brush.solid(smooth(np.repeat(tail, 2, axis=0)), skin * 0.75, puff=0.06)
    brush.solid(smooth([(-0.3, -0.25), (0.1, -0.62), (0.5, -0.5), (0.45, -0.15)]), skin * 0.72, puff=0.06)
    body = smooth(
        [
            (-1.1, 0.02),
            (-0.8, -0.3),
            (-0.1, -0.46),
            (0.55, -0.22),
            (0.85, -0.08),
            (0.85, 0.08),
            (0.55, 0.22),
            (-0.1, 0.42),
            (-0.8, 0.28),
        ]
    )
    brush.solid(body, skin, puff=0.35, depth=0.4, gloss=0.35, shadow=0.1)
    for x in np.arange(-0.42, 0.62, 0.13):
        half = 0.34 * (1 - 0.75 * max(0.0, x))
        for y in np.arange(-half, half + 0.01, 0.125) + (0.06 if round(x / 0.13) % 2 else 0):
            brush.line(bend((x, y - 0.06), (x + 0.1, y), (x, y + 0.06)), 0.02, skin * 0.68)
    brush.line(bend((-0.55, -0.3), (-0.38, 0), (-0.55, 0.28)), 0.035, skin * 0.6)
    brush.solid(smooth([(-0.35, 0.05), (0.02, 0.0), (0.0, 0.2), (-0.3, 0.16)]), skin * 0.8, puff=0.05, shadow=0.03)
    brush.solid(oval(0.085, 0.085, -0.78, -0.07), (250, 248, 230), puff=0.04, shadow=0)
    brush.fill(oval(0.05, 0.05, -0.78, -0.07), (20, 20, 24))
    brush.line(bend((-1.02, 0.08), (-0.95, 0.1), (-0.86, 0.14)), 0.025, skin * 0.5)


def _prawn(brush: Brush) -> None:
    """A prawn curled around the origin."""
    pink = np.array(brush.hue((248, 132, 88), (240, 112, 72), (252, 150, 110)), dtype=float)
    for turn in (-0.35, 0.0, 0.35):
        fan = moved(smooth([(0, -0.05), (0.26, -0.11), (0.36, 0), (0.26, 0.11), (0, 0.05)]), -0.36, -0.34, 2.55 + turn)
        brush.solid(fan, pink * 0.86, puff=0.05)
    t = np.linspace(-2.4, 1.75, 60)[:, None]
    ray = np.hstack([np.cos(t), np.sin(t)])
    half = np.interp(t, (-2.4, -0.6, 0.7, 1.3, 1.75), (0.07, 0.17, 0.2, 0.13, 0.01))
    for leg in range(26, 50, 4):
        brush.line(bend(ray[leg] * 0.36, ray[leg] * 0.2, ray[leg - 4] * 0.12), 0.028, pink * 0.78)
    for sweep in (0.1, 0.4):
        brush.line(bend(ray[-1] * 0.5, (-0.55, 0.85), (-1.0, 0.2 + sweep)), 0.024, pink * 0.75)
    body = np.vstack([ray * (0.5 + half), (ray * (0.5 - half))[::-1]])
    brush.solid(body, pink, puff=0.24, depth=0.5, gloss=0.3, shadow=0.08)
    for ring in range(4, 44, 6):
        inner, outer = ray[ring] * (0.5 - half[ring]), ray[ring] * (0.5 + half[ring])
        brush.line(bend(inner, ray[ring + 3] * 0.54, outer), 0.055, np.minimum(pink * 1.25 + 12, 255))
        brush.line(bend(inner, ray[ring + 3] * 0.5, outer), 0.022, pink * 0.76)
    brush.fill(oval(0.036, 0.036, *(ray[52] * 0.55)), (24, 16, 20))


def prawns(brush: Brush) -> None:
    """Curled prawns with lemon and parsley."""
    (plate, plate, pan, board)[brush.rng.integers(4)](brush)
    spots = (
        [(0, 0, 1.15)],
        [(-0.42, -0.28, 0.75), (0.42, 0.25, 0.75)],
        [(-0.42, -0.38, 0.66), (0.46, -0.3, 0.66), (0.0, 0.45, 0.66)],
    )
    layout = spots[brush.rng.integers(3)]
    _lemon(brush.at(0.5, -0.5 if len(layout) < 3 else 0.55), 0.26)
    leaf(brush.at(-0.62, 0.45, turn=1.0), 0.2)
    for x, y, size in layout:
        _prawn(brush.at(x, y, size, brush.rng.uniform(0, 6.3)))


def crab(brush: Brush) -> None:
    """A red crab from above, claws raised, with lemon."""
    (plate if brush.rng.uniform() < 0.5 else board)(brush.at(0, 0, 1.05))
    _lemon(brush.at(-0.02, -0.78), 0.22)
    _lemon(brush.at(0.0, 0.68), 0.24)
    red = np.array(brush.hue((220, 62, 36), (232, 84, 44), (200, 48, 40)), dtype=float)
    for side in (-1, 1):
        for i, spread in enumerate((-0.25, 0.12, 0.45, 0.75)):
            knee = (side * (0.92 - 0.06 * i), spread * 0.8 - 0.12)
            brush.strand(
                np.array([(side * 0.45, spread * 0.4 + 0.1), knee, (side * (1.05 - 0.12 * i), spread + 0.2)]),
                0.1,
                red * 0.9,
            )
        brush.strand(np.array([(side * 0.45, -0.1), (side * 0.82, -0.42), (side * 0.62, -0.62)]), 0.15, red)
        claw = smooth(
            [(0.05, 0.1), (0.26, -0.2), (0.12, -0.55), (0.06, -0.28), (-0.02, -0.28), (-0.12, -0.5), (-0.2, -0.15)]
        )
        brush.solid(claw * (side, 1) + (side * 0.56, -0.62), red, puff=0.14, depth=0.4, gloss=0.3)
    brush.solid(
        smooth([(-0.62, -0.1), (-0.3, -0.36), (0.3, -0.36), (0.62, -0.1), (0.4, 0.42), (-0.4, 0.42)]),
        red,
        puff=0.3,
        depth=0.45,
        gloss=0.35,
        rough=0.06,
        shadow=0.1,
    )
    for x, y in scatter(brush.rng, 12, 0.3, 0.12):
        brush.fill(oval(0.025, 0.025, x * 1.3, y + 0.02), np.minimum(red * 1.35, 255))
    for x in (-0.16, 0.16):
        brush.strand(np.array([(x, -0.28), (x, -0.42)]), 0.06, red)
        brush.solid(oval(0.065, 0.065, x, -0.45), (24, 20, 22), puff=0.05, gloss=0.6, shadow=0)


def _carrot(brush: Brush) -> None:
    for turn in (-0.5, -0.15, 0.2, 0.5):
        brush.strand(moved(bend((0, 0), (0.2, 0.03), (0.42, 0.0)), 0.52, 0, turn), 0.05, brush.hue(*LEAF))
    orange = np.array(brush.hue((242, 122, 30), (232, 104, 24)), dtype=float)
    brush.solid(
        smooth([(-0.85, 0), (-0.4, -0.11), (0.3, -0.21), (0.58, -0.18), (0.58, 0.18), (0.3, 0.21), (-0.4, 0.11)]),
        orange,
        puff=0.2,
        depth=0.4,
        gloss=0.15,
        shadow=0.08,
    )
    for x in (-0.45, -0.2, 0.05, 0.3):
        side = brush.rng.choice((-1, 1))
        brush.line(bend((x, side * 0.14), (x + 0.02, side * 0.06), (x, side * 0.02)), 0.022, orange * 0.72)


def _broccoli(brush: Brush) -> None:
    brush.solid(smooth([(-0.14, 0), (0.14, 0), (0.16, 0.62), (-0.16, 0.62)]), (150, 184, 96), puff=0.14, shadow=0.08)
    green = brush.hue((56, 122, 48), (44, 104, 44))
    for x, y, size in (
        (-0.34, -0.05, 0.27),
        (0.34, -0.05, 0.27),
        (0, -0.02, 0.28),
        (-0.2, -0.32, 0.27),
        (0.22, -0.32, 0.27),
        (0, -0.2, 0.3),
    ):
        brush.solid(
            wobbly(brush.rng, size, size, 0.06, x, y), green, puff=0.2, depth=0.5, rough=0.3, cell=0.045, shadow=0.05
        )


def _apple(brush: Brush) -> None:
    body = smooth(
        [
            (0, -0.38),
            (0.35, -0.5),
            (0.6, -0.15),
            (0.45, 0.42),
            (0.12, 0.55),
            (0, 0.48),
            (-0.12, 0.55),
            (-0.45, 0.42),
            (-0.6, -0.15),
            (-0.35, -0.5),
        ]
    )
    brush.solid(
        body, brush.hue((206, 30, 38), (130, 186, 50), (222, 60, 44)), puff=0.45, depth=0.4, gloss=0.45, shadow=0.1
    )
    brush.solid(oval(0.14, 0.05, 0, -0.38), (70, 60, 20), puff=0.05, shadow=0)
    brush.line(bend((0, -0.36), (0.0, -0.55), (0.1, -0.66)), 0.05, (94, 62, 36))
    leaf(brush.at(0.2, -0.6, turn=1.2), 0.18)


def _tomato(brush: Brush) -> None:
    brush.solid(
        wobbly(brush.rng, 0.5, 0.48, 0.015), brush.hue((220, 44, 30), (230, 70, 36)), puff=0.45, gloss=0.5, shadow=0.1
    )
    for turn in np.arange(5) * 2 * np.pi / 5:
        brush.fill(moved(np.array([(0, -0.06), (0.27, 0), (0, 0.06)]), 0, 0, turn), (60, 124, 44))


def _cucumber(brush: Brush) -> None:
    for x in (-0.3, 0.0, 0.3):
        piece = brush.at(x, 0.12 * np.sin(x * 9))
        piece.solid(oval(0.36, 0.36), (52, 116, 50), puff=0.05, shadow=0.06)
        piece.fill(oval(0.315, 0.315), (196, 222, 140))
        piece.fill(oval(0.2, 0.2), (218, 234, 172))
        for turn in np.arange(9) * 2 * np.pi / 9:
            piece.fill(moved(oval(0.035, 0.016, 0.13), 0, 0, turn), (244, 244, 210))


def _strawberry(brush: Brush) -> None:
    body = smooth([(-0.2, -0.36), (0.2, -0.36), (0.42, -0.1), (0.12, 0.48), (-0.12, 0.48), (-0.42, -0.1)])
    brush.solid(body, brush.hue((216, 28, 44)), puff=0.3, gloss=0.35, shadow=0.08)
    for x, y in scatter(brush.rng, 22, 0.33, 0.1):
        brush.fill(oval(0.014, 0.024, x * (0.9 - y * 0.7), y), (250, 214, 110))
    for turn in (-2.6, -2.0, -1.2, -0.5):
        brush.at(0, -0.32).fill(moved(np.array([(0, -0.07), (0.26, 0), (0, 0.07)]), 0, 0, turn), (70, 140, 50))


def _banana(brush: Brush) -> None:
    yellow = np.array(brush.hue((250, 210, 60), (240, 200, 50)), dtype=float)
    upper, lower = bend((-0.8, -0.3), (0, 0.28), (0.8, -0.3)), bend((0.82, -0.24), (0, 0.85), (-0.82, -0.24))
    brush.solid(np.vstack([upper, lower]), yellow, puff=0.2, depth=0.35, shadow=0.08)
    brush.line(bend((-0.8, -0.27), (0, 0.52), (0.8, -0.27)), 0.02, yellow * 0.82)
    for x in (-0.82, 0.82):
        brush.line(np.array([(x, -0.28), (x * 1.06, -0.38)]), 0.08, (100, 76, 30))


def harvest(brush: Brush) -> None:
    """Four or five vegetables and fruits side by side."""
    if brush.rng.uniform() < 0.5:
        (plate if brush.rng.uniform() < 0.5 else board)(brush)
    kinds = (_carrot, _broccoli, _apple, _tomato, _cucumber, _strawberry, _banana)
    spots = ((0, -0.6), (0.66, 0), (-0.66, 0), (0, 0.6), (0, 0))[: brush.rng.integers(4, 6)]
    for (x, y), kind in zip(spots, brush.rng.permutation(len(kinds)), strict=False):
        kinds[kind](brush.at(x, y, brush.rng.uniform(0.58, 0.72), brush.rng.normal(0, 0.5)))


def one_kind(brush: Brush) -> None:
    """Two to four vegetables or fruits of the same kind."""
    if brush.rng.uniform() < 0.5:
        (plate if brush.rng.uniform() < 0.5 else board)(brush)
    kind = (_carrot, _broccoli, _apple, _tomato, _strawberry, _banana)[brush.rng.integers(6)]
    count, start = brush.rng.integers(2, 5), brush.rng.uniform(0, 2 * np.pi)
    for angle in start + np.arange(count) * 2 * np.pi / count:
        kind(brush.at(0.52 * np.cos(angle), 0.52 * np.sin(angle), 1.1 - 0.1 * count, brush.rng.normal(0, 0.5)))
