"""Features of a character in the words that speak of it (PhotoMaker, ConsistentID).

What goes where is an explicit table of `Placement`s, never an order that two lists are hoped to
have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Placement(NamedTuple):
    """A token of the encoded prompt (0 is the start mark), and what is fused into it: a part of a
    character, both as numbers.
    """

    position: int
    person: int
    part: int


@dataclass(frozen=True)
class Fusing:
    """What is fused into a prompt.

    table: what goes where. cond, uncond: features [n p c] of n characters' parts, with the prompt
    and without.
    """

    table: tuple[Placement, ...]
    cond: Tensor
    uncond: Tensor


class _Perceptron(nn.Module):
    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.layernorm(x))))
        return found


class FuseModule(nn.Module):
    """A word's state and a feature become the word's new state; both have `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp1 = _Perceptron(2 * width, width, width)
        self.mlp2 = _Perceptron(width, width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, words: Tensor, features: Tensor) -> Tensor:
        """words [k c] and features [k c] to [k c]."""
        x = self.mlp1(torch.cat([words, features], dim=-1)) + words
        x = x + self.mlp2(x)
        found: Tensor = self.layer_norm(x)
        return found

    def fuse(self, text: Tensor, features: Tensor, table: Sequence[Placement]) -> Tensor:
        """An encoded prompt text [t c] with features [n p c] at the places of `table`.

        All other positions keep their bytes.
        """
        if not table:
            return text
        places = torch.tensor([entry.position for entry in table], device=text.device)
        weight = self.layer_norm.weight
        chosen = torch.stack([features[entry.person, entry.part] for entry in table])  # k c
        fused = self(text[places].to(weight), chosen.to(weight)).to(text.dtype)
        changed: Tensor = text.index_copy(0, places, fused)
        return changed


class PromptFuser(nn.Module):
    """Features of parts [n p m f] as vectors [n p c], and the module that fuses them into words.

    Has the names of ConsistentID's `FacialEncoder`: `visual_projection`, a perceiver with one
    learned latent per part, and `fuse_module`.
    """

    def __init__(self, visual_projection: nn.Module, width: int) -> None:
        super().__init__()
        self.visual_projection = visual_projection
        self.fuse_module = FuseModule(width)

    def vectors(self, parts: Tensor) -> Tensor:
        """[n p m f] to [n p c]."""
        found: Tensor = self.visual_projection(parts.flatten(0, 1))[:, 0]
        return found.reshape(*parts.shape[:2], -1)
