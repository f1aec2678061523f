"""Train the second stage (`models.refiner`): predictions of the denoiser in, pictures out.

A picture of the world is drawn at both sizes, its latent is noised to some level, and the denoiser
predicts the clean latent from there; the refiner learns the way from the prediction to the picture.
One in three predictions is made after one or two guided steps of the sampler from a higher level,
late enough that the picture is still the true one: errors of steps are not errors of noise.

How the refiner learns to decide where a prediction leaves things open: it draws every crop twice,
from different noise, and minimises the energy score (Gneiting and Raftery, "Strictly proper scoring
rules", 2007, equation 22; as a loss of generators: Bouchacourt et al., 2016; Shen and Meinshausen,
"Engression", 2023)
    ES = 1/2 d(g1, x) + 1/2 d(g2, x) - 1/2 d(g1, g2)
whose minimum is the distribution of true pictures given the prediction. A mean of them, which is
fog, has a larger score than any of them has on average. Nobody plays against anybody, so a few ten
thousand crops on two cores are of use, where a discriminator has not begun to see.

`d` is not taken over the whole picture, where a score says little of what fits what, but over
small patches of three resolutions, and over features of the network that reads semantic channels.

Departures from recipes that learn from rows on disk, and why:
1. Rows are made by the recipe while it trains: predictions cost as much as learning from them, and
   a picture is good for many crops.
2. Crops of half of the picture's side, every second one at a head, since faces are small and are
   what is looked at.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.attention.identity import IdentityAttention
from consistent_gen.attention.patch import attached
from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import FrameRequest
from consistent_gen.engine.state import FrameState
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.refiner import Refiner
from consistent_gen.runtime import tune_allocator
from consistent_gen.training.denoising import alphas_cumprod
from consistent_gen.training.loop import (
    AveragedWeights,
    TickLog,
    descend,
    learning_rate,
    load_run,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizers,
    save_run,
)
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.perceptual import PerceptualDistance
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import draw_shard
from consistent_gen.world.dataset import StoryWorld

ROWS = 16  # pictures that are made together
LEVELS = ((100, 450), (350, 700))  # timesteps of a picture's first and second prediction
STEPS, GUIDANCE = 8, 5.0  # of the sampler that makes the third
STARTS = (2, 3, 4)  # of its steps, from which a picture is drawn on
PATCHES = ((1, 3), (1, 9), (2, 5), (4, 5))  # resolution (pixels a side in one) and side of patches


@dataclass(frozen=True, kw_only=True)
class RefinerConfig:
    """Settings of the recipe; lengths in crops ("images") unless they say otherwise."""

    run: Path = Path("runs/refiner")
    model: Path | None = None  # the denoiser's folder; None is the shipped one
    out: Path = Path("runs/refiner/refiner")
    init: Path | None = None  # a refiner to go on from
    widths: tuple[int, int, int, int] = (160, 96, 48, 24)
    blocks: tuple[int, int, int, int] = (4, 3, 3, 2)
    images: int = 60_000
    batch: int = 8
    crop: int = 8  # latents along its side
    lr: float = 3e-3
    warmup_images: int = 400
    decay_share: float = 0.4
    halflife_images: float = 3000.0
    heads: float = 0.5  # share of crops at a head
    feature_weight: float = 0.3
    spread: float = 1.0  # weight of d(g1, g2); 0 is regression
    rows: int = 6000  # pictures at most
    first_rows: int = 512  # before training begins
    crops_per_row: int = 16  # crops learnt from for every picture that is made
    held_out: int = 32  # pictures to measure by
    every_s: float = 120.0  # between measurements and checkpoints
    threads: int = 2
    seed: int = 0


@torch.inference_mode()
def make_rows(backbone: Backbone, world: StoryWorld, number: int, count: int) -> dict[str, Tensor]:
    """Pictures `number * count` to `(number + 1) * count` and three predictions of each.

    Returns:
        pictures n 3 256 256 uint8; latents n 3 c 16 16 float16, predicted and scaled; decodes
        n 3 3 128 128 float16 of these; levels n 3, timesteps over the schedule's length; heads
        n 3 4, boxes x0 y0 x1 y1 in [0, 1], nan where there is no such subject.
    """
    numbers = range(number * count, (number + 1) * count)
    rng = random.Random(f"refiner {world.split} {world.seed} {number}")
    generator = torch.Generator().manual_seed(rng.getrandbits(60))
    data = draw_shard(world, number, count)
    scale = float(backbone.vae.config.scaling_factor)
    z = backbone.vae.project(data["pictures"].float() / 127.5 - 1.0)
    clean = torch.cat([z, semantic_code(world, numbers, data)], 1) * scale
    captions = [
        world.caption(n, rng.getrandbits(20), share=rng.choice((1.0, None))).text for n in numbers
    ]
    size = backbone.default_size
    tokens = torch.stack([backbone.condition(text, size).tokens for text in captions])
    alpha_bar = alphas_cumprod()

    def predicted(noisy: Tensor, t: Tensor) -> Tensor:
        parts = zip(noisy.split(8), t.split(8), tokens.split(8), strict=True)
        return torch.cat([backbone.denoise(*part) for part in parts])

    found, levels = [], []
    for low, high in LEVELS:
        t = torch.randint(low, high, (count,), generator=generator)
        a = alpha_bar[t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * clean + (1.0 - a).sqrt() * torch.randn(clean.shape, generator=generator)
        found.append(predicted(noisy, t))
        levels.append(t)
    start, steps = rng.choice(STARTS), rng.choice((1, 2))
    noisy, level = drawn_on(backbone, clean, captions, start, steps, rng.getrandbits(30))
    t = torch.full((count,), level)
    found.append(predicted(noisy, t))
    levels.append(t)

    latents = torch.stack(found, 1)  # n v c h w
    decodes = [backbone.vae.pictures(x / scale) for x in latents.flatten(0, 1).split(16)]
    fine = StoryWorld(world.split, world.seed, size=2 * world.size)
    return {
        "pictures": fine.tensor(numbers),
        "latents": latents.half(),
        "decodes": torch.cat(decodes).unflatten(0, (count, -1)).half(),
        "levels": torch.stack(levels, 1).float() / len(alpha_bar),
        "heads": data["heads"].float(),
    }


def drawn_on(
    backbone: Backbone, clean: Tensor, captions: list[str], start: int, steps: int, seed: int
) -> tuple[Tensor, int]:
    """Latents n c h w like `clean` after `steps` guided steps of the sampler from step `start` on,
    noisy still, and the timestep that they stand at.
    """
    size = backbone.default_size
    empty = backbone.condition("", size)
    settings = DrawSettings(steps=STEPS, guidance=GUIDANCE, stop_at=1.0, refine=0)
    states = []
    for i, caption in enumerate(captions):
        request = FrameRequest(prompt=caption, seed=seed + i, settings=settings)
        state = FrameState(str(i), request.settled(backbone), backbone.latent_shape(*size))
        state.start(backbone, {"cond": backbone.condition(caption, size), "uncond": empty})
        assert state.latent is not None
        sigma = state.scheduler.sigmas[start]
        noise = state.latent / state.scheduler.init_noise_sigma
        state.latent = (clean[i] + sigma * noise) * (1.0 + sigma.square()).rsqrt()
        state.index = start
        state.scheduler.set_begin_index(start)
        states.append(state)
    for _ in range(steps):
        for part in (states[i : i + 4] for i in range(0, len(states), 4)):
            rows = [row for i, state in enumerate(part) for row in state.layout_rows(2 * i)]
            latents = torch.stack([s.latent for s in part if s.latent is not None])
            words = torch.stack([part[r.slot // 2].conditions[r.branch].tokens for r in rows])
            times = torch.tensor([row.timestep for row in rows])
            perturbed = [row.slot for row in rows if row.perturbed]
            with attached(backbone.unet, IdentityAttention(backbone.unet, perturbed)):
                outputs = backbone.denoise(latents.repeat_interleave(2, 0), times, words)
            for i, state in enumerate(part):
                state.advance(outputs[2 * i : 2 * i + 2])
    return torch.stack([s.latent for s in states if s.latent is not None]), states[0].timestep


class Pool:
    """All rows made so far, in memory and as shards on disk, so that a run that resumes finds them.

    Args:
        folder: of the shards.
        backbone, world: what makes rows.
        limit: rows at most.
    """

    def __init__(self, folder: Path, backbone: Backbone, world: StoryWorld, limit: int) -> None:
        self.folder, self.backbone, self.world, self.limit = folder, backbone, world, limit
        self.size = 0
        self._rows: dict[str, Tensor] = {}

    def grow(self, wanted: int) -> None:
        """Read or make rows until there are `wanted`, or as many as allowed."""
        while self.size < min(wanted, self.limit):
            number = self.size // ROWS
            path = self.folder / f"{number:05d}.safetensors"
            if path.exists():
                rows = load_tensors(path)
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                rows = make_rows(self.backbone, self.world, number, ROWS)
                save_tensors(path, rows)
            for name, values in rows.items():
                if name not in self._rows:
                    shape = (-(-self.limit // ROWS) * ROWS, *values.shape[1:])
                    self._rows[name] = torch.empty(shape, dtype=values.dtype)
                self._rows[name][self.size : self.size + ROWS] = values
            self.size += ROWS

    def batch(
        self, count: int, crop: int, heads: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """`count` crops of `crop` latents a side: latents, decodes, levels, pictures [-1, 1], and
        `weight` n 1 h w, 0 where a crop's end is not the picture's and what it lacks is missed.
        """
        parts = []
        side = self._rows["latents"].shape[-1]
        for _ in range(count):
            i = int(torch.randint(self.size, (1,), generator=generator))
            v = int(torch.randint(3, (1,), generator=generator))
            at = torch.rand(2, generator=generator) * side
            boxes = self._rows["heads"][i]
            boxes = boxes[~boxes.isnan().any(1)]
            if len(boxes) and float(torch.rand(1, generator=generator)) < heads:
                k = int(torch.randint(len(boxes), (1,), generator=generator))
                middle = (boxes[k, :2] + boxes[k, 2:]) / 2 * side
                at = middle + 2.0 * torch.randn(2, generator=generator)
            x, y = (int(min(max(round(float(c) - crop / 2), 0), side - crop)) for c in at)
            row = {name: values[i] for name, values in self._rows.items()}

            def cut(values: Tensor, pixels: int, x: int = x, y: int = y) -> Tensor:
                rows, columns = (slice(pixels * c, pixels * (c + crop)) for c in (y, x))
                return values[..., rows, columns].float()

            weight = torch.ones(1, 16 * crop, 16 * crop)
            for axis, start in ((1, y), (2, x)):
                if start > 0:
                    weight.narrow(axis, 0, 16).zero_()
                if start + crop < side:
                    weight.narrow(axis, 16 * (crop - 1), 16).zero_()
            parts.append(
                {
                    "latents": cut(row["latents"][v], 1),
                    "decodes": cut(row["decodes"][v], 8),
                    "levels": row["levels"][v],
                    "pictures": cut(row["pictures"], 16) / 127.5 - 1.0,
                    "weight": weight,
                }
            )
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def patch_distance(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean distance of the patches of `a` and `b` (b 3 h w), root mean square within a patch.

    weight: b 1 h w, of pixels. A norm of a patch, unlike a sum over its pixels, knows which values
    belong together: this is what makes the score see contours.
    """
    found = []
    for pixels, side in PATCHES:
        difference = F.avg_pool2d(a - b, pixels) if pixels > 1 else a - b
        weights = F.avg_pool2d(weight, pixels) if pixels > 1 else weight
        stride = 1 + side // 4
        squares = F.avg_pool2d(difference.square().mean(1, keepdim=True), side, stride)
        weights = F.avg_pool2d(weights, side, stride)
        found.append(((squares + 1e-5).sqrt() * weights).sum() / weights.sum())
    return torch.stack(found).mean()


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Mean distance of unit features (lists of b c h w)."""
    pairs = zip(a, b, strict=True)
    return torch.stack([((x - y).square().sum(1) + 1e-5).sqrt().mean() for x, y in pairs]).mean()


@torch.inference_mode()
def measure(model: Refiner, pool: Pool, crop: int) -> dict[str, float]:
    """The energy score of patches on held-out crops, its parts, and the plain decode's error."""
    generator = torch.Generator().manual_seed(1)
    sums = {"score": 0.0, "error": 0.0, "spread": 0.0, "plain": 0.0}
    rounds = 8
    for _ in range(rounds):
        batch = pool.batch(8, crop, 0.5, generator)
        g1, g2 = (draw(model, batch, generator) for _ in range(2))
        x, w = batch["pictures"], batch["weight"]
        error = (patch_distance(g1, x, w) + patch_distance(g2, x, w)) / 2
        spread = patch_distance(g1, g2, w)
        plain = F.interpolate(batch["decodes"], scale_factor=2.0, mode="bilinear")
        for name, value in (
            ("score", error - spread / 2),
            ("error", error),
            ("spread", spread),
            ("plain", patch_distance(plain, x, w)),
        ):
            sums[name] += float(value) / rounds
    return {name: round(value, 5) for name, value in sums.items()}


