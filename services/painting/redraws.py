"""From an order to draw a part again to what the engine is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from consistent_gen.engine.redrawing import Redrawing
from consistent_gen.errors import InputError
from consistent_gen.inputs import open_picture
from consistent_gen.story.marking import box_mask, character_mask, painted_mask
from consistent_gen.story.types import PictureBox
from services.plans.orders import DrawnPart


def redrawing_of(part: DrawnPart, folder: Path | None) -> Redrawing:
    """The drawing and what of it is marked. folder: where the part's files lie.

    Raises:
        InputError: a file is no picture, the mask does not fit, or the character is not found.
        CheckpointError: the reader's weights, which find characters, are missing or damaged.
    """
    place = folder or Path()
    try:
        picture = np.asarray(open_picture(place / part.picture), dtype=np.uint8)  # h w 3
    except InputError as error:
        raise InputError(f"the drawing {error.message}") from None
    size = picture.shape[1], picture.shape[0]
    if part.mask is not None:
        mask = painted_mask(size, place / part.mask)
    elif part.box is not None:
        mask = box_mask(size, PictureBox(*part.box))
    else:
        assert part.character is not None, "something is marked"
        number, count = part.character
        mask = character_mask(picture, number, count, part.only)
    return Redrawing(picture=picture, mask=mask)
