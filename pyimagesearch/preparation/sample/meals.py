"""Meat, noodles, rice and soup: each public function draws one kind around the brush's origin."""

import numpy as np

from pyimagesearch.preparation.sample.brush import Brush, bend, moved, oval, scatter, smooth, wobbly
from pyimagesearch.preparation.sample.market import LEAF, leaf
from pyimagesearch.preparation.sample.table import board, bowl, cutlery, pan, plate


def _steak_outline(brush: Brush) -> np.ndarray:
    corners = [
        (-0.95, 0.1),
        (-0.75, -0.5),
        (-0.1, -0.55),
        (0.3, -0.7),
        (0.95, -0.35),
        (0.9, 0.3),
        (0.3, 0.6),
        (-0.5, 0.6),
    ]
    return smooth(np.array(corners) + brush.rng.normal(0, 0.06, (8, 2)))


def grilled_steak(brush: Brush) -> None:
    """A steak with a rim of fat and the marks of the grill."""
    (plate, board, pan)[brush.rng.integers(3)](brush)
    outline = _steak_outline(brush) * 0.98
    brush.solid(outline, brush.hue((232, 198, 156), (216, 176, 130)), puff=0.12, gloss=0.15, shadow=0.1)
    meat = np.array(brush.hue((126, 62, 44), (108, 50, 38), (144, 74, 54)), dtype=float)
    brush.solid(outline * 0.9, meat, puff=0.15, depth=0.35, rough=0.14, cell=0.05, gloss=0.12, shadow=0)
    inside = brush.at(0, 0, turn=brush.rng.uniform(-0.25, 0.25))
    for x in np.linspace(-0.45, 0.5, 6):
        half = 0.37 - 0.2 * abs(x)
        inside.line(np.array([(x - 0.12, -half), (x + 0.12, half)]), 0.075, meat * 0.36)
    leaf(brush.at(0.45, 0.5, turn=1), 0.2)
    leaf(brush.at(0.62, 0.42, turn=2.1), 0.2)


def raw_steak(brush: Brush) -> None:
    """A raw steak: red, veined with fat, with a bone shaped like a T in some."""
    (plate if brush.rng.uniform() < 0.35 else board)(brush)
    outline = _steak_outline(brush)
    fat = (246, 226, 208)
    brush.solid(outline, fat, puff=0.1, shadow=0.1)
    brush.solid(
        outline * 0.91,
        brush.hue((190, 34, 44), (170, 26, 38), (206, 60, 60)),
        puff=0.12,
        depth=0.3,
        rough=0.08,
        gloss=0.15,
        shadow=0,
    )
    for x, y in scatter(brush.rng, 26, 0.62, 0.12):
        length, turn = brush.rng.uniform(0.08, 0.24), brush.rng.normal(0.6, 0.7)
        vein = bend((-length, 0), (0, brush.rng.normal(0, 0.12)), (length, 0))
        brush.line(moved(vein, x, y * 0.7, turn), brush.rng.uniform(0.015, 0.045), (240, 190, 180))
    if brush.rng.uniform() < 0.5:
        brush.line(np.array([(-0.62, -0.3), (-0.3, 0.4)]), 0.12, fat)
        brush.line(np.array([(-0.46, 0.05), (0.3, -0.1)]), 0.1, fat)


def sausages(brush: Brush) -> None:
    """Fried sausages, scored and glossy."""
    (plate, board, pan)[brush.rng.integers(3)](brush)
    count = brush.rng.integers(3, 5)
    for y in np.linspace(-0.52, 0.52, count):
        x, sag = brush.rng.normal(0, 0.05), brush.rng.normal(0.12, 0.05)
        t = np.linspace(-1, 1, 24)
        spine = np.stack([0.75 * t, sag * (1 - t * t)], axis=1)
        width = 0.16 * np.sqrt(np.clip(1.03 - t**8, 0, 1))[:, None] * (0, 1)
        skin = np.array(brush.hue((150, 62, 40), (170, 78, 50), (128, 48, 34)), dtype=float)
        link = brush.at(x, y, turn=brush.rng.normal(0, 0.06))
        link.solid(
            np.vstack([spine - width, (spine + width)[::-1]]),
            skin,
            puff=0.2,
            depth=0.5,
            gloss=0.6,
            rough=0.05,
            shadow=0.09,
        )
        for cut in (5, 10, 15, 19):
            link.line(spine[cut] + np.array([(-0.04, -0.08), (0.04, 0.08)]), 0.045, skin * 0.5)


