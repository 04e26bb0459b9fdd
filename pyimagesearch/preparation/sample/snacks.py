"""Bread, dairy products, desserts, eggs, fried food: each public function draws one kind around the brush's origin."""

import numpy as np

from pyimagesearch.preparation.sample.brush import Brush, Colour, bend, moved, oval, scaled, scatter, smooth, wobbly
from pyimagesearch.preparation.sample.table import board, pan, plate

CREAM = (252, 246, 232)
GREENS = ((70, 130, 50), (52, 110, 44))


def _server(brush: Brush) -> None:
    """Under the food: a plate, a board, or nothing but the table."""
    kind = brush.rng.integers(3)
    if kind == 0:
        plate(brush)
    elif kind == 1:
        board(brush)


def _crumbs(brush: Brush, colour: Colour, count: int = 25) -> None:
    for x, y in scatter(brush.rng, count, 1.15):
        brush.fill(oval(0.02, 0.014, x, y, x * 9), colour)


def _crust(brush: Brush, outline: np.ndarray, cuts: list[np.ndarray]) -> None:
    """A baked body of bread with `cuts`: where the knife went, the crumb shows pale between dark edges."""
    brush.solid(
        outline, brush.hue((186, 112, 48), (166, 94, 40), (202, 134, 64)), puff=0.4, depth=0.5, rough=0.1, gloss=0.1
    )
    for cut in cuts:
        brush.fill(cut, (120, 62, 26))
        middle = cut.mean(axis=0)
        brush.solid(middle + (cut - middle) * (0.93, 0.72), (240, 208, 150), puff=0.06, rough=0.1, shadow=0)


def loaf(brush: Brush) -> None:
    """A farmhouse loaf, slashed across and dusted with flour."""
    _server(brush)
    cuts = [oval(0.36, 0.075, x, 0, np.pi / 2 + 0.35) for x in np.linspace(-0.55, 0.55, brush.rng.integers(3, 5))]
    _crust(brush, wobbly(brush.rng, 1.0, 0.6, 0.02), cuts)
    for x, y in scatter(brush.rng, 110, 0.55):
        brush.fill(oval(0.014, 0.014, x * 1.6, y * 0.95), (250, 236, 210))
    _crumbs(brush, (226, 190, 130))


def baguettes(brush: Brush) -> None:
    """Two or three long loaves with slanted cuts."""
    _server(brush)
    count = brush.rng.integers(2, 4)
    for y in np.linspace(-0.48, 0.48, count):
        stick = brush.at(brush.rng.normal(0, 0.06), y, turn=brush.rng.normal(0, 0.06))
        cuts = [oval(0.17, 0.04, x, 0, 0.7) for x in np.linspace(-0.8, 0.8, 6)]
        _crust(stick, wobbly(brush.rng, 1.12, 0.2, 0.015), cuts)
    _crumbs(brush, (226, 190, 130))


def slices(brush: Brush) -> None:
    """Slices of tin loaf: a brown crust around a pale crumb full of pores."""
    _server(brush)
    corners = [
        (-0.5, 0.6),
        (-0.5, -0.1),
        (-0.68, -0.3),
        (-0.5, -0.64),
        (0, -0.7),
        (0.5, -0.64),
        (0.68, -0.3),
        (0.5, -0.1),
    ]
    outline = smooth([(0.5, 0.6), *((x, y) for x, y in reversed(corners)), (-0.5, 0.6)])
    crumb = brush.hue((246, 226, 182), (230, 200, 150))
    for x in np.linspace(-0.42, 0.42, brush.rng.integers(2, 4)):
        piece = brush.at(x, brush.rng.normal(0, 0.08), 0.95, brush.rng.normal(0, 0.2))
        piece.solid(outline, brush.hue((168, 98, 44)), puff=0.08, shadow=0.1)
        piece.solid(outline * 0.89, crumb, puff=0.1, depth=-0.08, rough=0.025, cell=0.06, shadow=0)
        for px, py in scatter(brush.rng, 45, 0.5):
            piece.fill(oval(*brush.rng.uniform(0.01, 0.035, 2), px, py), scaled(crumb, 0.86))
    _crumbs(brush, (226, 190, 130))


