"""What teaches an adapter where its tokens are to be looked at: losses on attention maps.

Maps come from a `policy.Capture`, with their gradient. Masks are soft, 0..1.

Shapes: `b` rows, `h` heads, `n` queries, `t` tokens, `p` people or parts, `k` layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.adapters.layout import BACKGROUND, TokenLayout, person
from consistent_gen.adapters.policy import Captured


def group_maps(captured: Sequence[Captured], layout: TokenLayout, size: tuple[int, int]) -> Tensor:
    """How much of every place of `size` (height, width) looks at each character and, last, at the
    background: [b p+1 h w]. Mean over heads and layers; maps of all layers are resized alike.
    """
    paths = [person(i) for i in range(layout.people)]
    paths += [BACKGROUND] if BACKGROUND in layout.spans else []
    maps = []
    for one in captured:
        sums = layout.sums(one.attention, paths).mean(1)  # b n p
        picture = sums.transpose(1, 2).unflatten(-1, one.grid)  # b p h w
        maps.append(F.interpolate(picture, size=size, mode="bilinear", align_corners=False))
    return torch.stack(maps).mean(0)


def mask_mse(
    captured: Sequence[Captured], layout: TokenLayout, masks: Tensor, grow: int = 2
) -> Tensor:
    """StoryMaker's attention loss: each group is looked at where its owner is.

    (1/N) [ sum_i mean (A_i - M_i)^2 + mean (A_bg - (1 - min(sum_i M_i, 1)))^2 ], where A_i is the
    attention to all tokens of character i. captured: published training looks at the coarsest
    layers that have attention, 1/32 of the picture. masks: [b N h w] of any size. grow: maps are
    compared at so many times the finest captured grid, 2 as published.
    """
    height, width = max((one.grid for one in captured), key=lambda grid: grid[0] * grid[1])
    size = grow * height, grow * width
    maps = group_maps(captured, layout, size)  # b p h w
    wanted = F.interpolate(masks.to(maps), size=size, mode="area")
    if maps.shape[1] > layout.people:  # there is a background
        rest = 1.0 - wanted.sum(1, keepdim=True).clamp(0.0, 1.0)
        wanted = torch.cat([wanted, rest], dim=1)
    return (maps - wanted).square().mean((0, 2, 3)).sum() / layout.people


def balanced_l1(
    captured: Sequence[Captured], positions: Tensor, masks: Tensor, valid: Tensor
) -> Tensor:
    """FastComposer's localisation loss (arXiv 2305.10431), as ConsistentID's paper has it on
    cross-attention: a word is looked at inside its mask and nowhere else; from -1 to 1.

    A' = A / max A; sum A' (1 - M) / sum (1 - M) - sum A' M / sum M, the mean over heads and layers
    and over valid parts. positions: [b p] of words in the text. masks: [b p h w]. valid: [b p],
    which parts count. Published training looks at self-attention by mistake.
    """
    counted = valid.to(masks)
    total = masks.new_zeros(())
    for one in captured:
        at = positions[:, None, None].expand(*one.attention.shape[:3], -1)
        looked = one.attention.gather(-1, at)  # b h n p
        looked = looked / (looked.amax(2, keepdim=True) + 1e-5)
        mask = F.interpolate(masks, size=one.grid, mode="bilinear", antialias=True)
        inside = mask.flatten(2).transpose(1, 2)[:, None]  # b 1 n p
        outside = 1.0 - inside
        loss = (looked * outside).sum(2) / (outside.sum(2) + 1e-5)
        loss = loss - (looked * inside).sum(2) / (inside.sum(2) + 1e-5)  # b h p
        loss = (loss * counted[:, None]).sum(-1) / (counted.sum(-1)[:, None] + 1e-5)
        total = total + loss.mean()
    return total / max(len(captured), 1)


def people_weighted(error: Tensor, masks: Tensor, shown: Tensor, more: float = 5.0) -> Tensor:
    """StoryMaker's loss of the prediction: mean of error (1 + 5 M), M where anybody is.

    error: squared, [b c h w]. masks: [b N h w], of any size. shown: [b], rows whose features were
    not dropped; the others count evenly.
    """
    anybody = masks.amax(1, keepdim=True).to(error)
    anybody = F.interpolate(anybody, size=error.shape[-2:], mode="area")
    weight = 1.0 + more * anybody * shown.to(error)[:, None, None, None]
    return (error * weight).mean()
