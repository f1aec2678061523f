"""Rows whose image tokens see nothing but themselves: the weak branch of perturbed-attention
guidance.

Where every token attends to itself alone, a model keeps its colours and textures and loses what
holds a shape together; guidance away from that draws contours and shapes (Ahn et al., arXiv
2403.17377, equation 11: the attention map is the identity, so the result is the values).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from consistent_gen.attention.layers import Site, unproject
from consistent_gen.attention.patch import one_row
from consistent_gen.attention.policy import AttentionPolicy, Heads

BLOCKS = ("mid", "up")


class IdentityAttention(AttentionPolicy):
    """Identity maps in the self-attention of a UNet's mid and up blocks.

    Args:
        model: the UNet that it will be attached to. slots: rows of the call that get them.
    """

    def __init__(self, model: nn.Module, slots: Iterable[int]) -> None:
        self.model = model
        self.slots = tuple(slots)
        self._values: dict[int, Tensor] = {}

    def acts(self, site: Site) -> bool:
        """See `AttentionPolicy`."""
        return bool(self.slots) and site.kind == "self" and site.block in BLOCKS

    def self_attention(self, heads: Heads, site: Site) -> None:
        """Keep the values of the rows, [n h d] each."""
        self._values = {slot: heads.get("v", slot) for slot in self.slots}

    def output(self, hidden: Tensor, site: Site) -> Tensor:
        """Hidden states [b n c] with the rows' values as if they had been attention's result."""
        attn: Any = self.model.get_submodule(site.name)
        hidden = hidden.clone()
        for slot, values in self._values.items():
            with one_row(self.model, slot):
                alone, _ = unproject(
                    attn, values.unsqueeze(0), None, 0, site
                )  # knows no neighbours
            hidden[slot] = alone[0]  # n c
        self._values = {}
        return hidden
