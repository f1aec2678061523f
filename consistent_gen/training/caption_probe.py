"""A probe that makes the text encoder's states say what a caption names.

The denoiser's gradient tells the text encoder little about words (its noise scale was some 340
pictures where the denoiser's own was 13). Here linear heads on the encoder's states read what was
said: at the last word of a subject's noun phrase what that phrase names, since a causal encoder
has seen all of it there; at the end of the text the scene and what each subject does. The probe
learns with the encoder and is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.encoders.factors import MAX_SUBJECTS, Schema
from consistent_gen.world.captions import Caption, words_of
from consistent_gen.world.palette import HUES

IGNORE = -100  # class index that the cross-entropy skips
DONE = ("action", "expression")  # said outside a subject's noun phrase, or in words before it


class CaptionProbe(nn.Module):
    """Linear heads over the states b t w of a text encoder.

    Args:
        schema: the factors; a hue counts as the class of its colour name.
        width: channels of the states.
    """

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        hues = {name: tuple(HUES) for name in schema.hues}
        self.phrase = {k: v for k, v in {**schema.subject, **hues}.items() if k != "action"}
        doing = {f"{name}{k}": schema.subject[name] for k in range(MAX_SUBJECTS) for name in DONE}
        self.whole = {**schema.scene, **doing}
        self.at_phrase = nn.Linear(width, sum(map(len, self.phrase.values())))
        self.at_end = nn.Linear(width, sum(map(len, self.whole.values())))

    def loss(self, states: Tensor, captions: Sequence[Caption | None]) -> Tensor:
        """Mean cross-entropy over everything that the captions name; None is a picture without."""
        rows, words, phrases, ends = [], [], [], []
        last, scenes = [], []
        for row, caption in enumerate(captions):
            if caption is None:
                continue
            for (_, end), named in zip(caption.spans, caption.named, strict=True):
                rows.append(row)
                words.append(end)  # the start token moves words by one: this is the last one's
                phrases.append(named)
            last.append(1 + len(words_of(caption.text)))
            ends.append(row)
            doing = {f"{n}{k}": v[n] for k, v in enumerate(caption.named) for n in DONE if n in v}
            scenes.append({**caption.scene, **doing})
        if not rows:
            return states.sum() * 0.0
        states = states.to(self.at_end.weight.dtype)
        phrase = _cross_entropy(self.at_phrase(states[rows, words]).float(), self.phrase, phrases)
        whole = _cross_entropy(self.at_end(states[ends, last]).float(), self.whole, scenes)
        return phrase + whole


def _cross_entropy(
    logits: Tensor, classes: Mapping[str, tuple[str, ...]], named: Sequence[Mapping[str, str]]
) -> Tensor:
    """Mean over all (row, factor) pairs that are named; logits n k hold the factors in order."""
    total, count = logits.sum() * 0.0, 0
    groups = logits.split([len(values) for values in classes.values()], dim=1)
    for (name, values), group in zip(classes.items(), groups, strict=True):
        wanted = [values.index(row[name]) if name in row else IGNORE for row in named]
        total = total + F.cross_entropy(
            group, torch.tensor(wanted), ignore_index=IGNORE, reduction="sum"
        )
        count += sum(w != IGNORE for w in wanted)
    return total / max(count, 1)
