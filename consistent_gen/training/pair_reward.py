"""Train the pair network: does a picture show the same somebody as another one?

PaCo-Reward (arXiv 2512.04784) in small. Departures from it: pairs are labelled by the truth that
the world has instead of by people, and the network compares two pictures itself instead of
answering in words, so that it is symmetric by construction. First a light copy of the reader learns
to say what the reader says; its wide maps begin as the best products of two thin ones. Then the
prices of disagreements are found: a logistic loss on yes and no, and one on the order of candidates
(which one agrees more).

The network must judge drawings, and drawing families costs 10 s each and leaves nobody knowing whom
a drawing shows. So every picture is there twice: as the world draws it, and nearly drawn: its
latents get noise and the denoiser predicts them once. That leaves the faults of drawings, and who
it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.checkpoints import (
    folder_sha256,
    load_tensors,
    save_tensors,
    weights_folder,
    write_json,
)
from consistent_gen.encoders.factors import Reading
from consistent_gen.encoders.reader import Reader
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.pair_network import RANK, WIDE, PairNetwork
from consistent_gen.runtime import device, frame_seed, generator, training_dtype, tune_allocator
from consistent_gen.training.denoising import alphas_cumprod
from consistent_gen.training.loop import RecipeConfig, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.pair_sets import CELLS, FAMILY, PairSets, true_agreements
from consistent_gen.training.reader import disturbed, redrawn
from consistent_gen.training.shards import available, claim, shard_path, world_inputs
from consistent_gen.world.captions import caption
from consistent_gen.world.dataset import StoryWorld

FORMAT = "pair sets 3"
REDRAWN_SHARE = 0.34  # share of the world's pictures that pass through the autoencoder
LEVELS = (50, 350)  # timesteps that nearly drawn pictures are predicted from
NEAR_SHARE = 0.6  # share of nearly drawn pictures where both kinds stand together
MIXES = 6  # of each family, for the prices; the first has the world's pictures alone
PRIOR = 0.003  # weight of how far prices are from equal ones, in squared logarithms
ORDER_GAP = 0.02  # of true agreement, from which on one candidate is better than another
MAPPED = 1200  # pictures that wide maps are split by; fewer show too few identities


@dataclass(frozen=True, kw_only=True)
class PairRewardConfig(RecipeConfig):
    """Settings of the recipe; lengths in pictures ("images")."""

    run: Path = Path("runs/pair_reward")
    sets: Path = Path("runs/pair_sets")
    model: Path | None = None  # the denoiser's folder; None: the shipped one
    reader: Path | None = None  # None: the shipped one
    families: int = 60  # of 12 pictures each, to read and to compare
    others: int = 3000  # pictures of one to three figures, to read
    images: int = 8000
    batch: int = 32
    lr: float = 5e-4
    warmup_images: int = 320
    decay_share: float = 0.7
    halflife_images: float = 800.0
    rank: int = RANK
    every_s: float = 30.0


# The pictures.


@torch.inference_mode()
def nearly_drawn(
    backbone: Backbone, pictures: np.ndarray, captions: Sequence[str], g: torch.Generator
) -> Tensor:
    """Pictures (n h w 3, uint8) as one call of the denoiser predicts them from noisy latents:
    n 3 h w, floats in [0, 1]. Every other one is finished by the second stage, if there is one.
    """
    clean = backbone.encode(pictures)
    size = backbone.default_size
    tokens = torch.stack([backbone.condition(text, size).tokens for text in captions])
    t = torch.randint(*LEVELS, (len(clean),), generator=g)
    a = alphas_cumprod()[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * clean + (1.0 - a).sqrt() * torch.randn(clean.shape, generator=g)
    parts = zip(noisy.split(6), t.split(6), tokens.split(6), strict=True)
    found = []
    for i, z in enumerate(torch.cat([backbone.denoise(*part) for part in parts])):
        refined = i % 2 and backbone.refiner is not None
        shown = backbone.refine(z, float(t[i]), g) if refined else backbone.decode(z[None])[0]
        x = torch.from_numpy(shown).permute(2, 0, 1)[None].float() / 255.0
        found.append(F.interpolate(x, pictures.shape[1:3], mode="area"))
    return torch.cat(found)


def draw_sets(config: PairRewardConfig, world: PairSets, backbone: Backbone) -> None:
    """Draw what is missing of the families, a shard for each: pictures 2 12 3 128 128 uint8, as the
    world draws them and nearly drawn; agreement 12 12, by the truth.

    Raises:
        InputError: there are shards that were made of something else.
    """
    claim(config.sets, {"format": FORMAT, "model": backbone.sha256, **world_inputs(world)})
    for number in sorted(set(range(config.families)) - set(available(config.sets))):
        rng = random.Random(f"nearly drawn {world.seed} {number}")
        g = generator(frame_seed(world.seed, number), "disturbances")
        cells = range(number * FAMILY, (number + 1) * FAMILY)
        shown = np.stack([world.picture(cell).rgb for cell in cells])
        words = [caption(world.frame(c), rng, share=rng.choice((1.0, None))).text for c in cells]
        x = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255.0
        again = torch.randperm(FAMILY, generator=g)[: round(REDRAWN_SHARE * FAMILY)]
        x[again] = redrawn(x[again].to(backbone.vae.dtype), backbone.vae, g).float()
        both = torch.stack([disturbed(x, g), nearly_drawn(backbone, shown, words, g)])
        agreement = torch.from_numpy(true_agreements(world, number))
        kept = {
            "pictures": (both * 255.0).round().to(torch.uint8),
            "agreement": agreement.repeat_interleave(CELLS, 0).repeat_interleave(CELLS, 1),
        }
        save_tensors(shard_path(config.sets, number), kept)


def batches(config: PairRewardConfig, pool: Tensor, step: int) -> Iterator[Tensor]:
    """Endless batches of pictures n 3 128 128, beginning with that of `step`: a batch is a function
    of seed and step.
    """
    while True:
        rng = random.Random(f"pairs {config.seed} {step}")
        yield pool[[rng.randrange(len(pool)) for _ in range(config.batch)]]
        step += 1


# The light copy of the reader.


@torch.no_grad()
def split_maps(network: PairNetwork, reader: Reader, pictures: Tensor) -> None:
    """Give the network the reader's weights, its wide maps W as products through `rank` channels.

    Of all such products the one is taken that leaves the least of Wx on `pictures` (n 3 h w): W
    onto the first principal components of Wx.
    """
    kept = {n: v for n, v in reader.state_dict().items() if n in network.reader.state_dict()}
    network.reader.load_state_dict(kept, strict=False)
    moments = _moments(reader, pictures)
    for name in WIDE:
        whole, halves = reader.get_submodule(name), network.reader.get_submodule(name)
        mean, spread = moments[name]
        w = whole.weight.flatten(1).double()
        onto = torch.linalg.eigh(w @ spread @ w.T)[1][:, -network.rank :]  # o r
        first, second = halves[0], halves[1]
        first.weight.copy_((onto.T @ w).view_as(first.weight))
        second.weight.copy_(onto.view_as(second.weight))
        second.bias.copy_(whole.bias + (w - onto @ (onto.T @ w)) @ mean)


def _moments(reader: Reader, pictures: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and covariance of what comes into each wide map, in double precision."""
    sums: dict[str, Tensor] = {}

    def look(name: str, module: nn.Module, x: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            x = F.unfold(x, module.kernel_size, stride=module.stride).transpose(1, 2)
        x = F.pad(x.flatten(0, -2), (0, 1), value=1.0)
        sums[name] = sums.get(name, 0.0) + (x.T @ x).double()

    hooks = [
        reader.get_submodule(name).register_forward_pre_hook(
            lambda module, given, name=name: look(name, module, given[0])
        )
        for name in WIDE
    ]
    for part in pictures.split(16):
        reader(part)
    for hook in hooks:
        hook.remove()
    found = {}
    for name, total in sums.items():
        mean = total[:-1, -1] / total[-1, -1]
        found[name] = mean, total[:-1, :-1] / total[-1, -1] - mean[:, None] * mean[None]
    return found


def likeness_loss(own: Reading, told: Reading) -> Tensor:
    """How far a reading is from what the reader says of the same pictures: factors of the subjects
    that are there, who is where, and which part is where.
    """
    there = told.present > 0.5
    loss = 3.0 * F.binary_cross_entropy(own.present.clamp(1e-4, 1.0 - 1e-4), told.present)
    for name, logits in told.subject.items():
        loss = loss + _divergence(own.subject[name][there], logits[there], -1)
    loss = loss + 8.0 * F.mse_loss(own.hues[there], told.hues[there])
    loss = loss + 16.0 * F.mse_loss(own.scalars[there], told.scalars[there])
    assert own.parts is not None and told.parts is not None
    loss = loss + 4.0 * _divergence(own.masks, told.masks, 1)
    return loss + 4.0 * _divergence(own.parts, told.parts, 1)


def _divergence(own: Tensor, told: Tensor, dim: int) -> Tensor:
    """Kullback and Leibler's, of logits along `dim`, the mean over all others."""
    known = told.log_softmax(dim)
    return (known.exp() * (known - own.log_softmax(dim))).sum(dim).mean()


# The prices.


def pair_loss(logits: Tensor, strangers: Tensor, truth: Tensor, same: Tensor) -> Tensor:
    """Yes and no, and the order of candidates.

    Args:
        logits, truth (agreement): of families, f n n. strangers: logits of pairs of two families,
            of any shape. same: n n bool.
    """
    upper = torch.ones_like(same).triu(1)
    yes, no = F.softplus(-logits), F.softplus(logits)
    # Strangers of another prompt are easy: they count, and little.
    answer = yes[:, same & upper].mean() + 0.8 * no[:, ~same & upper].mean()
    answer = answer + 0.2 * F.softplus(strangers).mean()
    return answer + 0.5 * order_loss(logits, truth, ORDER_GAP)


def order_loss(logits: Tensor, agreement: Tensor, gap: float) -> Tensor:
    """A logistic loss on which of two candidates agrees more with a reference, where their
    agreement differs by more than `gap`. logits, agreement: f n n; nobody is their own candidate.
    """
    others = ~torch.eye(logits.shape[-1], dtype=torch.bool)
    better = agreement[..., :, None] > agreement[..., None, :] + gap
    better = better & others[:, :, None] & others[:, None]
    ahead = logits[..., :, None] - logits[..., None, :]
    return F.softplus(-ahead)[better].mean() if better.any() else logits.new_zeros(())


def learn_prices(network: PairNetwork, views: Tensor, truth: Tensor, seed: int) -> float:
    """Find the prices of disagreements, none below zero; returns the share of right answers.

    Args:
        views: f 2 n d, of the world's pictures and of the nearly drawn. truth: agreement f n n.
    """
    count, _, n, _ = views.shape
    near = torch.rand(count, MIXES, n, generator=generator(seed, "mixes")) < NEAR_SHARE
    near[:, 0] = False
    mixed = torch.where(near[..., None], views[:, 1:], views[:, :1]).flatten(0, 1)
    grid = torch.arange(n) // CELLS
    same = grid[:, None] == grid[None]
    apart = network.disagreements(mixed[:, :, None], mixed[:, None]).detach()
    strange = network.disagreements(mixed, mixed.roll(MIXES, 0)).detach()
    agreement = truth.repeat_interleave(MIXES, 0)
    before, start = network.prices.log().detach(), network.start.detach().clone()
    logs = before.clone()
    solver = torch.optim.LBFGS(
        [logs.requires_grad_(), start.requires_grad_()], max_iter=200,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        solver.zero_grad()
        prices = logs.exp()
        loss = pair_loss(start - apart @ prices, start - strange @ prices, agreement, same)
        loss = loss + PRIOR * (logs - before).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        network.prices.copy_(logs.exp())
        network.start.copy_(start)
        right = ((start - apart @ logs.exp()) > 0) == same
        return float(right[:, ~torch.eye(n, dtype=torch.bool)].float().mean())


def main(config: PairRewardConfig) -> dict[str, float]:
    """Train and save to `config.run/weights`; returns the answers' accuracy on training pairs."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    world = PairSets("train")
    # Errors of the number format are far smaller than those that are to be learnt.
    half = training_dtype() == torch.bfloat16
    backbone = load_backbone(config.model, device="cpu", dtype="bfloat16" if half else "float32")
    draw_sets(config, world, backbone)
    shards = [load_tensors(shard_path(config.sets, n)) for n in range(config.families)]
    others = StoryWorld("train").tensor(range(config.others))
    pool = torch.cat([*(shard["pictures"].flatten(0, 1) for shard in shards), others])
    folder = config.reader or weights_folder("reader")
    reader = Reader.load(folder)
    network = PairNetwork(reader.schema, config.rank)
    some = torch.randperm(len(pool), generator=generator(config.seed, "maps"))[:MAPPED]
    split_maps(network, reader, pool[some])
    reader.to(place)
    optimizers = build_optimizers(*split_parameters([network.reader.to(place)]), config.lr)
    training = Training(config, {"reader": network.reader}, optimizers)
    told: Any = training.facts.setdefault("reader", folder_sha256(folder))
    assert told == folder_sha256(folder), "a run has one reader"
    stream = batches(config, pool, training.seen // config.batch)

    for _ in training.steps():
        x = disturbed(next(stream).to(place).float() / 255.0, training.generator("light", place))
        with torch.no_grad():
            said = reader(x)
        loss = likeness_loss(network.reader(x), said)
        loss.backward()
        training.update(loss=loss.detach())
        if training.due():
            training.save()
    network.reader = training.averaged("reader").cpu()
    with torch.no_grad():
        views = torch.stack(
            [torch.stack([network.embed(part) for part in s["pictures"]]) for s in shards]
        )
    truth = torch.stack([s["agreement"] for s in shards])
    right = learn_prices(network, views, truth, config.seed)
    network.save(config.run / "weights")
    parameters = sum(p.numel() for p in network.parameters())
    scores = {"right_in_training": right, "parameters": float(parameters)}
    write_json(config.run / "scores.json", scores)
    print(scores)
    return scores