def draw(model: Refiner, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """One drawing of each crop, from noise of its own."""
    n, _, h, w = batch["latents"].shape
    noise = [torch.cat(parts) for parts in zip(
        *(model.noise(h, w, generator) for _ in range(n)), strict=True
    )]  # fmt: skip
    last = torch.channels_last
    drawn: Tensor = model(
        batch["latents"].to(memory_format=last),
        batch["decodes"].to(memory_format=last),
        batch["levels"],
        noise,
    )
    return drawn


def main(config: RefinerConfig) -> float:
    """Train and save to `config.out`; returns the energy score of held-out crops."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    backbone = load_backbone(config.model, device="cpu", dtype="float32")
    pool = Pool(config.run / "rows", backbone, StoryWorld("train", seed=7), config.rows)
    held_out = Pool(
        config.run / "held_out", backbone, StoryWorld("validation", seed=7), config.held_out
    )
    held_out.grow(config.held_out)

    torch.manual_seed(config.seed)  # initial weights only
    model = Refiner(backbone.latent_channels, config.widths, config.blocks)
    if config.init is not None:
        model.load_state_dict(Refiner.from_pretrained(config.init).state_dict())
    model.to(memory_format=torch.channels_last)
    distance = PerceptualDistance(backbone.vae, torch.float32)
    distance.networks = distance.networks[:1]  # what is shown; the decoder's own features are not
    optimizers = build_optimizers(*split_parameters([model], exclude=_ends(model)), config.lr)
    average = AveragedWeights(model, config.halflife_images)
    generator = torch.Generator().manual_seed(config.seed)
    seen = 0
    if saved := load_run(config.run / "checkpoint"):
        tensors, state = saved
        restore_module(tensors, "refiner", model, average)
        restore_optimizers(optimizers, tensors)
        generator.set_state(tensors["generator"])
        seen = state["seen_images"]
    log = TickLog(config.run / "log.jsonl", every_s=config.every_s)

    def features(pictures: Tensor) -> list[Tensor]:
        return distance.features(backbone.vae.project(F.avg_pool2d(pictures, 2)))

    def save() -> None:
        tensors = module_tensors("refiner", model, average) | dict(optimizer_tensors(optimizers))
        tensors["generator"] = generator.get_state()
        save_run(config.run / "checkpoint", tensors, {"seen_images": seen})
        averaged(model, average).save_pretrained(config.out, safe_serialization=True)

    while seen < config.images:
        pool.grow(config.first_rows + seen // config.crops_per_row)
        batch = pool.batch(config.batch, config.crop, config.heads, generator)
        x, w = batch["pictures"], batch["weight"]
        twice = {name: torch.cat([values, values]) for name, values in batch.items()}
        g1, g2 = draw(model, twice, generator).chunk(2)
        error = (patch_distance(g1, x, w) + patch_distance(g2, x, w)) / 2
        spread = patch_distance(g1, g2, w)
        f1, f2 = features(g1), features(g2)
        with torch.no_grad():
            fx = features(x)
        semantic = (feature_distance(f1, fx) + feature_distance(f2, fx)) / 2
        semantic_spread = feature_distance(f1, f2)
        half = config.spread / 2
        loss = error - half * spread
        loss = loss + config.feature_weight * (semantic - half * semantic_spread)
        loss.backward()
        lr = learning_rate(config.lr, seen, config.images, config.warmup_images, config.decay_share)
        descend([model], optimizers, lr)
        seen += config.batch
        average.update(model, config.batch, seen)
        log.add(
            config.batch,
            error=error.detach(),
            spread=spread.detach(),
            semantic=semantic.detach(),
            semantic_spread=semantic_spread.detach(),
        )
        if log.due():
            save()
            found = measure(averaged(model, average), held_out, config.crop)
            print(log.write(seen=seen, rows=pool.size, lr=round(lr, 6), held_out=found), flush=True)
    save()
    score = measure(averaged(model, average), held_out, config.crop)["score"]
    print({"held_out": score})
    return score


def _ends(model: Refiner) -> list[Any]:
    """Layers from and to pixels: their rows are no directions of one space."""
    return [model.leave.weight, *(layer.weight for layer in model.enter)]


def averaged(model: Refiner, average: AveragedWeights) -> Refiner:
    """A copy with the averaged weights, for use."""
    copied = copy.deepcopy(model).requires_grad_(False)
    average.copy_to(copied)
    return copied.eval()
