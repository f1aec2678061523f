"""HTML is well formed, says everything to screen readers, and shows text as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.client.types import (
    FrameVersion,
    LibraryCharacter,
    MemoryOut,
    Quality,
    Reference,
    StoryFrame,
)
from ui.board import Board, BoardCell
from ui.lab import Score, scores_html
from ui.markup import (
    board_html,
    compare_html,
    contact_sheet_html,
    file_url,
    keep_html,
    memories_html,
    notices_html,
    quality_html,
    shelf_html,
)
from ui.style import ASSETS, css

NOW = datetime(2026, 11, 23, tzinfo=UTC)
EVIL = '"><img src=x onerror=alert(1)>{{this}}${alert(1)}`'
VOID = {"img", "br", "input", "circle", "path", "rect"}
STATES = ("blank", "queued", "drawing", "done", "failed", "cancelled")


class Checker(HTMLParser):
    """Collects tags and attributes and complains about what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.words += data


def everything(text: str) -> list[str]:
    """One of each kind of markup with `text` wherever somebody's words can stand."""
    quality = Quality(width=9, height=9, sharpness=2.0, brightness=-1.0, verdict="poor",
                      advice=[text])  # fmt: skip
    reference = Reference(id=text, artifact=text, quality=quality, created_at=NOW)
    one = LibraryCharacter(id=text, name=text or "x", description=text or "x",
                           references=[reference], created_at=NOW, updated_at=NOW)  # fmt: skip
    versions = [FrameVersion(version=n, artifact=text, seed=n, prompt=text, job="j",
                             created_at=NOW, scores={text: 0.5}) for n in (1, 2)]  # fmt: skip
    frame = StoryFrame(index=0, prompt=text, versions=versions)
    memory = MemoryOut(id=text, kind=text, text=text, since=NOW, why=[text], score=0.5)
    cells = tuple(
        BoardCell(index=n, prompt=text, caption=text, state=state, picture=text if n % 2 else None,  # type: ignore[arg-type]
             error=text if state == "failed" else "", scores={text: 1.0}, seed=1,
             missing=(text, text) if state == "done" else ())
        for n, state in enumerate(STATES)
    )  # fmt: skip

    def picture(artifact: str) -> str:
        return f"/tmp/a b/{artifact}.png"

    return [
        board_html(Board(story="s", title=text, cells=cells), picture, 1),
        compare_html(frame, versions[0], versions[1], picture),
        shelf_html([one], picture, text),
        quality_html([reference], picture, text),
        keep_html([text]),
        notices_html([text]),
        memories_html([memory], text),
        contact_sheet_html({text: [text, None]}, picture, [text, text]),
        scores_html([Score(text, 0.5, None, 1.0, 3)]),
    ]


@settings(max_examples=40)
@given(st.text(max_size=40) | st.just(EVIL))
def test_no_text_becomes_markup(text: str) -> None:
    allowed = {tag for html in everything("plain") for tag, _ in Checker(html).seen}
    for html in everything(text):
        checked = Checker(html)
        assert {tag for tag, _ in checked.seen} <= allowed
        for _, attributes in checked.seen:
            assert not [name for name in attributes if name.startswith("on")]


def test_texts_are_shown_as_they_were_typed() -> None:
    for html in everything(EVIL):
        checked = Checker(html)
        shown = checked.words + " ".join(v or "" for _, a in checked.seen for v in a.values())
        assert EVIL in shown


def test_pictures_and_buttons_have_names() -> None:
    for html in everything("words"):
        checked = Checker(html)
        for tag, attributes in checked.seen:
            if tag == "img":
                assert "alt" in attributes
            if tag == "svg":
                assert attributes.get("aria-label")
        for button in re.findall(r"<button\b.*?</button>", html, re.S):
            inside = Checker(button)
            assert inside.words.strip() or inside.seen[0][1].get("aria-label")


def test_every_state_of_a_cell_is_said() -> None:
    html = everything("words")[0]
    for words in ("not drawn yet", "waiting", "drawing", "drawn", "failed", "stopped"):
        assert re.search(rf'aria-label="Open scene \d, {words}"', html)
    assert html.count('aria-pressed="true"') == 1


def test_an_address_is_relative_and_quoted() -> None:
    assert file_url("/tmp/a b/ü#?.png") == "gradio_api/file=pictures/%C3%BC%23%3F.png"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [":root", ".dark"])
def test_text_can_be_read_on_everything_it_stands_on(mode: str) -> None:
    sheet = (ASSETS / "studio.css").read_text(encoding="utf-8")
    block = re.search(rf"^{re.escape(mode)} \{{(.*?)^\}}", sheet, re.S | re.M)
    assert block is not None
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block[1]))
    for ground in ("paper", "card", "field"):
        for ink in ("ink", "soft", "accent", "leaf", "gold", "bad"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}"
        # Placeholders are hints; the outline of controls needs 3.
        assert contrast(colours["faint"], colours[ground]) >= 3.0, f"faint on {ground}"
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent-deep"]) >= 4.5
    assert contrast(colours["ink"], colours["accent-soft"]) >= 4.5


def test_the_style_sheets_fetch_nothing_from_elsewhere() -> None:
    for address in re.findall(r"url\(\"?([^\")]+)", css()):
        assert address.startswith("static/fonts/")
    for file in Path(ASSETS).iterdir():
        assert "http" not in file.read_text(encoding="utf-8")
        assert file.read_text(encoding="utf-8").count("\n") <= 400


def test_every_font_that_is_named_has_latin_letters() -> None:
    from gradio.themes.utils.fonts import STATIC_FONTS_DIR
    from PIL import ImageFont

    for address in re.findall(r"static/fonts/([^\")]+)", css()):
        font = ImageFont.truetype(str(STATIC_FONTS_DIR / address), 40)
        boxes = {font.getmask(letter).getbbox() for letter in "aMgx"}
        assert len(boxes) == 4, f"{address} draws its letters alike, so it lacks them"
