"""Classifier-free guidance on raw predictions. Tensors are one frame's, [c h w]."""

from __future__ import annotations

import torch


def guide(
    cond: torch.Tensor, uncond: torch.Tensor, scale: float, rescale: float = 0.0
) -> torch.Tensor:
    """uncond + scale (cond - uncond), then pulled back towards the spread of `cond`.

    Guidance: arXiv 2207.12598, equation 6, with scale = w + 1. `rescale` is phi of arXiv
    2305.08891, equations 15 and 16: 0 leaves the result alone, 1 gives it the standard deviation
    of `cond` over the whole frame.
    """
    guided = uncond + scale * (cond - uncond)
    if rescale == 0.0:
        return guided
    matched = guided * (cond.std() / guided.std().clamp_min(1e-8))
    return rescale * matched + (1.0 - rescale) * guided
