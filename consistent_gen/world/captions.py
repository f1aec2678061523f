"""Specification to words: captions that name only a random part of what is in the picture.

A caption is lower-case English; commas are its only punctuation. Each word is one token of the
story-world tokenizer, so `spans` (in words, end exclusive) are token spans up to the start token.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from consistent_gen.world import phrases, spec
from consistent_gen.world.palette import EYES, HUES, hue_name
from consistent_gen.world.phrases import PLURALS
from consistent_gen.world.spec import FrameSpec, Identity, SubjectSpec

MAX_WORDS = 62  # 64 token places less the start and end token


@dataclass(frozen=True)
class Caption:
    """Words of one picture and what they say.

    spans: per subject the first and one past the last word of its noun phrase.
    named: per subject the factors (and "action", "expression") that the words fix, by class name;
        hue factors by colour name.
    scene: the frame's factors that the words fix ("place", "weather", "style", "camera", "prop").
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    named: tuple[dict[str, str], ...]
    scene: dict[str, str]


def words_of(text: str) -> list[str]:
    """The words and commas of `text`, as the tokenizer cuts them."""
    return re.findall(r"[a-z]+|,", text.lower())


def style_phrase(style: str) -> str:
    """How a prompt names `style`: "a pencil drawing" (for "a pencil drawing of ...")."""
    return phrases.STYLE_PREFIXES[style][0]


def _article(noun: str) -> str:
    if noun.split()[-1] in PLURALS:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def describe(
    identity: Identity,
    rng: random.Random,
    *,
    share: float = 0.5,
    expression: str | None = None,
) -> tuple[str, dict[str, str]]:
    """A noun phrase for `identity` and the factors it names. `share` in [0, 1] is the chance of
    each.
    """
    named = {"kind": identity.kind}
    before: list[str] = []
    after: list[tuple[str, str]] = []
    if expression is not None:
        before.append(rng.choice(phrases.EXPRESSION_ADJECTIVES[expression]))
        named["expression"] = expression
    if rng.random() < 0.25 * share and abs(identity.height - 0.5) > 0.28:
        before.append("tall" if identity.height > 0.5 else "small")
    if rng.random() < 1.1 * share:
        _name_coat(identity, rng, before, after, named)
    clothes = _name_clothes(identity, rng, share, named)
    if clothes:
        after.append((rng.choice(("in ", "wearing ")), clothes))
    for chance, name in ((0.9, "accessory"), (0.2, "eye_color"), (0.2, "cheeks")):
        if rng.random() < chance * share:
            phrase = _feature(identity, name, rng, named)
            if phrase:
                after.append(("with ", phrase))
    noun = rng.choice(phrases.KIND_NOUNS[identity.kind])
    if before and noun.startswith(("little", "young")):
        noun = noun.split()[-1]
    rng.shuffle(after)
    after.sort(key=lambda item: item[0] != "with ")
    text = _article(" ".join([*before, noun])) + _join_features(after)
    return text, named


def _join_features(after: list[tuple[str, str]]) -> str:
    """ " with A and B, wearing C": equal prepositions are joined."""
    withs = [phrase for preposition, phrase in after if preposition == "with "]
    others = [preposition + phrase for preposition, phrase in after if preposition != "with "]
    text = " with " + " and ".join(withs) if withs else ""
    return text + "".join(" " + phrase for phrase in others)


def _name_coat(identity: Identity, rng: random.Random, before: list[str],
               after: list[tuple[str, str]], named: dict[str, str]) -> None:  # fmt: skip
    named["coat"] = identity.coat
    if identity.is_person:
        color = rng.choice(phrases.COAT_HAIR[identity.coat])
        style = ""
        if rng.random() < 0.6:
            style = {"bob": "straight"}.get(identity.hair_style, identity.hair_style) + " "
            if identity.hair_style == "ponytail":
                named["hair_style"] = "ponytail"
                after.append(("with ", f"a {color} ponytail"))
                return
            named["hair_style"] = identity.hair_style
        after.append(("with ", f"{style}{color} hair"))
        return
    color = rng.choice(phrases.COAT_FUR[identity.coat])
    if identity.kind != "robot" and rng.random() < 0.3:
        after.append(("with ", f"{color} fur"))
    else:
        before.append(color)


