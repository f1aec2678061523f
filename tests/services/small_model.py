"""A small story for the tiny model of the tests, and what makes leases of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consistent_gen.client.types import StoryIn
from services.jobs import Lease

CHARACTERS = {
    "Mia": {"description": "a girl with a red hat"},
    "Bo": {"description": "a small bear"},
}
PROMPTS = (
    "{Mia} and {Bo}",
    "{Mia} reading in the forest",
    "{Bo} walking",
    "a green fox",
    "{Mia} sitting",
)

MakeLease = Callable[..., Lease]


def story(method: str = "vanilla", *, steps: int = 2, **fields: Any) -> StoryIn:
    """A small story with two characters."""
    said: dict[str, Any] = {
        "title": "x",
        "characters": CHARACTERS,
        "frames": [{"prompt": prompt} for prompt in PROMPTS],
        "method": method,
        "steps": steps,
        "size": "64x64",  # a call of the tiny model takes half as long
        "preview_every": 0,
    }
    return StoryIn.model_validate(said | fields)
