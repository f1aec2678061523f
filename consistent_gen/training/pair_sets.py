"""Sets of story-world pictures to learn pairs from: grids of one prompt, and who is in them.

A family stands for a prompt. Its words fix some factors of an identity, and each of its grids is
what a drawing of these words might have been: the same words, and the other factors drifted, from
hardly to wholly. Every grid shows its identity in several scenes. So two cells of one grid show the
same somebody, two cells of different grids somebody else, and the truth says how much else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from consistent_gen.rewards.sight import Sight, agreement
from consistent_gen.training.truth import schema
from consistent_gen.world.captions import describe
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.spec import FrameSpec, Identity, identity_held_out, sample_frame
from consistent_gen.world.spec import sample_identity as sampled

GRIDS, CELLS = 4, 3
FAMILY = GRIDS * CELLS
DRIFT = (0.0, 0.12, 0.35, 1.0)  # chance of each free factor of a grid to be another one


@dataclass(frozen=True)
class PairSets(StoryWorld):
    """Picture i shows cell i % 3 of grid i // 3 % 4 of family i // 12."""

    def frame(self, index: int) -> FrameSpec:
        """What picture `index` shows."""
        family, place = divmod(index, FAMILY)
        grid, cell = divmod(place, CELLS)
        rng = random.Random(f"pair sets {self.split} {self.seed} {family} {grid} {cell}")
        who = (identities(self, family)[grid],)
        return sample_frame(rng, held_out=self.split == "held_out", identities=who)


@lru_cache(maxsize=512)
def identities(world: PairSets, family: int) -> tuple[Identity, ...]:
    """Who is in each grid of a family."""
    rng = random.Random(f"pair family {world.split} {world.seed} {family}")
    held_out = world.split == "held_out"
    base = sampled(rng, held_out=held_out)
    named = describe(base, rng, share=rng.choice((0.3, 0.6, 0.9)))[1]
    found = [base]
    for drift in DRIFT[1:]:
        while True:
            other = sampled(rng, held_out=held_out, kind=base.kind)
            free = [f.name for f in fields(Identity) if f.name not in named]
            changes = {n: getattr(other, n) for n in free if rng.random() < drift}
            drifted = replace(base, **changes)
            if changes and drifted != base and identity_held_out(drifted) == held_out:
                break
        found.append(drifted)
    return tuple(found)


def true_sight(identity: Identity) -> Sight:
    """What a perfect reader would see of somebody, whatever a picture shows of them."""
    names, values = schema(), identity.to_dict()
    known = {n: c for n, c in names.subject.items() if n in values}
    return Sight(
        present=True,
        subject={n: {c: float(c == values[n]) for c in classes} for n, classes in known.items()},
        hues={name: values[name] for name in names.hues},
        scalars={name: values[name] for name in names.scalars},
        scene={},
    )


def true_agreements(world: PairSets, family: int) -> NDArray[np.float32]:
    """How much the identities of a family's grids agree, GRIDS GRIDS, in [0, 1]."""
    sights = [true_sight(who) for who in identities(world, family)]
    return np.array([[agreement(a, b) for b in sights] for a in sights], np.float32)
