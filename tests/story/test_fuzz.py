"""Whatever stands in a story file, reading it gives a story or one readable error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consistent_gen.errors import InputError
from consistent_gen.story.cast import cast_members
from consistent_gen.story.prompts import render
from consistent_gen.story.script import (
    CHARACTER_KEYS,
    FRAME_KEYS,
    STORY_KEYS,
    dump_story,
    parse_story,
)
from consistent_gen.story.types import Story

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
VALID = [path.read_bytes() for path in EXAMPLES]

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

MARKS = "{}[]:,&*!|>'\"%@`#-?~<=\\ \t\n\r\0\ufeff\u2028"
PIECES = st.one_of(
    st.sampled_from([*STORY_KEYS, *FRAME_KEYS, *CHARACTER_KEYS, "Mia", "---", "...", "<<", "!!"]),
    st.text(MARKS + "ab1.", max_size=6),
    st.text(max_size=4),
)
YAML_LIKE = st.lists(PIECES, max_size=30).map("".join)

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["{Mia}", "a girl", "{sad Mia} and {Mia}", "128x128", "flat", "ddim"]),
)
KEYS = st.one_of(
    st.sampled_from([*STORY_KEYS, *FRAME_KEYS, *CHARACTER_KEYS, "Mia"]), st.text(max_size=6)
)
TREES = st.recursive(
    LEAVES, lambda t: st.lists(t, max_size=4) | st.dictionaries(KEYS, t, max_size=5), max_leaves=20
)
NEARLY = st.fixed_dictionaries(
    {"title": LEAVES, "frames": st.lists(LEAVES | st.dictionaries(KEYS, LEAVES), max_size=3)},
    optional={key: LEAVES for key in STORY_KEYS if key not in ("title", "frames")}
    | {"characters": st.dictionaries(KEYS, LEAVES | st.dictionaries(KEYS, LEAVES), max_size=3)},
)


def read(data: bytes | str) -> Story | None:
    """The story, or None after a proper error; anything else escapes and fails the test."""
    try:
        return parse_story(data, source="fuzz.yaml")
    except InputError as error:
        text = str(error)
        assert text.startswith("fuzz.yaml") and "\n" not in text and len(text) < 1500, text
        assert error.exit_code == 2
        return None


def use(story: Story | None) -> None:
    """A story that was read can be written back, cast and rendered."""
    if story is None:
        return
    assert parse_story(dump_story(story)).frames[0].prompt == story.frames[0].prompt
    try:
        cast = cast_members(story)
    except InputError:
        return
    for frame in story.frames:
        prompt = render(frame.prompt, cast, "flat", story_world=True)
        assert "{" not in prompt.text
        for name, start, end in prompt.nouns:
            assert cast[name].noun.lower() == prompt.text[start:end]


@FUZZ
@given(st.binary(max_size=200))
def test_bytes(data: bytes) -> None:
    use(read(data))


@FUZZ
@given(YAML_LIKE)
def test_yaml_like_text(text: str) -> None:
    use(read(text))


@FUZZ
@given(st.data())
def test_mutated_examples(data: Any) -> None:
    text = bytearray(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        text[start:end] = data.draw(PIECES).encode("utf-8", "surrogatepass")
    use(read(bytes(text)))


@FUZZ
@given(TREES | NEARLY)
def test_structures(tree: Any) -> None:
    use(read(yaml.safe_dump(tree, allow_unicode=True)))


@pytest.mark.parametrize("text", VALID, ids=[p.stem for p in EXAMPLES])
def test_every_prefix_of_an_example(text: bytes) -> None:
    for end in range(0, len(text), 31):
        use(read(text[:end]))
