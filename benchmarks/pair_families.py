"""Families of `training.pair_sets`, drawn by the model: pairs that a judge can label.

    python -m benchmarks.pair_families --families 120 --out runs/pair_drawn

draws families of training identities for the recipe `pair_reward` (its `drawn`), and says how much
the shipped reader finds their pictures to agree: no judge has a say in what is learnt. A run that
was stopped goes on. 12 pictures take 10 seconds on two idle cores.

Stories that sentences describe in part rarely show the same somebody twice, so few of their pairs
are clearly the same. Here every grid of a family is a story of three frames whose sentences name
all that words can say of its identity, drawn in two ways: by words alone, and with a true picture
beside them that the adapter and attention read.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.identity import Arm, AskedStory, Drawings, Rgb, asked_story
from consistent_gen.checkpoints import save_tensors
from consistent_gen.models import load_backbone
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.looking import Looker, stacked
from consistent_gen.rewards.story_world import ReaderConsistency, Views
from consistent_gen.runtime import tune_allocator
from consistent_gen.training.pair_reward import DRAWN_FORMAT
from consistent_gen.training.pair_sets import CELLS, FAMILY, GRIDS, PairSets, identities
from consistent_gen.training.shards import available, claim, shard_path, world_inputs

TRAINING_SEED = 5  # families that neither the recipe's true sets nor a benchmark has
ARMS = (
    Arm("words", whole=True),
    Arm("words and a picture", whole=True, reference=True, method="head_start", adapter=None),
)


def grid_story(world: PairSets, family: int, grid: int) -> AskedStory:
    """The story of a grid: its scenes are those of its cells."""
    rng = random.Random(f"pair story {world.split} {world.seed} {family} {grid}")
    first = family * FAMILY + grid * CELLS
    scenes = tuple(world.frame(first + cell) for cell in range(CELLS))
    return asked_story(rng, (identities(world, family)[grid],), scenes)


def drawn_families(
    world: PairSets, families: Sequence[int], *, keep: Path, steps: int
) -> dict[str, list[list[Rgb]]]:
    """By arm: the FAMILY pictures of each family, in the order of its cells."""
    drawings = Drawings(load_backbone(None), keep, steps)
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


def least_of_the_same(reader: ReaderConsistency, world: PairSets, families: int = 40) -> float:
    """What 95 of 100 pairs of true pictures of one somebody reach in the reader's eyes."""
    found = []
    for first in range(0, families * FAMILY, CELLS):
        pictures = tuple(np.asarray(world.picture(first + cell).rgb) for cell in range(CELLS))
        agreement = reader.matrix(ImageSet(pictures=pictures))
        found.extend(agreement[np.triu_indices(CELLS, 1)])
    return float(np.nanquantile(found, 0.05))


def main(argv: Sequence[str] | None = None) -> None:
    """Draw shards of a family each: pictures n 3 128 128, and their agreements n n."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", type=int, default=120)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--keep", type=Path, default=Path("out/pair_families"))
    parser.add_argument("--out", type=Path, default=Path("runs/pair_drawn"))
    options = parser.parse_args(argv)
    tune_allocator()
    torch.set_num_threads(1)
    world = PairSets("train", seed=TRAINING_SEED)
    drawings = Drawings(load_backbone(None), options.keep, options.steps)
    looker = Looker()
    reader = ReaderConsistency(Views(looker))
    inputs = {
        "format": DRAWN_FORMAT, "model": drawings.backbone.sha256, "steps": options.steps,
        "reader": looker.sha256(), "same": least_of_the_same(reader, world),
        **world_inputs(world),
    }  # fmt: skip
    claim(options.out, inputs)
    for number in sorted(set(range(options.families)) - set(available(options.out))):
        # Words alone seldom draw somebody twice: a third of the families has the strangers that
        # look alike, the others also pairs of one somebody.
        arm = ARMS[0 if number % 3 == 2 else 1]
        ((*pictures,),) = _families(drawings, arm, world, [number])
        agreement = reader.matrix(ImageSet(pictures=tuple(pictures)))
        shown = torch.from_numpy(np.ascontiguousarray(stacked(pictures).transpose(0, 3, 1, 2)))
        tensors = {"pictures": shown, "agreement": torch.from_numpy(agreement.astype(np.float32))}
        save_tensors(shard_path(options.out, number), tensors)
        print(f"family {number}", flush=True)


if __name__ == "__main__":
    main()
