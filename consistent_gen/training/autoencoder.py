"""Fit the patch autoencoder's linear maps and train its decoder on pictures of the story world.

Departures from the usual latent-diffusion recipe, and why:
1. The encoder is a principal component analysis and is not trained (see `patch_autoencoder.py`).
2. No adversarial and no perceptual network: pictures are flat shapes, an L1 and a gradient loss
   keep their contours, and nothing pretrained is needed.
3. No KL term: the latents of a linear map need no prior. The decoder sees them with a little noise,
   a share with more, so that it draws clean contours from the imperfect latents of a small
   denoiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import load_tensors
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.runtime import device, training_dtype, tune_allocator
from consistent_gen.training.loop import RecipeConfig, Replica, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.shards import available, batches, pictures_folder, shard_path
from consistent_gen.world.dataset import StoryWorld


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(RecipeConfig):
    """Settings of the recipe; lengths in pictures ("images")."""

    run: Path = Path("runs/autoencoder")
    pictures: Path = Path("runs/pictures")
    out: Path = Path("runs/autoencoder/vae")
    latent_channels: int = 32
    equalise: float = 0.25  # see `PatchAutoencoder.fit_components`
    maps: Path | None = None  # take the linear maps of this autoencoder and fit none
    images: int = 50_000
    batch: int = 8  # a picture holds 256 patches; many small steps beat few large ones
    lr: float = 4e-3
    warmup_images: int = 500
    decay_share: float = 0.4
    halflife_images: float = 5000.0
    noise: float = 0.04  # standard deviation added to unit-variance latents
    hard_noise: float = 0.12  # upper bound of it in a quarter of the pictures
    gradient_weight: float = 1.0
    measured: int = 256  # held-out pictures for the final PSNR


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and lower neighbour, b c h w-1 and b c h-1 w."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(out: Tensor, target: Tensor, gradient_weight: float) -> Tensor:
    """Mean absolute error of values and of gradients, plus a squared error that PSNR asks for."""
    loss = F.l1_loss(out, target) + 2.0 * F.mse_loss(out, target)
    for a, b in zip(gradients(out), gradients(target), strict=True):
        loss = loss + gradient_weight * F.l1_loss(a, b)
    return loss


def psnr(reconstruct: Callable[[Tensor], Tensor], pictures: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of reconstructions of `pictures` (n 3 h w uint8).

    `reconstruct` maps pictures b 3 h w in [-1, 1] to about the same; an autoencoder of ours does.
    """
    total = 0.0
    for chunk in pictures.split(32):
        x = chunk.float() / 127.5 - 1.0
        with torch.inference_mode():
            out = reconstruct(x).clamp(-1, 1)
        mse = (out - x).square().mean((1, 2, 3)) / 4.0  # range 2 -> range 1
        total += float((-10.0 * mse.log10()).sum())
    return total / len(pictures)


def main(config: AutoencoderConfig) -> float:
    """Train and save to `config.out`; returns the PSNR in dB on held-out pictures."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    world = StoryWorld("train")
    held_out = StoryWorld("held_out").tensor(range(config.measured))

    torch.manual_seed(config.seed)  # initial weights only; module constructors offer no other way
    model: Any = PatchAutoencoder(latent_channels=config.latent_channels)
    if config.maps is None:
        model.fit_components(_some(config.pictures, 2048).float() / 127.5 - 1.0, config.equalise)
    else:
        model.copy_maps(PatchAutoencoder.from_pretrained(config.maps))
    model.to(place, memory_format=torch.channels_last)
    optimizers = build_optimizers(*split_parameters([model.decoder]), config.lr)
    # Both linear maps stay: a learning rate made for the residual would only shake them.
    model.project.requires_grad_(False)
    model.expand.requires_grad_(False)
    training = Training(config, {"model": model}, optimizers)
    number_format = training_dtype(place)
    replica = Replica(model.decoder, number_format)
    stream = batches(
        config.pictures, world, config.batch, config.seed, place=place,
        step=training.seen // config.batch,
        numbers=training.facts.setdefault(
            "shards", available(pictures_folder(config.pictures, world))
        ),
    )  # fmt: skip

    for _ in training.steps():
        data = next(stream)
        x = (data["pictures"].float() / 127.5 - 1.0).to(memory_format=torch.channels_last)
        replica.refresh()
        z = _disturb(model.latents(x), config, training.generator("noise"))
        out = model.expand(z) + replica.compute(z.to(number_format)).float()
        loss = reconstruction_loss(out, x, config.gradient_weight)
        loss.backward()
        replica.collect_gradients()
        training.update(loss=loss.detach())
        if training.due():
            training.save(psnr=psnr(training.averaged("model"), held_out[:64].to(place)))
    final = training.averaged("model").cpu()
    final.save_pretrained(config.out, safe_serialization=True)
    quality = psnr(final, held_out)
    print({"psnr_held_out": quality})
    return quality


def _disturb(z: Tensor, config: AutoencoderConfig, generator: torch.Generator) -> Tensor:
    """Add noise to latents of unit variance: a little on all pictures, more on a quarter of
    them.
    """
    level = torch.full((len(z), 1, 1, 1), config.noise)
    hard = torch.rand(len(z), 1, 1, 1, generator=generator) < 0.25
    level = torch.where(
        hard, torch.rand(level.shape, generator=generator) * config.hard_noise, level
    )
    noise = torch.randn(z.shape, generator=generator) * level
    return z + noise.to(z.device)


def _some(folder: Path, count: int) -> Tensor:
    home = pictures_folder(folder, StoryWorld("train"))
    numbers = available(home)
    if not numbers:
        raise InputError(f"no pictures in {folder}; run python -m consistent_gen.training.shards")
    return load_tensors(shard_path(home, numbers[0]))["pictures"][:count]
