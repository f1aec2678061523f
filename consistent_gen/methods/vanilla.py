"""No method: every frame is drawn alone. The baseline that every other method is measured against.

A character then stays the same only as far as its words fix it: what a description leaves open (the
exact hue, the proportions of a face) is drawn anew from each frame's own seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consistent_gen.attention.settings import Recipe


@dataclass(frozen=True, kw_only=True)
class Vanilla:
    """Has no settings and attaches nothing to the model."""

    couples_frames: ClassVar[bool] = False
    reads_references: ClassVar[bool] = False

    def recipe(self) -> Recipe:
        """The method as data: no rules."""
        return Recipe(name="vanilla")
