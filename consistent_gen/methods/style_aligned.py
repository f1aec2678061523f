"""StyleAligned: every frame attends to one reference frame, whose feature statistics it takes on.

Hertz et al., "Style Aligned Image Generation via Shared Attention", arXiv 2312.02133. With frame 0
as the reference:

    q^ = AdaIN(q_i; q_0)    k^ = AdaIN(k_i; k_0)
    o_i = softmax(q^ [k^ ; s k_0]^T / sqrt(d) + [0 ; beta]) [v_i ; v_0]

The reference itself is drawn alone: reading a second copy of its own keys would change nothing at
s = 1. The shared group norms of the released code are left out; they tie whole feature maps, not
attention.

Settings, with the defaults of the released code:

beta: added to the logits of the reference's keys; ln 2 for a real picture as reference.
s: factor on the reference's keys. steps: share of the steps in which frames are aligned.
"""

from __future__ import annotations

from consistent_gen.attention.settings import (
    AlignStatistics,
    Recipe,
    Rule,
    ScaleShared,
    Select,
    Topology,
    Window,
)

RECIPE = Recipe(
    name="style_aligned",
    rules=(
        Rule(
            # A style is in every layer and from the first step on.
            window=Window(
                blocks=("down", "mid", "up", "joint", "double", "single"), depth=(0.0, 1.0), skip=0
            ),
            topology=Topology(anchors=1),
            select=Select(tokens="all"),
            align=(AlignStatistics(which=("q", "k"), toward="source"), ScaleShared(factor=1.0)),
        ),
    ),
    settings={
        "beta": ("sharing.mix.bias",),
        "s": ("sharing.align.1.factor",),
        "steps": ("sharing.window.steps.1",),
    },
)
