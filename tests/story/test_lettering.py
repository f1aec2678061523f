"""Letters on printed pages: every text can be set, and nothing sticks out of its box."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.story.export import unwritten_texts
from consistent_gen.story.lettering import (
    BUNDLED,
    FINE,
    Lettering,
    _face,
    _families,
    _packaged,
    _runs,
)

BLACK = (0, 0, 0)
ANY = st.text(st.characters(), max_size=120)


@settings(max_examples=60, deadline=None)
@given(ANY, st.integers(30, 300))
def test_any_text_fits_its_box(text: str, width: int) -> None:
    block = Lettering([text]).fit(text, width, 60, largest=14, smallest=6, color=BLACK)
    assert block.height <= 60 and block.width <= width
    if block.paragraph is not None:
        assert block.paragraph.LongestLine / FINE <= block.width + 0.01


@settings(max_examples=60, deadline=None)
@given(ANY)
def test_what_is_written_is_printable_and_has_glyphs(text: str) -> None:
    written = Lettering([text]).writable(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cs", "Cn", "Co") for c in written)
    assert "\u202e" not in written and "\n" not in written


def test_plain_text_needs_the_bundled_font_only() -> None:
    assert _families(set("Plain text, it's 100% fine!")) == [BUNDLED]
    letters = Lettering(["“It's” — done…"])
    assert letters.writable("“It's” - done...") in ("“It's” - done...", '"It\'s" - done...')


@pytest.mark.skipif(_face("DejaVuSans.ttf") is None, reason="needs a font with Hebrew letters")
def test_a_word_with_rare_letters_is_set_in_one_font() -> None:
    assert _families(set("čaj")) != [BUNDLED]
    assert Lettering(["šálek čaje"]).writable("šálek čaje") == "šálek čaje"
    assert Lettering(["שלום"]).writable("שלום") == "שלום"


def test_an_emoji_changes_no_other_letter() -> None:
    text = "Well done, everybody"
    plain, with_emoji = Lettering([text]), Lettering([text, "🎉 שלום"])
    one, other = (letters.set(text, 12, 400, color=BLACK) for letters in (plain, with_emoji))
    assert one.paragraph.LongestLine == other.paragraph.LongestLine
    assert [*_runs("Hello šálek čaje 🎉 done")] == [
        (False, "Hello "), (True, "šálek"), (False, " "), (True, "čaje"), (False, " 🎉 done"),
    ]  # fmt: skip
    assert "".join(run for _, run in _runs(" a  b ")) == " a  b "


def test_what_no_font_has_is_told_and_is_no_question_mark() -> None:
    letters = Lettering(["a 𒀀 b"])  # cuneiform
    assert letters.writable("a 𒀀 b") == "a b"
    assert letters.unwritten("a 𒀀 b 𒀀\ufe0f - “ß”") == ["𒀀"]
    told = [*unwritten_texts({"scene 1": ["fine"], "scene 2": ["𒀀𒀁 x"]})]
    assert told == ["2 characters of scene 2 have no glyph in any font here: 𒀀 𒀁"]


@pytest.mark.skipif(not _packaged(), reason="needs the fonts of the extra ui")
def test_the_package_of_fonts_has_emoji_and_scripts() -> None:
    text = "🎉 🐻‍❄️ שלום नमस्ते สวัสดี"
    assert Lettering([text]).unwritten(text) == []


def test_accents_do_not_pile_up() -> None:
    tower = "Z" + "\u0301\u0316" * 300
    written = Lettering([tower]).writable(tower)
    assert sum(unicodedata.combining(c) > 0 for c in written) <= 3


def test_lines_are_balanced() -> None:
    letters = Lettering([])
    text = "one two three four five six seven eight nine ten eleven"
    block = letters.balanced(text, 12, 230, color=BLACK)
    plain = letters.set(text, 12, 230, color=BLACK)
    assert block.height == plain.height and block.width < 0.9 * plain.width


def test_a_cut_text_ends_in_dots_and_says_so() -> None:
    letters = Lettering([])
    block = letters.fit("word " * 500, 100, 50, largest=12, smallest=8, color=BLACK)
    assert block.cut and block.height <= 50
    assert not letters.fit("word", 100, 50, largest=12, smallest=8, color=BLACK).cut
