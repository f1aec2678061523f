"""Make the pair network: does a picture show the same somebody as another one?

PaCo-Reward (arXiv 2512.04784) in small. Departures from it: pairs are labelled by the truth that
the world has instead of by people, and the network compares two pictures itself instead of
answering in words, so that it is symmetric by construction. It reads with an eye of its own, a
reader of half the size that learnt from the reader (`training.reader`, `teacher`), and what is
learnt here are the prices of disagreements: a logistic loss on yes and no, and one on the order of
candidates (which one agrees more).

The network must judge drawings, and drawing families costs 10 s each and leaves nobody knowing whom
a drawing shows. So every picture is there twice: as the world draws it, and nearly drawn: its
latents get noise and the denoiser predicts them once. That leaves the faults of drawings, and who
it is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.checkpoints import (
    load_tensors,
    save_tensors,
    write_json,
)
from consistent_gen.encoders.reader import Reader
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.pair_network import PairNetwork, cost
from consistent_gen.runtime import frame_seed, generator, training_dtype, tune_allocator
from consistent_gen.training.denoising import alphas_cumprod
from consistent_gen.training.pair_sets import CELLS, FAMILY, PairSets, true_agreements
from consistent_gen.training.reader import disturbed, redrawn
from consistent_gen.training.shards import available, claim, shard_path, world_inputs
from consistent_gen.world.captions import caption

FORMAT = "pair sets 3"
REDRAWN_SHARE = 0.34  # share of the world's pictures that pass through the autoencoder
LEVELS = (50, 350)  # timesteps that nearly drawn pictures are predicted from
NEAR_SHARE = 0.6  # share of nearly drawn pictures where both kinds stand together
MIXES = 6  # of each family, for the prices; the first has the world's pictures alone
PRIOR = 0.3  # weight of how far prices are from equal ones, in squared logarithms: see docs/log.md
ORDER_GAP = 0.02  # of true agreement, from which on one candidate is better than another


@dataclass(frozen=True, kw_only=True)
class PairRewardConfig:
    """Settings of the recipe."""

    run: Path = Path("runs/pair_reward")
    sets: Path = Path("runs/pair_sets")
    model: Path | None = None  # the denoiser's folder; None: the shipped one
    eye: Path = Path("runs/pair_eye/weights")  # a reader; its weights become the network's own
    families: int = 50  # of 12 pictures each
    threads: int = 2
    seed: int = 0


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


def learn_prices(
    network: PairNetwork, views: Tensor, truth: Tensor, seed: int, prior: float = PRIOR
) -> float:
    """Find the prices of disagreements, none below zero; returns the share of right answers.

    Args:
        views: f 2 n d, of the world's pictures and of the nearly drawn. truth: agreement f n n.
        prior: how much they are to be equal.
    """
    count, _, n, _ = views.shape
    near = torch.rand(count, MIXES, n, generator=generator(seed, "mixes")) < NEAR_SHARE
    near[:, 0] = False
    mixed = torch.where(near[..., None], views[:, 1:], views[:, :1]).flatten(0, 1)
    grid = torch.arange(n) // CELLS
    same = grid[:, None] == grid[None]
    with torch.no_grad():
        own = network.compared(mixed[:, :, None], mixed[:, None])
        strange = network.compared(mixed, mixed.roll(MIXES, 0))
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
        logits, strangers = (start - cost(*pairs, prices) for pairs in (own, strange))
        loss = pair_loss(logits, strangers, agreement, same)
        loss = loss + prior * (logs - before).square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    with torch.no_grad():
        network.prices.copy_(logs.exp())
        network.start.copy_(start)
        right = ((start - cost(*own, logs.exp())) > 0) == same
        return float(right[:, ~torch.eye(n, dtype=torch.bool)].float().mean())


def main(config: PairRewardConfig) -> dict[str, float]:
    """Make the network and save it to `config.run/weights`; returns its accuracy on training
    pairs.
    """
    tune_allocator()
    torch.set_num_threads(config.threads)
    world = PairSets("train")
    # Errors of the number format are far smaller than those that are to be learnt.
    half = training_dtype() == torch.bfloat16
    backbone = load_backbone(config.model, device="cpu", dtype="bfloat16" if half else "float32")
    draw_sets(config, world, backbone)
    shards = [load_tensors(shard_path(config.sets, n)) for n in range(config.families)]
    network = PairNetwork(Reader.load(config.eye))
    with torch.no_grad():
        views = [torch.stack([network.embed(x) for x in shard["pictures"]]) for shard in shards]
    truth = torch.stack([shard["agreement"] for shard in shards])
    right = learn_prices(network, torch.stack(views), truth, config.seed)
    network.save(config.run / "weights")
    learnt = float(network.prices.numel() + network.start.numel())
    scores = {"right_in_training": right, "learnt": learnt}
    write_json(config.run / "scores.json", scores)
    print(scores)
    return scores
