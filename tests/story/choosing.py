"""A scorer for tests of the best of several candidates that needs no weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consistent_gen.story.plan import FramePlan


def by_brightness(
    pictures: Sequence[np.ndarray], frame: FramePlan, others: Sequence[np.ndarray] = ()
) -> list[dict[str, float]]:
    """Bright pictures show their words, and are alike when they are equally bright."""
    found = []
    for picture in pictures:
        scores = {"alignment": float(round(picture.mean() / 4.0))}
        if others:
            scores["likeness"] = -abs(float(picture.mean() - np.mean(others)))
        found.append(scores)
    return found
