"""Train the reader, or with `--judge` the judge, to read the factors of story-world pictures.

Departures from plain supervised training, and why:
1. A share of the pictures goes through the autoencoder with noisy latents, blur or a change of
   light, since the reader must read drawings of the small model, not only pictures of the renderer.
2. A factor counts in the loss only where it can be seen: the bottom's hue under a dress, shoes cut
   off by the camera or the second hue of a plain pattern would teach it to guess.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import write_json
from consistent_gen.encoders.factors import MAX_SUBJECTS, Reading, Schema
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.runtime import device, training_dtype, tune_allocator
from consistent_gen.training.attention_kernel import training_attention
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
from consistent_gen.training.shards import batches, draw_shard
from consistent_gen.world import spec
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS

IGNORE = -100  # class index that the cross-entropy skips


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """Settings of the recipe; times in seconds."""

    judge: bool = False
    run: Path = Path("runs/reader")
    vae: Path = Path("runs/autoencoder/vae")
    pictures: Path = Path("runs/pictures")
    train_s: float = 600.0
    batch: int = 48
    lr: float = 1.5e-3
    warmup_s: float = 15.0
    decay_share: float = 0.5
    halflife_images: float = 5000.0
    width: int = 0  # channels; 0 is the network's own default
    redrawn_share: float = 0.25  # share of a batch that passes through the autoencoder
    measured: int = 1024  # held-out pictures for the scores
    device: str = ""  # cpu or cuda; without it a GPU if there is one
    threads: int = 2
    seed: int = 0


def schema() -> Schema:
    """The story world's factors."""
    return Schema(
        subject={**spec.DISCRETE, "action": spec.ACTIONS, "expression": spec.EXPRESSIONS},
        hues=spec.HUE_FACTORS,
        scalars=spec.SCALAR_FACTORS,
        scene={
            "place": spec.PLACES,
            "weather": spec.WEATHERS,
            "style": spec.STYLES,
            "camera": spec.CAMERAS,
            "prop": spec.PROPS,
        },
        parts=PARTS,
    )


def truth(world: StoryWorld, numbers: list[int], labels: Tensor) -> dict[str, Any]:
    """Targets of pictures `numbers`; what cannot be seen (by `labels`, b s s) is IGNORE or nan."""
    b = len(numbers)
    names = schema()
    subject = {n: torch.full((b, MAX_SUBJECTS), IGNORE) for n in names.subject}
    hues = torch.full((b, MAX_SUBJECTS, len(names.hues)), math.nan)
    scalars = torch.full((b, MAX_SUBJECTS, len(names.scalars)), math.nan)
    present = torch.zeros(b, MAX_SUBJECTS)
    scene = {n: torch.zeros(b, dtype=torch.long) for n in names.scene}
    seen = F.one_hot(labels.flatten(1).long(), 1 + MAX_SUBJECTS * len(PARTS)).sum(1)[:, 1:]
    seen = seen.view(b, MAX_SUBJECTS, len(PARTS))
    for row, number in enumerate(numbers):
        frame = world.frame(number)
        for name, classes in names.scene.items():
            scene[name][row] = classes.index(getattr(frame, name))
        for k, actor in enumerate(frame.subjects):
            hidden = hidden_factors(actor.identity, seen[row, k])
            present[row, k] = 1.0
            words = {
                **actor.identity.to_dict(),
                "action": actor.action,
                "expression": actor.expression,
            }
            for name, classes in names.subject.items():
                if name not in hidden:
                    subject[name][row, k] = classes.index(words[name])
            for target, group in ((hues, names.hues), (scalars, names.scalars)):
                for i, name in enumerate(group):
                    if name not in hidden:
                        target[row, k, i] = words[name]
    return {
        "subject": subject,
        "hues": hues,
        "scalars": scalars,
        "present": present,
        "scene": scene,
    }


