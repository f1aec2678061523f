"""A picture of the persona, asked for in a talk: "draw yourself in the forest"."""

from __future__ import annotations

import re

from consistent_gen.errors import InputError
from consistent_gen.memory.talk.requests import DrawRequest, read_request
from consistent_gen.persona.persona import Persona

MAX_LOOKS = 300  # characters of what a picture is drawn from
STANDING = "standing"
_SELF = re.compile(r"(?:yourself|you|a picture of (?:yourself|you)|your ?self)(?:[\s,]+|$)", re.I)


def scene_asked(text: str, name: str) -> str | None:
    """Where and how the persona wants to be seen ("in the forest"), `STANDING` where nothing is
    said of that; None where the line asks for no picture of the persona.
    """
    request = read_request(text)
    if not isinstance(request, DrawRequest):
        return None
    what = request.what.strip()
    named = re.match(rf"{re.escape(name)}(?:[\s,]+|$)", what, re.I)
    found = _SELF.match(what) or named
    return None if found is None else what[found.end() :].strip(" ,.!?") or STANDING


def looks_of(persona: Persona, looks: str | None = None) -> str:
    """What the persona is drawn from: `looks`, or what its card says, at most `MAX_LOOKS` long.

    Raises:
        InputError: neither says how the persona looks.
    """
    words = " ".join((looks or persona.appearance or "").split())
    if not words:
        raise InputError(
            f"nothing says how {persona.name} looks; give looks (--looks), such as 'a girl with "
            "red hair'"
        )
    if len(words) > MAX_LOOKS and not looks:
        words = words[: words.rfind(" ", 0, MAX_LOOKS)].rstrip(",;:")
    return words
