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
from torch import Tensor, nn

from consistent_gen.encoders.factors import MAX_SUBJECTS, Schema
from consistent_gen.training.heads import IGNORE, heads_cross_entropy
from consistent_gen.world.captions import Caption, words_of
from consistent_gen.world.palette import HUES

DONE = ("action", "expression")  # said outside a subject's noun phrase, or in words before it


def _classes(schema: Schema) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """What a noun phrase can name and what the text as a whole can; a hue by its colour name."""
    hues = {name: tuple(HUES) for name in schema.hues}
    phrase = {k: v for k, v in {**schema.subject, **hues}.items() if k != "action"}
    doing = {f"{name}{k}": schema.subject[name] for k in range(MAX_SUBJECTS) for name in DONE}
    return phrase, {**schema.scene, **doing}


def caption_targets(schema: Schema, captions: Sequence[Caption | None]) -> dict[str, Tensor]:
    """What `CaptionProbe.loss` wants to know of b captions; None is a picture without words.

    Returns:
        phrase_at b 3: token of the last word of each subject's noun phrase; phrase b 3 p: classes
        that it names, else IGNORE; text_end b: token after the last word; said b w: classes that
        the text as a whole names.
    """
    phrase, whole = _classes(schema)
    found = {
        "phrase_at": torch.zeros(len(captions), MAX_SUBJECTS, dtype=torch.long),
        "phrase": torch.full((len(captions), MAX_SUBJECTS, len(phrase)), IGNORE),
        "text_end": torch.zeros(len(captions), dtype=torch.long),
        "said": torch.full((len(captions), len(whole)), IGNORE),
    }
    for row, caption in enumerate(captions):
        if caption is None:
            continue
        for k, ((_, end), named) in enumerate(zip(caption.spans, caption.named, strict=True)):
            found["phrase_at"][row, k] = end  # the start token moves words by one
            found["phrase"][row, k] = _numbers(phrase, named)
        found["text_end"][row] = 1 + len(words_of(caption.text))
        doing = {f"{n}{k}": v[n] for k, v in enumerate(caption.named) for n in DONE if n in v}
        found["said"][row] = _numbers(whole, {**caption.scene, **doing})
    return found


def _numbers(classes: Mapping[str, tuple[str, ...]], named: Mapping[str, str]) -> Tensor:
    return torch.tensor(
        [values.index(named[name]) if name in named else IGNORE for name, values in classes.items()]
    )


class CaptionProbe(nn.Module):
    """Linear heads over the states b t w of a text encoder.

    Args:
        schema: the factors; a hue counts as the class of its colour name.
        width: channels of the states.
    """

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.phrase, self.whole = _classes(schema)
        self.at_phrase = nn.Linear(width, sum(map(len, self.phrase.values())))
        self.at_end = nn.Linear(width, sum(map(len, self.whole.values())))

    def loss(self, states: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy over everything that the captions name.

        targets: what `caption_targets` returns, of any integer type.
        """
        states = states.to(self.at_end.weight.dtype)
        row = torch.arange(len(states), device=states.device)
        ends = states[row[:, None], targets["phrase_at"].long()]  # b 3 w
        last = states[row, targets["text_end"].long()]
        return _mean(self.at_phrase(ends).float(), self.phrase, targets["phrase"]) + _mean(
            self.at_end(last).float(), self.whole, targets["said"]
        )


def _mean(logits: Tensor, classes: Mapping[str, tuple[str, ...]], wanted: Tensor) -> Tensor:
    """Mean over all (row, factor) pairs that are named, 0 when there is none."""
    losses = heads_cross_entropy(logits, [len(values) for values in classes.values()], wanted)
    return losses.sum() / (wanted != IGNORE).sum().clamp(min=1)
