"""Noise, schedule and loss weights of the story-world denoiser."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.models.story_world import SCHEDULER
from consistent_gen.world.painter import PARTS

_LOOKED_AT = ("face", "hair", "accessory")


def loss_weights(labels: Tensor, figure: float, head: float, face: Tensor | None = None) -> Tensor:
    """Weight of each latent, b 1 16 16 with mean 1, from labels b 32 32 (see `painter.label`).

    The background counts 1, figures `figure`, their heads and accessories `head`, and faces `face`
    (b), which may differ from row to row, since faces are decided at some timesteps only.
    """
    part = (labels.long() - 1) % len(PARTS)
    on_figure = labels > 0
    heads = torch.tensor([PARTS.index(p) for p in _LOOKED_AT]).to(labels.device)
    on_head = on_figure & torch.isin(part, heads)
    weight = 1.0 + (figure - 1.0) * on_figure.float() + (head - figure) * on_head.float()
    if face is not None:
        on_face = on_figure & (part == PARTS.index("face"))
        weight = torch.where(on_face, face.to(weight).view(-1, 1, 1), weight)
    weight = F.max_pool2d(weight.unsqueeze(1), 2)
    return weight / weight.mean()


def figure_error(error: Tensor, labels: Tensor) -> Tensor:
    """Mean of `error` (b c 16 16) over the latents that show a figure."""
    where = F.max_pool2d((labels > 0).float().unsqueeze(1), 2)
    mean: Tensor = (error * where).sum() / (where.sum() * error.size(1)).clamp(min=1.0)
    return mean


def alphas_cumprod() -> Tensor:
    """The training schedule's cumulative alphas, shape (1000,); the last is zero."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if not k.startswith("_")})
    alphas: Tensor = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    return alphas.clone()


def timesteps(
    count: int,
    generator: torch.Generator,
    middle: float = 0.0,
    lead: tuple[float, float] | None = None,
    schedule: int = 1000,
) -> Tensor:
    """Timesteps of `count` rows, in [0, schedule).

    They are stratified: every batch covers the whole schedule. A share `middle` of them is
    logit-normal, so that more lie where the structure of a picture is decided.

    With `lead`, rows come in twos, and the second of each is further on than the first: by a share
    of the schedule that is drawn evenly from this range.
    """
    b = count if lead is None else count // 2
    u = (torch.arange(b) + torch.rand(b, generator=generator)) / b
    central = torch.special.ndtri(u.clamp(1e-4, 1.0 - 1e-4)).sigmoid()
    u = torch.where(torch.rand(b, generator=generator) < middle, central, u)
    t = (u[torch.randperm(b, generator=generator)] * schedule).long().clamp(max=schedule - 1)
    if lead is not None:
        share = lead[0] + (lead[1] - lead[0]) * torch.rand(b, generator=generator)
        t = torch.stack([t, (t - (share * schedule).long()).clamp(min=0)], 1).flatten()
    return t


def noised(
    x0: Tensor, t: Tensor, alpha_bar: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noisy latents x_t (b c h w) at timesteps `t` (b), and sigma (b 1 1 1).

    x0, t, alpha_bar and the generator are on one device.
    """
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    alpha = alpha_bar[t].sqrt().view(-1, 1, 1, 1)
    sigma = (1.0 - alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
    return alpha * x0 + sigma * noise, sigma
