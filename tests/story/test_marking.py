"""Which part of a picture is marked: a character's face and its body, against the world's truth."""

from __future__ import annotations

import numpy as np
import pytest

from consistent_gen.errors import InputError
from consistent_gen.story.marking import character_mask
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS

WORLD = StoryWorld("validation")


def seen_well(people: int) -> int:
    """A picture that shows so many characters, near."""
    return next(
        n for n in range(400)
        if len(WORLD.frame(n).subjects) == people and WORLD.frame(n).camera == "medium"
    )  # fmt: skip


def test_a_face_and_a_body_are_parts_of_a_character_and_share_nothing() -> None:
    number = seen_well(2)
    picture = WORLD.picture(number)
    whole, face, body = (character_mask(picture.rgb, 1, 2, o) for o in (None, "face", "body"))
    both = face | body
    assert (both & whole).sum() > 0.95 * whole.sum() and (both & whole).sum() > 0.95 * both.sum()
    # What the world drew: the first from the left.
    subjects = WORLD.frame(number).subjects
    left = min(range(2), key=lambda i: subjects[i].x)
    labels = picture.labels.astype(int)
    part = np.where((labels - 1) // len(PARTS) == left, (labels - 1) % len(PARTS), -1)
    part[labels == 0] = -1
    head = np.isin(part, [PARTS.index("face"), PARTS.index("hair")])
    clothes = np.isin(part, [PARTS.index(name) for name in ("top", "bottom", "shoes")])
    assert (face & body)[part >= 0].mean() < 0.05, "they meet beside the character alone"
    assert face[head].mean() > 0.9 and face[clothes].mean() < 0.1
    assert body[clothes].mean() > 0.85 and body[head].mean() < 0.1


def test_what_is_not_there_is_not_marked() -> None:
    nobody = np.full((64, 64, 3), 200, np.uint8)
    with pytest.raises(InputError, match="nobody is found"):
        character_mask(nobody, 1, only="face")
    with pytest.raises(InputError, match="expected 1 to 2"):
        character_mask(WORLD.picture(seen_well(2)).rgb, 3, only="body")
