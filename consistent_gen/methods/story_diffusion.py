"""StoryDiffusion's consistent self-attention: frames attend to random tokens of the id frames.

Zhou et al., "StoryDiffusion: Consistent Self-Attention for Long-Range Image and Video Generation",
arXiv 2405.01434, section 3.1. In the up blocks the keys and values of frame i are made from
[own tokens ; a random half of each id frame's tokens], without masks.

Departures from the released code: which tokens and which layers are drawn is counted from the
run's seed instead of a process-wide stream, so that a frame drawn later equals one drawn together
with the id frames; a layer's coin is the same for all frames of a step. FreeU is not part of it.

Settings, with the defaults of the released code:

id_frames: anchors per character. dropout: share of their tokens that is not read, 1 less the
sampling rate of the paper. early_chance, late_chance: how often a layer shares before and after
`early` of the steps.
"""

from __future__ import annotations

from consistent_gen.attention.settings import Recipe, Rule, Select, Topology, Window

RECIPE = Recipe(
    name="story_diffusion",
    rules=(
        Rule(
            window=Window(coin=((0.4, 0.7), (1.0, 0.9))),
            topology=Topology(anchors=4),
            select=Select(tokens="all", dropout=0.5),
        ),
    ),
    settings={
        "id_frames": ("*.topology.anchors",),
        "dropout": ("sharing.select.dropout",),
        "early": ("sharing.window.coin.0.0",),
        "early_chance": ("sharing.window.coin.0.1",),
        "late_chance": ("sharing.window.coin.1.1",),
    },
)
