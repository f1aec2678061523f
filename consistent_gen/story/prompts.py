"""Frame -> prompt text, and where in it every character stands, in characters and in tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consistent_gen.engine.request import Subject
from consistent_gen.registry import resolve
from consistent_gen.story.script import placeholders

if TYPE_CHECKING:
    from consistent_gen.diffusion.readers import PromptReader
    from consistent_gen.story.cast import CastMember

# The story world's own words for its styles; looked up by name, as other models draw without it.
STYLE_WORDS = {
    "names": "consistent_gen.world.spec:STYLES",
    "phrase": "consistent_gen.world.captions:style_phrase",
}


@dataclass(frozen=True)
class Prompt:
    """The text that a model reads, and where it speaks of whom, in order of appearance.

    nouns: (name, start, end) of the head noun of every mention of a character, in characters.
    """

    text: str
    nouns: tuple[tuple[str, int, int], ...] = ()


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
    cast: Mapping[str, CastMember],
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
    nouns: list[tuple[str, int, int]] = []
    position = 0
    for found in placeholders(template, cast):
        member = cast[found.name]
        text += fold(template[position : found.start])
        seen = any(name == found.name for name, _, _ in nouns)
        words = fold((member.later_mention if seen else member.first_mention)(found.adjectives))
        noun = re.search(rf"(?<!\w){re.escape(fold(member.noun))}(?!\w)", words)
        assert noun is not None, f"head noun {member.noun!r} is not a word of {words!r}"
        nouns.append((found.name, len(text) + noun.start(), len(text) + noun.end()))
        text += words
        position = found.end
    text += fold(template[position:]) + fold(suffix)
    return Prompt(text, tuple(nouns))


def literal_words(template: str, cast: Iterable[str]) -> str:
    """The words that the writer typed into a prompt, adjectives too, without the characters."""
    pieces, position = [], 0
    for found in placeholders(template, cast):
        pieces += [template[position : found.start], found.adjectives]
        position = found.end
    return " ".join(" ".join([*pieces, template[position:]]).split())


def subjects_of(prompt: Prompt, readers: Sequence[PromptReader]) -> tuple[Subject, ...]:
    """Where a prompt speaks of whom, in the tokens of a model's `readers`."""
    if not prompt.nouns:
        return ()
    places = [
        (reader.first + i, a, b)
        for reader in readers
        for i, (a, b) in enumerate(reader.read(prompt.text)["offset_mapping"])
    ]
    # Start and end tokens have empty offsets and so overlap nothing.
    return tuple(
        Subject(
            name=name,
            tokens=tuple(i for i, a, b in places if start < b > a and a < end),
        )
        for name, start, end in prompt.nouns
    )
