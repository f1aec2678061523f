"""A request as a story file with one value per line, and the place in the request of each line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from consistent_gen.client.types import StoryIn
from consistent_gen.errors import InputError

_STORY_KEYS = (
    "title", "style", "method", "seed", "steps", "guidance", "contours", "guidance_until",
    "scheduler", "size",
)  # fmt: skip
_FRAME_KEYS = ("prompt", "caption", "style", "seed", "negative")


def as_story_file(
    request: StoryIn, references: Mapping[str, Sequence[str]]
) -> tuple[str, dict[int, str]]:
    """A story file with one value per line, and the place in the request of each line."""
    lines: list[str] = []
    places: dict[int, str] = {}

    def put(indent: str, key: str, value: Any, place: str) -> None:
        lines.append(f"{indent}{_scalar(key)}: {_scalar(value)}")
        places[len(lines)] = place

    for key in _STORY_KEYS:
        if (value := getattr(request, key)) is not None:
            put("", key, value, key)
    if request.characters:
        lines.append("characters:")
    for name, character in request.characters.items():
        place = f"characters.{name}"
        lines.append(f"  {_scalar(name)}:")
        places[len(lines)] = place
        put("    ", "description", character.description, f"{place}.description")
        if character.strength is not None:
            put("    ", "strength", character.strength, f"{place}.strength")
        if references.get(name):
            lines.append("    references:")
        for reference in references.get(name, ()):
            lines.append(f"      - {_scalar(reference)}")
            places[len(lines)] = f"{place}.references"
    lines.append("frames:")
    for index, frame in enumerate(request.frames):
        lines.append("  -")
        places[len(lines)] = f"frames[{index}]"
        for key in _FRAME_KEYS:
            if (value := getattr(frame, key)) not in (None, ""):
                put("    ", key, value, f"frames[{index}].{key}")
    return "\n".join(lines), places


def _scalar(value: Any) -> str:
    """A value on one line of YAML; text is always quoted, so that "12" stays text."""
    if isinstance(value, str):
        # YAML reads every JSON string whose characters are written out, apart from its own two
        # line ends and DEL to U+009F, which the reader refuses by name when they are written out.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{value} is not a finite number")
        # The reader knows no exponents and 18 decimals, which is more than a float's own.
        return f"{Decimal(repr(value)):.18f}".rstrip("0") + "0"
    return str(value)


def at_place(error: InputError, places: Mapping[int, str]) -> InputError:
    """The same error at its place in the request instead of its line in our file."""
    if error.line is None:
        error.source = error.source or None
        return error
    error.source = places.get(error.line)
    error.line = None
    return error
