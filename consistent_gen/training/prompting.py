"""Which words the pictures of a training batch get."""

from __future__ import annotations

import random
from collections.abc import Sequence

from consistent_gen.world.captions import Caption
from consistent_gen.world.dataset import StoryWorld


def captions(
    world: StoryWorld,
    numbers: Sequence[int],
    rng: random.Random,
    *,
    drop: float,
    full: float,
    group: int = 1,
) -> list[Caption | None]:
    """One for each of the pictures `numbers`, anew each time.

    drop: share of groups (`group` pictures, one after the other) without words, for guidance.
    full: share of the others whose caption names whatever can be named.
    """
    found: list[Caption | None] = []
    for position, number in enumerate(numbers):
        if position % group == 0:
            silent = rng.random() < drop
        if silent:
            found.append(None)
            continue
        share = 1.0 if rng.random() < full else None
        found.append(world.caption(number, rng.getrandbits(20), share=share))
    return found