def cheese(brush: Brush) -> None:
    """A wedge of hard cheese with holes, seen from the front."""
    _server(brush)
    brush = brush.at(0, -0.05, turn=-brush.turn + brush.rng.normal(0, 0.3))
    yellow = np.array(brush.hue((252, 204, 70), (246, 182, 54), (255, 216, 104), spread=4), dtype=float)
    left, right, back, drop = (-1.0, 0.12), (0.95, 0.02), (0.45, -0.52), np.array((0, 0.55))
    front = np.array([left, right, right + drop, left + drop])
    brush.solid(front, yellow * 0.93, puff=0.04, depth=0.2, shadow=0.16)
    brush.solid(np.array([left, back, right]), yellow * 1.06, puff=0.03, depth=0.2, shadow=0)
    brush.line(np.array([right, right + drop]), 0.05, (214, 130, 40))
    brush.line(np.array([back, right]), 0.045, (226, 146, 50))
    for x, y in scatter(brush.rng, 9, 0.8, 0.3):
        size = brush.rng.uniform(0.06, 0.13)
        if abs(y) * 0.55 < 0.3 - size and abs(x) < 0.8:
            brush.solid(oval(size, size, x, 0.34 + y * 0.4), yellow * 0.72, puff=0.08, depth=-0.5, shadow=0)
    for x, y in ((0.1, -0.2), (0.5, -0.2), (-0.4, -0.03), (0.62, -0.06)):
        brush.solid(oval(0.09, 0.045, x, y), yellow * 0.76, puff=0.05, depth=-0.5, shadow=0)


def milk(brush: Brush) -> None:
    """A glass and a bottle of milk, standing."""
    brush = brush.at(0, 0.08, 0.88, -brush.turn + brush.rng.normal(0, 0.15))
    bottle = [
        (-0.12, -1.1),
        (0.12, -1.1),
        (0.12, -0.75),
        (0.3, -0.45),
        (0.32, 1.0),
        (-0.32, 1.0),
        (-0.3, -0.45),
        (-0.12, -0.75),
    ]
    _vessel(brush.at(-0.45, -0.05), smooth(np.repeat(bottle, 2, axis=0)), level=-0.5)
    brush.at(-0.45, -0.05).solid(
        smooth([(-0.17, -1.2), (0.17, -1.2), (0.17, -1.0), (-0.17, -1.0)]), brush.hue((60, 120, 200), (200, 50, 50))
    )
    glass = [(-0.4, -0.5), (0.4, -0.5), (0.32, 0.8), (-0.32, 0.8)]
    _vessel(brush.at(0.5, 0.2), smooth(np.repeat(glass, 3, axis=0)), level=-0.32)


def _vessel(brush: Brush, outline: np.ndarray, level: float) -> None:
    """Blue glass of the shape `outline`, full of milk up to y = `level`."""
    brush.solid(outline, (168, 200, 222), puff=0.1, depth=0.3, shadow=0.14)
    inside = outline * (0.88, 0.95)
    inside[:, 1] = np.maximum(inside[:, 1], level)
    brush.solid(inside, (250, 250, 246), puff=0.16, depth=0.14, shadow=0)
    width = np.abs(inside[:, 0]).max()
    brush.fill(oval(width * 0.96, 0.05, 0, level), (255, 255, 255))
    brush.line(np.array([(width * 0.62, level + 0.2), (width * 0.58, 0.5)]), 0.05, (255, 255, 255))


def camembert(brush: Brush) -> None:
    """A round of soft cheese with its white rind, one wedge cut and drawn out."""
    _server(brush)
    paste, rind = (248, 214, 96), (246, 240, 222)
    for first, last, x in ((0.45, 2 * np.pi - 0.45, 0.0), (-0.36, 0.36, 0.3)):
        t = np.linspace(first, last, 60)
        piece = np.vstack([[(0, 0)], 0.85 * np.stack([np.cos(t), np.sin(t)], axis=1)])
        part = brush.at(x, 0)
        part.at(0, 0.09).solid(piece, paste, puff=0.04, shadow=0.14)
        part.solid(piece, rind, puff=0.06, depth=0.16, rough=0.02, cell=0.06, shadow=0)
        part.line(piece[[1, 0, -1]], 0.07, paste)


