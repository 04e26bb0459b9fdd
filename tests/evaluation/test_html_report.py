"""The blocks of the page: well-formed, escaped, and nothing that is not in them."""

import base64
import io

import numpy as np
import pytest
from helpers.pages import Page, assert_self_contained
from PIL import Image

from pyimagesearch.evaluation import html_report

MARKUP = "<img src=x onerror=alert(1)> & \"quoted\" 'too'"


@pytest.fixture
def png(tmp_path):
    Image.new("RGB", (300, 150), "red").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_page_is_well_formed_and_needs_nothing_else(tmp_path, png):
    sections = [
        html_report.section(
            "One", html_report.picture(png, "a red ground"), html_report.paragraph("Words."), beside=True
        ),
        html_report.section("Two", html_report.table("rows", ("name", "n"), [("a", 1)], [("all", 1)], numbers=1)),
        html_report.section(
            "Three", html_report.mistakes([html_report.Mistake(np.zeros((9, 5, 3), np.uint8), "p", "a", "b", 0.5)])
        ),
    ]
    html_report.write_page(tmp_path / "page.html", "Title", "Lead", [html_report.Tile("n", "1", "one")], sections)
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert source.startswith("<!DOCTYPE html>")
    page = Page(source)
    assert_self_contained(page)
    assert {"charset": "utf-8"} in page.all("meta") and len(page.all("h1")) == 1
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert any(meta.get("name") == "generator" for meta in page.all("meta"))
    assert all(image["alt"] for image in page.all("img"))


@pytest.mark.parametrize(
    "block",
    [
        lambda png: html_report.section(MARKUP),
        lambda png: html_report.paragraph(MARKUP),
        lambda png: html_report.picture(png, MARKUP),
        lambda png: html_report.table(MARKUP, (MARKUP, MARKUP), [(MARKUP, MARKUP)], [(MARKUP, MARKUP)], numbers=1),
        lambda png: html_report.mistakes(
            [html_report.Mistake(np.zeros((9, 5, 3), np.uint8), MARKUP, MARKUP, MARKUP, 0.5)]
        ),
    ],
)
def test_every_block_escapes_what_it_is_given(png, block):
    page = Page(block(png))
    images = page.all("img")
    assert all(set(image) <= {"src", "alt", "width", "height"} for image in images)
    assert MARKUP in page.text or MARKUP in images[0]["alt"]


def test_the_title_the_lead_and_the_tiles_are_escaped(tmp_path):
    html_report.write_page(tmp_path / "page.html", MARKUP, MARKUP, [html_report.Tile(MARKUP, MARKUP, MARKUP)], [])
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.text.count(MARKUP) == 6  # the title stands in the head and in the body
    assert page.all("img") == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("broken \udcff byte", "broken \\udcff byte"),
        ("two\nlines\x00", "two\\nlines\\x00"),
        ("面包", "面包"),
        ("می\u200cخورم", "می\u200cخورم"),  # the letters of Persian need the joiner
        ("a/b", "a/b"),
    ],
)
def test_names_of_any_script_are_shown_and_what_is_no_character_is_escaped(name, shown):
    assert html_report.text(name) == shown


def test_a_picture_becomes_part_of_the_page_unchanged(png):
    (image,) = Page(html_report.picture(png, "red")).all("img")
    kind, content = image["src"].split(",")
    assert kind == "data:image/png;base64" and base64.b64decode(content) == png.read_bytes()
    assert (image["width"], image["height"]) == ("192", "96")  # 300 pixels of 150 an inch, at CSS's 96


def test_only_a_wide_picture_can_be_moved_sideways(tmp_path, png):
    Image.new("RGB", (3000, 100)).save(tmp_path / "wide.png")
    figures = [Page(html_report.picture(path, "x")).all("figure")[0] for path in (png, tmp_path / "wide.png")]
    assert figures == [{}, {"class": "wide", "tabindex": "0"}]


def test_numbers_of_a_table_stand_to_the_right():
    page = Page(html_report.table("t", ("name", "share", "n"), [("a", 0.256, 12345)], [("all", "", 1)], numbers=2))
    assert [cell.get("class") for cell in page.all("td")] == ["number"] * 4
    words = [data for tag, data in page.words if tag in ("th", "td")]
    assert words == ["name", "share", "n", "a", "0.26", "12,345", "all", "1"]


def test_photos_are_small_jpegs_of_the_same_shape():
    photo = np.full((400, 800, 3), (10, 200, 30), np.uint8)
    (image,) = Page(html_report.mistakes([html_report.Mistake(photo, "p.jpg", "a", "b", 0.999)])).all("img")
    kind, content = image["src"].split(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as thumbnail:
        assert kind == "data:image/jpeg;base64" and thumbnail.size == (320, 160)
        assert np.abs(np.asarray(thumbnail)[80, 160].astype(int) - (10, 200, 30)).max() < 6
