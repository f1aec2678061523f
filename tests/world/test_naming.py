"""Words to factors, against captions that know what they say."""

from __future__ import annotations

import pytest

from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.naming import character_phrase, named_factors
from consistent_gen.world.palette import hue_anchors, hue_name

WORLD = StoryWorld("train")


def test_words_are_read_as_they_were_written() -> None:
    """Captions of the world know what they say: nothing else is read out of them, and most is."""
    said = read = 0
    for number in range(400):
        frame, caption = WORLD.frame(number), WORLD.caption(number)
        found = named_factors(caption.text)
        if len(frame.subjects) > 1:
            assert found.items() <= caption.scene.items(), caption.text
            continue
        told = caption.named[0] | caption.scene
        wrong = {k: v for k, v in found.items() if told.get(k, v) != v}
        assert not wrong, (caption.text, wrong, told)
        said += len(told)
        read += len(found.keys() & told.keys())
    assert read / said > 0.95


@pytest.mark.parametrize("text", ["", "{Mia} and {Bo}", "nothing we know", "a fox and a bear"])
def test_words_that_name_nothing(text: str) -> None:
    assert named_factors(text) == {}


def test_the_anchors_are_where_the_colors_are() -> None:
    assert all(hue_name(place) == name for name, place in hue_anchors().items())


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a small fox in a forest", "a small fox"),
        ("A pencil drawing of a Little Fox with a red scarf dancing", "a Little Fox"),
        ("in a forest, fox dancing", "fox"),
        ("the lady is reading", "the lady"),
        ("a fox and a bear", None),
        ("a meadow at night", None),
        ("", None),
    ],
)
def test_the_words_of_the_one_character(text: str, phrase: str | None) -> None:
    assert character_phrase(text) == phrase
