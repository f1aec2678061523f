"""Sampling of models that predict a flow: x = (1 - s) clean + s noise, and the network says
noise - clean.

Of such a model DDIM's step is Euler's, which is what diffusers samples it with: both keep the
predicted clean latent and noise, and mix them anew at the next level (arXiv 2209.03003).
DPM-Solver++ 2M (arXiv 2211.01095) is the same formula as for noise, with alpha = 1 - s.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class FlowSampler:
    """One frame's steps.

    It has what the engine needs of a diffusers scheduler: `timesteps`, `sigmas`,
    `init_noise_sigma`, `config`, `model_outputs` (the newest clean estimate last) and `step`.

    Args:
        scheduler: of diffusers, with its steps set (`Seam.scheduler`). second_order: DPM-Solver++
            2M instead of Euler's step.
    """

    init_noise_sigma = 1.0

    def __init__(self, scheduler: Any, *, second_order: bool) -> None:
        self.config = scheduler.config
        self.timesteps: Tensor = scheduler.timesteps
        self.sigmas: Tensor = scheduler.sigmas
        self.second_order = second_order
        self.index = 0
        self.model_outputs: list[Tensor | None] = [None]

    def step(
        self,
        prediction: Tensor,
        timestep: float,
        sample: Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The sample [c h w] of the next step, of the network's `prediction` for `sample`."""
        at, to = (self.sigmas[self.index + i].to(sample) for i in (0, 1))
        clean = sample - at * prediction
        before = self.model_outputs[-1]
        if self.second_order and before is not None and to > 0.0:
            last = self.sigmas[self.index - 1].to(sample)
            length, last_length = _log_snr(to) - _log_snr(at), _log_snr(at) - _log_snr(last)
            # The first step of all comes from nothing but noise and is infinitely long.
            ahead = clean + (clean - before) * (length / (2.0 * last_length))
            moved = sample * (to / at) - (1.0 - to) * torch.expm1(-length) * ahead
        else:
            moved = sample + (to - at) * prediction
        self.model_outputs = [clean]
        self.index += 1
        return (moved,)


def _log_snr(sigma: Tensor) -> Tensor:
    return torch.log((1.0 - sigma) / sigma)
