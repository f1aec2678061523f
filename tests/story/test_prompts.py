"""Characters in prompts: what is written, and where, in characters and in tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from consistent_gen.errors import StoryError
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.cast import CastMember, cast_members, head_noun
from consistent_gen.story.prompts import (
    literal_words,
    render,
    story_world_styles,
    style_affixes,
    subjects_of,
)
from consistent_gen.story.script import parse_story

CAST = {
    "Mia": CastMember(name="Mia", words="a girl with a red hat", noun="girl"),
    "Bo": CastMember(name="Bo", words="A Small Bear", noun="Bear"),
}


def text(template: str, style: str | None = None, *, story_world: bool = True) -> str:
    return render(template, CAST, style, story_world=story_world).text


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{Mia} reading", "a girl with a red hat reading"),
        ("{Mia} and {Bo}, {Mia}", "a girl with a red hat and a small bear, the girl"),
        ("{sad Mia}", "a sad girl with a red hat"),
        ("{angry Mia}", "an angry girl with a red hat"),
        ("{Bo} and {old red Bo}", "a small bear and the old red bear"),
        ("{ Mia }", "a girl with a red hat"),
        ("A Fox", "a fox"),
    ],
)
def test_names_become_words(template: str, expected: str) -> None:
    assert text(template) == expected


def test_an_open_model_keeps_case_and_reads_the_style_last() -> None:
    assert text("A Fox and {Bo}", "Oil", story_world=False) == "A Fox and A Small Bear, Oil"


@pytest.mark.parametrize("style", story_world_styles())
def test_the_story_world_model_reads_the_style_first(style: str, worldly: Backbone) -> None:
    prompt = text("a fox", style)
    assert prompt.endswith(" of a fox") and style in prompt
    assert worldly.unknown_words(prompt) == []
    assert style_affixes(style.upper(), story_world=True) == style_affixes(style, story_world=True)


def test_nouns_are_where_the_words_are() -> None:
    prompt = render("{Mia} and {Bo} with {sad Mia}", CAST, "pencil", story_world=True)
    said = "a girl with a red hat and a small bear with the sad girl"
    assert prompt.text.endswith(f" of {said}")
    nouns = [(name, prompt.text[start:end]) for name, start, end in prompt.nouns]
    assert nouns == [("Mia", "girl"), ("Bo", "bear"), ("Mia", "girl")]
    assert prompt.text[: prompt.nouns[2][1]].endswith("the sad ")


def test_tokens_of_subjects_hold_exactly_the_words(worldly: Backbone) -> None:
    cast = {**CAST, "Bo": replace(CAST["Bo"], words="a brown bear", noun="bear")}
    prompt = render("{Mia} and {Bo} dancing, {Mia}", cast, "watercolor", story_world=True)
    ids = worldly.tokenizer(prompt.text)["input_ids"]
    subjects = subjects_of(prompt, worldly.readers)
    words = [worldly.tokenizer.decode([ids[i] for i in s.tokens]).strip() for s in subjects]
    assert [s.name for s in subjects] == ["Mia", "Bo", "Mia"]
    assert words == ["girl", "bear", "girl"]
    # The story world's words are one token each, after the start token.
    before = len(prompt.text[: prompt.nouns[0][1]].split())
    assert subjects[0].tokens == (1 + before,)


def test_literal_words_leave_the_characters_out() -> None:
    assert literal_words("{sad Mia} and {Bo} run", CAST) == "sad and run"


@pytest.mark.parametrize(
    ("description", "noun"),
    [
        ("a brown bear with a red scarf", "bear"),
        ("the old red fox", "fox"),
        ("girl", "girl"),
        ("an elf, tall and thin", "elf"),
        ("a cat in boots", "cat"),
        ("with a hat", None),
        ("a", None),
        ("...", None),
    ],
)
def test_head_noun(description: str, noun: str | None) -> None:
    assert head_noun(description) == noun


def test_casting_names_the_line_of_a_bad_description() -> None:
    story = parse_story("title: x\ncharacters:\n  Mia: with a hat\nframes: [a]\n", source="f.yaml")
    with pytest.raises(StoryError, match=r"^f\.yaml:3: the description of Mia starts with no noun"):
        cast_members(story)


def test_references_are_found_beside_the_story(tmp_path: Path) -> None:
    line = "  Mia: {description: a girl, references: mia.png}\n"
    story = parse_story(f"title: x\ncharacters:\n{line}frames: [a]\n", source="f.yaml")
    with pytest.raises(StoryError, match=r"^f\.yaml:3: .*'mia\.png' of Mia does not exist"):
        cast_members(story, tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "mia.png")
    assert cast_members(story, tmp_path)["Mia"].references == (tmp_path / "mia.png",)
