"""Train the autoencoder's finisher on latents as the denoiser draws them (see `drawn.py`).

Departures from the recipe of the decoder (`autoencoder.py`), and why:
1. Rows are latents that the denoiser drew of known pictures: its errors are not noise. They are
   smooth, agree within a patch and end at its border, which is the grid that pictures show.
2. A share of the rows are true latents, so that reconstructions stay what they were.
3. The decoder and both linear maps stay as they are: the denoiser's perceptual distance is made of
   the decoder, and latents of other pictures stay valid.
4. The semantic channels are read: they are drawn before the picture is, and tell a face's features
   from a smear.
5. Features of the network that reads semantic channels are compared beside pixels. Where a drawn
   latent leaves open what was there, pixels alone ask for the mean, which is a blur.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.runtime import training_dtype, tune_allocator
from consistent_gen.training.autoencoder import psnr, reconstruction_loss
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
from consistent_gen.training.perceptual import PerceptualDistance
from consistent_gen.training.rows import shard_paths


@dataclass(frozen=True, kw_only=True)
class FinisherConfig:
    """Settings of the recipe; times in seconds."""

    run: Path = Path("runs/finisher")
    rows: Path = Path("runs/drawn")
    vae: Path = Path("weights/storyworld/vae")
    out: Path = Path("runs/finisher/vae")
    widths: tuple[int, ...] = (160, 96, 48)
    train_s: float = 2400.0
    batch: int = 8
    lr: float = 3e-3
    warmup_s: float = 20.0
    decay_share: float = 0.4
    halflife_images: float = 4000.0
    true_share: float = 0.25  # of the rows: latents of the pictures themselves
    noise: float = 0.03  # upper bound of what is added to them, so that rows seen often differ
    gradient_weight: float = 1.0
    feature_weight: float = 0.2
    held_out_shards: int = 1  # the last ones, to measure by
    every_s: float = 60.0  # between measurements and checkpoints
    threads: int = 2
    seed: int = 0


class DrawnRows:
    """Drawn latents and the pictures they show, in memory.

    Args:
        paths: shards of `drawn.py`.
    """

    def __init__(self, paths: list[Path]) -> None:
        parts = [load_tensors(path) for path in paths]
        self.latents = torch.cat([part["latents"] for part in parts])
        self.pictures = torch.cat([part["pictures"] for part in parts])

    def __len__(self) -> int:
        return len(self.latents)

    def batch(
        self, size: int, config: FinisherConfig, vae: PatchAutoencoder, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Unscaled latents (b c 16 16) and pictures (b 3 128 128 in [-1, 1]) of random rows."""
        index = torch.randint(len(self), (size,), generator=generator)
        x = self.pictures[index].float() / 127.5 - 1.0
        z = self.latents[index].float()
        true = torch.rand(size, 1, 1, 1, generator=generator) < config.true_share
        with torch.no_grad():
            z = torch.where(true, vae.latents(x), z)
        level = torch.rand(size, 1, 1, 1, generator=generator) * config.noise
        z = z + level * torch.randn(z.shape, generator=generator)
        return z, x.to(memory_format=torch.channels_last)


def with_finisher(vae: PatchAutoencoder, widths: tuple[int, ...]) -> PatchAutoencoder:
    """The same autoencoder with a fresh finisher, which adds nothing yet."""
    sizes: Any = {k: v for k, v in vae.config.items() if not k.startswith("_")}
    model: PatchAutoencoder = PatchAutoencoder(**{**sizes, "finisher_widths": widths})
    model.load_state_dict(vae.state_dict(), strict=False)
    return model


@torch.inference_mode()
def seams(pictures: Tensor) -> float:
    """How much steeper pictures (n 3 h w) are across the borders of 8 x 8 patches than inside.

    1 is no seam. Mean absolute difference of neighbours, both directions.
    """
    found = []
    for x in (pictures, pictures.transpose(-1, -2)):
        steps = (x[..., 1:] - x[..., :-1]).abs().mean((0, 1, 2))
        border = torch.arange(len(steps)) % 8 == 7
        found.append(float(steps[border].mean() / steps[~border].mean()))
    return sum(found) / 2