def _tangle(brush: Brush, colours: tuple, radius: float, width: float, count: int) -> None:
    """Long noodles in arcs over one another, the outer ones first."""
    for reach in np.linspace(radius, 0.12, count):
        around = brush.rng.uniform(0, 2 * np.pi)
        t = around + np.linspace(0, brush.rng.uniform(1.6, 4.0), 18)
        r = reach * (1 + 0.1 * np.sin(3 * t + brush.rng.uniform(0, 6)))
        x, y = brush.rng.normal(0, 0.1, 2) * (radius - reach + 0.2)
        brush.strand(np.stack([x + r * np.cos(t), y + r * np.sin(t)], axis=1), width, brush.hue(*colours, spread=5))


def spaghetti(brush: Brush) -> None:
    """A nest of spaghetti with tomato sauce and basil, or with green pesto."""
    plate(brush)
    brush.solid(wobbly(brush.rng, 0.84, 0.82, 0.04), (196, 146, 56), puff=0.2, rough=0.15, shadow=0.08)
    _tangle(brush, ((246, 212, 112), (240, 200, 92), (250, 222, 136)), 0.82, 0.062, 62)
    sauce = brush.hue((196, 40, 22), (176, 50, 26), (210, 66, 30))
    if brush.rng.uniform() < 0.7:
        brush.solid(wobbly(brush.rng, 0.4, 0.36, 0.12), sauce, puff=0.2, rough=0.2, gloss=0.3)
    if brush.rng.uniform() < 0.5:
        for x, y in scatter(brush.rng, 3, 0.3, 0.3):
            brush.solid(wobbly(brush.rng, 0.16, 0.16, 0.04, x, y), (116, 62, 34), puff=0.16, rough=0.2, gloss=0.2)
    for x, y in scatter(brush.rng, 3, 0.45, 0.15):
        leaf(brush.at(x, y, turn=brush.rng.uniform(0, 6)), 0.13)


def noodle_bowl(brush: Brush) -> None:
    """Combed noodles in a bowl, with greens and half an onion's rings, chopsticks across the rim."""
    bowl(brush, 1.08)
    inside = brush.at(0, 0, 0.9)
    inside.solid(oval(1.0, 1.0), (150, 96, 40), puff=0.15, depth=-0.3, shadow=0)
    colours = ((238, 196, 110), (226, 176, 84), (246, 212, 140))
    _tangle(inside, colours, 0.9, 0.075, 34)
    phase = brush.rng.uniform(0, 6)
    for y in brush.rng.permutation(np.linspace(-0.6, 0.6, 17)):
        t = np.linspace(-1, 1, 24) * np.sqrt(0.8 - y * y)
        wave = y + 0.07 * np.sin(4.5 * t + phase) + 0.02 * brush.rng.normal()
        inside.strand(np.stack([t, wave], axis=1), 0.075, brush.hue(*colours, spread=5))
    for x, y in scatter(brush.rng, 9, 0.7, 0.15):
        inside.line(oval(0.06, 0.06, x, y), 0.03, brush.hue((110, 180, 70), (80, 150, 60)))
    cutlery(brush.at(0.25, 0.3, 1.0, 0.5), "chopsticks")


def _grains(brush: Brush, radius: float, count: int, colours: tuple) -> None:
    """Grains of rice heaped within `radius`, lying in all directions."""
    for x, y in scatter(brush.rng, count, radius):
        turn = brush.rng.uniform(0, np.pi)
        brush.strand(
            moved(np.array([(-0.05, 0), (0.05, 0)]), x, y, turn), 0.062, brush.hue(*colours, spread=3), edge=0.78
        )


def rice_bowl(brush: Brush) -> None:
    """Plain white rice heaped in a bowl, with sesame or a pickled plum, chopsticks beside it."""
    bowl(brush)
    white = ((250, 248, 240), (244, 240, 228), (255, 253, 248))
    brush.solid(wobbly(brush.rng, 0.84, 0.84, 0.02), (214, 208, 194), puff=0.5, depth=0.3, shadow=0.03)
    _grains(brush, 0.8, 340, white)
    if brush.rng.uniform() < 0.5:
        brush.solid(oval(0.17, 0.16), (188, 40, 62), puff=0.16, gloss=0.3, rough=0.1)
    else:
        for x, y in scatter(brush.rng, 30, 0.6):
            brush.line(moved(np.array([(-0.012, 0), (0.012, 0)]), x, y, x * 9), 0.028, (40, 34, 30))
    cutlery(brush.at(0.62, 0.75, 1.0, -0.5), "chopsticks")


def fried_rice(brush: Brush) -> None:
    """Rice fried with peas, carrots and sweetcorn, on a plate."""
    plate(brush)
    brush.solid(wobbly(brush.rng, 0.84, 0.76, 0.05), (176, 140, 84), puff=0.3, depth=0.3, shadow=0.08)
    _grains(brush, 0.76, 320, ((246, 230, 186), (238, 214, 158), (250, 240, 210)))
    for x, y in scatter(brush.rng, 26, 0.7, 0.13):
        if brush.rng.uniform() < 0.5:
            brush.solid(oval(0.055, 0.055, x, y), brush.hue((90, 170, 60)), puff=0.05, gloss=0.2, shadow=0.02)
        else:
            cube = moved(np.array([(-0.05, -0.05), (0.05, -0.05), (0.05, 0.05), (-0.05, 0.05)]), x, y, x * 9)
            brush.solid(cube, brush.hue((240, 120, 30)), puff=0.03, shadow=0.02)


