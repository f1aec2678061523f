"""The page as a picture and as HTML: nothing is lost, cut off or fetched, whatever the text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from consistent_gen.story.layout import (
    PAPER,
    Panel,
    Typeface,
    balanced,
    draw_page,
    grid_for,
    typeface_for,
    wrap,
)
from consistent_gen.story.webpage import WebFrame, web_page

FONT = Typeface(None).at(20)
LETTERS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=60)


@settings(max_examples=60, deadline=None)
@given(st.text("ab .", max_size=80), st.integers(20, 200))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = wrap(text, FONT, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(FONT.getlength(line) <= width or len(line) == 1 for line in lines)
    even = balanced(text, FONT, width, 99)
    assert len(even) == len(lines) and all(FONT.getlength(x) <= width for x in even if len(x) > 1)


def test_a_text_that_is_too_long_ends_in_dots() -> None:
    lines = wrap("word " * 50, FONT, 100, 3)
    assert len(lines) == 3 and lines[-1].endswith("...")
    assert all(FONT.getlength(line) <= 100 for line in lines)


def test_letters_that_the_font_lacks_are_simplified() -> None:
    writable = Typeface(None).writable
    assert writable("plain text, 1 2 3!") == "plain text, 1 2 3!"
    assert writable("caf\u00e9 \u2014 na\u00efve") == "cafe  -  naive"
    assert writable("\u6f22") == "?"


@settings(max_examples=15, deadline=None)
@given(LETTERS)
def test_any_text_can_be_written(text: str) -> None:
    typeface = typeface_for([text])
    Typeface(None).at(20).getmask(Typeface(None).writable(text))
    typeface.at(20).getmask(typeface.writable(text))


@pytest.mark.parametrize("count", [1, 4, 5, 13, 60])
def test_every_panel_is_on_the_page(count: int) -> None:
    colors = [(40 + i, 255 - i, (i * 7) % 256) for i in range(count)]
    panels = [Panel(Image.new("RGB", (16, 16), color), "caption") for color in colors]
    page = draw_page("Title", panels)
    grid = grid_for(count)
    assert page.width == grid.width
    middles = {
        page.getpixel((x, y))
        for y in range(0, page.height, 8)
        for x in range(grid.margin + 20, page.width, grid.panel_width // 4)
    }
    assert set(colors) <= middles


def test_margins_are_paper_even_with_long_words() -> None:
    panels = [Panel(Image.new("RGB", (8, 24), (9, 9, 9)), "W" * 300)] * 2
    page = draw_page("W" * 200, panels)
    blank = Image.new("RGB", page.size, PAPER)
    box = ImageChops.difference(page, blank).getbbox()
    assert box is not None
    left, top, right, bottom = box
    assert min(left, top, page.width - right, page.height - bottom) >= 40


class Elements(HTMLParser):
    """Every start tag with its attributes, and all the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


FRAME = WebFrame(path="frames/00.png", width=128, height=96, prompt="a fox", seed=2**63 - 1)


def test_the_web_page_says_everything_and_asks_nobody() -> None:
    frame = WebFrame(
        path="frames/01.png",
        width=8,
        height=8,
        prompt="a cat",
        seed=5,
        caption="Miau",
        negative="rain",
        pixelated=True,
        scores=(("identity", 0.5),),
    )
    text = web_page("Two", [FRAME, frame], "tiny, vanilla")
    page = Elements(text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [i["src"] for i in images] == ["frames/00.png", "frames/01.png"]
    assert [i["alt"] for i in images] == ["a fox", "a cat"]
    assert [i.get("class") for i in images] == [None, "pixel"]
    assert (images[0]["width"], images[0]["height"]) == ("128", "96")
    for word in ("Two", "Miau", "rain", "9223372036854775807", "identity", "0.500", "vanilla"):
        assert word in page.words
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert "://" not in text and "url(" not in text and "@import" not in text
    html = next(attributes for tag, attributes in page.tags if tag == "html")
    assert html["lang"] and "prefers-color-scheme: dark" in text


@settings(max_examples=60, deadline=None)
@given(LETTERS, LETTERS, LETTERS)
def test_no_text_becomes_markup(title: str, caption: str, prompt: str) -> None:
    evil = "</title><script>alert(1)</script>\"' onerror=x <img src=x>"
    frame = WebFrame(
        path="frames/00.png",
        width=8,
        height=8,
        prompt=prompt + evil,
        seed=0,
        caption=caption + evil,
    )
    page = Elements(web_page(title + evil, [frame], evil))
    plain = Elements(web_page("t", [replace(FRAME, caption="c")], "m"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    image = next(attributes for tag, attributes in page.tags if tag == "img")
    assert set(image) == {"src", "width", "height", "alt"} and image["alt"] == prompt + evil


def test_the_largest_story_makes_a_page_of_bounded_size() -> None:
    tiny = Image.new("RGB", (4, 4))
    page = draw_page("x", [Panel(tiny, "caption")] * 200)
    assert page.width * page.height < 25_000_000
