"""ConsiStory: subject-driven shared attention, with looser layouts and matched features.

Tewel et al., "Training-Free Consistent Text-to-Image Generation", arXiv 2402.03286:

- Shared attention: o_i = softmax(q_i K+^T / sqrt(d) + log M+_i) V+,
  where K+ and V+ hold the frame's own keys and the subject tokens of the anchors, M their masks
  from cross-attention. The masked keys are gathered instead of masked out, which is the same sum.
- Layout diversity: q* = (1 - v_t) q + v_t q_vanilla in the first tenth of the steps,
  and half of the shared tokens dropped, anew in every step. q_vanilla comes from a second,
  unshared row with the latent that is being denoised, as in the paper.
- Feature injection: out_i = (1 - a) out_i + a out_source at the subject
  tokens that have a good correspondence by diffusion features, finest grid, conditional branch.

Departures: masks and features come from one pass without sharing (the twin), where the released
code makes a second shared pass: 2.08 times the calls of a plain frame instead of 2.24 times.
Queries are not taken from the twin: its trajectory leaves the frame's at the first shared step, and
its queries then belong to another picture. Anchors are not injected into, and which of their tokens
are dropped hangs on their number, so their order is free only without dropout. The steps of the
windows are shares of the schedule, so they hold for any number of steps; step 0 is not mixed, since
nothing is shared in it. `lead`, `bias` and `open` are not in the paper; all are off, unless a
model's folder recommends them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from consistent_gen.attention.settings import (
    BlendQueries,
    FeatureProbe,
    Gate,
    MaskProbe,
    Mix,
    Place,
    Recipe,
    Rule,
    Select,
    Topology,
    Window,
)

INJECTED_BLOCKS = ("down", "up", "joint", "single")
SHARED_LAYERS = Window()
DIFT = FeatureProbe()


@dataclass(frozen=True, kw_only=True)
class ConsiStory:
    """Settings, with the defaults of the paper and its code.

    anchors: per character. lead: how far ahead they are, as a share of all steps. together: whether
    the first frame of several characters is read by later ones. portrait: whether a hidden portrait
    is the first anchor (see `settings.Topology`). bias: added to the logits of what is shared.
    dropout: share of the anchors' subject tokens left out. mixing: share of the steps with vanilla
    queries, and their weight at the first and the last. injection: weight (0 is off: no twin is
    drawn, and masks come from the frame's earlier steps). gate, open: who may read (see
    `settings.Select`). window: in which layers and when keys are shared. watched, cut: of the masks
    (see `settings.MaskProbe.tokens` and `cut`). features: which features are matched.
    """

    anchors: int = 2
    lead: float = 0.0
    together: bool = False
    portrait: bool = True
    bias: float = 0.0
    dropout: float = 0.5
    mixing_steps: float = 0.1
    mixing: tuple[float, float] = (0.9, 0.82)
    injection: float = 0.8
    injection_steps: tuple[float, float] = (0.1, 0.34)
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
        sharing = Rule(
            window=self.window,
            topology=topology,
            select=Select(tokens="subject", dropout=self.dropout, gate=self.gate, open=self.open),
            place=Place(kind="shift"),
            mix=Mix(bias=self.bias),
        )
        rules = [sharing]
        if self.mixing_steps > 0.0:
            rules.append(mixing_rule(self.window, topology, self.mixing_steps, self.mixing))
        if self.injection > 0.0:
            finest = Window(
                blocks=INJECTED_BLOCKS,
                depth=(0.0, 1.0),
                ranks=(0,),
                steps=self.injection_steps,
                branches=("cond",),
            )
            inject = Mix(keys="none", inject=self.injection)
            rules.append(Rule(window=finest, topology=topology, mix=inject))
        twin = self.injection > 0.0
        return Recipe(
            name="consistory",
            rules=tuple(rules),
            masks=MaskProbe(
                source="twin" if twin else "running", tokens=self.watched, cut=self.cut
            ),
            features=self.features if twin else None,
        )


def mixing_rule(
    window: Window, topology: Topology, steps: float, weights: tuple[float, float]
) -> Rule:
    """Vanilla queries in the layers of `window`, in the first `steps` of the schedule."""
    return Rule(
        window=replace(window, steps=(0.0, steps), coin=()),
        topology=topology,
        align=(BlendQueries(weights=weights),),
        mix=Mix(keys="none"),
    )