def _name_clothes(
    identity: Identity, rng: random.Random, share: float, named: dict[str, str]
) -> str:
    items: list[str] = []
    if rng.random() < 1.2 * share:
        noun = rng.choice(phrases.TOP_NOUNS[identity.top])
        pattern = ""
        named["top"] = identity.top
        if rng.random() < 0.5:
            pattern = rng.choice(phrases.PATTERN_ADJECTIVES[identity.pattern])
            if pattern:
                named["pattern"] = identity.pattern
        color = hue_name(identity.top_hue)
        named["top_hue"] = color
        items.append(_article(" ".join(w for w in (pattern, color, noun) if w)))
    if identity.top not in ("dress", "overalls") and rng.random() < 0.5 * share:
        noun = rng.choice(phrases.BOTTOM_NOUNS[identity.bottom])
        named["bottom"] = identity.bottom
        named["bottom_hue"] = hue_name(identity.bottom_hue)
        items.append(_article(f"{named['bottom_hue']} {noun}"))
    if rng.random() < 0.25 * share:
        noun = rng.choice(phrases.SHOE_NOUNS[identity.shoes])
        named["shoes"] = identity.shoes
        named["shoe_hue"] = hue_name(identity.shoe_hue)
        items.append(f"{named['shoe_hue']} {noun}")
    return " and ".join(items)


def _feature(identity: Identity, name: str, rng: random.Random, named: dict[str, str]) -> str:
    if name == "eye_color":
        named["eye_color"] = identity.eye_color
        return f"{identity.eye_color} eyes"
    if name == "cheeks":
        if identity.cheeks == "none":
            return ""
        named["cheeks"] = identity.cheeks
        return rng.choice(phrases.CHEEK_PHRASES[identity.cheeks])
    if identity.accessory == "none":
        return ""
    named["accessory"] = identity.accessory
    noun = rng.choice(phrases.ACCESSORY_NOUNS[identity.accessory])
    if rng.random() < 0.7:
        named["accessory_hue"] = hue_name(identity.accessory_hue)
        noun = f"{named['accessory_hue']} {noun}"
    return _article(noun)


def caption(frame: FrameSpec, rng: random.Random, *, share: float | None = None) -> Caption:
    """Words for `frame`. `share` in [0, 1] is how much of each identity is named (random when
    None).
    """
    if share is None:
        share = rng.choices((0.0, 0.35, 0.6, 0.9), weights=(8, 27, 40, 25))[0]
    scale = (1.0, 0.75, 0.45)[len(frame.subjects) - 1]
    while True:
        result = _compose(frame, rng, share * scale)
        if len(words_of(result.text)) <= MAX_WORDS:
            return result
        scale *= 0.7


def _compose(frame: FrameSpec, rng: random.Random, share: float) -> Caption:
    scene: dict[str, str] = {}
    prefix = _prefix(frame, rng, scene)
    setting = _setting(frame, rng, scene)
    subjects, marks, named = _actors(frame, rng, share, finite=prefix == "")
    tail = _tail(frame, rng, scene)
    if prefix:
        text = f"{prefix} of {subjects}{setting}{tail}"
    elif rng.random() < 0.3:
        text = f"{setting.strip()}, {subjects}{tail}"
    else:
        text = f"{subjects}{setting}{tail}"
    text = " ".join(text.replace(" ,", ",").split())
    return Caption(text, _spans(text, marks), named, scene)


