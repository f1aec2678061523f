"""Does a picture show somebody, or is it their reference again? Two measures by embeddings.

g: of the picture that was made. r: of the reference that the model was given. t: of another true
picture of the same somebody, which the model never saw. Take care who is r: with the roles of r and
t changed, both measures change their sign.
"""

from __future__ import annotations

import math

import numpy as np

from consistent_gen.rewards.base import Floats
from consistent_gen.rewards.pairs import cosine

ALIKE = 1e-6  # of t and r: nothing to choose between


def copy_rate(g: Floats, r: Floats, t: Floats) -> float:
    """ViStoryBench's copy rate with chords d = sqrt(2 - 2 cos): 1 on r, 0 on t, 0.5 if t is r."""
    between = _chord(t, r)
    if between < ALIKE:
        return 0.5
    return 0.5 * (1.0 + (_chord(g, t) - _chord(g, r)) / between)


def angular_copy(g: Floats, r: Floats, t: Floats) -> float | None:
    """WithAnyone's copy metric (arXiv 2510.14975): (angle gt - angle gr) / angle tr.

    1: on the reference. -1: on the target. 0: as far from both. None if t is r.
    """
    between = _angle(t, r)
    return (_angle(g, t) - _angle(g, r)) / between if between >= ALIKE else None


def _chord(a: Floats, b: Floats) -> float:
    return 0.0 if np.array_equal(a, b) else math.sqrt(max(0.0, 2.0 - 2.0 * cosine(a, b)))


def _angle(a: Floats, b: Floats) -> float:
    # acos is blind next to 1: rounding alone would make two equal vectors differ by 1e-8.
    return 0.0 if np.array_equal(a, b) else math.acos(cosine(a, b))