def cake(brush: Brush) -> None:
    """A slice of layer cake with frosting and a cherry, from the side."""
    plate(brush)
    brush = brush.at(0, 0.05, turn=-brush.turn + brush.rng.normal(0, 0.25))
    frosting = brush.hue((244, 132, 166), (250, 168, 196), (110, 62, 40), (250, 240, 226))
    sponge = brush.hue((236, 190, 116), (120, 70, 44), (196, 60, 60))
    cream = (252, 240, 226)
    brush.solid(
        np.array([(-0.85, -0.3), (0.7, -0.3), (0.7, 0.6), (-0.85, 0.6)]), sponge, puff=0.03, rough=0.1, shadow=0.12
    )
    for y in (-0.02, 0.3):
        brush.solid(wobbly(brush.rng, 0.78, 0.06, 0.1, -0.07, y), cream, puff=0.06, shadow=0.02)
    brush.solid(
        smooth(np.repeat([(-0.95, -0.28), (0.2, -0.72), (0.78, -0.5), (0.78, -0.26)], 2, axis=0)),
        frosting,
        puff=0.1,
        gloss=0.2,
        shadow=0.03,
    )
    for x in np.linspace(-0.8, 0.7, 7):
        brush.solid(oval(0.085, brush.rng.uniform(0.08, 0.2), x, -0.24), frosting, puff=0.08, shadow=0)
    brush.solid(smooth([(0.62, -0.5), (0.82, -0.5), (0.82, 0.62), (0.62, 0.62)]), frosting, puff=0.1, shadow=0.02)
    brush.solid(wobbly(brush.rng, 0.2, 0.12, 0.08, 0.1, -0.56), cream, puff=0.12, shadow=0.03)
    _cherry(brush.at(0.1, -0.68))


def _cherry(brush: Brush) -> None:
    brush.line(bend((0, -0.05), (0.02, -0.25), (0.14, -0.34)), 0.03, (90, 120, 40))
    brush.solid(oval(0.14, 0.14), (206, 22, 40), puff=0.14, depth=0.5, gloss=0.7)


def _sprinkles(brush: Brush, spots: list[tuple[float, float]]) -> None:
    for x, y in spots:
        turn = brush.rng.uniform(0, np.pi)
        colour = brush.hue((255, 230, 60), (80, 190, 255), (255, 255, 255), (120, 220, 90), (240, 70, 90), spread=4)
        brush.line(moved(np.array([(-0.05, 0), (0.05, 0)]), x, y, turn), 0.04, colour)


def donuts(brush: Brush) -> None:
    """One big ring, or three small ones, with glaze and sprinkles."""
    if brush.rng.uniform() < 0.6:
        plate(brush)
    spots = (
        [(0, 0, 0.85)] if brush.rng.uniform() < 0.4 else [(-0.48, -0.34, 0.52), (0.52, -0.28, 0.52), (0.02, 0.52, 0.52)]
    )
    for x, y, size in spots:
        ring = brush.at(x, y, size)
        under = ring.hue((196, 136, 72), (214, 158, 92))
        glaze = ring.hue((246, 120, 168), (104, 56, 36), (250, 170, 200), (150, 214, 220), (255, 244, 240))
        ring.solid(oval(1.0, 1.0), under, puff=0.4, shadow=0.12)
        ring.solid(wobbly(brush.rng, 0.86, 0.86, 0.04), glaze, puff=0.3, gloss=0.25, shadow=0.02)
        _sprinkles(ring, [(px, py) for px, py in scatter(brush.rng, 55, 0.76, 0.1) if np.hypot(px, py) > 0.44])
        ring.solid(oval(0.34, 0.34), under, puff=0.1, depth=-0.4, shadow=0)
        ring.solid(oval(0.26, 0.26), (70, 50, 40), puff=0.12, depth=-0.5, shadow=0)


