"""From features to tokens: two primitives, of which every projector here is made.

`IDMLP` turns one vector into a few tokens; `Perceiver` lets tokens, learned or given, read a
sequence. Submodules have the names that published files use, so a state dict is read as it is.

Shapes: `n` characters, `r` pictures, `m` feature tokens, `t` adapter tokens, `d` head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

HEAD_WIDTH = 64  # of all published ones; the number of heads follows from it


class TokenProjector(nn.Module):
    """From the features of n characters to their tokens [n t c].

    `forward` takes one tensor [n ...] per `FeatureSpec`, by name. parts: (name, how many) of the
    tokens of one character, in order.
    """

    parts: tuple[tuple[str, int], ...]


class IDMLP(TokenProjector):
    """Tokens of a vector: Linear, GELU, Linear, LayerNorm (IP-Adapter-FaceID).

    feature_width: of the vector. width: c of a token. tokens: t. hidden: of the layer between,
    twice the vector if not given.
    """

    def __init__(
        self, *, feature_width: int, width: int, tokens: int = 4, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.width, self.parts = width, (("face", tokens),)
        hidden = hidden or 2 * feature_width
        self.proj = nn.Sequential(
            nn.Linear(feature_width, hidden), nn.GELU(), nn.Linear(hidden, tokens * width)
        )
        self.norm = nn.LayerNorm(width)

    def from_identity(self, identity: Tensor) -> Tensor:
        """[n v] to [n t c]."""
        found: Tensor = self.norm(self.proj(identity).unflatten(-1, (-1, self.width)))
        return found

    def forward(self, identity: Tensor) -> Tensor:
        """[n v] to [n t c]."""
        return self.from_identity(identity)


class PerceiverAttention(nn.Module):
    """Latents read a sequence and themselves (Alayrac et al., arXiv 2204.14198).

    width: of latents. heads: of `HEAD_WIDTH` each unless head_width says otherwise.
    """

    def __init__(self, width: int, heads: int, head_width: int = HEAD_WIDTH) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head_width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """x [n m c] and latents [n t c] to [n t c]."""
        x, latents = self.norm1(x), self.norm2(latents)
        q = self.to_q(latents)
        k, v = self.to_kv(torch.cat([x, latents], dim=-2)).chunk(2, dim=-1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for y in (q, k, v))
        # Each side by the fourth root: in half precision the product would overflow.
        scale = q.shape[-1] ** -0.25
        weights = ((q * scale) @ (k * scale).transpose(-1, -2)).float().softmax(-1).to(q.dtype)
        found: Tensor = self.to_out((weights @ v).transpose(-2, -3).flatten(-2))
        return found


def perceiver_layers(
    width: int, depth: int, heads: int, head_width: int = HEAD_WIDTH
) -> nn.ModuleList:
    """`depth` times attention and perceptron, with the keys `{l}.0.*`, `{l}.1.{0,1,3}`."""
    layers = nn.ModuleList()
    for _ in range(depth):
        wide, narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, False)
        perceptron = nn.Sequential(nn.LayerNorm(width), wide, nn.GELU(), narrow)
        layers.append(nn.ModuleList([PerceiverAttention(width, heads, head_width), perceptron]))
    return layers


def perceive(layers: nn.ModuleList, x: Tensor, latents: Tensor) -> Tensor:
    """Latents [n t c] after reading x [n m c] in every layer."""
    for layer in layers:
        pair: Any = layer
        latents = pair[0](x, latents) + latents
        latents = pair[1](latents) + latents
    return latents


class Perceiver(nn.Module):
    """A resampler: latents read a sequence, and leave it as tokens.

    feature_width: of what is read. width: of the latents. out_width: of the tokens.
    latents: how many are learned; 0 if they are given.
    """

    def __init__(
        self, *, feature_width: int, width: int, out_width: int, depth: int, heads: int,
        latents: int = 0, head_width: int = HEAD_WIDTH,
    ) -> None:  # fmt: skip
        super().__init__()
        if latents:
            self.latents = nn.Parameter(torch.randn(1, latents, width) / width**0.5)
        self.proj_in = nn.Linear(feature_width, width)
        self.proj_out = nn.Linear(width, out_width)
        self.norm_out = nn.LayerNorm(out_width)
        self.layers = perceiver_layers(width, depth, heads, head_width)

    def forward(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """x [n m f], and latents [n t c] unless they are learned, to tokens [n t o]."""
        start = self.latents.expand(len(x), -1, -1) if latents is None else latents
        found: Tensor = self.norm_out(self.proj_out(perceive(self.layers, self.proj_in(x), start)))
        return found
