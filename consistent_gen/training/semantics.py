"""Train the network that reads an autoencoder's semantic channels off its components.

The denoiser learns from the world's own code (`semantic_code.py`). A picture that a user brings has
no such truth, so when it is encoded a small network says what is where. Plain regression: where it
is unsure, the code is a mean of classes, near the middle of their sphere, which is what a noisy
latent would tell the denoiser, too. Noise on the components stands for pictures that are not of
this world.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.runtime import device, training_dtype, tune_allocator
from consistent_gen.training.loop import RecipeConfig, Replica, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.rows import RowPool, rows_inputs
from consistent_gen.training.semantic_code import CHANNELS, semantic_code
from consistent_gen.training.shards import draw_shard
from consistent_gen.world.dataset import StoryWorld


@dataclass(frozen=True, kw_only=True)
class SemanticsConfig(RecipeConfig):
    """Settings of the recipe; lengths in pictures ("images")."""

    run: Path = Path("runs/semantics")
    vae: Path = Path("runs/autoencoder/vae")  # with or without such a network
    rows: Path = Path("runs/rows")
    out: Path = Path("runs/semantics/vae")  # the same autoencoder with the network
    images: int = 40_000
    batch: int = 32
    lr: float = 2e-3
    warmup_images: int = 1000
    decay_share: float = 0.5
    halflife_images: float = 3000.0
    noise: float = 0.3  # upper bound of the standard deviation added to components
    measured: int = 256  # held-out pictures for the final figure
    threads: int = 1


def grown(vae: PatchAutoencoder) -> PatchAutoencoder:
    """`vae` with semantic channels, which are zero until they are trained."""
    if vae.semantics is not None:
        return vae
    sizes = {k: v for k, v in vae.config.items() if not k.startswith("_")}
    model: PatchAutoencoder = PatchAutoencoder(**{**sizes, "semantic_channels": CHANNELS})
    model.load_state_dict(vae.state_dict(), strict=False)
    return model


@torch.inference_mode()
def unexplained(model: PatchAutoencoder, count: int) -> float:
    """Squared error over variance of the code of `count` held-out pictures; 0 is perfect."""
    world = StoryWorld("held_out")
    data = draw_shard(world, 0, count)
    error, total = 0.0, 0.0
    for start in range(0, count, 32):
        rows = slice(start, min(start + 32, count))
        part = {name: values[rows] for name, values in data.items()}
        code = semantic_code(world, range(rows.start, rows.stop), part)
        read = model.latents(part["pictures"].float() / 127.5 - 1.0)[:, -CHANNELS:]
        error += float((read - code).square().sum())
        total += float((code - code.mean((0, 2, 3), keepdim=True)).square().sum())
    return error / total


def main(config: SemanticsConfig) -> float:
    """Train and save to `config.out`; returns the unexplained share on held-out pictures."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    torch.manual_seed(config.seed)  # initial weights only
    model = grown(load_autoencoder(config.vae))
    network: Any = model.semantics
    network.to(place, memory_format=torch.channels_last)
    optimizers = build_optimizers(*split_parameters([network]), config.lr)
    training = Training(config, {"semantics": network}, optimizers)
    number_format = training_dtype(place)
    replica = Replica(network, number_format)
    pool = RowPool(config.rows, place, rows_inputs(model))
    pool.follow(training.facts)

    for _ in training.steps():
        choice = training.generator("rows")
        rows = pool.batch(config.batch, choice, drop=0.0, full=1.0)["latents"].float()
        z = _disturb(rows[:, :-CHANNELS], config.noise, training.generator("noise"))
        replica.refresh()
        read = replica.compute(z.to(number_format, memory_format=torch.channels_last)).float()
        loss = (read - rows[:, -CHANNELS:]).square().mean()
        loss.backward()
        replica.collect_gradients()
        training.update(loss=loss.detach())
        if training.due():
            training.save()
    model.semantics = training.averaged("semantics").cpu()
    model.eval().save_pretrained(config.out, safe_serialization=True)
    share = unexplained(model, config.measured)
    print({"unexplained_held_out": share})
    return share


def _disturb(z: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    """Noise of a random strength up to `bound` on half of the latents, none on the others."""
    level = (torch.rand(len(z), 1, 1, 1, generator=generator) - 0.5).clamp(min=0.0) * 2.0 * bound
    return z + (level * torch.randn(z.shape, generator=generator)).to(z.device)
