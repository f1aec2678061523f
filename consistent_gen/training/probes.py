"""Probes: linear heads that make a network's inner states say what is shown and what is named.

A probe learns with the network it reads and is thrown away.

`FactorProbe` reads the denoiser's middle features. Features of a denoiser that agree with a
perceptual network's make training several times shorter (Yu et al., "Representation alignment for
generation", arXiv 2410.06940). The story world knows the truth itself, so no such network is
needed: per latent, the heads read the part that is shown there and every factor of the subject it
belongs to.

`CaptionProbe` reads the text encoder's states. The denoiser's gradient tells the text encoder
little about words (its noise scale was some 340 pictures where the denoiser's own was 13). Here the
heads read what was said: at the last word of a subject's noun phrase what that phrase names, since
a causal encoder has seen all of it there; at the end of the text the scene and what each subject
does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.encoders.factors import MAX_SUBJECTS, Schema
from consistent_gen.world.captions import Caption, words_of
from consistent_gen.world.painter import PARTS
from consistent_gen.world.palette import HUES

IGNORE = -100  # class index that the cross-entropy skips


def heads_cross_entropy(logits: Tensor, sizes: Sequence[int], wanted: Tensor) -> Tensor:
    """Cross-entropy of each head, shape ... f, 0 where `wanted` is IGNORE.

    Args:
        logits: ... k; the heads' classes one after the other.
        sizes: classes of each of f heads, k in all.
        wanted: ... f, class indices of any integer type.
    """
    assert logits.size(-1) == sum(sizes) and wanted.size(-1) == len(sizes), "one size per head"
    widest = max(sizes)
    place = torch.zeros(len(sizes), widest, dtype=torch.long)
    absent = torch.ones(len(sizes), widest, dtype=torch.bool)
    start = 0
    for head, size in enumerate(sizes):
        place[head, :size] = torch.arange(start, start + size)
        absent[head, :size] = False
        start += size
    spread = logits[..., place.to(logits.device)]  # ... f widest
    spread = spread.masked_fill(absent.to(logits.device), float("-inf"))
    flat = F.cross_entropy(
        spread.flatten(0, -2), wanted.flatten().long(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view(wanted.shape)


class FactorProbe(nn.Module):
    """Linear heads over features b c h w, and the hook that catches them from `layer`.

    Args:
        schema: the factors.
        width: channels of the features.
    """

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.schema = schema
        self.sizes = [1 + len(schema.parts), *map(len, schema.subject.values())]
        self.norm = nn.GroupNorm(1, width)
        self.read = nn.Conv2d(width, sum(self.sizes) + 2 * len(schema.hues), 1)
        self.features: Tensor | None = None

    def watch(self, layer: nn.Module) -> None:
        """Keep the output of `layer` at each call of it."""

        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            self.features = output

        layer.register_forward_hook(keep)

    def loss(self, factors: Tensor, hues: Tensor, labels: Tensor) -> Tensor:
        """Mean over the heads of their losses at the latents where the factor can be seen.

        Args:
            factors: b 3 f, class of each discrete factor of a subject, IGNORE where it is not seen.
            hues: b 3 u, nan likewise.
            labels: b 2h 2w label bytes; one of each 2 x 2 counts.
        """
        assert self.features is not None, "the watched layer has not run"
        features, self.features = self.features, None
        read = self.read(self.norm(features.to(self.read.weight.dtype))).float()
        classes, angles = read.permute(0, 2, 3, 1).split(  # b h w k
            [sum(self.sizes), 2 * hues.size(-1)], dim=-1
        )
        byte = labels[:, 1::2, 1::2].long()
        shown = byte > 0
        part = torch.where(shown, (byte - 1) % len(PARTS) + 1, 0)
        row = torch.arange(len(byte), device=byte.device).view(-1, 1, 1)
        owner = (byte - 1).clamp(min=0) // len(PARTS)
        wanted = factors.long()[row, owner].masked_fill(~shown.unsqueeze(-1), IGNORE)  # b h w f
        wanted = torch.cat([part.unsqueeze(-1), wanted], -1)
        losses = heads_cross_entropy(classes, self.sizes, wanted).sum((0, 1, 2))
        losses = losses / (wanted != IGNORE).sum((0, 1, 2)).clamp(min=1)
        angle = hues.float()[row, owner] * (2.0 * math.pi)  # b h w u
        circle = torch.cat([angle.cos(), angle.sin()], -1)
        known = ~circle.isnan() & shown.unsqueeze(-1)
        error = (angles - circle.nan_to_num()).square() * known
        of_hues = error.sum() / known.sum().clamp(min=1)
        return torch.cat([losses, of_hues.unsqueeze(0)]).mean()


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