def cupcake(brush: Brush) -> None:
    """A cupcake in a pleated paper, frosting piled in rounds, sprinkles and a cherry."""
    brush = brush.at(0, 0.1, 0.95, -brush.turn + brush.rng.normal(0, 0.25))
    paper = np.array(brush.hue((240, 90, 130), (90, 180, 200), (130, 84, 56), (250, 200, 80)), dtype=float)
    brush.solid(np.array([(-0.72, 0.1), (0.72, 0.1), (0.5, 0.98), (-0.5, 0.98)]), paper, puff=0.15, shadow=0.14)
    for x in np.linspace(-0.65, 0.65, 11):
        brush.line(np.array([(x, 0.12), (x * 0.72, 0.95)]), 0.03, paper * 0.7)
    frosting = brush.hue((250, 150, 190), (255, 244, 228), (190, 160, 230), (116, 66, 42), (160, 226, 200))
    for y, width in ((0.1, 0.86), (-0.16, 0.7), (-0.4, 0.5), (-0.6, 0.28)):
        brush.solid(wobbly(brush.rng, width, 0.22, 0.03, 0, y), frosting, puff=0.2, gloss=0.1, shadow=0.03)
    _sprinkles(brush, [(x * 0.8, y * 0.35 - 0.05) for x, y in scatter(brush.rng, 24, 0.85, 0.15)])
    _cherry(brush.at(0, -0.84))


def _yolk(brush: Brush, radius: float) -> None:
    brush.solid(
        oval(radius, radius),
        brush.hue((254, 190, 20), (250, 162, 16), (255, 206, 50)),
        puff=radius,
        gloss=0.5,
        shadow=0.02,
    )


def fried_eggs(brush: Brush) -> None:
    """One to three eggs, sunny side up, in a pan or on a plate."""
    (pan if brush.rng.uniform() < 0.5 else plate)(brush)
    layouts = (
        [(0, 0, 1.0)],
        [(-0.4, -0.15, 0.72), (0.42, 0.2, 0.72)],
        [(-0.4, -0.3, 0.6), (0.42, -0.22, 0.6), (0, 0.45, 0.6)],
    )
    for x, y, size in layouts[brush.rng.integers(3)]:
        egg = brush.at(x, y, size, brush.rng.uniform(0, 6.3))
        white = wobbly(brush.rng, 0.84, 0.74, 0.1)
        egg.solid(white * 1.03, (226, 196, 140), puff=0.05, shadow=0.05)
        egg.solid(white, (252, 250, 244), puff=0.22, depth=0.16, gloss=0.1, shadow=0)
        _yolk(egg.at(*brush.rng.normal(0, 0.06, 2)), 0.33)
        for px, py in scatter(brush.rng, 18, 0.6):
            egg.fill(oval(0.016, 0.016, px, py), (60, 50, 40))


def boiled_eggs(brush: Brush) -> None:
    """Boiled eggs cut in halves, one left whole."""
    _server(brush)
    count = brush.rng.integers(3, 6)
    for i, angle in enumerate(np.arange(count) * 2 * np.pi / count):
        half = brush.at(0.6 * np.cos(angle), 0.6 * np.sin(angle), 0.95, angle + brush.rng.normal(0, 0.2))
        shape = smooth(
            [(-0.4, -0.26), (0.1, -0.38), (0.5, -0.24), (0.62, 0), (0.5, 0.24), (0.1, 0.38), (-0.4, 0.26), (-0.5, 0)]
        )
        if i == 0 and count > 3:
            shell = brush.hue((226, 176, 130), (240, 214, 180), (206, 150, 106))
            half.solid(shape * 0.95, shell, puff=0.4, depth=0.35, gloss=0.2, shadow=0.08)
            continue
        half.solid(shape, (252, 251, 246), puff=0.1, depth=0.16, shadow=0.08)
        half.solid(oval(0.235, 0.235, 0.03), (214, 180, 80), puff=0.05, shadow=0)
        _yolk(half.at(0.03, 0), 0.215)


def _chip(brush: Brush, length: float) -> None:
    gold = np.array(brush.hue((244, 196, 84), (236, 178, 62), (250, 212, 110)), dtype=float)
    stick = np.array([(-0.085, -length / 2), (0.085, -length / 2), (0.085, length / 2), (-0.085, length / 2)])
    brush.solid(stick, gold, puff=0.06, depth=0.3, rough=0.03, shadow=0.06)
    for end in (-0.5, 0.45):
        brush.fill(
            np.array(
                [
                    (-0.08, length * end),
                    (0.08, length * end),
                    (0.08, length * (end + 0.05)),
                    (-0.08, length * (end + 0.05)),
                ]
            ),
            gold * 0.74,
        )


