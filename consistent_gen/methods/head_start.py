"""Head start: frames read anchors that are drawn some steps ahead of them.

Our own. Where frames and anchors have equal noise, an anchor knows as little about its character as
the frame does while colours and clothes are being decided, so two pictures can only agree as far as
either has settled. Here anchors run a share of the schedule ahead. What they export is clearer than
the reader's latent, and is read from the first step on. The bank makes that free: anchors are drawn
once, and their exports are kept by step anyway.

Otherwise as in subject-driven shared attention (arXiv 2402.03286, section 3.1), with differences:

- One anchor, so that there are not two to choose between that settled differently: the first frame
  of the story that shows the character. A portrait that nobody sees would be one frame more,
  and later frames are closer to what they read than to each other. Two who meet have the first
  frame of both as their anchor; there they stand beside each other, as large as two are.
- Keys are shared in rows with the prompt only. Guidance then moves away from what nobody read, too,
  so that what was read counts as often as the guidance says.
- What is read counts twice (e^0.7).
- A character is what stands out more than half of Otsu's threshold. A noun is looked up in heads
  first; with the whole threshold half of a figure is missing, clothes above all.
- In a frame of several characters each query reads the character that is clearest there, clear or
  not: after the first step attention tells in 99 of 100 tokens who will stand where, though not how
  far. In the first step everybody reads everybody.
- Where characters have anchors of their own (a writer's pictures), the first frame of several is
  read by later frames of the same, once, beside these: a model has seen two read two, and from two
  portraits each keeps less than from its own alone.
- No twin: masks come from the steps that lie behind the anchor when the first frame reads it, and
  stay as they are then: masks of that moment make characters more alike than later ones, which
  shrink. Nothing is dropped, mixed or injected. An added frame costs one denoiser call a step.

Models that were trained alone meet keys from another noise level as strangers; a model can learn to
read them (`training/pairs.py`), as the shipped one has.

Settings:

anchors: per character. lead: how far ahead they are, as a share of all steps. together: whether
the first frame of several characters is read by later ones. portrait: whether a hidden portrait
is the anchor (see `settings.Topology`). dropout: share of the subject's tokens left out. bias:
added to the logits of what is shared; ln k counts it k times. gate, open: who may read (see
`settings.Select`). window: in which layers and when keys are shared. watched, cut: of the masks
(see `settings.MaskProbe.tokens` and `cut`).
"""

from __future__ import annotations

from consistent_gen.attention.settings import (
    CHARACTER_SETTINGS,
    MaskProbe,
    Mix,
    Recipe,
    Rule,
    Select,
    Topology,
    Window,
)

RECIPE = Recipe(
    name="head_start",
    rules=(
        Rule(
            window=Window(skip=0, branches=("cond",)),
            topology=Topology(anchors=1, lead=0.3, together=True, portrait=False),
            select=Select(tokens="subject", gate="nearest", open=0.05),
            mix=Mix(bias=0.7),
        ),
    ),
    masks=MaskProbe(source="running", cut=0.5),
    settings={name: at for name, at in CHARACTER_SETTINGS.items() if name != "features"},
)
