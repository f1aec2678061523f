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
first tenth of the steps only (1 to 4 of 50), as in ConsiStory; in all steps (`mixing_steps=1`) they
make it three times the calls. All frames are edited from unedited anchors; which anchor tokens are
dropped depends on the anchor's number, so their order is free only without dropout.

Settings, with the defaults of the released code; windows are shares of the steps:

anchors, lead, together, portrait, bias, dropout, mixing_steps, mixing, gate, open, window,
watched, cut, features: as in ConsiStory.
structure_steps: when q and k come from the anchors. style_steps: when v comes from the copy.
align_values: whether shared values take the reading frame's statistics.
"""

from __future__ import annotations

from consistent_gen.attention.settings import (
    CHARACTER_SETTINGS,
    AlignStatistics,
    BlendQueries,
    FeatureProbe,
    MaskProbe,
    MatchedQueriesKeys,
    Mix,
    Recipe,
    Rule,
    Select,
    TwinValues,
    Window,
)

ALONE = Mix(keys="none")

RECIPE = Recipe(
    name="consistyle",
    rules=(
        Rule(
            name="sharing",
            select=Select(tokens="subject", dropout=0.5, gate="many"),
            align=(AlignStatistics(which=("v",), toward="target"),),
        ),
        # Early, while layouts are decided, as in ConsiStory.
        Rule(
            name="mixing",
            window=Window(steps=(0.0, 0.1)),
            align=(BlendQueries(weights=(0.9, 0.82)),),
            mix=ALONE,
        ),
        # Style is what v carries; in the steps that decide it, it is the frame's own.
        Rule(
            name="style",
            window=Window(ranks=(0,), steps=(0.06, 0.22)),
            align=(TwinValues(),),
            mix=ALONE,
        ),
        # Structure is what q and k agree on.
        Rule(
            name="structure",
            window=Window(ranks=(0,), steps=(0.1, 0.32), branches=("cond",)),
            align=(MatchedQueriesKeys(),),
            mix=ALONE,
        ),
    ),
    masks=MaskProbe(source="twin"),
    features=FeatureProbe(),
    settings={
        **CHARACTER_SETTINGS,
        "window": ("sharing.window", "mixing.window"),
        "mixing_steps": ("mixing.window.steps.1",),
        "mixing": ("mixing.align.0.weights",),
        "structure_steps": ("structure.window.steps",),
        "style_steps": ("style.window.steps",),
        "align_values": ("sharing.align.0",),
    },
)
