"""Train the second stage (`models.refiner`): predictions of the denoiser in, pictures out.

A picture of the world is drawn at both sizes, its latent is noised to some level, and the denoiser
predicts the clean latent from there; the refiner learns the way from the prediction to the picture.
Two of three predictions are what the sampler makes of a noised latent, late enough that the picture
is still the true one: errors of steps are not errors of noise.

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
1. Rows are made while it trains, by the recipe itself between its steps or, with `workers`, by
   processes beside it: predictions cost as much as learning from them, and a picture is good for
   many crops.
2. Crops of half of the picture's side, every second one at a head, since faces are small and are
   what is looked at.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.attention.identity import IdentityAttention
from consistent_gen.attention.patch import attached
from consistent_gen.checkpoints import file_sha256, save_tensors, write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import FrameRequest
from consistent_gen.engine.state import FrameState
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.refiner import Refiner, load_refiner, save_refiner
from consistent_gen.runtime import device, training_dtype, tune_allocator
from consistent_gen.training.denoising import alphas_cumprod
from consistent_gen.training.loop import RecipeConfig, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.perceptual import PerceptualDistance
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import (
    MADE_OF,
    ShardPool,
    available,
    claim,
    draw_shard,
    drawing,
    shard_path,
    world_inputs,
)
from consistent_gen.world.dataset import StoryWorld

FORMAT = "refiner 4"  # of its rows; another number when another version makes them otherwise
ROWS = 16  # pictures that are made together
LEVELS = (20, 250)  # timesteps of a picture's first prediction
DRAWING, RETOUCHING, GUIDANCE = 7, (2, 3, 4), 5.0  # steps of the sampler that makes the others
STARTS = (6, 5)  # of its steps, from which a picture is drawn on
PATCHES = ((1, 3), (1, 9), (2, 5), (4, 5))  # resolution (pixels a side in one) and side of patches


@dataclass(frozen=True, kw_only=True)
class RefinerConfig(RecipeConfig):
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
    spread: float = 1.0  # weight of d(g1, g2); 0 is regression, at half the cost
    rows: int = 6000  # pictures at most
    first_rows: int = 512  # before training begins
    crops_per_row: int = 16  # crops learnt from for every picture that is made
    workers: int = 0  # processes that make pictures beside, as fast as they can
    grow_images: int = 2000  # with workers, between looks for what they have made
    held_out: int = 32  # pictures to measure by
    every_s: float = 120.0


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

    t = torch.randint(*LEVELS, (count,), generator=generator)
    a = alpha_bar[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * clean + (1.0 - a).sqrt() * torch.randn(clean.shape, generator=generator)
    parts = zip(noisy.split(8), t.split(8), tokens.split(8), strict=True)
    found = [torch.cat([backbone.denoise(*part) for part in parts]).float()]
    levels = [t]
    for start in STARTS:
        retouching = rng.choice(RETOUCHING)
        drawn, level = drawn_on(backbone, clean, captions, start, retouching, rng.getrandbits(30))
        found.append(drawn)
        levels.append(torch.full((count,), level))

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
    backbone: Backbone, clean: Tensor, captions: list[str], start: int, retouching: int, seed: int
) -> tuple[Tensor, float]:
    """Latents n c h w that the sampler makes of `clean` from its step `start` on, and the timestep
    of its last call.
    """
    size = backbone.default_size
    empty = backbone.condition("", size)
    steps = DRAWING + retouching
    settings = DrawSettings(
        steps=steps, retouch=retouching / steps, guidance=GUIDANCE, guidance_until=1.0,
        refine=0,
    )  # fmt: skip
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
    while not states[0].finished:
        for part in (states[i : i + 4] for i in range(0, len(states), 4)):
            width = part[0].rows
            rows = [row for i, state in enumerate(part) for row in state.layout_rows(width * i)]
            latents = torch.stack([s.latent for s in part if s.latent is not None])
            words = torch.stack([part[r.slot // width].conditions[r.branch].tokens for r in rows])
            times = torch.tensor([part[r.slot // width].timestep for r in rows])
            perturbed = [row.slot for row in rows if row.perturbed]
            with attached(backbone.denoiser, IdentityAttention(backbone.denoiser, perturbed)):
                outputs = backbone.denoise(latents.repeat_interleave(width, 0), times, words)
            for i, state in enumerate(part):
                state.advance(outputs[width * i : width * (i + 1)])
    last = states[0].last_timestep
    return torch.stack([s.latent for s in states if s.latent is not None]), last


def row_maker(
    folder: Path, model: Path, world: StoryWorld, *, made_before: bool = False
) -> Callable[[int], Path]:
    """What makes shard `number` in `folder`, if it is not there, and returns its path.

    made_before: what is there comes from a version that did not say what it was made of.

    Raises:
        InputError: the folder's shards were made of something else.
    """
    inputs = {"count": ROWS, **rows_inputs(model, world)}
    if made_before and available(folder) and not (folder / MADE_OF).exists():
        write_json(folder / MADE_OF, inputs)
    claim(folder, inputs)
    return partial(_make, folder=folder, model=model, world=world, count=ROWS)


def rows_inputs(model: Path, world: StoryWorld) -> dict[str, Any]:
    """What rows are made of, for `shards.claim` and `shards.check`."""
    return {"format": FORMAT, **denoiser_inputs(model), **world_inputs(world)}


def denoiser_inputs(model: Path) -> dict[str, Any]:
    """The hash of the networks in `model` that a prediction comes from."""
    files = [
        f
        for part in ("text_encoder", "unet", "vae")
        for f in sorted((model / part).glob("*.safetensors"))
    ]
    hashes = " ".join(map(file_sha256, files))
    return {"denoiser": hashlib.sha256(hashes.encode()).hexdigest()}


def _make(number: int, *, folder: Path, model: Path, world: StoryWorld, count: int) -> Path:
    path = shard_path(folder, number)
    if not path.exists():
        save_tensors(path, make_rows(_backbone(model), world, number, count))
    return path


@functools.lru_cache(maxsize=1)
def _backbone(model: Path) -> Backbone:
    # Its own errors are far larger than those of the number format, which takes a third of the
    # time where the processor multiplies it in hardware.
    half = training_dtype() == torch.bfloat16
    return load_backbone(model, device="cpu", dtype="bfloat16" if half else "float32")


def _make_alone(number: int, *, make: Callable[[int], Path]) -> Path:
    tune_allocator()
    torch.set_num_threads(1)
    return make(number)


class CropPool(ShardPool):
    """Rows in memory, 570 kB for each; crops are drawn from all of them."""

    def batch(
        self, count: int, crop: int, heads: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """`count` crops of `crop` latents a side: latents, decodes, levels, pictures [-1, 1], and
        `weight` n 1 h w, 0 where a crop's end is not the picture's and what it lacks is missed.

        heads: share of the crops that lie at a head. generator: a CPU generator.
        """
        side = self.rows["latents"].shape[-1]
        views = self.rows["latents"].shape[1]
        drawn = (
            torch.randint(self.size, (count,), generator=generator),
            torch.randint(views, (count,), generator=generator),
            torch.rand(count, 2, generator=generator) * side,
            torch.rand(count, generator=generator) < heads,
            torch.rand(count, self.rows["heads"].shape[1], generator=generator),
            2.0 * torch.randn(count, 2, generator=generator),
        )
        i, v, at, wanted, order, beside = (x.to(self.place) for x in drawn)
        boxes = self.rows["heads"][i]  # n k 4
        there = ~boxes.isnan().any(-1)
        k = order.masked_fill(~there, -1.0).argmax(1)
        box = boxes[torch.arange(count, device=k.device), k]
        middle = (box[:, :2] + box[:, 2:]) / 2 * side + beside
        at = torch.where((wanted & there.any(1))[:, None], middle, at)
        corner = (at - crop / 2).round().clamp(0, side - crop).long()  # n 2, x then y

        return {
            "latents": windows(self.rows["latents"][i, v], corner, crop).float(),
            "decodes": windows(self.rows["decodes"][i, v], 8 * corner, 8 * crop).float(),
            "levels": self.rows["levels"][i, v],
            "pictures": windows(self.rows["pictures"][i], 16 * corner, 16 * crop).float() / 127.5
            - 1.0,
            "weight": _weight(corner, crop, side),
        }


def windows(values: Tensor, corner: Tensor, side: int) -> Tensor:
    """Of each of `values` (n c h w) the window of `side` from `corner` (n 2, x then y) on."""
    steps = torch.arange(side, device=values.device)
    x, y = (corner[:, axis, None] + steps for axis in (0, 1))  # n s
    row = torch.arange(len(values), device=values.device)[:, None, None]
    return values[row, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _weight(corner: Tensor, crop: int, side: int) -> Tensor:
    line = torch.arange(16 * crop, device=corner.device)
    low, high = line < 16, line >= 16 * (crop - 1)
    start, end = (corner > 0)[..., None], (corner + crop < side)[..., None]  # n 2 1
    inside = ~(low & start) & ~(high & end)  # n 2 s
    return (inside[:, 1, :, None] & inside[:, 0, None, :]).float().unsqueeze(1)


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


def energy_score(
    distance: Callable[[Any, Any], Tensor], drawings: Sequence[Any], x: Any, spread: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """The score of two drawings of what `x` shows, and its parts: "error", their mean distance from
    it, and "spread", theirs from each other, whose weight is `spread`. With 1 the score is proper.
    With 0 it is a regression, and one drawing is enough.
    """
    error = torch.stack([distance(g, x) for g in drawings]).mean()
    if len(drawings) == 1:
        return error, {"error": error.detach()}
    apart = distance(*drawings)
    return error - spread / 2 * apart, {"error": error.detach(), "spread": apart.detach()}


@torch.inference_mode()
def measure(model: Refiner, pool: CropPool, crop: int) -> dict[str, float]:
    """The energy score of patches on held-out crops, its parts, and the plain decode's error."""
    generator = torch.Generator().manual_seed(1)
    sums = {"score": 0.0, "error": 0.0, "spread": 0.0, "plain": 0.0}
    rounds = 8
    for _ in range(rounds):
        batch = pool.batch(8, crop, 0.5, generator)
        distance = partial(patch_distance, weight=batch["weight"])
        drawings = [draw(model, batch, generator) for _ in range(2)]
        score, parts = energy_score(distance, drawings, batch["pictures"])
        plain = F.interpolate(batch["decodes"], scale_factor=2.0, mode="bilinear")
        plain = distance(plain, batch["pictures"])
        for name, value in {"score": score, **parts, "plain": plain}.items():
            sums[name] += float(value) / rounds
    return {name: round(value, 5) for name, value in sums.items()}


