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

As in the released code every frame is drawn twice. Its first pass (the twin) shares as well, mixes
queries and injects nothing; its last masks and its features say which token is which in the second
pass, whose shared tokens are those of its own masks so far. Anchors take over matched features one
after the other, each what the others have by then; the second ends near the first so, where two
that took what there was before would merely change places. Without dropout, and with the details
below as in that code, latents agree with its own to 2e-5.

Departures: a fixed number of tokens is dropped, the smaller half of an odd number, drawn by counted
numbers instead of one coin per token from the process's stream, so that a frame drawn later equals
one drawn together with the others; which are dropped depends on the anchor's number. Otsu's
threshold is exact instead of over 256 bins, and all grids within `watched` are watched, where
theirs watches one. The steps of the windows are shares of the schedule, so they hold for any number
of steps; in a user's own pipeline each has a step at least, for models of few steps. `lead`, `bias`
and `open` are not in the paper; all are off, unless a model's folder recommends them.

Before 2026-11-30.3 first passes shared nothing, anchors took what there was before, queries were
mixed for a step less, weights fell over the steps that share alone, the features' filter repeated
edges, shrinking a map averaged, and the larger half was dropped, which cost consistency. All that
is `first_pass` "twin" now, in which pictures from then are still drawn again to the byte. It is
also what a model that recommends a `lead` gets, as the story world's does.

Settings, with the defaults of the paper and its code:

anchors: per character. lead: how far ahead they are, as a share of all steps. together: whether
the first frame of several characters is read by later ones. portrait: whether a hidden portrait
is the first anchor (see `settings.Topology`). bias: added to the logits of what is shared.
dropout: share of the anchors' subject tokens left out. mixing_steps, mixing: share of the steps
with vanilla queries, and their weight at the first and the last, steps that share nothing counted.
injection: weight (0 is off: there is one pass). injection_steps: shares of the steps between which
it acts. first_pass: "shared", or "twin" for one without sharing, whose masks count from the first
step on; it is that where anchors lead. gate, open: who may read (see `settings.Select`). window: in
which layers and when keys are shared; queries are mixed in the same layers. watched, cut: of the
masks (see `settings.MaskProbe.tokens` and `cut`). features: which features are matched.
"""

from __future__ import annotations

from consistent_gen.attention.settings import (
    CHARACTER_SETTINGS,
    MIXED,
    BlendQueries,
    FeatureProbe,
    MaskProbe,
    Mix,
    Recipe,
    Rule,
    Select,
    Window,
)

RECIPE = Recipe(
    name="consistory",
    rules=(
        Rule(name="sharing", select=Select(tokens="subject", dropout=0.5, gate="many")),
        # Early, while layouts are decided: otherwise every frame takes on the anchors' pose.
        Rule(
            name="mixing",
            window=Window(steps=MIXED),
            align=(BlendQueries(weights=(0.9, 0.82)),),
            mix=Mix(keys="none"),
        ),
        # Details, when it is settled which token is which; guidance then moves away from rows
        # without the prompt, which are left as they are.
        Rule(
            name="injection",
            window=Window(
                blocks=("down", "up", "joint", "single"),
                depth=(0.0, 1.0),
                ranks=(0,),
                steps=(0.1, 0.34),
                branches=("cond",),
            ),
            mix=Mix(keys="none", inject=0.8),
        ),
    ),
    masks=MaskProbe(source="shared"),
    features=FeatureProbe(),
    settings={
        **CHARACTER_SETTINGS,
        "window": ("sharing.window", "mixing.window"),
        "mixing_steps": ("mixing.window.steps.1",),
        "mixing": ("mixing.align.0.weights",),
        "injection": ("injection.mix.inject",),
        "injection_steps": ("injection.window.steps",),
        "first_pass": ("masks.source",),
    },
)
