"""StyleAligned: every frame attends to one reference frame, whose feature statistics it takes on.

Hertz et al., "Style Aligned Image Generation via Shared Attention", arXiv 2312.02133. With frame 0
as the reference:

    q^ = AdaIN(q_i; q_0)    k^ = AdaIN(k_i; k_0)
    o_i = softmax(q^ [k^ ; s k_0]^T / sqrt(d) + [0 ; beta]) [v_i ; v_0]

The reference itself is drawn alone: reading a second copy of its own keys would change nothing at
s = 1. The shared group norms of the released code are left out; they tie whole feature maps, not
attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consistent_gen.attention.settings import (
    AlignStatistics,
    Mix,
    Place,
    Recipe,
    Rule,
    ScaleShared,
    Select,
    Topology,
    Window,
)

ALL_BLOCKS = ("down", "mid", "up", "joint", "double", "single")


@dataclass(frozen=True, kw_only=True)
class StyleAligned:
    """Settings, with the defaults of the released code.

    beta: added to the logits of the reference's keys; ln 2 for a real picture as reference.
    s: factor on the reference's keys. steps: share of the steps in which frames are aligned.
    """

    beta: float = 0.0
    s: float = 1.0
    steps: float = 1.0

    couples_frames: ClassVar[bool] = True
    reads_references: ClassVar[bool] = True

    def recipe(self) -> Recipe:
        """The method as data."""
        scaled = (ScaleShared(factor=self.s),) if self.s != 1.0 else ()
        rule = Rule(
            window=Window(blocks=ALL_BLOCKS, depth=(0.0, 1.0), skip=0, steps=(0.0, self.steps)),
            topology=Topology(anchors=1),
            select=Select(tokens="all"),
            align=(AlignStatistics(which=("q", "k"), toward="source"), *scaled),
            place=Place(kind="shift"),
            mix=Mix(bias=self.beta),
        )
        return Recipe(name="style_aligned", rules=(rule,))
