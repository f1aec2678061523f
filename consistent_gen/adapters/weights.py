"""What an adapter adds to the attention layers of a UNet, and the layers' numbers in files.

Published files number the layers in the order of `unet.attn_processors`: down blocks, up blocks,
and the mid block last. Self- and cross-attention alternate, but nothing here relies on it: a layer
is what its module says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from consistent_gen.attention.policy import Projection
from consistent_gen.errors import InputError


class LayerPlace(NamedTuple):
    """An attention layer of a UNet.

    number: in files. name: module path. cross: whether it reads text. hidden: channels of its
    input and output. inner: heads times head width. context: channels of what its keys are made of.
    """

    number: int
    name: str
    cross: bool
    hidden: int
    inner: int
    context: int


def places_of(unet: Any) -> tuple[LayerPlace, ...]:
    """All attention layers of a UNet, in the order of files.

    Raises:
        InputError: a model without such layers.
    """
    names = list(getattr(unet, "attn_processors", ()))
    if not names or not hasattr(unet, "down_blocks"):
        raise InputError(
            f"a {type(unet).__name__} has no cross-attention layers that adapters could join; "
            "expected a UNet2DConditionModel"
        )
    found = []
    for number, processor in enumerate(names):
        attn: Any = unet.get_submodule(processor.removesuffix(".processor"))
        q, k = attn.to_q, attn.to_k
        q, k = getattr(q, "base_layer", q), getattr(k, "base_layer", k)  # below a LoRA of PEFT
        found.append(
            LayerPlace(
                number,
                processor.removesuffix(".processor"),
                bool(attn.is_cross_attention),
                q.in_features,
                q.out_features,
                k.in_features,
            )
        )
    return tuple(found)


def context_width(places: Sequence[LayerPlace]) -> int:
    """Channels of the text that the layers read, the width of an adapter's tokens."""
    return next(place.context for place in places if place.cross)


class LowRank(nn.Module):
    """up(down(x)): zero until it is trained, since `up` starts at zero."""

    def __init__(self, width: int, out: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, out, bias=False)
        nn.init.normal_(self.down.weight, std=1.0 / rank)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[... i] to [... o], in the number format of x."""
        found: Tensor = self.up(self.down(x.to(self.down.weight.dtype)))
        return found.to(x.dtype)


class LayerWeights(nn.Module):
    """What one layer gets: low-rank additions to its linear maps, keys and values of its own."""

    def __init__(self, place: LayerPlace, *, rank: int, width: int) -> None:
        super().__init__()
        if rank:
            self.to_q_lora = LowRank(place.hidden, place.inner, rank)
            self.to_k_lora = LowRank(place.context, place.inner, rank)
            self.to_v_lora = LowRank(place.context, place.inner, rank)
            self.to_out_lora = LowRank(place.inner, place.hidden, rank)
        if width and place.cross:
            self.to_k_ip = nn.Linear(width, place.inner, bias=False)
            self.to_v_ip = nn.Linear(width, place.inner, bias=False)

    def low_rank(self, which: Projection) -> LowRank | None:
        """The addition to one of the layer's linear maps, if there is one."""
        found: LowRank | None = getattr(self, f"to_{which}_lora", None)
        return found


class AdapterAttention(nn.ModuleDict):
    """The weights of all layers, by the numbers of files.

    Args:
        places: the UNet's layers. width: of the tokens that cross-attention layers read, 0 if they
            read none. rank: of the LoRA, 0 for none. lora_on: of which layers, "all" or "self".
    """

    def __init__(
        self, places: Iterable[LayerPlace], *, width: int, rank: int = 0, lora_on: str = "all"
    ) -> None:
        super().__init__()
        self.rank = rank
        self._numbers: dict[str, str] = {}
        for place in places:
            ranked = rank if lora_on == "all" or not place.cross else 0
            if ranked or (width and place.cross):
                self[str(place.number)] = LayerWeights(place, rank=ranked, width=width)
                self._numbers[place.name] = str(place.number)

    def at(self, name: str) -> LayerWeights | None:
        """What the layer at a module path gets."""
        number = self._numbers.get(name)
        if number is None:
            return None
        found = self[number]
        assert isinstance(found, LayerWeights)
        return found

    def added(
        self, name: str, which: Projection, x: Tensor, slots: Sequence[int],
        scales: Mapping[int, float],
    ) -> Tensor | None:  # fmt: skip
        """What the LoRA adds to a linear map of the layer at a path for its input x [r n c].

        slots: the call's rows that x holds. scales: by row; rows that are not named, or have 0, get
        nothing. All rows are computed, so that a row's bytes do not depend on how many of the
        others have a LoRA.
        """
        layer = self.at(name)
        low_rank = None if layer is None else layer.low_rank(which)
        found = [scales.get(slot, 0.0) for slot in slots]
        if low_rank is None or not any(found):
            return None
        more: Tensor = low_rank(x)
        if set(found) == {1.0}:
            return more
        by_row = torch.tensor(found, device=x.device)[:, None, None]
        return (more * by_row.to(more)).masked_fill(by_row == 0.0, 0.0)

    @torch.no_grad()
    def start_from(self, unet: Any) -> None:
        """Give every cross-attention layer's own keys and values to the branch (ConsistentID)."""
        for name, number in self._numbers.items():
            layer: Any = self[number]
            attn: Any = unet.get_submodule(name)
            if hasattr(layer, "to_k_ip"):
                layer.to_k_ip.weight.copy_(attn.to_k.weight)
                layer.to_v_ip.weight.copy_(attn.to_v.weight)
