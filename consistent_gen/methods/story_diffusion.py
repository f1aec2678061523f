"""StoryDiffusion's consistent self-attention: frames attend to random tokens of the id frames.

Zhou et al., "StoryDiffusion: Consistent Self-Attention for Long-Range Image and Video Generation",
arXiv 2405.01434, section 3.1. In the up blocks the keys and values of frame i are made from
[own tokens ; a random half of each id frame's tokens], without masks.

Departures from the released code: which tokens and which layers are drawn is counted from the
run's seed instead of a process-wide stream, so that a frame drawn later equals one drawn together
with the id frames; a layer's coin is the same for all frames of a step. FreeU is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consistent_gen.attention.settings import Mix, Place, Recipe, Rule, Select, Topology, Window


@dataclass(frozen=True, kw_only=True)
class StoryDiffusion:
    """Settings, with the defaults of the released code.

    id_frames: anchors per character. rate: share of their tokens that is read.
    early_chance, late_chance: how often a layer shares before and after `early` of the steps.
    """

    id_frames: int = 4
    rate: float = 0.5
    early: float = 0.4
    early_chance: float = 0.7
    late_chance: float = 0.9

    couples_frames: ClassVar[bool] = True
    reads_references: ClassVar[bool] = True

    def recipe(self) -> Recipe:
        """The method as data."""
        coin = ((self.early, self.early_chance), (1.0, self.late_chance))
        rule = Rule(
            window=Window(skip=1, coin=coin),
            topology=Topology(anchors=self.id_frames),
            select=Select(tokens="all", dropout=1.0 - self.rate),
            place=Place(kind="shift"),
            mix=Mix(),
        )
        return Recipe(name="story_diffusion", rules=(rule,))
