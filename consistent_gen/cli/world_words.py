"""The vocabulary of the story world: a list of words, and a page with a picture of each."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from consistent_gen.world import phrases, spec
from consistent_gen.world.palette import COATS, EYES, HUES

# What a page shows, by heading: value -> the words for it.
SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "kind": phrases.KIND_NOUNS,
    "action": {name: sum(forms, ()) for name, forms in phrases.ACTION_PHRASES.items()},
    "expression": phrases.EXPRESSION_ADJECTIVES,
    "place": phrases.PLACE_PHRASES,
    "weather": {
        name: tuple(w for w in words if w) for name, words in phrases.WEATHER_PHRASES.items()
    },
    "prop": phrases.PROP_PHRASES,
    "top": phrases.TOP_NOUNS,
    "bottom": phrases.BOTTOM_NOUNS,
    "shoes": phrases.SHOE_NOUNS,
    "accessory": phrases.ACCESSORY_NOUNS,
    "pattern": {name: tuple(w for w in ws if w) for name, ws in phrases.PATTERN_ADJECTIVES.items()},
    "top_hue": {name: (name,) for name in HUES},
    "coat": {name: phrases.COAT_HAIR[name] for name in COATS},
    "hair_style": {name: ({"bob": "straight"}.get(name, name),) for name in spec.HAIR_STYLES},
    "eye_color": {name: (f"{name} eyes",) for name in EYES},
    "cheeks": phrases.CHEEK_PHRASES,
    "style": phrases.STYLE_PREFIXES,
    "camera": {name: tuple(w for w in ws if w) for name, ws in phrases.CAMERA_PHRASES.items()},
}
HEADINGS = {
    "kind": "Who", "action": "What they do", "expression": "Moods", "place": "Places",
    "weather": "Weather and hour", "prop": "Things", "top": "Worn on top", "bottom": "Worn below",
    "shoes": "Shoes", "accessory": "Accessories", "pattern": "Patterns of tops",
    "top_hue": "Colours of clothes", "coat": "Colours of hair and fur", "hair_style": "Hair",
    "eye_color": "Eyes", "cheeks": "Cheeks", "style": "Styles", "camera": "Views",
}  # fmt: skip
_SCENE = ("place", "weather", "prop", "style", "camera")
_SUBJECT = ("action", "expression")
_SEED = 5
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>What can be drawn</title>
<style>body{{font:16px sans-serif;margin:2rem;max-width:60rem}}figure{{display:inline-block;
width:9rem;margin:.4rem;vertical-align:top}}img{{width:100%;border-radius:.5rem}}
figcaption{{font-size:.85rem}}</style><h1>What can be drawn</h1>
<p>Other words are drawn as the nearest of these, or left out and told.</p>{body}</html>
"""


def listed() -> Iterator[str]:
    """The vocabulary as lines: a heading, then a line for each thing that can be drawn."""
    for name, values in SECTIONS.items():
        yield f"{HEADINGS[name]}:"
        yield from (f"  {', '.join(words)}" for words in values.values() if words)


def page() -> tuple[str, int]:
    """(a web page with a picture of everything, how many pictures); it needs no network."""
    body, count = "", 0
    for name, values in SECTIONS.items():
        body += f"<h2>{HEADINGS[name]}</h2>"
        for value, words in values.items():
            if words:
                body += _figure(name, value, words)
                count += 1
    return _PAGE.format(body=body), count


def _figure(section: str, value: str, words: tuple[str, ...]) -> str:
    said = html.escape(", ".join(words))
    picture = base64.b64encode(_picture(section, value)).decode()
    alt = html.escape(words[0])
    return (
        f'<figure><img alt="{alt}" src="data:image/png;base64,{picture}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def _picture(section: str, value: str) -> bytes:
    """A PNG file that shows `value` and is plain otherwise."""
    from PIL import Image

    from consistent_gen.world.scene import render

    buffer = io.BytesIO()
    Image.fromarray(render(_frame(section, value)).rgb).save(buffer, "PNG")
    return buffer.getvalue()


def _frame(section: str, value: str) -> Any:
    import random

    plain: dict[str, Any] = {
        "kind": "girl", "pattern": "plain", "accessory": "none", "cheeks": "none",
        "coat": "brown", "top": "shirt", "hair_style": "bob",
    }  # fmt: skip
    named: dict[str, Any] = {section: value}
    identity = replace(spec.sample_identity(random.Random(_SEED)), **plain)
    if section == "top_hue":
        identity = replace(identity, top_hue=HUES[value][0] / 360.0)
    elif section not in (*_SCENE, *_SUBJECT):
        identity = replace(identity, **named)
    frame = spec.sample_frame(random.Random(_SEED), identities=(identity,), style="flat")
    frame = replace(frame, place="meadow", weather="sunny", prop="none", camera="medium")
    close = section in ("expression", "eye_color", "cheeks", "hair_style", "coat", "accessory")
    if section in _SCENE:
        frame = replace(frame, **named)
    elif close:
        frame = replace(frame, camera="close")
    subject = replace(frame.subjects[0], action="standing", expression="calm", x=0.5)
    if section in _SUBJECT:
        subject = replace(subject, **named)
    return replace(frame, subjects=(subject,))
