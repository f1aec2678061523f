"""What is said at the scene or the character that it is about.

The desk's own checks find what is missing; the server says what becomes of the words. Whatever
cannot be sent yet is left out of the question, so that one empty scene hides nothing of the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from consistent_gen.client.types import StoryIn, TextWordingOut, WordingOut
from consistent_gen.errors import ConsistentGenError
from ui.state import Draft, placed_problems, story_request

Check = Callable[[StoryIn], WordingOut]
_FRAME = re.compile(r"frames\[(\d{1,3})\](?:\.\w+)?(?:: )?")
_CHARACTER = re.compile(r"characters\.(.{1,40}?)\.description(?:: )?")
_TOLD = ("near", "left_out", "speech")


def marks_of(draft: Draft, check: Check) -> dict[str, Any]:
    """Marks as JSON: a list for scenes, one for the cast, and sentences on the whole story."""
    marks: dict[str, Any] = {
        "scenes": [_blank(scene.prompt) for scene in draft.scenes],
        "cast": [_blank(card.description) for card in draft.cast],
        "story": [],
    }
    for place, index, text in placed_problems(draft):
        _problems(marks, place, index).append(text)
    scenes = [i for i, mark in enumerate(marks["scenes"]) if not mark["problems"]]
    cast = [i for i, mark in enumerate(marks["cast"]) if not mark["problems"]]
    asked = replace(
        draft,
        title="A story",
        seed="",
        cast=tuple(draft.cast[i] for i in cast),
        scenes=tuple(draft.scenes[i] for i in scenes),
    )
    try:
        wording = check(story_request(asked))
    except (ConsistentGenError, ValidationError):
        return marks  # what can be said without the server is said
    _tell(marks, wording, scenes, {draft.cast[i].name: i for i in cast})
    return marks


def marked_scenes(marks: dict[str, Any]) -> list[int]:
    """Numbers, from 1, of the scenes that cannot be drawn as they are."""
    return [number for number, mark in enumerate(marks["scenes"], 1) if mark["problems"]]


def _tell(
    marks: dict[str, Any], wording: WordingOut, scenes: list[int], cast: dict[str, int]
) -> None:
    for problem in wording.problems:
        if (found := _FRAME.match(problem)) and int(found[1]) < len(scenes):
            place = _problems(marks, "scenes", scenes[int(found[1])])
        elif (found := _CHARACTER.match(problem)) and found[1] in cast:
            place = _problems(marks, "cast", cast[found[1]])
        else:
            place, found = marks["story"], None
        place.append(problem[found.end() :] if found else problem)
    for text in wording.texts:
        if (found := _FRAME.fullmatch(text.place)) and text.place.endswith(".prompt"):
            _words(marks["scenes"][scenes[int(found[1])]], text)
        elif (found := _CHARACTER.fullmatch(text.place)) and found[1] in cast:
            _words(marks["cast"][cast[found[1]]], text)


def _words(mark: dict[str, Any], text: TextWordingOut) -> None:
    mark["words"] += [word.model_dump() for word in text.words if word.fate in _TOLD]
    mark["notices"] += text.notices


def _problems(marks: dict[str, Any], place: str, index: int) -> list[str]:
    found: list[str] = marks["story"] if place == "story" else marks[place][index]["problems"]
    return found


def _blank(written: str) -> dict[str, Any]:
    return {"written": written, "problems": [], "words": [], "notices": []}
