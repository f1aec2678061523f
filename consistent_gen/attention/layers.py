"""Attention layers by name and role: where they stand in the model and which grid they see.

Nothing is guessed from token counts: the grid follows from the layer's name and the latent's height
and width, so pictures need not be square.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from consistent_gen.errors import InputError

FAMILIES = ("UNet2DConditionModel", "SD3Transformer2DModel", "FluxTransformer2DModel")
_UNET = re.compile(r"(down_blocks|mid_block|up_blocks)(?:\.(\d+))?\.attentions\.")


@dataclass(frozen=True)
class Site:
    """One attention layer.

    name: module path. kind: "self" (image to image), "cross" (image to text), "joint" (both in one
    softmax, two streams), "single" (one stream of text, then image).
    block: "down", "mid", "up" of a UNet; "joint" of SD3; "double" or "single" of FLUX.
    level: how often the latent was halved. rank: the grid's fineness among layers with attention.
    depth: place among all layers that see image keys, from 0 to 1. patch: latent cells per token.
    channels: heads times head width.
    """

    name: str
    kind: Literal["self", "cross", "joint", "single"]
    block: str
    level: int = 0
    rank: int = 0
    depth: float = 0.0
    patch: int = 1
    channels: int = 0

    def grid(self, latent: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in tokens for a latent of (height, width) cells."""
        height, width = (side // self.patch for side in latent)
        for _ in range(self.level):
            height, width = -(-height // 2), -(-width // 2)  # stride 2 with padding rounds up
        return height, width

    @property
    def sees_images(self) -> bool:
        """Whether its keys include image tokens."""
        return self.kind != "cross"


def family_of(model: nn.Module) -> str:
    """The supported diffusers class that `model` is.

    Raises:
        InputError: it is none of `FAMILIES`.
    """
    for ancestor in type(model).__mro__:
        if ancestor.__name__ in FAMILIES:
            return ancestor.__name__
    raise InputError(
        f"attention of a {type(model).__name__} cannot be shared; "
        f"expected one of {', '.join(FAMILIES)}"
    )


def find_sites(model: nn.Module) -> dict[str, Site]:
    """All attention layers of `model` that can take part, by module path, in order of execution.

    Raises:
        InputError: a model family that is not supported.
    """
    family = family_of(model)
    if family == "UNet2DConditionModel":
        found = sorted(_unet_sites(model), key=_unet_order)
    else:
        found = list(_transformer_sites(model, family))
    levels = sorted({site.level for site in found})
    images = [site.name for site in found if site.sees_images]
    last = max(len(images) - 1, 1)
    depth = 0.0
    sites = {}
    for site in found:
        if site.sees_images:
            depth = images.index(site.name) / last
        sites[site.name] = replace(site, rank=levels.index(site.level), depth=depth)
    return sites


def feature_module(model: nn.Module, scale: int) -> str:
    """Path of the module whose output serves as diffusion features.

    In a UNet the first up block whose output has the latent's sides divided by `scale`, in a
    transformer the block in the middle.

    Raises:
        InputError: a model family that is not supported.
    """
    family = family_of(model)
    config: Any = model.config
    if family == "UNet2DConditionModel":
        levels = len(config.block_out_channels)
        # Every up block but the last doubles its grid at the end.
        outputs = [2 ** max(levels - 2 - i, 0) for i in range(levels)]
        index = next(i for i, factor in enumerate(outputs) if factor <= scale)
        return f"up_blocks.{index}"
    if family == "SD3Transformer2DModel":
        return f"transformer_blocks.{(config.num_layers - 1) // 2}"
    return f"single_transformer_blocks.{(config.num_single_layers - 1) // 2}"


def _unet_sites(model: nn.Module) -> Iterator[Site]:
    levels = len(model.config.block_out_channels)  # type: ignore[union-attr, arg-type]
    for name, module in model.named_modules():
        place = _UNET.match(name)
        # Layers with a norm of their own take pictures instead of tokens; no method uses them.
        if place is None or not _is_attention(module) or module.group_norm is not None:
            continue
        block, index = place[1], int(place[2] or 0)
        level = {"down_blocks": index, "up_blocks": levels - 1 - index}.get(block, levels - 1)
        kind: Literal["self", "cross"] = "cross" if module.is_cross_attention else "self"
        yield Site(name, kind, block.partition("_")[0], level, channels=int(module.inner_dim))


def _unet_order(site: Site) -> int:
    return ("down", "mid", "up").index(site.block)


def _transformer_sites(model: nn.Module, family: str) -> Iterator[Site]:
    patch = int(model.config.patch_size)  # type: ignore[union-attr, arg-type]
    for name, module in model.named_modules():
        if not _is_attention(module):
            continue
        kind: Literal["self", "joint", "single"] = "joint"
        block = "double" if family == "FluxTransformer2DModel" else "joint"
        if name.startswith("single_transformer_blocks"):
            kind = block = "single"
        elif family == "SD3Transformer2DModel" and name.endswith("attn2"):
            kind = "self"
        yield Site(name, kind, block, patch=patch, channels=int(module.inner_dim))


def _is_attention(module: Any) -> bool:
    return hasattr(module, "set_processor") and hasattr(module, "to_q")
