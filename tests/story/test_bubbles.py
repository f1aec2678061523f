"""Bubbles: inside their picture, off what their tails point at, with all their words."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from consistent_gen.story.book import BookPanel, Speech
from consistent_gen.story.bubbles import PlacedBubble, place_bubbles
from consistent_gen.story.export_pages import panel_picture
from consistent_gen.story.lettering import Lettering

GREEN = (60, 150, 90)
SHARE = st.floats(0.0, 1.0, allow_nan=False)
WORDS = st.one_of(
    st.text("abc def, ghi!", min_size=1, max_size=200),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
    st.sampled_from(["W" * 200, "word " * 40, "!", "שלום עולם, מה שלומך?", "👩\u200d🚀 hm \x07"]),
)
SPEECH = st.builds(Speech, text=WORDS, x=SHARE, y=SHARE, tail_x=SHARE, tail_y=SHARE,
                   thought=st.booleans())  # fmt: skip


def placed(speeches: list[Speech], width: float, height: float) -> tuple[PlacedBubble, ...]:
    return place_bubbles(speeches, Lettering([s.text for s in speeches]), width, height)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(SPEECH, min_size=1, max_size=3), st.sampled_from([(240, 240), (200, 320), (420, 160)])
)
def test_bubbles_are_inside_and_off_their_targets(
    speeches: list[Speech], size: tuple[int, int]
) -> None:
    width, height = size
    for bubble in placed(speeches, width, height):
        assert bubble.x - bubble.half_width >= 0 and bubble.x + bubble.half_width <= width
        assert bubble.y - bubble.half_height >= 0 and bubble.y + bubble.half_height <= height
        assert bubble.target is not None and not bubble.covers(bubble.target)
        assert bubble.block.width < 2 * bubble.half_width
        assert bubble.block.height < 2 * bubble.half_height
        for x in (-0.5, 0.5):
            for y in (-0.5, 0.5):
                corner = (bubble.x + x * bubble.block.width, bubble.y + y * bubble.block.height)
                assert bubble.covers(corner), "words stick out at the corners"


@settings(max_examples=25, deadline=None)
@given(st.lists(SPEECH, min_size=1, max_size=3))
def test_no_stroke_touches_the_edge_or_a_target(speeches: list[Speech]) -> None:
    panel = BookPanel(picture=Image.new("RGB", (300, 300), GREEN), bubbles=tuple(speeches))
    drawn = panel_picture(panel, 300)
    edge = [(i, j) for i in range(300) for j in (0, 299)]
    assert {drawn.getpixel(p) for p in edge} | {drawn.getpixel(p[::-1]) for p in edge} == {GREEN}
    if len(speeches) == 1:
        x, y = speeches[0].target or (0.5, 0.5)
        assert drawn.getpixel((min(int(x * 300), 299), min(int(y * 300), 299))) == GREEN


@pytest.mark.parametrize("thought", [False, True])
def test_the_tail_leads_from_the_bubble_towards_the_target(thought: bool) -> None:
    speech = Speech(text="Hello there!", x=0.3, y=0.15, tail_x=0.6, tail_y=0.7, thought=thought)
    panel = BookPanel(picture=Image.new("RGB", (400, 400), GREEN), bubbles=(speech,))
    (bubble,) = placed([speech], 400, 400)
    drawn = panel_picture(panel, 400)
    tail = [
        (x, y)
        for x in range(400)
        for y in range(int(bubble.y + bubble.half_height) + 3, 400)
        if drawn.getpixel((x, y)) != GREEN
    ]
    assert tail, "no tail is seen below the bubble"
    tip_x, tip_y = max(tail, key=lambda point: point[1])
    assert bubble.x < tip_x < 0.6 * 400 and tip_y < 0.7 * 400


def test_a_speech_without_tail_stands_where_it_was_put() -> None:
    (bubble,) = placed([Speech(text="Boom", x=0.6, y=0.4)], 300, 300)
    assert (bubble.x, bubble.y) == (180, 120) and bubble.target is None


def test_wishes_at_one_place_are_put_side_by_side() -> None:
    speeches = [
        Speech(
            text=f"Speaker {i} says something here", x=0.5, y=0.1, tail_x=0.3 * i + 0.2, tail_y=0.7
        )
        for i in range(3)
    ]
    bubbles = placed(speeches, 300, 300)
    assert all(a.overlap(b) == 0 for a, b in combinations(bubbles, 2))
    assert len({bubble.block.size for bubble in bubbles}) == 1


def test_six_bubbles_of_the_longest_allowed_text_keep_all_words() -> None:
    text = ("The quick brown fox jumps over the lazy dog. " * 5)[:200]
    speech = Speech(text=text, x=0.5, y=0.5, tail_x=0.5, tail_y=0.5)
    (bubble,) = placed([speech], 250, 250)
    assert not bubble.block.cut and not bubble.block.breaks_words


def test_what_is_too_long_is_cut_with_dots_and_small() -> None:
    (bubble,) = placed([Speech(text="blah " * 800, x=0.5, y=0.5, tail_x=0.1, tail_y=0.9)], 200, 200)
    assert bubble.block.cut


def test_words_that_cannot_be_shown_make_no_bubble() -> None:
    assert placed([Speech(text="\x00\x07 \u202e", x=0.5, y=0.5)], 200, 200) == ()