def onigiri(brush: Brush) -> None:
    """Two or three rice triangles, each held by a strip of seaweed."""
    (plate if brush.rng.uniform() < 0.5 else board)(brush)
    count = brush.rng.integers(2, 4)
    for i in range(count):
        angle = 2 * np.pi * i / count
        ball = brush.at(0.52 * np.cos(angle), 0.46 * np.sin(angle), 0.62, -brush.turn + brush.rng.normal(0, 0.35))
        triangle = smooth([(-0.95, 0.75), (-0.2, -0.85), (0.2, -0.85), (0.95, 0.75)])
        ball.solid(triangle * 1.08, (228, 225, 214), puff=0.2, depth=0.3, shadow=0.14)
        for x, y in scatter(brush.rng, 280, 0.95):
            if abs(x) < 0.72 - 0.55 * (0.7 - y) / 1.5 and -0.62 < y < 0.68:
                ends = moved(np.array([(-0.06, 0), (0.06, 0)]), x, y, brush.rng.uniform(0, np.pi))
                ball.strand(ends, 0.085, brush.hue((252, 250, 244), (246, 242, 232), spread=3), edge=0.8)
        ball.solid(
            np.array([(-0.3, 0.1), (0.3, 0.1), (0.32, 0.78), (-0.32, 0.78)]),
            (30, 44, 36),
            puff=0.08,
            rough=0.15,
            cell=0.05,
        )


def _liquid(brush: Brush, colour: tuple) -> None:
    bowl(brush, 1.05)
    if brush.rng.uniform() < 0.4:
        cutlery(brush.at(0.75, 0.62, 0.9, 0.6), "spoon")
    brush.solid(oval(0.88, 0.88), colour, puff=0.14, depth=-0.35, rough=0.02, cell=0.3, shadow=0)


def cream_soup(brush: Brush) -> None:
    """Tomato, pumpkin, pea or beetroot soup with a swirl of cream, croutons and herbs."""
    _liquid(brush, brush.hue((208, 62, 30), (230, 140, 34), (130, 160, 56), (168, 34, 78)))
    t = np.linspace(0.5, brush.rng.uniform(9, 13), 70)
    brush.line(np.stack([0.05 * t * np.cos(t), 0.05 * t * np.sin(t)], axis=1), 0.055, (252, 238, 214))
    for x, y in scatter(brush.rng, 6, 0.55, 0.2):
        crouton = moved(np.array([(-0.08, -0.08), (0.08, -0.08), (0.08, 0.08), (-0.08, 0.08)]), x, y, x * 9)
        brush.solid(crouton, brush.hue((214, 160, 86)), puff=0.05, rough=0.12, shadow=0.05)
    for x, y in scatter(brush.rng, 20, 0.7, 0.08):
        brush.fill(oval(0.028, 0.016, x, y, x * 9), brush.hue(*LEAF))


def _dumpling(brush: Brush) -> None:
    brush.solid(
        smooth([(-0.2, 0.02), (-0.1, -0.13), (0.1, -0.13), (0.2, 0.02), (0, 0.12)]),
        (238, 210, 156),
        puff=0.1,
        shadow=0.03,
    )
    for x in (-0.09, -0.03, 0.03, 0.09):
        brush.line(np.array([(x * 0.8, 0.0), (x * 1.2, 0.07)]), 0.018, (186, 142, 84))


def broth(brush: Brush) -> None:
    """A clear soup with carrot discs, dumplings, leek rings and drops of fat afloat."""
    amber = np.array(brush.hue((222, 158, 44), (206, 124, 36), (180, 48, 52), (226, 178, 70)), dtype=float)
    _liquid(brush, tuple(amber))
    for x, y in scatter(brush.rng, 34, 0.78, 0.07):
        brush.line(oval(*[brush.rng.uniform(0.02, 0.05)] * 2, x, y), 0.012, np.minimum(amber * 1.35, 255))
    for x, y in scatter(brush.rng, 13, 0.68, 0.24):
        kind = brush.rng.integers(3)
        if kind == 0:
            brush.solid(oval(0.12, 0.11, x, y), brush.hue((244, 126, 34)), puff=0.05, shadow=0.03)
            brush.fill(oval(0.05, 0.045, x, y), (250, 160, 70))
        elif kind == 1:
            _dumpling(brush.at(x, y, turn=brush.rng.uniform(0, 2 * np.pi)))
        else:
            brush.line(oval(0.07, 0.07, x, y), 0.035, brush.hue((130, 190, 80), (100, 170, 70)))
