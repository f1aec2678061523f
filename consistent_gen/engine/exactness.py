"""Bucket sizes: how many rows every denoiser call has in exact mode, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from consistent_gen.models.backbone import Backbone

DEFAULT_BUCKET = 8
MAX_BUCKET = 64
PROFILED = (2, 4, 8, 16)
# A smaller bucket wastes fewer dead rows, so it wins over a slightly faster larger one.
_GOOD_ENOUGH = 0.95


@torch.inference_mode()
def profile_buckets(
    backbone: Backbone, sizes: Sequence[int] = PROFILED, *, repeats: int = 3
) -> dict[int, float]:
    """Rows per second of a denoiser call of `Backbone.trial_size` for each number of rows, best of
    `repeats`.
    """
    width, height = backbone.trial_size
    shape = backbone.latent_shape(width, height)
    condition = backbone.condition("", (width, height))
    rates = {}
    for size in sizes:
        latents = torch.zeros(size, *shape, device=backbone.device)
        timesteps = torch.arange(size, device=backbone.device)
        tokens = condition.tokens.expand(size, *condition.tokens.shape).contiguous()
        added = {k: v.expand(size, *v.shape).contiguous() for k, v in condition.added.items()}
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            # Reading one number waits for the device.
            backbone.denoise(latents, timesteps, tokens, added).sum().item()
            seconds.append(time.perf_counter() - start)
        rates[size] = size / min(seconds[1:])
    return rates


def best_bucket(backbone: Backbone) -> int:
    """The smallest profiled bucket whose rate is within 5 % of the best on this machine.

    It is measured, so two runs may differ; frames state their bucket, and replay uses that one.
    """
    rates = profile_buckets(backbone)
    return min(size for size, rate in rates.items() if rate >= _GOOD_ENOUGH * max(rates.values()))
