"""Stories of published benchmarks: ConsiStory+, ViStoryBench and T2IS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from consistent_gen.story.foreign.found import ForeignFrame, ForeignStory, clean_name

_OF = re.compile(r"\s+of\s*:?\s*$", re.IGNORECASE)
_LANGUAGES = ("en", "english", "ch", "zh", "cn")
_INSTRUCTION = ("prompt", "instruction", "text", "caption")
_PARTS = ("prompts", "sub_prompts", "subprompts", "captions", "images", "settings")
# "[TOP-LEFT]: ...", "[IMAGE 2] ...", "Image 3: ...", "(4) ..."
_GRID = re.compile(
    r"\[(?:top|bottom|upper|lower|middle)[- ](?:left|right|center)\]\s*:?|"
    r"\[?\b(?:image|panel|frame|scene|picture)\s*\d+\]?\s*[:.)]|\(\d+\)|<\d+>",
    re.IGNORECASE,
)


def consistory(tree: Any) -> list[ForeignStory]:
    """Groups of `style`, `subject`, `concept_token` and `settings`, wherever they stand."""
    return [_group(entry) for entry in _mappings(tree) if {"subject", "settings"} <= entry.keys()]


def _group(entry: dict[str, Any]) -> ForeignStory:
    subject = str(entry["subject"])
    token = entry.get("concept_token") or subject
    token = str(token[0] if isinstance(token, list) and token else token)
    name = clean_name(token.title()) or "Subject"
    settings = entry["settings"] if isinstance(entry["settings"], list) else [entry["settings"]]
    style = _OF.sub("", str(entry.get("style") or "")) or None
    frames = [ForeignFrame(f"{{{name}}} {setting}") for setting in settings]
    return ForeignStory(title=subject, style=style, characters={name: subject}, frames=frames)


def vistory(value: Any) -> list[ForeignStory]:
    """`Characters` with names and prompts, `Shots` with who appears, where and what happens."""
    if not isinstance(value, dict) or not isinstance(value.get("Shots"), list):
        return []
    found = ForeignStory(title=_in_language(value.get("Story_title") or value.get("Story_type")))
    people = value.get("Characters")
    for key, entry in people.items() if isinstance(people, dict) else ():
        if isinstance(entry, dict):
            name = clean_name(str(entry.get("name_en") or key)) or clean_name(str(key))
            if name is not None:
                found.characters[name] = _in_language(entry, "prompt_") or str(key)
    for shot in value["Shots"]:
        if isinstance(shot, dict):
            found.frames.append(_shot(shot, found))
    found.notes.append("reference pictures beside the file are not taken in; name them yourself")
    return [found] if found.frames else []


def _shot(shot: dict[str, Any], found: ForeignStory) -> ForeignFrame:
    said = _in_language(shot.get("Static Shot Description")) or _in_language(
        shot.get("Plot Correspondence")
    )
    place = _in_language(shot.get("Setting Description"))
    camera = _in_language(shot.get("Shot Perspective Design"))
    shown = shot.get("Characters Appearing")
    names = shown.get("en", []) if isinstance(shown, dict) else shown or []
    known = [n for n in map(str, names) if n in found.characters and n not in said]
    parts = [" and ".join(f"{{{name}}}" for name in known), said, place, camera]
    text = ". ".join(part.strip().rstrip(".") for part in parts if part.strip())
    return ForeignFrame(text, caption=_in_language(shot.get("Plot Correspondence")))


def t2is(value: Any) -> list[ForeignStory]:
    """One instruction each, with its pictures in a list or marked in the text."""
    entries = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and all(isinstance(v, dict) for v in value.values()):
        entries = list(value.values())
    found = [_instruction(entry) for entry in entries if isinstance(entry, dict)]
    return [story for story in found if story is not None]


def _instruction(entry: dict[str, Any]) -> ForeignStory | None:
    text = next((entry[k] for k in _INSTRUCTION if isinstance(entry.get(k), str)), "")
    parts: list[Any] = next((entry[k] for k in _PARTS if isinstance(entry.get(k), list)), [])
    texts = [part if isinstance(part, str) else _described(part) for part in parts]
    title = text
    if not any(texts) and text:
        title, *texts = [piece.strip(" ;:,.") for piece in _GRID.split(text)]
        texts = [piece for piece in texts if piece] or [text]
    frames = [ForeignFrame(part) for part in texts if part]
    if not frames:
        return None
    notes = ["what judges the pictures (criteria) has no place in a story file"]
    return ForeignStory(
        title=title[:100], frames=frames, notes=notes if "criteria" in entry else []
    )


def _described(part: Any) -> str:
    if not isinstance(part, dict):
        return ""
    return next((part[k] for k in _INSTRUCTION if isinstance(part.get(k), str)), "")


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _mappings(item)


def _in_language(value: Any, prefix: str = "") -> str:
    """The English text of a value in several languages, otherwise another."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for language in _LANGUAGES:
            if isinstance(value.get(prefix + language), str):
                return str(value[prefix + language])
    return ""
