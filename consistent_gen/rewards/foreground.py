"""The subject without its surroundings, so that a shared background earns nothing.

The subject is put on one neutral field, cut to its box with a margin, and only then compared. What
is behind it is measured by `guards`, apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from consistent_gen.rewards.base import Floats, ImageSet, MetricCard, Picture, Plane, SetScore
from consistent_gen.rewards.pairs import MatrixReward, unit_rows

FIELD = 128  # the gray of the field
MARGIN = 0.1  # of the box's sides
LEAST, MOST = 0.02, 0.95  # share of a picture that a mask may cover
SIDE = 224  # pixels of what is compared


class Embeds(Protocol):
    """A network from pictures to vectors: of subjects, faces, or anything else."""

    name: str
    sha256: str

    def __call__(self, pictures: NDArray[np.uint8]) -> Any:
        """n d (an array or a tensor) of n h w 3 pictures, uint8, of one size."""


def coverage(mask: Plane) -> float:
    """The share of the picture that the mask covers."""
    return float(mask.mean())


def cut_out(picture: Picture, mask: Plane, side: int = SIDE) -> Picture | None:
    """The subject on the neutral field, side side 3; None where the mask covers next to nothing or
    next to everything, since it is no subject then.
    """
    if not LEAST <= coverage(mask) <= MOST:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    own = np.where(mask[..., None], picture, np.uint8(FIELD))[y0:y1, x0:x1]
    longest = round(max(own.shape[:2]) * (1.0 + 2.0 * MARGIN))
    field = np.full((longest, longest, 3), FIELD, np.uint8)
    top, left = (longest - own.shape[0]) // 2, (longest - own.shape[1]) // 2
    field[top : top + own.shape[0], left : left + own.shape[1]] = own
    fitted = Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(fitted, np.uint8)


def whole(picture: Picture, side: int = SIDE) -> Picture:
    """The whole picture on a square of the field's gray, side side 3."""
    h, w = picture.shape[:2]
    longest = max(h, w)
    field = np.full((longest, longest, 3), FIELD, np.uint8)
    top, left = (longest - h) // 2, (longest - w) // 2
    field[top : top + h, left : left + w] = picture
    fitted = Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(fitted, np.uint8)


class EmbeddingConsistency(MatrixReward):
    """Do the pictures of a set show the same by an embedding? Cosine, mapped to [0, 1].

    With masks only the subjects are compared; a picture whose mask covers next to nothing or next
    to everything has no pair. References are compared whole, or as `find` masks them.
    """

    def __init__(self, embed: Embeds, card: MetricCard, *, find: MaskFinder | None = None) -> None:
        self.card, self._embed, self._find = card, embed, find

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        shown = self._shown(item.pictures, item.masks) + self._shown(item.references, ())
        return cosines(embedded(self._embed, shown))

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`; the masks' mean coverage is a part."""
        score = super().one(item)
        if not item.masks:
            return score
        share = float(np.mean([coverage(mask) for mask in item.masks]))
        return SetScore(score.value, {**score.parts, "mask coverage": share}, score.reason)

    def _shown(self, pictures: Sequence[Picture], masks: Sequence[Plane]) -> list[Picture | None]:
        planes = masks or (self._find(pictures) if self._find is not None and pictures else ())
        if not planes:
            return [whole(p) for p in pictures]
        return [cut_out(p, m) for p, m in zip(pictures, planes, strict=True)]


MaskFinder = Callable[[Sequence[Picture]], Sequence[Plane]]


def embedded(embed: Embeds, shown: Sequence[Picture | None]) -> Floats:
    """Unit features n d of equally large pictures; rows of NaN for None."""
    there = [i for i, picture in enumerate(shown) if picture is not None]
    if not there:
        return np.full((len(shown), 1), np.nan)
    stack = np.stack([picture for picture in shown if picture is not None])
    features = unit_rows(np.asarray(embed(stack), float))
    found = np.full((len(shown), features.shape[1]), np.nan)
    found[there] = features
    return found


def cosines(unit: Floats) -> Floats:
    """(1 + cos) / 2 of all pairs of unit features; symmetric to the bit, 1 on the diagonal."""
    s = (1.0 + unit @ unit.T) / 2.0
    s = np.clip((s + s.T) / 2.0, 0.0, 1.0)
    known = np.isfinite(s.diagonal())
    s[np.diag_indices(len(s))] = np.where(known, 1.0, np.nan)
    found: Floats = s
    return found