def _prefix(frame: FrameSpec, rng: random.Random, scene: dict[str, str]) -> str:
    if rng.random() < 0.7:
        scene["style"] = frame.style
        return rng.choice(phrases.STYLE_PREFIXES[frame.style])
    return rng.choice(phrases.PLAIN_PREFIXES) if rng.random() < 0.15 else ""


def _setting(frame: FrameSpec, rng: random.Random, scene: dict[str, str]) -> str:
    text = ""
    if rng.random() < 0.95:
        scene["place"] = frame.place
        text += " " + rng.choice(phrases.PLACE_PHRASES[frame.place])
    chance = 0.25 if frame.weather == "sunny" else 0.75
    if rng.random() < chance and frame.place != "moon":
        phrase = rng.choice(phrases.WEATHER_PHRASES[frame.weather])
        if phrase:
            scene["weather"] = frame.weather
            text += " " + phrase
    return text


def _tail(frame: FrameSpec, rng: random.Random, scene: dict[str, str]) -> str:
    text = ""
    if frame.prop != "none" and rng.random() < 0.8:
        scene["prop"] = frame.prop
        text += " " + rng.choice(phrases.PROP_PHRASES[frame.prop])
    if rng.random() < 0.35:
        phrase = rng.choice(phrases.CAMERA_PHRASES[frame.camera])
        if phrase:
            scene["camera"] = frame.camera
            text += ", " + phrase
    if "style" not in scene and rng.random() < 0.75:
        scene["style"] = frame.style
        text += f", {frame.style} style"
    return text


def _actors(
    frame: FrameSpec, rng: random.Random, share: float, finite: bool
) -> tuple[str, list[str], tuple[dict[str, str], ...]]:
    """The subjects with what they do, each noun phrase (to find its span), and what was named."""
    marks: list[str] = []
    named: list[dict[str, str]] = []
    parts: list[str] = []
    together = len(frame.subjects) > 1 and len({s.action for s in frame.subjects}) == 1
    form = rng.choice((0, 1, 2)) if finite else 0
    for subject in frame.subjects:
        mood = subject.expression if rng.random() < 0.45 else None
        phrase, names = describe(subject.identity, rng, share=share, expression=mood)
        marks.append(phrase)
        named.append({**names, "action": subject.action})
        parts.append(phrase if together else f"{phrase} {_action(subject, rng, form)}")
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    if together:
        verb = rng.choice(phrases.ACTION_PHRASES[frame.subjects[0].action])[0]
        text += f" {'are ' if finite and not verb.startswith('with') else ''}{verb}"
    return text, marks, tuple(named)


def _action(subject: SubjectSpec, rng: random.Random, form: int) -> str:
    ing, finite = rng.choice(phrases.ACTION_PHRASES[subject.action])
    if form == 0 or ing.startswith("with"):
        return ing
    return f"is {ing}" if form == 1 else finite


def _spans(text: str, marks: list[str]) -> tuple[tuple[int, int], ...]:
    words = words_of(text)
    spans: list[tuple[int, int]] = []
    start = 0
    for mark in marks:
        wanted = words_of(mark)
        while words[start : start + len(wanted)] != wanted:
            start += 1
        spans.append((start, start + len(wanted)))
        start += len(wanted)
    return tuple(spans)


def vocabulary() -> tuple[str, ...]:
    """Every word a caption can use, sorted: the closed vocabulary of the small model."""
    words = set(
        words_of("a an of in wearing with and is are style tall small fur hair eyes straight ,")
    )
    tables = [value for name, value in vars(phrases).items() if name.isupper()]
    for table in tables:
        if isinstance(table, dict):
            for values in table.values():
                for value in values:
                    for item in value if isinstance(value, tuple) else (value,):
                        words.update(words_of(item))
        else:
            for item in table:
                words.update(words_of(item))
    for options in (HUES, spec.HAIR_STYLES, EYES, spec.STYLES):
        words.update(options)
    return tuple(sorted(words))
