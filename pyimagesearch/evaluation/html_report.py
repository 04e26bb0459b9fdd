"""The building blocks of report.html: one page that needs no network, no script and no other file.

Every text that comes in is escaped here, every picture becomes part of the page; blocks return HTML and take it only as
the parts of a section.
"""

import base64
import html
import io
import os
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pyimagesearch.evaluation.pictures.style import DPI, percent
from pyimagesearch.runtime.errors import one_line
from pyimagesearch.runtime.files import write_text

STYLE_SHEET = Path(__file__).with_name("report.css")
THUMBNAIL = 320  # pixels of its longer side
CSS_DPI = 96
WIDE = 700  # pixels of CSS


class Tile(NamedTuple):
    """A figure that a person looks for first, what it is of, and a line on it."""

    name: str
    figure: str
    note: str


class Mistake(NamedTuple):
    """A photo, uint8 of shape (height, width, 3), where it lies, what it shows and what the model says how surely."""

    photo: np.ndarray
    path: str
    truth: str
    prediction: str
    confidence: float


def write_page(path: str | os.PathLike, title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[str]) -> None:
    """Write the page: the title, a line below it, the tiles, then the sections as `section` made them."""
    row = "".join(
        f"<div><dt>{text(tile.name)}</dt><dd><b>{text(tile.figure)}</b><span>{text(tile.note)}</span></dd></div>\n"
        for tile in tiles
    )
    write_text(
        path,
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="train_distributed.py">
<meta name="color-scheme" content="light">
<title>{text(title)}</title>
<style>
{STYLE_SHEET.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{text(title)}</h1>
<p>{text(lead)}</p>
<dl class="tiles">
{row}</dl>
</header>
<main>
{"".join(sections)}</main>
<footer><p>Written by train_distributed.py on {time.strftime("%Y-%m-%d at %H:%M %Z")}.</p></footer>
</body>
</html>
""",
    )


def text(value: object) -> str:
    """`value` for HTML: markup is escaped, and what is no character, controls and undecodable bytes of file names."""
    # format characters join the letters of some scripts; they have no say outside of the element that they are in
    shown = (c if unicodedata.category(c) == "Cf" else one_line(c) for c in str(value))
    return html.escape("".join(shown))


def section(title: str, *parts: str, beside: bool = False) -> str:
    """A heading and its parts; `beside` puts them next to each other where the page is wide enough."""
    if beside:
        parts = '<div class="beside">\n', *(f"<div>\n{part}</div>\n" for part in parts), "</div>\n"
    body = "".join(parts)
    return f"<section>\n<h2>{text(title)}</h2>\n{body}</section>\n"


def paragraph(words: str) -> str:
    return f"<p>{text(words)}</p>\n"


def picture(path: str | os.PathLike, alt: str) -> str:
    """The PNG at `path`, at most as large as in print; a wide one is moved sideways on a phone, and a click zooms."""
    with Image.open(path) as image:
        width, height = (round(side * CSS_DPI / DPI) for side in image.size)
    wide = ' class="wide" tabindex="0"' if width > WIDE else ""
    source = _data_uri("image/png", Path(path).read_bytes())
    return f'<figure{wide}><img src="{source}" width="{width}" height="{height}" alt="{text(alt)}"></figure>\n'


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    foot: Sequence[Sequence[object]] = (),
    *,
    numbers: int = 0,
) -> str:
    """A table whose first column names the row, and of whose columns the last so many hold `numbers`.

    head : may be empty; rows, foot : an int gets its commas, a float two digits, anything else is taken as text
    """
    parts = [f"<caption>{text(caption)}</caption>\n"]
    if head:
        cells = "".join(f'<th scope="col"{kind}>{text(name)}</th>' for name, kind in _kinds(head, numbers))
        parts.append(f"<thead><tr>{cells}</tr></thead>\n")
    for tag, lines in (("tbody", rows), ("tfoot", foot)):
        if lines:
            parts.append(f"<{tag}>\n{''.join(_row(line, numbers) for line in lines)}</{tag}>\n")
    return f"<table>\n{''.join(parts)}</table>\n"


def _row(cells: Sequence[object], numbers: int) -> str:
    (name, _), *rest = _kinds(cells, numbers)
    body = "".join(f"<td{kind}>{text(_format(cell))}</td>" for cell, kind in rest)
    return f'<tr><th scope="row" dir="auto">{text(name)}</th>{body}</tr>\n'


def _kinds(cells: Sequence[object], numbers: int) -> Iterator[tuple[object, str]]:
    """Each cell with the attribute that lays it out."""
    for left, cell in zip(range(len(cells), 0, -1), cells, strict=True):
        yield cell, ' class="number"' if left <= numbers else ' dir="auto"'


def _format(cell: object) -> object:
    return f"{cell:.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


def mistakes(items: Iterable[Mistake]) -> str:
    """A grid of photos, each above what the model says of it and what it shows."""
    return f'<ol class="photos">\n{"".join(map(_card, items))}</ol>\n'


def _card(item: Mistake) -> str:
    alt = f"A photo of class {item.truth}, taken for {item.prediction}"
    lines = (("Prediction", item.prediction), ("Confidence", percent(item.confidence)), ("Truth", item.truth))
    said = "".join(f'<div><dt>{head}</dt><dd dir="auto">{text(value)}</dd></div>' for head, value in lines)
    place = text(item.path).replace("/", "/<wbr>")
    return f'<li><img src="{_thumbnail(item.photo)}" alt="{text(alt)}">\n<dl>{said}</dl>\n<code>{place}</code></li>\n'


def _thumbnail(photo: np.ndarray) -> str:
    image = Image.fromarray(photo)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return _data_uri("image/jpeg", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
