"""Numbered pictures of the story world: item i of a split is the same on every machine.

Splits: "train" has the training combinations only; "held_out" has only identities and (action,
place) pairs that training never shows; "validation" has new pictures of training combinations.
"""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consistent_gen.world.captions import Caption, caption
from consistent_gen.world.spec import FrameSpec, sample_frame

if TYPE_CHECKING:
    import torch

    from consistent_gen.world.scene import ScenePicture

SPLITS = ("train", "validation", "held_out")


def _random(*parts: object) -> random.Random:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


@dataclass(frozen=True)
class StoryWorld:
    """All pictures of one split. `seed` starts another, disjoint world of pictures.

    With `pairs`, an odd picture shows characters of the even one before it, doing something else:
    all of them or, of several, one; in half of the pairs in the same style.
    """

    split: str = "train"
    seed: int = 0
    size: int = 128
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split {self.split!r}; expected one of {', '.join(SPLITS)}")

    def frame(self, index: int) -> FrameSpec:
        """What picture `index` shows."""
        return _frame(self, index)

    def picture(self, index: int) -> ScenePicture:
        """Picture `index` with its truth."""
        from consistent_gen.world.scene import render

        return render(self.frame(index), self.size)

    def caption(self, index: int, version: int = 0, *, share: float | None = None) -> Caption:
        """One of many captions of picture `index`; `version` chooses."""
        kind = "pairs caption" if self.pairs else "caption"
        rng = _random(kind, self.split, self.seed, index, version)
        return caption(self.frame(index), rng, share=share)

    def tensor(self, indices: range) -> torch.Tensor:
        """Pictures as b 3 h w, uint8."""
        import numpy as np
        import torch

        stack = np.stack([self.picture(i).rgb for i in indices])
        return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


@functools.lru_cache(maxsize=4096)
def _frame(world: StoryWorld, index: int) -> FrameSpec:
    # Kept, since picture, truth and every caption of one index begin here.
    rng = _random("pairs" if world.pairs else "frame", world.split, world.seed, index)
    held_out = world.split == "held_out"
    if not world.pairs or index % 2 == 0:
        return sample_frame(rng, held_out=held_out)
    before = _frame(world, index - 1)
    who = tuple(subject.identity for subject in before.subjects)
    if len(who) > 1 and rng.random() < 0.5:
        who = (rng.choice(who),)
    style = before.style if rng.random() < 0.5 else None
    return sample_frame(rng, held_out=held_out, identities=who, style=style)
