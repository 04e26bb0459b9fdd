"""One style for all pictures, and names in any script. matplotlib is imported when something is drawn.

The background is white, the colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which colour-blind people
can distinguish, and nothing is shown by colour alone. pyplot, which has global state, is used only for the window.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pyimagesearch.runtime.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure
BLUE, ORANGE, VERMILLION, INK, GREY, PALE = "#0072B2", "#E69F00", "#D55E00", "#222222", "#767676", "#DDDDDD"
DPI = 150


def import_matplotlib() -> None:
    """Import matplotlib, which raises ValueError where MPLBACKEND names a notebook's backend that is not installed."""
    if "matplotlib" not in sys.modules:
        backend = os.environ.pop("MPLBACKEND", "")
        import matplotlib

        if backend:  # files are drawn by Agg whatever it is; a window is drawn by it
            os.environ["MPLBACKEND"] = backend
            with suppress(ValueError):
                matplotlib.rcParams["backend"] = backend


def new_figure(width: float = 1, height: float = 1, **settings) -> "Figure":
    """A new white figure of this size in inches, without pyplot. Drawing begins here or with Lettering."""
    import_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", **settings)


def save(figure: "Figure", path: str | os.PathLike, **settings) -> None:
    with atomic_write(path) as file:
        # without the name of the software, equal pictures are equal bytes
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}, **settings)


def percent(share: float) -> str:
    """`share` in whole percent; only 0 is 0% and only 1 is 100%."""
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{share:.0%}"


class Lettering:
    """The installed fonts that have the characters of some names, of any script.

    A character that no font has, or that cannot be printed, is drawn as its escape (``\\u9762``) and not as a box.
    """

    def __init__(self, names: Sequence[str]):
        import_matplotlib()
        from matplotlib import font_manager

        self.families, self.missing = ["DejaVu Sans"], {character for name in names for character in name}
        self.missing -= self._characters("DejaVu Sans")
        # normal ones only: matplotlib prints a warning for a weight that a family lacks
        fonts = [font for font in font_manager.fontManager.ttflist if (font.weight, font.style) == (400, "normal")]
        families = {font.name for font in fonts} - {"Last Resort High-Efficiency"}  # it has every character, as a box
        for family in sorted(families, key=lambda family: ("Sans" not in family, family)):
            if self.missing and (found := self.missing & self._characters(family)):
                self.families.append(family)
                self.missing -= found

    @staticmethod
    def _characters(family: str) -> set[str]:
        from matplotlib import font_manager

        font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=family)))
        return {chr(code) for code in font.get_charmap() if code >= 32}  # below are line feed and other controls

    def font(self, size: float):
        from matplotlib.font_manager import FontProperties

        return FontProperties(family=self.families, size=size)

    def inches(self, text: str, size: float) -> float:
        from matplotlib.textpath import text_to_path

        return text_to_path.get_text_width_height_descent(text, self.font(size), ismath=False)[0] / 72

    def fit(self, name: str, size: float, inches: float) -> str:
        """`name` as it can be drawn, without its middle if it would be wider than `inches`."""
        text = "".join(ascii(c)[1:-1] if c in self.missing else c for c in name)
        fitted, kept = text, len(text)
        while self.inches(fitted, size) > inches:
            kept -= 1
            fitted = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        return fitted
