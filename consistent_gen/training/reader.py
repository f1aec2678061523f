"""Train the reader, or with `--judge` the judge, to read the factors of story-world pictures.

A departure from plain supervised training: a share of the pictures goes through the autoencoder
with noisy latents, blur or a change of light, since the reader must read drawings of the small
model, not only pictures of the renderer. With a `teacher`, a reader of fewer weights begins as what
is left of it (`training.narrowing`) and learns to be like it, besides the truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import write_json
from consistent_gen.encoders.factors import Reading
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.runtime import device, training_dtype, tune_allocator
from consistent_gen.training.attention_kernel import training_attention
from consistent_gen.training.loop import RecipeConfig, Replica, Training
from consistent_gen.training.narrowing import narrowed
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.probes import IGNORE
from consistent_gen.training.shards import available, batches, draw_shard, pictures_folder
from consistent_gen.training.truth import schema
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS

CALIBRATION = 256  # pictures that a narrowed reader is fitted on
SHOWN = ("kind", "action", "place", "coat", "accessory")  # in the log, of its last batch


@dataclass(frozen=True, kw_only=True)
class ReaderConfig(RecipeConfig):
    """Settings of the recipe; lengths in pictures ("images")."""

    judge: bool = False
    run: Path = Path("runs/reader")
    vae: Path = Path("runs/autoencoder/vae")
    pictures: Path = Path("runs/pictures")
    images: int = 45_000
    batch: int = 48
    lr: float = 1.5e-3
    warmup_images: int = 1200
    decay_share: float = 0.5
    halflife_images: float = 5000.0
    width: int = 0  # channels; 0 is the network's own default
    teacher: Path | None = None  # a reader to be like, with the perceptrons of `hidden` channels
    hidden: tuple[int, int] = (160, 240)  # of a reader that has a teacher: see `encoders.reader`
    likeness: float = 4.0  # weight of being like the teacher, beside the truth
    redrawn_share: float = 0.25  # share of a batch that passes through the autoencoder
    shards: int = 8  # shards of pictures in memory at a time, 135 MB each
    every_s: float = 30.0
    measured: int = 1024  # held-out pictures for the scores


def reading_loss(reading: Reading, target: Mapping[str, Tensor]) -> Tensor:
    """Sum of all heads' losses; masks and presence weigh more, since the rest pools under them.

    target: labels and truth of the same pictures, as in `shards`.
    """
    present = target["present"].float()
    loss = 3.0 * F.binary_cross_entropy(reading.present.clamp(1e-4, 1 - 1e-4), present)
    for i, (name, logits) in enumerate(reading.subject.items()):
        wanted = target["factors"][..., i].flatten().long()
        weight = 2.0 if name in ("kind", "coat", "top", "accessory", "action") else 1.0
        loss = loss + weight * F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=IGNORE)
    for i, logits in enumerate(reading.scene.values()):
        loss = loss + F.cross_entropy(logits, target["scene"][:, i].long())
    angle = target["hues"].float() * (2.0 * math.pi)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    loss = loss + 8.0 * known_mse(reading.hues, circle)
    loss = loss + 16.0 * known_mse(reading.scalars, target["scalars"].float())
    size = reading.masks.shape[-1]
    stride = target["labels"].shape[-1] // size
    labels = target["labels"][:, ::stride, ::stride].long()
    owner = torch.where(labels > 0, (labels - 1) // len(PARTS) + 1, 0)
    loss = loss + 4.0 * F.cross_entropy(reading.masks, owner)
    if reading.parts is not None:
        part = torch.where(labels > 0, (labels - 1) % len(PARTS) + 1, 0)
        loss = loss + 4.0 * F.cross_entropy(reading.parts, part)
    return loss


def known_mse(value: Tensor, target: Tensor) -> Tensor:
    """Mean squared error where `target` is not nan."""
    known = ~target.isnan()
    error = torch.where(known, value - target.nan_to_num(), 0.0).square()
    return error.sum() / known.sum().clamp(min=1)


@torch.no_grad()
def augment(x: Tensor, vae: PatchAutoencoder, share: float, g: torch.Generator) -> Tensor:
    """Disturb floats b 3 h w in [0, 1]: redraw some by the autoencoder, change light, add blur.

    All is on one device, the generator too.
    """
    again = round(share * len(x))
    return disturbed(torch.cat([redrawn(x[:again], vae, g), x[again:]]), g)


@torch.no_grad()
def redrawn(x: Tensor, vae: PatchAutoencoder, g: torch.Generator) -> Tensor:
    """Floats b 3 h w in [0, 1] as the autoencoder draws them from noisy latents."""
    z = vae.latents(x * 2.0 - 1.0)
    level = 0.3 * _even(len(x), 1, g) * z.std()
    return vae.pictures(z + level * _normal(z, g)) / 2.0 + 0.5


@torch.no_grad()
def disturbed(x: Tensor, g: torch.Generator) -> Tensor:
    """Floats b 3 h w in [0, 1] in another light, with some blur and noise."""
    b = len(x)
    gain = 1.0 + 0.16 * (_even(b, 1, g) - 0.5)
    shift = 0.08 * (_even(b, 3, g) - 0.5)
    soft = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    x = torch.lerp(x, soft, _even(b, 1, g) * 0.7)
    return (x * gain + shift + 0.03 * _even(b, 1, g) * _normal(x, g)).clamp(0.0, 1.0)


def _even(count: int, channels: int, g: torch.Generator) -> Tensor:
    return torch.rand(count, channels, 1, 1, generator=g, device=g.device)


def _normal(like: Tensor, g: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=g, device=g.device)


@torch.inference_mode()
def measure(model: Any, world: StoryWorld, count: int) -> dict[str, float]:
    """Accuracy per discrete factor, mean absolute error per continuous one, on visible factors."""
    data = draw_shard(world, 0, count)
    hits: dict[str, list[float]] = {}
    for start in range(0, count, 64):
        part = {name: values[start : start + 64] for name, values in data.items()}
        _collect(hits, model(part["pictures"]), part)
    return {name: round(sum(v) / len(v), 4) for name, v in sorted(hits.items()) if v}


def _collect(hits: dict[str, list[float]], reading: Reading, target: Mapping[str, Tensor]) -> None:
    def add(name: str, values: Tensor) -> None:
        hits.setdefault(name, []).extend(values.flatten().tolist())

    for i, (name, logits) in enumerate(reading.subject.items()):
        wanted = target["factors"][..., i]
        add(name, (logits.argmax(-1) == wanted)[wanted != IGNORE].float())
    for i, (name, logits) in enumerate(reading.scene.items()):
        add(name, (logits.argmax(-1) == target["scene"][:, i]).float())
    turn = (reading.hue_angles() - target["hues"] + 0.5) % 1.0 - 0.5
    names = schema()
    for i, name in enumerate(names.hues):
        add(f"{name}_error", turn[..., i][~turn[..., i].isnan()].abs())
    error = (reading.scalars - target["scalars"]).abs()
    for i, name in enumerate(names.scalars):
        add(f"{name}_error", error[..., i][~error[..., i].isnan()])
    add("count", (reading.count() == target["present"].sum(1)).float())


def unlikeness(reading: Reading, shown: Reading) -> Tensor:
    """Squared error over variance of the features that everything is read from: maps b c s s, and
    vectors b 3 w of the subjects that the teacher sees.
    """
    assert reading.maps is not None and shown.maps is not None
    assert reading.vectors is not None and shown.vectors is not None
    seen = shown.present > 0.5
    pairs = ((reading.maps, shown.maps), (reading.vectors[seen], shown.vectors[seen]))
    return sum(
        ((own - its).square().mean() / its.var().clamp_min(1e-6) for own, its in pairs if len(its)),
        start=reading.maps.new_zeros(()),
    )


def _networks(config: ReaderConfig, world: StoryWorld, vae: PatchAutoencoder) -> tuple[Any, Any]:
    """What learns, and its teacher or None."""
    if config.teacher is None:
        network: Any = Judge if config.judge else Reader
        return network(schema(), config.width) if config.width else network(schema()), None
    teacher = Reader.load(config.teacher)
    g = torch.Generator().manual_seed(config.seed)
    calibration = draw_shard(world, 0, CALIBRATION)["pictures"].float() / 255.0
    x = torch.cat([augment(part, vae, config.redrawn_share, g) for part in calibration.split(32)])
    return narrowed(teacher, config.hidden, x), teacher


def main(config: ReaderConfig) -> dict[str, float]:
    """Train and save to `config.run/weights`; returns the scores on held-out pictures."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    world = StoryWorld("train")
    vae: Any = load_autoencoder(config.vae)
    vae.to(place, memory_format=torch.channels_last)
    torch.manual_seed(config.seed + (1000 if config.judge else 0))  # initial weights only
    model, teacher = _networks(config, world, vae)
    model.to(place, memory_format=torch.channels_last)
    optimizers = build_optimizers(*split_parameters([model]), config.lr)
    training = Training(config, {"model": model}, optimizers)
    replica = Replica(model, training_dtype(place))
    stream = batches(
        config.pictures, world, config.batch, config.seed, place=place,
        step=training.seen // config.batch, shards_at_once=config.shards,
        numbers=training.facts.setdefault(
            "shards", available(pictures_folder(config.pictures, world))
        ),
    )  # fmt: skip

    for _ in training.steps():
        target = next(stream)
        disturbing = training.generator("disturbances", place)
        x = augment(target["pictures"].float() / 255.0, vae, config.redrawn_share, disturbing)
        replica.refresh()
        with training_attention(x.device):
            reading = replica.compute(x.to(memory_format=torch.channels_last))
            loss = reading_loss(reading, target)
            if teacher is not None:
                with torch.no_grad():
                    shown = teacher(x.to(memory_format=torch.channels_last))
                loss = loss + config.likeness * unlikeness(reading, shown)
            loss.backward()
        replica.collect_gradients()
        training.update(loss=loss.detach())
        if training.due():
            hits: dict[str, list[float]] = {}
            _collect(hits, reading, target)
            training.save(**{k: round(fmean(hits[k]), 3) for k in SHOWN if hits[k]})
    final = training.averaged("model").cpu()
    final.save(config.run / "weights")
    scores = measure(final, StoryWorld("held_out"), config.measured)
    write_json(config.run / "scores.json", scores)
    print(scores)
    return scores
