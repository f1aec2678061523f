"""Where characters stand: what a story file may say, and in which order a prompt is told then."""

from __future__ import annotations

import pytest

from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.boxes import left_to_right, moved, told_in_order
from consistent_gen.story.plan import plan_story
from consistent_gen.story.script import dump_story, parse_story
from consistent_gen.story.types import PLACES, Frame, PictureBox

PEOPLE = "title: x\ncharacters: {Mia: a girl, Bruno: a bear, Tom: a cat}\nframes:\n"
NAMES = ("Mia", "Bruno", "Tom")
LEFT, MIDDLE, RIGHT = PLACES.values()


def test_a_story_file_says_where_somebody_stands() -> None:
    text = PEOPLE + (
        '  - prompt: "{Mia} and {Bruno} dancing"\n'
        "    boxes: {Mia: right, Bruno: [0, 0.25, 0.5, 1]}\n"
    )
    story = parse_story(text)
    (frame,) = story.frames
    assert frame.boxes == {"Mia": RIGHT, "Bruno": PictureBox(0.0, 0.25, 0.5, 1.0)}
    assert frame.place_of("boxes").line == 5
    assert parse_story(dump_story(story)) == story


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ("{Mai: left}", ("unknown character in boxes 'Mai'", "'Mia'")),
        ("{Mia: lefft}", ("unknown place of a box 'lefft'", "'left'")),
        ("left", ("boxes is 'name: left'",)),
        ("{Mia: [0, 0, 1]}", ("one of left, middle, right or four numbers",)),
        ("{Mia: [0, 0, 1, x]}", ("four numbers",)),
        ("{Mia: {x: 1}}", ("four numbers",)),
        ("{Mia: [0, 0, 1.5, 1]}", ("[0, 0, 1.5, 1]", "from 0 to 1")),
        ("{Mia: [-0.1, 0, 1, 1]}", ("from 0 to 1",)),
        ("{Mia: [0.5, 0, 0.5, 1]}", ("left before right",)),
        ("{Mia: [0, 0.8, 1, 0.2]}", ("top before bottom",)),
        ("{Mia:}", ("four numbers",)),
    ],
)
def test_a_wrong_box_is_told_with_its_line(boxes: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        parse_story(PEOPLE + f'  - prompt: "{{Mia}} runs"\n    boxes: {boxes}\n', source="f.yaml")
    assert caught.value.line == 5
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "boxes", "told"),
    [
        ("{Mia} and {Bruno} dancing", {"Mia": LEFT}, "{Mia} and {Bruno} dancing"),
        ("{Mia} and {Bruno} dancing", {"Mia": RIGHT}, "{Bruno} and {Mia} dancing"),
        ("{Mia} and {Bruno} dancing", {"Bruno": LEFT}, "{Bruno} and {Mia} dancing"),
        (
            "at night, {sad Mia} reading a book and {Bruno} running fast in a meadow",
            {"Mia": RIGHT, "Bruno": LEFT},
            "at night, {Bruno} running fast and {sad Mia} reading a book in a meadow",
        ),
        (
            "{Mia} waving, {Bruno} and {Tom} is jumping at sunset",
            {"Tom": LEFT, "Mia": RIGHT},
            "{Tom} is jumping, {Bruno} and {Mia} waving at sunset",
        ),
        ("{Mia}, {Bruno} and {Tom} waving", {"Mia": MIDDLE}, "{Bruno}, {Mia} and {Tom} waving"),
        ("{Mia} in a city", {"Mia": RIGHT}, "{Mia} in a city"),
    ],
)
def test_a_prompt_is_told_from_left_to_right(
    prompt: str, boxes: dict[str, PictureBox], told: str
) -> None:
    assert told_in_order(Frame(prompt=prompt, boxes=boxes), NAMES) == told


@pytest.mark.parametrize(
    "prompt", ["{Mia} looking at {Bruno}", "{Mia} and {Bruno} reading, {Mia} happy"]
)
def test_words_that_cannot_change_places_are_refused(prompt: str) -> None:
    with pytest.raises(InputError, match="name Bruno first"):
        told_in_order(Frame(prompt=prompt, boxes={"Mia": RIGHT}), NAMES)


def test_who_has_no_box_moves_no_further_than_needed() -> None:
    assert left_to_right(["a", "b", "c"], {}) == ["a", "b", "c"]
    assert left_to_right(["a", "b", "c"], {"c": LEFT}) == ["c", "a", "b"]
    assert left_to_right(["a", "b"], {"a": RIGHT, "b": RIGHT}) == ["a", "b"]


def test_the_plan_tells_the_model_in_that_order(tiny: Backbone) -> None:
    text = PEOPLE + '  - prompt: "{Mia} and {Bruno}"\n    boxes: {Mia: right}\n'
    frame = plan_story(parse_story(text), tiny).frames[0]
    assert frame.prompt == "a bear and a girl"
    assert [subject.name for subject in frame.subjects] == ["Bruno", "Mia"]
    assert [member.name for member in frame.members] == ["Bruno", "Mia"]
    assert frame.boxes == {"Mia": RIGHT}


def test_a_box_of_somebody_whom_the_prompt_does_not_name_is_refused(tiny: Backbone) -> None:
    text = PEOPLE + '  - prompt: "{Mia}"\n    boxes: {Bruno: left}\n'
    with pytest.raises(InputError, match="the prompt does not name Bruno") as caught:
        plan_story(parse_story(text, source="f.yaml"), tiny)
    assert (caught.value.source, caught.value.line) == ("f.yaml", 5)


@pytest.mark.parametrize(
    ("boxes", "share"),
    [
        ({"Mia": LEFT}, -0.25),
        ({"Mia": RIGHT}, 0.25),
        ({"Mia": PictureBox(0.9, 0.0, 1.0, 1.0)}, 0.3),  # no further, or it would leave the picture
        ({"Mia": MIDDLE}, 0.0),
        ({}, 0.0),
    ],
)
def test_somebody_alone_is_moved_to_the_box(boxes: dict[str, PictureBox], share: float) -> None:
    assert moved(["Mia"], boxes) == pytest.approx(share)


def test_two_who_fill_the_picture_are_not_moved() -> None:
    for boxes in ({"a": LEFT, "b": RIGHT}, {"a": LEFT, "b": MIDDLE}, {"a": LEFT, "b": LEFT}):
        assert moved(["a", "b"], boxes) == 0.0


def test_somebody_without_a_name_beside_somebody_with_a_box_is_refused() -> None:
    frame = Frame(prompt="{Mia} and a cat", boxes={"Mia": RIGHT})
    with pytest.raises(InputError, match="make a character of them too"):
        told_in_order(frame, NAMES)
