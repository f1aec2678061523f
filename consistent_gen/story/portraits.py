"""What a character does in a hidden portrait, which other pictures of it are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone

# Neutral poses for portraits; of a closed vocabulary those are taken that it knows.
PORTRAIT_POSES = ("standing", "walking", "sitting", "waving", "reading")
# Models of a closed vocabulary have seen few prompts without a place, and then miss half of the
# clothes that the words name (docs/log.md, 2026-11-27).
PORTRAIT_PLACE = "in a meadow"


def portrait_words(backbone: Backbone, number: int, *, drawn: bool) -> str:
    """What a character does in a portrait, and where.

    drawn: whether the model draws it from words, and not from a picture that has its own place.
    """
    poses = [pose for pose in PORTRAIT_POSES if not backbone.unknown_words(pose)] or [""]
    placed = (
        drawn and backbone.vocabulary() is not None and not backbone.unknown_words(PORTRAIT_PLACE)
    )
    return f"{poses[number % len(poses)]} {PORTRAIT_PLACE if placed else ''}".strip()
