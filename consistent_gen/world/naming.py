"""Words to factors: what a prompt says about the picture, as far as the story world knows words.

The opposite of `captions`, for prompts with one character. A prompt with
several characters says too little about who is who, so only its scene counts. A factor is either
named for sure or left out, and words of which nothing was made are told (`Named.unread`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from consistent_gen.world import phrases
from consistent_gen.world.captions import words_of
from consistent_gen.world.palette import EYES, HUES
from consistent_gen.world.spec import HAIR_STYLES, PEOPLE

_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_SCENE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "place": phrases.PLACE_PHRASES,
    "weather": phrases.WEATHER_PHRASES,
    "camera": phrases.CAMERA_PHRASES,
    "prop": phrases.PROP_PHRASES,
}
_ARTICLES = ("a", "an", "the")
# What ends the words before a character's own.
_BEFORE_CHARACTERS = (",", ".", ":", "of", "and", "in", "with", "on", "at", "is", "are")
_FUR_NOUNS = ("hair", "fur", "ponytail")
_HAIR_WORDS = {"straight": "bob", **{style: style for style in HAIR_STYLES}}
_SIZES = {"tall": "tall", "small": "small"}
# Words that say nothing about what is to be seen by themselves.
_SILENT = frozenset(
    [
        *("a", "an", "the", "of", "in", "on", "at", "by", "to", "with", "and", "is", "are", "as"),
        *("he", "she", "it", "they", "his", "her", "its", "their", "this", "that", "for", "from"),
        *("who", "which", "wearing", "picture", "illustration", "drawing", "painting", "image"),
        *("photo", "style", ",", "."),
    ]
)


@dataclass(frozen=True)
class Named:
    """What a prompt says. factors: as of `named_factors`. unread: words that say something and of
    which nothing was made, in their order. characters: nouns that name one.
    """

    factors: Mapping[str, str]
    unread: tuple[str, ...]
    characters: int


def read_prompt(prompt: str) -> Named:
    """What `prompt` names, and what of it was not understood.

    The colour of a whole figure ("a blue robot") is the factor "figure_hue", "tall" and "small" are
    the factor "height". Of several characters all words but those of the scene are unread.
    """
    words = _Words(words_of(_PLACEHOLDER.sub(" ", prompt)))
    factors = _scene(words)
    count = sum(word in _nouns() for word in words.all)
    if count == 1:
        factors |= _subject(words)
    return Named(factors, words.unread(), count)


def named_factors(prompt: str) -> dict[str, str]:
    """Factor -> class (for hues: the colour's name) of what `prompt` names."""
    return dict(read_prompt(prompt).factors)


def character_phrase(prompt: str) -> str | None:
    """The words that stand for the one character of `prompt`: "a small fox" of "a small fox in a
    forest"; None when there are none or several characters.
    """
    words = list(re.finditer(r"[a-z]+|[^\sa-z]", prompt.lower()))
    nouns = _nouns()
    places = [place for place, word in enumerate(words) if word[0] in nouns]
    if len(places) != 1:
        return None
    start = end = places[0]
    while start and words[start - 1][0] not in _BEFORE_CHARACTERS:
        start -= 1
        if words[start][0] in _ARTICLES:
            break
    return prompt[words[start].start() : words[end].end()]


class _Words:
    """The words of a prompt, and which of them something was made of."""

    def __init__(self, words: list[str]) -> None:
        self.all = words
        self._read: set[int] = set()

    def unread(self) -> tuple[str, ...]:
        """Words that say something and that nobody has read."""
        return tuple(
            word
            for place, word in enumerate(self.all)
            if place not in self._read and word not in _SILENT
        )

    def read(self, start: int, count: int = 1) -> None:
        """Say that something was made of `count` words from `start` on."""
        self._read.update(range(start, start + count))

    def before(self, place: int, count: int = 2) -> list[int]:
        """Places of the words right before `place`, at most `count`."""
        return list(range(max(0, place - count), place))

    def place(self, text: str) -> int | None:
        """Where the words of `text` stand; None where they do not."""
        wanted = words_of(text)
        for start in range(len(self.all) - len(wanted) + 1):
            if wanted and self.all[start : start + len(wanted)] == wanted:
                return start
        return None

    def longest(self, table: Mapping[str, Iterable[str]]) -> str | None:
        """The entry of `table` with the longest text that occurs; its words are read."""
        found = [
            (len(words_of(text)), name, text)
            for name, texts in table.items()
            for text in texts
            if self.place(text) is not None
        ]
        if not found:
            return None
        length, name, text = max(found, key=lambda one: one[:2])
        self.read(self.place(text) or 0, length)
        return name


def _scene(words: _Words) -> dict[str, str]:
    found = {}
    for factor, table in _SCENE.items():
        name = words.longest(table)
        if name is not None:
            found[factor] = name
    styles = {
        style: (f"{style} style", *prefixes) for style, prefixes in phrases.STYLE_PREFIXES.items()
    }
    style = words.longest(styles)
    return found | ({"style": style} if style is not None else {})


def _nouns() -> set[str]:
    return {noun.split()[-1] for nouns in phrases.KIND_NOUNS.values() for noun in nouns}


def _subject(words: _Words) -> dict[str, str]:
    found: dict[str, str] = {}
    kind = words.longest(phrases.KIND_NOUNS)
    assert kind is not None
    found["kind"] = kind
    for factor, table in (
        ("expression", phrases.EXPRESSION_ADJECTIVES),
        ("action", {name: sum(forms, ()) for name, forms in phrases.ACTION_PHRASES.items()}),
        ("cheeks", phrases.CHEEK_PHRASES),
        ("eye_color", {color: (f"{color} eyes",) for color in EYES}),
        ("height", {name: (word,) for word, name in _SIZES.items()}),
    ):
        name = words.longest(table)
        if name is not None:
            found[factor] = name
    found |= _coat(words, kind)
    found |= _garment(words, "top", phrases.TOP_NOUNS, patterned=True)
    found |= _garment(words, "bottom", phrases.BOTTOM_NOUNS)
    found |= _garment(words, "accessory", phrases.ACCESSORY_NOUNS)
    found |= _garment(words, "shoes", phrases.SHOE_NOUNS, hue="shoe_hue")
    return found


def _coat(words: _Words, kind: str) -> dict[str, str]:
    """Hair, fur or metal, and how the hair is worn; else the colour of the whole figure."""
    colors = {word: coat for coat, names in phrases.COAT_HAIR.items() for word in names}
    found: dict[str, str] = {}
    for place, word in enumerate(words.all):
        if word not in _FUR_NOUNS:
            continue
        words.read(place)
        if word == "ponytail":
            found["hair_style"] = "ponytail"
        for at in words.before(place):
            if words.all[at] in colors and at == place - 1:
                words.read(at)
                found["coat"] = colors[words.all[at]]
            elif words.all[at] in _HAIR_WORDS:
                words.read(at)
                found["hair_style"] = _HAIR_WORDS[words.all[at]]
    nouns = {noun.split()[-1] for noun in phrases.KIND_NOUNS[kind]}
    noun = next(i for i, word in enumerate(words.all) if word in nouns)
    # "a brown little fox": nearest to the noun counts.
    for at in reversed(words.before(noun)):
        color = words.all[at]
        if color in colors and kind not in PEOPLE:
            if "coat" not in found:
                words.read(at)
                return found | {"coat": colors[color]}
            return found
        if color in HUES:
            words.read(at)
            return found | {"figure_hue": color}
    return found


def _garment(
    words: _Words,
    factor: str,
    nouns: Mapping[str, tuple[str, ...]],
    *,
    patterned: bool = False,
    hue: str | None = None,
) -> dict[str, str]:
    """The garment, and the colour and pattern that stand right before its noun."""
    patterns = {w: name for name, ws in phrases.PATTERN_ADJECTIVES.items() for w in ws if w}
    for name, texts in nouns.items():
        for place, word in enumerate(words.all):
            if word not in texts:
                continue
            words.read(place)
            found = {factor: name}
            before = words.before(place)
            if before and words.all[before[-1]] in HUES:
                words.read(before[-1])
                found[hue or f"{factor}_hue"] = words.all[before.pop()]
            if patterned and before and words.all[before[-1]] in patterns:
                words.read(before[-1])
                found["pattern"] = patterns[words.all[before[-1]]]
            return found
    return {}
