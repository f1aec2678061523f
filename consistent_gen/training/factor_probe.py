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
from torch import Tensor, nn

from consistent_gen.encoders.factors import Schema
from consistent_gen.training.heads import IGNORE, heads_cross_entropy
from consistent_gen.world.painter import PARTS


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
