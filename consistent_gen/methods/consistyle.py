"""ConsiStyle: one subject in many styles, by sharing structure in q and k and keeping style in v.

"ConsiStyle: Style Diversity in Training-Free Consistent T2I Generation", arXiv
2505.20626. Three things on top of ConsiStory's masked sharing with two anchors:

- q_i[p], k_i[p] <- q_s[nn(p)], k_s[nn(p)] at subject tokens p with a good correspondence, from the
  anchor s that is nearest by diffusion features; finest grid, conditional branch, steps 5-15 of 50.
- v_i <- v_i of a parallel un-anchored copy of the frame; finest grid, both branches, steps 3-10.
- Shared values are moved toward the reading frame: V+ = [v_i ; AdaIN(v_j; v_i)[M_j]], statistics
  over the whole of both pictures.

Departures: the copy also serves as the pass that finds masks and features: 2.08 times the calls of
a plain frame, where the released code makes three passes of two calls per step. Vanilla queries
come from a second, unshared row with the latent that is being denoised, as in that code, but in the
first tenth of the steps only, as in ConsiStory; in all steps (`mixing_steps=1`) they make it three
times the calls. All frames are edited from unedited anchors; which anchor tokens are dropped hangs
on the anchor's number, so their order is free only without dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consistent_gen.attention.settings import (
    AlignStatistics,
    FeatureProbe,
    Gate,
    MaskProbe,
    MatchedQueriesKeys,
    Mix,
    Recipe,
    Rule,
    Select,
    Topology,
    TwinValues,
    Window,
)
from consistent_gen.methods.consistory import DIFT, SHARED_LAYERS, mixing_rule


@dataclass(frozen=True, kw_only=True)
class ConsiStyle:
    """Settings, with the defaults of the released code; windows are shares of the steps.

    anchors, lead, together, portrait, bias, dropout, mixing_steps, mixing, gate, open, window,
    watched, cut, features: as in ConsiStory.
    structure_steps: when q and k come from the anchors. style_steps: when v comes from the copy.
    align_values: whether shared values take the reading frame's statistics.
    """

    anchors: int = 2
    lead: float = 0.0
    together: bool = False
    portrait: bool = True
    bias: float = 0.0
    dropout: float = 0.5
    mixing_steps: float = 0.1
    mixing: tuple[float, float] = (0.9, 0.82)
    structure_steps: tuple[float, float] = (0.1, 0.32)
    style_steps: tuple[float, float] = (0.06, 0.22)
    align_values: bool = True
    gate: Gate = "many"
    open: float = 0.0
    window: Window = SHARED_LAYERS
    watched: tuple[int, int] = (64, 1024)
    cut: float = 1.0
    features: FeatureProbe = DIFT

    couples_frames: ClassVar[bool] = True
    reads_references: ClassVar[bool] = True

    def recipe(self) -> Recipe:
        """The method as data."""
        topology = Topology(
            anchors=self.anchors,
            lead=self.lead,
            together=self.together,
            portrait=self.portrait,
        )
        toward = AlignStatistics(which=("v",), toward="target")
        alone = Mix(keys="none")
        rules = [
            Rule(
                window=self.window,
                topology=topology,
                select=Select(
                    tokens="subject", dropout=self.dropout, gate=self.gate, open=self.open
                ),
                align=(toward,) if self.align_values else (),
                mix=Mix(bias=self.bias),
            )
        ]
        if self.mixing_steps > 0.0:
            rules.append(mixing_rule(self.window, topology, self.mixing_steps, self.mixing))
        if self.style_steps[1] > 0.0:
            window = Window(ranks=(0,), steps=self.style_steps)
            rules.append(Rule(window=window, topology=topology, align=(TwinValues(),), mix=alone))
        if self.structure_steps[1] > 0.0:
            window = Window(ranks=(0,), steps=self.structure_steps, branches=("cond",))
            matched = (MatchedQueriesKeys(),)
            rules.append(Rule(window=window, topology=topology, align=matched, mix=alone))
        return Recipe(
            name="consistyle",
            rules=tuple(rules),
            masks=MaskProbe(tokens=self.watched, cut=self.cut),
            features=self.features,
        )
