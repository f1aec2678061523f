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

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.runtime import training_dtype, tune_allocator
from consistent_gen.training.loop import (
    AveragedWeights,
    Replica,
    TickLog,
    descend,
    learning_rate,
    load_run,
    module_tensors,
    restore_module,
    save_run,
)
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.shards import available, batches, load_shard
from consistent_gen.world.dataset import StoryWorld


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Settings of the recipe; times in seconds."""

    run: Path = Path("runs/autoencoder")
    pictures: Path = Path("runs/pictures")
    out: Path = Path("runs/autoencoder/vae")
    latent_channels: int = 32
    equalise: float = 0.25  # see `PatchAutoencoder.fit_components`
    maps: Path | None = None  # take the linear maps of this autoencoder and fit none
    train_s: float = 900.0
    batch: int = 8  # a picture holds 256 patches; many small steps beat few large ones
    lr: float = 4e-3
    warmup_s: float = 10.0
    decay_share: float = 0.4
    halflife_images: float = 5000.0
    noise: float = 0.04  # standard deviation added to unit-variance latents
    hard_noise: float = 0.12  # upper bound of it in a quarter of the pictures
    gradient_weight: float = 1.0
    measured: int = 256  # held-out pictures for the final PSNR
    threads: int = 2
    seed: int = 0


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
    rng = random.Random(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    stream = batches(config.pictures, StoryWorld("train"), config.batch, rng)
    held_out = StoryWorld("held_out").tensor(range(config.measured))

    torch.manual_seed(config.seed)  # initial weights only; module constructors offer no other way
    model = PatchAutoencoder(latent_channels=config.latent_channels)
    if config.maps is None:
        model.fit_components(_some(config.pictures, 2048).float() / 127.5 - 1.0, config.equalise)
    else:
        model.copy_maps(PatchAutoencoder.from_pretrained(config.maps))
    model.to(memory_format=torch.channels_last)
    optimizers = build_optimizers(*split_parameters([model.decoder]), config.lr)
    # Both linear maps stay: a learning rate made for the residual would only shake them.
    model.project.requires_grad_(False)
    model.expand.requires_grad_(False)
    average = AveragedWeights(model, config.halflife_images)
    seen, spent = 0, 0.0
    if saved := load_run(config.run / "checkpoint"):
        tensors, state = saved
        restore_module(tensors, "model", model, average)
        seen, spent = state["seen_images"], state["spent_s"]
    number_format = training_dtype()
    replica = Replica(model.decoder, number_format)
    log = TickLog(config.run / "log.jsonl", every_s=30.0)

    started = time.monotonic() - spent
    while (elapsed := time.monotonic() - started) < config.train_s:
        data = next(stream)
        x = (data["pictures"].float() / 127.5 - 1.0).to(memory_format=torch.channels_last)
        replica.refresh()
        z = _disturb(model.latents(x), config, generator)
        out = model.expand(z) + replica.compute(z.to(number_format)).float()
        loss = reconstruction_loss(out, x, config.gradient_weight)
        loss.backward()
        replica.collect_gradients()
        lr = learning_rate(config.lr, elapsed, config.train_s, config.warmup_s, config.decay_share)
        descend([model], optimizers, lr)
        seen += config.batch
        average.update(model, config.batch, seen)
        log.add(config.batch, loss=loss.item())
        if log.due():
            trained = module_tensors("model", model, average)
            save_run(config.run / "checkpoint", trained, {"seen_images": seen, "spent_s": elapsed})
            average_model = _averaged(model, average)
            print(
                log.write(seen=seen, spent_s=elapsed, psnr=psnr(average_model, held_out[:64])),
                flush=True,
            )
    final = _averaged(model, average)
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
    return z + noise


def _averaged(model: PatchAutoencoder, average: AveragedWeights) -> PatchAutoencoder:
    sizes = {k: v for k, v in model.config.items() if not k.startswith("_")}
    copy: PatchAutoencoder = PatchAutoencoder(**sizes)
    average.copy_to(copy)
    copy.eval()
    return copy


def _some(folder: Path, count: int) -> Tensor:
    world = StoryWorld("train")
    return load_shard(folder, world, available(folder, world)[0])["pictures"][:count]
