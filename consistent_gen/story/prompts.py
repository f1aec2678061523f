"""Frame -> prompt text, and where in it every character stands, in characters and in tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from consistent_gen.registry import resolve
from consistent_gen.story.casting import Identity
from consistent_gen.story.script import placeholders

# The story world's own words for its styles; looked up by name, as other models draw without it.
STYLE_WORDS = {
    "names": "consistent_gen.world.spec:STYLES",
    "phrase": "consistent_gen.world.captions:style_phrase",
}


@dataclass(frozen=True)
class Mention:
    """Where a prompt speaks of a character: its phrase and the head noun in it, in characters."""

    name: str
    start: int
    end: int
    noun_start: int
    noun_end: int


@dataclass(frozen=True)
class Prompt:
    """The text that a model reads, and the mentions in it in order of appearance."""

    text: str
    mentions: tuple[Mention, ...] = ()


@dataclass(frozen=True)
class SubjectSpan:
    """A mention in tokens, end exclusive, counted as the tokenizer does (its start token is 0)."""

    name: str
    tokens: tuple[int, int]
    noun: tuple[int, int]


def story_world_styles() -> tuple[str, ...]:
    """The style names that the story-world model was trained on."""
    names: tuple[str, ...] = resolve(STYLE_WORDS, "names")
    return names


def style_affixes(style: str | None, *, story_world: bool) -> tuple[str, str]:
    """(prefix, suffix) that put `style` into a prompt.

    The story-world model learned "a pencil drawing of ..."; other models read "..., pencil".
    `style` must be one of `story_world_styles()` for the former.
    """
    if style is None:
        return "", ""
    if story_world:
        return f"{resolve(STYLE_WORDS, 'phrase')(style.lower())} of ", ""
    return "", f", {style}"


def render(
    template: str,
    cast: Mapping[str, Identity],
    style: str | None = None,
    *,
    story_world: bool,
) -> Prompt:
    """The prompt of a frame: `{name}` replaced, style added; lower case for the story-world model.

    A character's first mention is its whole description, later ones its short form ("the bear").
    Every name in `template` must be in `cast`.
    """
    prefix, suffix = style_affixes(style, story_world=story_world)
    fold = str.lower if story_world else str
    text = fold(prefix)
    mentions: list[Mention] = []
    seen: set[str] = set()
    position = 0
    for found in placeholders(template, cast):
        identity = cast[found.name]
        text += fold(template[position : found.start])
        say = identity.later_mention if found.name in seen else identity.first_mention
        words = fold(say(found.adjectives))
        mentions.append(_mention(identity, words, fold(identity.noun), len(text)))
        seen.add(found.name)
        text += words
        position = found.end
    text += fold(template[position:]) + fold(suffix)
    return Prompt(text, tuple(mentions))


def literal_words(template: str, cast: Iterable[str]) -> str:
    """The words that the writer typed into a prompt, adjectives too, without the characters."""
    pieces, position = [], 0
    for found in placeholders(template, cast):
        pieces += [template[position : found.start], found.adjectives]
        position = found.end
    return " ".join(" ".join([*pieces, template[position:]]).split())


def subject_spans(prompt: Prompt, tokenizer: Any) -> tuple[SubjectSpan, ...]:
    """Token spans of the mentions of `prompt` under a fast tokenizer of transformers."""
    if not prompt.mentions:
        return ()
    offsets = tokenizer(prompt.text, return_offsets_mapping=True)["offset_mapping"]
    return tuple(
        SubjectSpan(
            mention.name,
            _tokens_in(offsets, mention.start, mention.end),
            _tokens_in(offsets, mention.noun_start, mention.noun_end),
        )
        for mention in prompt.mentions
    )


def _mention(identity: Identity, words: str, noun: str, at: int) -> Mention:
    found = re.search(rf"(?<!\w){re.escape(noun)}(?!\w)", words)
    assert found is not None, f"head noun {noun!r} is not a word of {words!r}"
    return Mention(identity.name, at, at + len(words), at + found.start(), at + found.end())


def _tokens_in(offsets: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    # Start and end tokens have empty offsets and so overlap nothing.
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