def hidden_factors(identity: spec.Identity, seen: Tensor) -> set[str]:
    """Factors that this picture cannot show. `seen` counts label samples per part, shape (p,)."""
    count = dict(zip(PARTS, seen.tolist(), strict=True))
    hidden: set[str] = set()
    if identity.top in ("dress", "overalls") or count["bottom"] < 3:
        hidden |= {"bottom", "bottom_hue"}
    if count["shoes"] < 2:
        hidden |= {"shoes", "shoe_hue"}
    if identity.pattern == "plain":
        hidden |= {"pattern_hue", "pattern_scale"}
    if count["top"] < 4:
        hidden |= {"top", "top_hue", "pattern", "pattern_hue", "pattern_scale", "sleeve"}
    if identity.accessory == "none" or count["accessory"] < 1:
        hidden.add("accessory_hue")
    if not identity.is_person:
        hidden.add("skin")
    return hidden


def reading_loss(reading: Reading, target: dict[str, Any], labels: Tensor) -> Tensor:
    """Sum of all heads' losses; masks and presence weigh more, since the rest pools under them."""
    loss = 3.0 * F.binary_cross_entropy(reading.present.clamp(1e-4, 1 - 1e-4), target["present"])
    for name, logits in reading.subject.items():
        wanted = target["subject"][name].flatten()
        weight = 2.0 if name in ("kind", "coat", "top", "accessory", "action") else 1.0
        loss = loss + weight * F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=IGNORE)
    for name, logits in reading.scene.items():
        loss = loss + F.cross_entropy(logits, target["scene"][name])
    angle = target["hues"] * (2.0 * math.pi)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    loss = loss + 8.0 * _known_mse(reading.hues, circle)
    loss = loss + 16.0 * _known_mse(reading.scalars, target["scalars"])
    size = reading.masks.shape[-1]
    labels = labels[:, :: labels.shape[-1] // size, :: labels.shape[-1] // size].long()
    owner = torch.where(labels > 0, (labels - 1) // len(PARTS) + 1, 0)
    loss = loss + 4.0 * F.cross_entropy(reading.masks, owner)
    if reading.parts is not None:
        part = torch.where(labels > 0, (labels - 1) % len(PARTS) + 1, 0)
        loss = loss + 4.0 * F.cross_entropy(reading.parts, part)
    return loss


def _known_mse(value: Tensor, target: Tensor) -> Tensor:
    known = ~target.isnan()
    error = torch.where(known, value - target.nan_to_num(), 0.0).square()
    return error.sum() / known.sum().clamp(min=1)


@torch.no_grad()
def augment(x: Tensor, vae: PatchAutoencoder, share: float, g: torch.Generator) -> Tensor:
    """Disturb floats b 3 h w in [0, 1]: redraw some by the autoencoder, change light, add blur.

    All is on one device, the generator too.
    """
    b = len(x)
    again = round(share * b)

    def even(count: int, channels: int = 1) -> Tensor:
        return torch.rand(count, channels, 1, 1, generator=g, device=x.device)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=g, device=x.device)

    z = vae.latents(x[:again] * 2.0 - 1.0)
    level = 0.3 * even(again) * z.std()
    redrawn = vae.pictures(z + level * normal(z))
    x = torch.cat([redrawn / 2.0 + 0.5, x[again:]])
    gain = 1.0 + 0.16 * (even(b) - 0.5)
    shift = 0.08 * (even(b, 3) - 0.5)
    soft = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    x = torch.lerp(x, soft, even(b) * 0.7)
    return (x * gain + shift + 0.03 * even(b) * normal(x)).clamp(0.0, 1.0)


def moved(values: Any, place: torch.device) -> Any:
    """Tensors in nested mappings, on the device `place`."""
    if isinstance(values, Tensor):
        return values.to(place)
    return {name: moved(value, place) for name, value in values.items()}


@torch.inference_mode()
def measure(model: Any, world: StoryWorld, count: int) -> dict[str, float]:
    """Accuracy per discrete factor, mean absolute error per continuous one, on visible factors."""
    data = draw_shard(world, 0, count)
    hits: dict[str, list[float]] = {}
    for start in range(0, count, 64):
        rows = slice(start, min(start + 64, count))
        target = truth(world, list(range(rows.start, rows.stop)), data["labels"][rows])
        reading = model(data["pictures"][rows])
        _collect(hits, reading, target)
    return {name: round(sum(v) / len(v), 4) for name, v in sorted(hits.items()) if v}


def _collect(hits: dict[str, list[float]], reading: Reading, target: dict[str, Any]) -> None:
    def add(name: str, values: Tensor) -> None:
        hits.setdefault(name, []).extend(values.flatten().tolist())

    for name, logits in reading.subject.items():
        wanted = target["subject"][name]
        add(name, (logits.argmax(-1) == wanted)[wanted != IGNORE].float())
    for name, logits in reading.scene.items():
        add(name, (logits.argmax(-1) == target["scene"][name]).float())
    turn = (reading.hue_angles() - target["hues"] + 0.5) % 1.0 - 0.5
    names = schema()
    for i, name in enumerate(names.hues):
        add(f"{name}_error", turn[..., i][~turn[..., i].isnan()].abs())
    error = (reading.scalars - target["scalars"]).abs()
    for i, name in enumerate(names.scalars):
        add(f"{name}_error", error[..., i][~error[..., i].isnan()])
    add("count", (reading.count() == target["present"].sum(1)).float())


def main(config: ReaderConfig) -> dict[str, float]:
    """Train and save to `config.run/weights`; returns the scores on held-out pictures."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    rng = random.Random(config.seed)
    generator = torch.Generator(place).manual_seed(config.seed)
    world = StoryWorld("train")
    vae: Any = load_autoencoder(config.vae)
    vae.to(place, memory_format=torch.channels_last)
    torch.manual_seed(config.seed + (1000 if config.judge else 0))  # initial weights only
    network: Any = Judge if config.judge else Reader
    model = network(schema(), config.width) if config.width else network(schema())
    model.to(place, memory_format=torch.channels_last)
    optimizers = build_optimizers(*split_parameters([model]), config.lr)
    average = AveragedWeights(model, config.halflife_images)
    seen, spent = 0, 0.0
    if saved := load_run(config.run / "checkpoint"):
        tensors, state = saved
        restore_module(tensors, "model", model, average)
        seen, spent = state["seen_images"], state["spent_s"]
    replica = Replica(model, training_dtype(place))
    log = TickLog(config.run / "log.jsonl", every_s=30.0)
    stream = batches(config.pictures, world, config.batch, rng)

    started = time.monotonic() - spent
    while (elapsed := time.monotonic() - started) < config.train_s:
        numbers, data = next(stream)
        target = moved(truth(world, numbers, data["labels"]), place)
        labels = data["labels"].to(place)
        x = data["pictures"].to(place).float() / 255.0
        x = augment(x, vae, config.redrawn_share, generator)
        replica.refresh()
        with training_attention(x.device):
            reading = replica.compute(x.to(memory_format=torch.channels_last))
            loss = reading_loss(reading, target, labels)
            loss.backward()
        replica.collect_gradients()
        lr = learning_rate(config.lr, elapsed, config.train_s, config.warmup_s, config.decay_share)
        descend([model], optimizers, lr)
        seen += config.batch
        average.update(model, config.batch, seen)
        hits: dict[str, list[float]] = {}
        _collect(hits, reading, target)
        shown = {
            k: sum(hits[k]) / max(len(hits[k]), 1)
            for k in ("kind", "action", "place", "coat", "accessory")
        }
        log.add(config.batch, loss=loss.item(), **shown)
        if log.due():
            trained = module_tensors("model", model, average)
            save_run(config.run / "checkpoint", trained, {"seen_images": seen, "spent_s": elapsed})
            print(log.write(seen=seen, spent_s=round(elapsed)), flush=True)
    average.copy_to(model)
    model.eval().cpu().save(config.run / "weights")
    scores = measure(model, StoryWorld("held_out"), config.measured)
    write_json(config.run / "scores.json", scores)
    print(scores)
    return scores
