"""The judge: a transformer that reads the same factors as the reader, by another route and seed.

Patches of 8 x 8 pixels, one query token for the scene and three for the subjects. Nothing is ever
trained against it, so it tells whether a gain under the reader is real.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.encoders.factors import (
    MAX_SUBJECTS,
    FactorHeads,
    PictureReader,
    Reading,
    Schema,
    normalized,
)

PATCH, GRID, HEAD_WIDTH, DEPTH = 8, 16, 32, 6


class Layer(nn.Module):
    """Pre-norm self-attention and perceptron over tokens b n c."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """b n c to b n c."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, HEAD_WIDTH)).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # b h n d
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        change: Tensor = self.narrow(F.gelu(self.wide(self.norm2(x))))
        return x + change


class Judge(PictureReader):
    """Reads pictures b 3 128 128 with tokens of `width` channels."""

    kind = "judge"

    def __init__(self, schema: Schema, width: int = 192) -> None:
        super().__init__(schema, width)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 48, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(48, width, PATCH // 2, stride=PATCH // 2),
        )
        self.places = nn.Parameter(torch.randn(1, GRID * GRID, width) * 0.02)
        self.queries = nn.Parameter(torch.randn(1, 1 + MAX_SUBJECTS, width) * 0.02)
        self.layers = nn.ModuleList([Layer(width) for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(width)
        self.mask_query = nn.Linear(width, width)
        self.heads = FactorHeads(schema, width, width)

    def forward(self, pictures: Tensor) -> Reading:
        """Read pictures (b 3 h w, brought to 128 pixels a side; uint8, or floats in [0, 1])."""
        x = normalized(pictures).to(self.places.dtype)
        tokens = self.stem(x).flatten(2).transpose(1, 2) + self.places  # b n c
        tokens = torch.cat([self.queries.expand(len(x), -1, -1), tokens], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        queries, patches = tokens[:, : 1 + MAX_SUBJECTS], tokens[:, 1 + MAX_SUBJECTS :]
        # Subject k's mask is where patches agree with its token; the scene token is the background.
        masks = self.mask_query(queries) @ patches.transpose(1, 2) * self.width**-0.5
        reading: Reading = self.heads(
            queries[:, 1:], queries[:, 0], masks.unflatten(-1, (GRID, GRID)), None
        )
        return reading