@torch.inference_mode()
def measure(
    model: PatchAutoencoder, rows: DrawnRows, distance: PerceptualDistance
) -> dict[str, Any]:
    """PSNR in dB, features' distance and seams of held-out drawn rows and of true ones."""
    drawn = torch.cat([model.pictures(z.float()) for z in rows.latents.split(32)]).clamp(-1, 1)
    x = rows.pictures.float() / 127.5 - 1.0
    error = (drawn - x).square().mean((1, 2, 3)) / 4.0
    return {
        "psnr_drawn": float((-10.0 * error.log10()).mean()),
        "features_drawn": float(distance(model.project(drawn), model.project(x))),
        "seams": seams(drawn),
        "seams_true": seams(x),
        "psnr_true": psnr(model, rows.pictures),
    }


def main(config: FinisherConfig) -> float:
    """Train and save to `config.out`; returns the PSNR in dB of held-out drawn pictures."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    generator = torch.Generator().manual_seed(config.seed)
    paths = shard_paths(config.rows)
    if len(paths) <= config.held_out_shards:
        raise InputError(
            f"{config.rows} holds {len(paths)} shards, of which {config.held_out_shards} are held "
            "out; draw more with python -m consistent_gen.training.drawn"
        )
    rows = DrawnRows(paths[: -config.held_out_shards])
    held_out = DrawnRows(paths[-config.held_out_shards :])

    torch.manual_seed(config.seed)  # initial weights only
    vae = load_autoencoder(config.vae)
    model = with_finisher(vae, config.widths)
    model.requires_grad_(False)
    finisher: Any = model.finisher
    finisher.requires_grad_(True).to(memory_format=torch.channels_last)
    number_format = training_dtype()
    distance = PerceptualDistance(vae, number_format)
    distance.networks = distance.networks[:1]  # the decoder is what is finished
    optimizers = build_optimizers(*split_parameters([finisher]), config.lr)
    average = AveragedWeights(finisher, config.halflife_images)
    seen, spent = 0, 0.0
    if saved := load_run(config.run / "checkpoint"):
        tensors, state = saved
        restore_module(tensors, "finisher", finisher, average)
        seen, spent = state["seen_images"], state["spent_s"]
    replica = Replica(finisher, number_format)
    log = TickLog(config.run / "log.jsonl", every_s=config.every_s)
    print({"before": measure(vae, held_out, distance)}, flush=True)

    started = time.monotonic() - spent
    while (elapsed := time.monotonic() - started) < config.train_s:
        z, x = rows.batch(config.batch, config, vae, generator)
        replica.refresh()
        with torch.no_grad():
            decoded = model.decoded(z)
        fast = z.to(number_format, memory_format=torch.channels_last)
        out = decoded + replica.compute(fast).float()
        pixels = reconstruction_loss(out, x, config.gradient_weight)
        features = distance(model.project(out), model.project(x))
        loss = pixels + config.feature_weight * features
        loss.backward()
        replica.collect_gradients()
        lr = learning_rate(config.lr, elapsed, config.train_s, config.warmup_s, config.decay_share)
        descend([finisher], optimizers, lr)
        seen += config.batch
        average.update(finisher, config.batch, seen)
        log.add(config.batch, pixels=pixels.item(), features=features.item())
        if log.due():
            trained = module_tensors("finisher", finisher, average)
            save_run(config.run / "checkpoint", trained, {"seen_images": seen, "spent_s": elapsed})
            now = measure(_averaged(model, average), held_out, distance)
            print(log.write(seen=seen, spent_s=round(elapsed), **now), flush=True)
    final = _averaged(model, average)
    final.save_pretrained(config.out, safe_serialization=True)
    quality = measure(final, held_out, distance)
    print({"held_out": quality})
    return float(quality["psnr_drawn"])


def _averaged(model: PatchAutoencoder, average: AveragedWeights) -> PatchAutoencoder:
    copied = copy.deepcopy(model).requires_grad_(False)
    finisher: Any = copied.finisher
    average.copy_to(finisher)
    return copied.eval()
