"""Families of `training.pair_sets`, drawn by the model: pairs that a judge can label.

Stories that sentences describe in part rarely show the same somebody twice, so few of their pairs
are clearly the same. Here every grid of a family is a story of three frames whose sentences name
all that words can say of its identity, drawn in two ways: by words alone, and with a true picture
beside them that the adapter and attention read. 12 pictures take 8 seconds of a core in bfloat16.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.identity import Arm, AskedStory, Drawings, Rgb, asked_story
from consistent_gen.models import load_backbone
from consistent_gen.training.pair_sets import CELLS, GRIDS, PairSets, identities

ARMS = (
    Arm("words", whole=True),
    Arm("words and a picture", whole=True, reference=True, method="head_start", adapter=None),
)


def grid_story(world: PairSets, family: int, grid: int) -> AskedStory:
    """The story of a grid: its scenes are those of its cells."""
    rng = random.Random(f"pair story {world.split} {world.seed} {family} {grid}")
    first = family * GRIDS * CELLS + grid * CELLS
    scenes = tuple(world.frame(first + cell) for cell in range(CELLS))
    return asked_story(rng, (identities(world, family)[grid],), scenes)


def drawn_families(
    world: PairSets, families: Sequence[int], *, keep: Path, steps: int, dtype: str | None = None
) -> dict[str, list[list[Rgb]]]:
    """By arm: the FAMILY pictures of each family, in the order of its cells.

    dtype: what the model computes in, as in `load_backbone`.
    """
    drawings = Drawings(load_backbone(None, dtype=dtype), keep / (dtype or ""), steps)
    return {arm.name: _families(drawings, arm, world, families) for arm in ARMS}


def _families(
    drawings: Drawings, arm: Arm, world: PairSets, families: Sequence[int]
) -> list[list[Rgb]]:
    stories = [grid_story(world, family, grid) for family in families for grid in range(GRIDS)]
    grids = drawings.of(arm, stories)
    return [
        [picture for grid in grids[i : i + GRIDS] for picture in grid]
        for i in range(0, len(grids), GRIDS)
    ]
