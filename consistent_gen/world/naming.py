"""Words to factors: what a prompt says about the picture, as far as the story world knows words.

The opposite of `captions`, for prompts with one character. A prompt with
several characters says too little about who is who, so only its scene counts. Words that are not
understood are passed over: a factor is either named for sure or left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from consistent_gen.world import phrases
from consistent_gen.world.captions import words_of
from consistent_gen.world.palette import HUES

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


def named_factors(prompt: str) -> dict[str, str]:
    """Factor -> class (for hues: the colour's name) of what `prompt` names."""
    words = words_of(_PLACEHOLDER.sub(" ", prompt))
    return _scene(words) | (_subject(words) if _characters(words) == 1 else {})


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


def _scene(words: list[str]) -> dict[str, str]:
    found = {}
    for factor, table in _SCENE.items():
        name = _longest(words, {key: texts for key, texts in table.items()})
        if name is not None:
            found[factor] = name
    for style, prefixes in phrases.STYLE_PREFIXES.items():
        if _place(words, f"{style} style") is not None or any(
            _place(words, prefix) is not None for prefix in prefixes
        ):
            found["style"] = style
    return found


def _characters(words: list[str]) -> int:
    nouns = _nouns()
    return sum(word in nouns for word in words)


def _nouns() -> set[str]:
    return {noun.split()[-1] for nouns in phrases.KIND_NOUNS.values() for noun in nouns}


def _subject(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    kind = _longest(words, phrases.KIND_NOUNS)
    assert kind is not None
    found["kind"] = kind
    for factor, table in (
        ("expression", phrases.EXPRESSION_ADJECTIVES),
        ("action", {name: sum(forms, ()) for name, forms in phrases.ACTION_PHRASES.items()}),
    ):
        name = _longest(words, table)
        if name is not None:
            found[factor] = name
    found |= _coat(words, kind)
    found |= _garment(words, "top", phrases.TOP_NOUNS, patterned=True)
    found |= _garment(words, "bottom", phrases.BOTTOM_NOUNS)
    found |= _garment(words, "accessory", phrases.ACCESSORY_NOUNS)
    found |= _garment(words, "shoes", phrases.SHOE_NOUNS, hue="shoe_hue")
    return found


def _coat(words: list[str], kind: str) -> dict[str, str]:
    colors = {word: coat for coat, names in phrases.COAT_HAIR.items() for word in names}
    for place, word in enumerate(words):
        if word in _FUR_NOUNS and place and words[place - 1] in colors:
            return {"coat": colors[words[place - 1]]}
    if kind in ("girl", "boy", "woman", "man"):
        return {}
    nouns = {noun.split()[-1] for noun in phrases.KIND_NOUNS[kind]}
    place = next(i for i, word in enumerate(words) if word in nouns)
    before = [word for word in words[max(0, place - 2) : place] if word in colors]
    return {"coat": colors[before[-1]]} if before else {}


def _garment(
    words: list[str],
    factor: str,
    nouns: Mapping[str, tuple[str, ...]],
    *,
    patterned: bool = False,
    hue: str | None = None,
) -> dict[str, str]:
    """The garment, and the colour and pattern that stand right before its noun."""
    patterns = {w: name for name, ws in phrases.PATTERN_ADJECTIVES.items() for w in ws if w}
    for name, texts in nouns.items():
        for place, word in enumerate(words):
            if word not in texts:
                continue
            found = {factor: name}
            before = words[max(0, place - 2) : place]
            if before and before[-1] in HUES:
                found[hue or f"{factor}_hue"] = before.pop()
            if patterned and before and before[-1] in patterns:
                found["pattern"] = patterns[before[-1]]
            return found
    return {}


def _longest(words: list[str], table: Mapping[str, Iterable[str]]) -> str | None:
    """The entry of `table` with the longest text that occurs in `words`."""
    found = [
        (len(words_of(text)), name)
        for name, texts in table.items()
        for text in texts
        if text and _place(words, text) is not None
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _place(words: list[str], text: str) -> int | None:
    wanted = words_of(text)
    for start in range(len(words) - len(wanted) + 1):
        if words[start : start + len(wanted)] == wanted:
            return start
    return None
