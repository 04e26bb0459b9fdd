"""One style for all pictures, in letters of any script. matplotlib is imported when something is drawn.

White ground, the colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind people tell apart, and
nothing said by colour alone. pyplot, with its global state, is only for the window.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyimagesearch.runtime.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
BLUE, ORANGE, VERMILLION, INK, GREY, PALE = "#0072B2", "#E69F00", "#D55E00", "#222222", "#767676", "#DDDDDD"
DPI = 150


def new_figure(width: float = 1, height: float = 1, **settings) -> "Figure":
    """A new white figure of this size in inches, that no window and no pyplot knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", **settings)


def save(figure: "Figure", path: str | os.PathLike, **settings) -> None:
    with atomic_write(path) as file:
        # without the name of the software the same picture is the same bytes
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}, **settings)


def percent(share: float) -> str:
    """`share` in whole percent, where only nothing is 0% and only all is 100%."""
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{share:.0%}"


class Lettering:
    """How names of any script are drawn: with whichever installed fonts have their characters.

    A character that no font has, or that cannot be printed, becomes its escape (``\\u9762``): still readable by someone
    who needs to know, where a row of empty boxes is not.
    """

    def __init__(self, names: Sequence[str]):
        from matplotlib import font_manager

        self.families, self.missing = ["DejaVu Sans"], {character for name in names for character in name}
        self.missing -= self._characters("DejaVu Sans")
        # normal ones only: for a weight that a family lacks, matplotlib complains on the terminal
        fonts = [font for font in font_manager.fontManager.ttflist if (font.weight, font.style) == (400, "normal")]
        families = {font.name for font in fonts} - {"Last Resort High-Efficiency"}  # it has every character, as a box
        for family in sorted(families, key=lambda family: ("Sans" not in family, family)):
            if not self.missing:
                break
            found = self.missing & self._characters(family)
            if found:
                self.families.append(family)
                self.missing -= found

    @staticmethod
    def _characters(family: str) -> set[str]:
        from matplotlib import font_manager

        font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=family)))
        return {chr(code) for code in font.get_charmap() if code >= 32}  # below are a new line and other controls

    def font(self, size: float) -> "FontProperties":
        from matplotlib.font_manager import FontProperties

        return FontProperties(family=self.families, size=size)

    def inches(self, text: str, size: float) -> float:
        from matplotlib.textpath import text_to_path

        return text_to_path.get_text_width_height_descent(text, self.font(size), ismath=False)[0] / 72

    def fit(self, name: str, size: float, inches: float) -> str:
        """`name` as it can be drawn, its middle left out where it would be wider than `inches`."""
        text = "".join(ascii(c)[1:-1] if c in self.missing else c for c in name)
        fitted, kept = text, len(text)
        while self.inches(fitted, size) > inches:
            kept -= 1
            fitted = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        return fitted
