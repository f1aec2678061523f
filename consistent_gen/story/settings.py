"""The settings of a drawing: their ranges, and who wins when several say something.

An option of the command line beats the story file, the story file beats the model's own default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_SEED = 2**63 - 1
# Inclusive ranges; those of all but strength are the engine's own (a test compares them).
RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, 1000),
    "guidance": (0.0, 100.0),
    "contours": (0.0, 100.0),
    "guidance_until": (0.0, 1.0),
    "seed": (0, MAX_SEED),
    "strength": (0.0, 1.0),
}
MIN_SIDE, MAX_SIDE = 32, 2048

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the command line (or a caller) says over the story file; None means nothing.

    `strengths` are by character; that of "" holds for all that have none of their own.
    """

    method: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    contours: float | None = None
    guidance_until: float | None = None
    scheduler: str | None = None
    size: tuple[int, int] | None = None
    strengths: Mapping[str, float] = field(default_factory=dict)


def range_problem(key: str, value: float) -> str | None:
    """What is wrong with `value` for the setting `key`, or None when it lies in range."""
    low, high = RANGES[key]
    if low <= value <= high:
        return None
    shown = "2^63 - 1" if high == MAX_SEED else f"{high:g}"
    return f"{key} is {value:g}; expected a number from {low:g} to {shown}"


def parse_size(text: str) -> tuple[int, int] | None:
    """(width, height) of a text such as "128x96", or None when it is not of that form."""
    match = _SIZE.fullmatch(text.strip().lower())
    return None if match is None else (int(match[1]), int(match[2]))


def size_problem(size: tuple[int, int], multiple: int = 8) -> str | None:
    """What is wrong with (width, height) for a model that needs multiples, or None."""
    for name, side in zip(("width", "height"), size, strict=True):
        if not MIN_SIDE <= side <= MAX_SIDE:
            return f"the {name} is {side}; expected {MIN_SIDE} to {MAX_SIDE} pixels"
        if side % multiple:
            below = max(side - side % multiple, multiple)
            return (
                f"the {name} is {side}, which is not a multiple of {multiple}; "
                f"use {below} or {below + multiple}"
            )
    return None
