"""What of a finished picture shall be drawn again: a box, a mask, or one of its characters, all of
it or its face or body only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from consistent_gen.errors import InputError
from consistent_gen.inputs import open_picture
from consistent_gen.story.types import PictureBox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

AROUND = 1 / 16  # of a picture's side: how far beyond a character's edge is drawn again
# Of a character: the face with hair and what is worn there, or all the rest.
Only = Literal["face", "body"]


def box_mask(size: tuple[int, int], box: PictureBox) -> NDArray[np.bool_]:
    """A box of a picture of size (width, height), bool [h w]; a pixel at least.

    Raises:
        InputError: it is no rectangle within the picture.
    """
    import numpy as np

    if not box.fits:
        raise InputError(
            f"{' '.join(f'{side:g}' for side in box)} is no rectangle; expected shares from 0 to "
            "1, left before right and top before bottom"
        )
    width, height = size
    x0, y0 = min(round(box.x0 * width), width - 1), min(round(box.y0 * height), height - 1)
    mask = np.zeros((height, width), np.bool_)
    mask[y0 : max(round(box.y1 * height), y0 + 1), x0 : max(round(box.x1 * width), x0 + 1)] = True
    return mask


def painted_mask(size: tuple[int, int], given: Path | bytes) -> NDArray[np.bool_]:
    """A picture that is light where a picture of size (width, height) is marked, as bool [h w].

    Raises:
        InputError: it is no picture, has another size, or marks nothing.
    """
    import numpy as np

    try:
        picture = open_picture(given).convert("L")
    except InputError as error:
        raise InputError(f"the mask {error.message}") from None
    if picture.size != size:
        raise InputError(
            f"the mask has {picture.width}x{picture.height} pixels; expected the picture's size, "
            f"{size[0]}x{size[1]}"
        )
    mask: NDArray[np.bool_] = np.asarray(picture) > 127
    if not mask.any():
        raise InputError("the mask marks nothing; make it white where shall be drawn again")
    return mask


def character_mask(
    image: NDArray[np.uint8], number: int, count: int | None = None, only: Only | None = None
) -> NDArray[np.bool_]:
    """Where the `number`-th character from the left (from 1) of a picture [h w 3] is, and a little
    around it, bool [h w].

    count: how many it should show, so that it is clear who is who. only: its face or its body; the
    other one is not marked, nor are other characters.

    Raises:
        InputError: nobody is found, no such character, another number than `count`, or it shows no
            face or nothing else.
        CheckpointError: the reader's weights are missing or damaged.
    """
    import numpy as np
    from PIL import Image, ImageFilter

    from consistent_gen.encoders.face_story import StoryFaces

    faces = StoryFaces()
    seen = sorted(faces.subjects(image), key=lambda one: one.box[0])
    if not seen:
        raise InputError("nobody is found in the picture; mark a box or a mask instead")
    if count is not None and len(seen) != count:
        raise InputError(
            f"{len(seen)} are seen in the picture and its prompt names {count}, so there is no "
            "telling who is who; mark a box or a mask instead"
        )
    if not 1 <= number <= len(seen):
        raise InputError(f"the picture shows {len(seen)}; expected 1 to {len(seen)}")
    chosen = seen[number - 1]
    own: NDArray[np.bool_] = chosen.mask > 0.5
    kept = [one.mask > 0.5 for one in seen if one is not chosen]
    if only is not None:
        face = own & _head(faces.part_masks(image, chosen.box, chosen.mask))
        body = own & ~face
        own, rest = (face, body) if only == "face" else (body, face)
        kept.append(rest)
        if not own.any():
            raise InputError(
                f"no {only} of character {number} is seen in the picture; mark a box or a mask "
                "instead"
            )
    reach = 2 * max(1, round(AROUND * min(own.shape) / 2)) + 1
    grown = Image.fromarray(own.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(reach))
    mask: NDArray[np.bool_] = np.asarray(grown) > 127
    return mask & ~np.logical_or.reduce(kept) if kept else mask


def _head(parts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Where face, hair and what is worn above the chin are, of the shares of parts [h w]."""
    import numpy as np

    others = np.maximum.reduce([m for name, m in parts.items() if name not in ("face", "hair")])
    head: NDArray[np.bool_] = parts["face"] + parts["hair"] > others
    rows = np.flatnonzero((parts["face"] > 0.5).any(1))
    if len(rows):
        worn = parts["accessory"] >= others
        worn[rows[-1] :] = False
        head |= worn & (parts["accessory"] > 0.0)
    return head
