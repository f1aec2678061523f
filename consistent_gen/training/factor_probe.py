"""A probe that makes the denoiser's middle features say who stands where.

Features of a denoiser that agree with a perceptual network's make training several times shorter
(Yu et al., "Representation alignment for generation", arXiv 2410.06940). The story world knows the
truth itself, so no such network is needed: per latent, linear heads on the features read the part
that is shown there and every factor of the subject it belongs to. The probe learns with the
denoiser and is thrown away.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.encoders.factors import Schema
from consistent_gen.world.painter import PARTS

IGNORE = -100  # class index that the cross-entropy skips


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

    def loss(self, truth: dict[str, Any], labels: Tensor) -> Tensor:
        """Mean over the heads of their losses at the latents where the factor can be seen.

        Args:
            truth: what `reader.truth` returns, per subject.
            labels: b 2h 2w label bytes; one of each 2 x 2 counts.
        """
        assert self.features is not None, "the watched layer has not run"
        features, self.features = self.features, None
        read = self.read(self.norm(features.to(self.read.weight.dtype))).float()  # b k h w
        byte = labels[:, 1::2, 1::2].long()
        part = torch.where(byte > 0, (byte - 1) % len(PARTS) + 1, 0)
        row, y, x = (byte > 0).nonzero(as_tuple=True)  # n latents on subjects
        owner = (byte[row, y, x] - 1) // len(PARTS)
        groups = read.split([*self.sizes, read.size(1) - sum(self.sizes)], dim=1)
        losses = [F.cross_entropy(groups[0], part)]
        for logits, wanted in zip(groups[1:-1], truth["subject"].values(), strict=True):
            losses.append(_known_cross_entropy(logits[row, :, y, x], wanted[row, owner]))
        angle = truth["hues"][row, owner] * (2.0 * math.pi)  # n u
        circle = torch.cat([angle.cos(), angle.sin()], 1)
        known = ~circle.isnan()
        error = (groups[-1][row, :, y, x] - circle.nan_to_num()).square() * known
        losses.append(error.sum() / known.sum().clamp(min=1))
        return torch.stack(losses).mean()


def _known_cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy over known targets, 0 when there is none."""
    total = F.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="sum")
    return total / (wanted != IGNORE).sum().clamp(min=1)