def draw(model: Refiner, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """One drawing of each crop, from noise of its own, which is drawn on the CPU everywhere."""
    n, _, h, w = batch["latents"].shape
    grids = zip(*(model.noise(h, w, generator) for _ in range(n)), strict=True)
    noise = [torch.cat(parts).to(batch["latents"].device) for parts in grids]
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
    place = device(config.device or None)
    base = load_backbone(config.model, device="cpu", dtype="float32")
    vae: Any = copy.deepcopy(base.vae).to(place)
    torch.manual_seed(config.seed)  # initial weights only
    model = Refiner(base.latent_channels, config.widths, config.blocks)
    if config.init is not None:
        model.load_state_dict(load_refiner(config.init).state_dict())
    model.to(place, memory_format=torch.channels_last)
    distance = PerceptualDistance(vae, torch.float32)
    distance.networks = distance.networks[:1]  # what is shown; the decoder's own features are not
    optimizers = build_optimizers(*split_parameters([model], exclude=_ends(model)), config.lr)
    training = Training(config, {"refiner": model}, optimizers)

    worlds = StoryWorld("train", seed=7), StoryWorld("validation", seed=7)
    old = training.seen > 0 and "shards" not in training.facts
    homes = config.run / "rows", config.run / "held_out"
    make, make_held_out = (
        row_maker(home, base.path, world, made_before=old)
        for home, world in zip(homes, worlds, strict=True)
    )
    pool, held_out = (
        CropPool(home, place, rows_inputs(base.path, world), limit)
        for home, world, limit in zip(homes, worlds, (config.rows, config.held_out), strict=True)
    )

    def features(pictures: Tensor) -> list[Tensor]:
        return distance.features(vae.project(F.avg_pool2d(pictures, 2)))

    def grow() -> None:
        """Without workers the rows are a function of what was seen; with them, they are those
        that are there each time when so many images were seen.
        """
        if config.workers:
            if training.passed(config.grow_images):
                pool.refresh()
            return
        wanted = min(config.rows, config.first_rows + training.seen // config.crops_per_row)
        while pool.size < wanted:
            number = min(set(range(len(pool.taken) + 1)) - set(pool.taken))
            make(number)
            pool.refresh(number + 1)

    def save() -> None:
        averaged = training.averaged("refiner")
        training.save(rows=pool.size, held_out=measure(averaged, held_out, config.crop))
        save_refiner(config.out, averaged, denoiser_inputs(base.path))

    with ExitStack() as stack:
        if config.workers:
            alone = partial(_make_alone, make=make)
            numbers = range(-(-config.rows // ROWS))
            made = stack.enter_context(drawing(alone, numbers, config.workers))
        for number in range(-(-config.held_out // ROWS)):
            make_held_out(number)
        held_out.follow({})
        if config.workers:
            _wait_for(min(config.first_rows, config.rows), homes[0], made)
            pool.follow(training.facts)
        else:
            make(0)
            pool.follow(training.facts, below=1)
        for _ in training.steps():
            grow()
            batch = pool.batch(config.batch, config.crop, config.heads, training.generator("crops"))
            twins = 2 if config.spread else 1
            again = {name: torch.cat([values] * twins) for name, values in batch.items()}
            drawings = draw(model, again, training.generator("noise")).chunk(twins)
            patches = partial(patch_distance, weight=batch["weight"])
            loss, figures = energy_score(patches, drawings, batch["pictures"], config.spread)
            with torch.no_grad():
                wanted = features(batch["pictures"])
            seen_in = [features(g) for g in drawings]
            semantic, parts = energy_score(feature_distance, seen_in, wanted, config.spread)
            (loss + config.feature_weight * semantic).backward()
            training.update(**figures, **{f"semantic_{k}": v for k, v in parts.items()})
            if training.due():
                save()
    averaged = training.averaged("refiner")
    save_refiner(config.out, averaged, denoiser_inputs(base.path))
    score = measure(averaged, held_out, config.crop)["score"]
    print({"held_out": score})
    return score


def _wait_for(rows: int, folder: Path, made: Iterator[Path]) -> None:
    """Until there are so many rows; what goes wrong where they are made goes wrong here."""
    while len(available(folder)) * ROWS < rows:
        next(made)


def _ends(model: Refiner) -> list[Any]:
    """Layers from and to pixels: their rows are no directions of one space."""
    return [model.leave.weight, *(layer.weight for layer in model.enter)]