def carton_of_fries(brush: Brush) -> None:
    """French fries standing in a red and white carton."""
    brush = brush.at(0, 0.1, turn=-brush.turn + brush.rng.normal(0, 0.3))
    red = np.array(brush.hue((206, 32, 36), (222, 60, 40), (40, 80, 160)), dtype=float)
    brush.solid(np.array([(-0.62, -0.2), (0.62, -0.2), (0.55, 0.3), (-0.55, 0.3)]), red * 0.6, puff=0.1, shadow=0.14)
    for row in (-0.08, 0.06):
        for x in brush.rng.permutation(np.linspace(-0.52, 0.52, 8)):
            _chip(
                brush.at(x, row - brush.rng.uniform(0.25, 0.5), turn=x * 0.4 + brush.rng.normal(0, 0.1)),
                brush.rng.uniform(0.9, 1.2),
            )
    top = np.vstack(
        [[(0.66, -0.12), (0.5, 0.98), (-0.5, 0.98), (-0.66, -0.12)], bend((-0.6, -0.1), (0, 0.35), (0.6, -0.1))]
    )
    brush.solid(top, red, puff=0.08, depth=0.3, shadow=0.06)
    for x in (-0.3, 0, 0.3):
        brush.line(np.array([(x * 1.1, 0.3), (x * 0.95, 0.94)]), 0.09, (250, 244, 238))


def plate_of_fries(brush: Brush) -> None:
    """A heap of fries on a plate, with a dip of ketchup or mayonnaise."""
    plate(brush)
    for x, y in scatter(brush.rng, 34, 0.68):
        _chip(brush.at(x, y, turn=brush.rng.uniform(0, np.pi)), brush.rng.uniform(0.6, 0.95))
    dip = brush.at(*brush.rng.choice([(-0.5, 0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, -0.5)]))
    dip.solid(oval(0.36, 0.36), (246, 244, 240), puff=0.06, shadow=0.08)
    dip.solid(oval(0.29, 0.29), brush.hue((190, 28, 24), (250, 240, 206)), puff=0.1, depth=-0.3, gloss=0.3, shadow=0)


def drumsticks(brush: Brush) -> None:
    """Two or three crisp chicken legs, the bone showing."""
    (plate if brush.rng.uniform() < 0.6 else board)(brush)
    leaf = brush.hue(*GREENS)
    brush.solid(wobbly(brush.rng, 0.95, 0.6, 0.1), leaf, puff=0.1, rough=0.2, cell=0.08)
    for y in np.linspace(-0.42, 0.42, brush.rng.integers(2, 4)):
        leg = brush.at(0, y, 0.95, brush.rng.normal(0, 0.2) + np.pi * brush.rng.integers(2))
        for knob in (-0.07, 0.07):
            leg.solid(oval(0.1, 0.09, 0.98, knob), CREAM, puff=0.08, shadow=0.06)
        leg.solid(smooth([(0.4, -0.09), (0.98, -0.07), (0.98, 0.07), (0.4, 0.09)]), CREAM, puff=0.08, shadow=0.05)
        meat = smooth(
            [
                (-0.85, -0.2),
                (-0.5, -0.44),
                (0.1, -0.3),
                (0.75, -0.12),
                (0.75, 0.12),
                (0.1, 0.3),
                (-0.5, 0.44),
                (-0.85, 0.2),
            ]
        )
        crisp = brush.hue((206, 126, 38), (190, 104, 30), (222, 150, 56))
        leg.solid(meat, crisp, puff=0.35, depth=0.45, rough=0.2, cell=0.05, gloss=0.15, shadow=0.1)
        for x, dy in scatter(brush.rng, 50, 0.4):
            leg.fill(oval(0.03, 0.022, x * 1.3 - 0.15, dy * 0.75, x * 9), brush.hue((240, 186, 90), (150, 76, 22)))
