"""A finished picture is looked at once more, from between the cells of its latent.

An error of the denoiser agrees with itself within a cell of the latent, so cells show: as a grid
over even surfaces, as a break in an eye that lies across a border. Steps that begin anew from the
same latent (`schedulers.Retouching`) see such a break where they expect one. Here the picture is
moved by half a cell, encoded again, noised to a level that leaves what it shows, and predicted from
there: the old borders lie within cells now, where true pictures have none, and the denoiser takes
them for noise. Averaging a model's answers over moved inputs is old (Coifman and Donoho,
"Translation-invariant de-noising", 1995); what is new here is only that the input is the model's
own drawing. What lies beside the moved picture, half a cell at two edges, stays as it was.

Nobody shares a call with these predictions, so a frame's bytes do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from consistent_gen.diffusion.seam import Conditioning
from consistent_gen.engine.schedulers import clean_latent, make_scheduler
from consistent_gen.models.backbone import Backbone

# Noise levels as shares of the trained timesteps, and how many predictions of each are averaged.
LEVELS = ((0.1, 2),)

# A clean latent [c h w] and the timestep that it was predicted at, to the picture, uint8 [h w 3].
Finish = Callable[[Tensor, int], np.ndarray]


@torch.inference_mode()
def polished(
    backbone: Backbone,
    picture: np.ndarray,
    latent: Tensor,
    prompt: Conditioning,
    finish: Finish,
    generator: torch.Generator,
) -> np.ndarray:
    """The picture, uint8 [h w 3], looked at once more.

    Args:
        picture: uint8 [h w 3], a whole multiple of the size that is drawn at.
        latent: [c h w], what it was made of. prompt: with which it is looked at, unguided.
        finish: makes a picture of a latent, as the first one was made.
        generator: a CPU generator for the noise.
    """
    half = backbone.latent_factor // 2
    height, width = (side * backbone.latent_factor for side in latent.shape[1:])
    away = half * (picture.shape[1] // width)  # pixels of the picture
    moved = np.pad(picture, ((away, 0), (away, 0), (0, 0)), mode="reflect")[:-away, :-away]
    small = Image.fromarray(moved).resize((width, height), Image.Resampling.BOX)
    clean = backbone.encode(np.asarray(small)[None])[0].to(latent)  # c h w
    # Pixels do not say again what the story world's latents know of their meaning.
    means = int(backbone.vae.config.get("semantic_channels", 0))
    if means:
        clean[-means:] = _between(latent[-means:])
    schedule = backbone.scheduler_config
    alpha_bar = make_scheduler("ddim", schedule, 1).alphas_cumprod
    timestep = 0
    for share, count in LEVELS:
        timestep = int(share * len(alpha_bar))
        sigma = ((1.0 - alpha_bar[timestep]) / alpha_bar[timestep]).sqrt().to(clean)
        found = []
        for _ in range(count):
            noise = torch.randn(clean.shape, generator=generator).to(clean)
            x = (clean + sigma * noise) * (1.0 + sigma.square()).rsqrt()
            said = backbone.denoise(
                x[None], torch.tensor([timestep], device=x.device), prompt.tokens[None],
                {name: value[None] for name, value in prompt.added.items()},
            )[0]  # fmt: skip
            kind = schedule.get("prediction_type", "epsilon")
            found.append(clean_latent(said, x, sigma, kind))
        clean = torch.stack(found).mean(0)
    result = picture.copy()
    result[:-away, :-away] = finish(clean, timestep)[away:, away:]
    return result


def _between(x: Tensor) -> Tensor:
    """The means of each cell and its neighbours above and to the left, [c h w]; edges repeat."""
    x = torch.nn.functional.pad(x[None], (1, 0, 1, 0), mode="replicate")[0]
    return (x[:, 1:, 1:] + x[:, :-1, 1:] + x[:, 1:, :-1] + x[:, :-1, :-1]) / 4.0
