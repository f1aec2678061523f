"""Train the pair network: does a picture show the same somebody as another one?

PaCo-Reward (arXiv 2512.04784) in small. Departures from it: pairs are labelled by the truth that
the world has instead of by people; the network compares two pictures itself instead of answering in
words, so that it is symmetric by construction; and beside yes and no it learns the order of
candidates (a logistic loss on which one agrees more) and, as an aid that is thrown away afterwards,
what the factors of the figure are; where its parts are it learns for good. Its first layers are the
reader's and stay so: what they see of each picture is computed once and stored, which makes a step
several times faster. As for the reader, a share of the pictures goes through the autoencoder with
noisy latents first, since the network must judge drawings; and with `drawn`, families that the
model drew (`python -m benchmarks.pair_families`) take part, labelled by the reader's factors, since
no truth says whom a drawing shows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
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
from consistent_gen.encoders.factors import Schema
from consistent_gen.encoders.reader import REGIONS, Reader
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import load_autoencoder
from consistent_gen.rewards.pair_network import EYE_PARTS, REGION_WIDTH, WIDTH, PairNetwork
from consistent_gen.runtime import device, frame_seed, generator, tune_allocator
from consistent_gen.training.loop import RecipeConfig, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.pair_sets import CELLS, FAMILY, PairSets, true_agreements
from consistent_gen.training.probes import IGNORE
from consistent_gen.training.reader import augment
from consistent_gen.training.shards import (
    available,
    check,
    claim,
    draw_shard,
    shard_path,
    world_inputs,
)
from consistent_gen.training.truth import schema

FORMAT = "pair sets 2"
DRAWN_FORMAT = "drawn families 1"
KEPT = ("labels", "factors", "hues", "scalars")
ORDER_GAP = 0.02  # of true agreement, from which on one candidate is better than another
DRAWN_GAP = 0.05  # likewise of the reader's, which is not as sure
DRAWN_OTHER = 0.80  # the reader's agreement of strangers, at most


@dataclass(frozen=True, kw_only=True)
class PairRewardConfig(RecipeConfig):
    """Settings of the recipe; lengths in pictures ("images")."""

    run: Path = Path("runs/pair_reward")
    sets: Path = Path("runs/pair_sets")
    vae: Path | None = None  # None: the shipped one
    reader: Path | None = None  # None: the shipped one
    drawn: Path | None = None  # shards of families that the model drew; None: none take part
    init: Path | None = None  # weights of a pair network to start from
    families: int = 800  # of 12 pictures each
    images: int = 60_000
    batch: int = 48  # whole families
    lr: float = 1.5e-3
    warmup_images: int = 1500
    decay_share: float = 0.5
    halflife_images: float = 5000.0
    width: int = 0  # channels; 0 is the network's own default
    drawn_batch: int = 36  # drawn pictures beside each batch, whole families
    redrawn_share: float = 0.34  # share of the pictures that pass through the autoencoder
    every_s: float = 30.0


class FactorAid(nn.Module):
    """What the regions say of the factors: a help for learning, and no part of the network."""

    def __init__(self, names: Schema) -> None:
        super().__init__()
        width = len(REGIONS) * REGION_WIDTH
        sizes = [len(classes) for classes in names.subject.values()]
        self.sizes = [*sizes, 2 * len(names.hues), len(names.scalars)]
        self.all = nn.Linear(width, sum(self.sizes))

    def forward(self, regions: Tensor) -> tuple[Tensor, ...]:
        """Logits of each discrete factor b c, hues b 2u, scalars b s."""
        parts: tuple[Tensor, ...] = (
            self.all(regions[..., :-1].flatten(1)).float().split(self.sizes, 1)
        )
        return parts


def factor_loss(said: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
    """Of the first subject's factors, where a picture shows them."""
    *words, hues, scalars = said
    loss = hues.new_zeros(())
    for i, logits in enumerate(words):
        wanted = target["factors"][:, 0, i].long()
        if (wanted != IGNORE).any():
            loss = loss + F.cross_entropy(logits, wanted, ignore_index=IGNORE)
    angle = target["hues"][:, 0].float() * (2.0 * torch.pi)
    circle = torch.cat([angle.cos(), angle.sin()], 1)
    for value, truth, weight in ((hues, circle, 8.0), (scalars, target["scalars"][:, 0], 16.0)):
        known = ~truth.isnan()
        error = torch.where(known, value - truth.float().nan_to_num(), 0.0).square()
        loss = loss + weight * error.sum() / known.sum().clamp(min=1)
    return loss


def pair_loss(logits: Tensor, truth: Tensor, same: Tensor, family: Tensor) -> dict[str, Tensor]:
    """Yes and no, and the order of candidates.

    Args:
        logits, truth (agreement): n n. same, family: n n bool, of one grid and of one family.
    """
    n = len(logits)
    upper = torch.ones(n, n, dtype=torch.bool).triu(1)
    answers = F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
    # Strangers of another prompt are easy: they count, and little.
    parts = ((same, 0.4), (family & ~same, 0.4), (~family, 0.2))
    answer = sum(w * answers[m & upper].mean() for m, w in parts if (m & upper).any())
    others = ~torch.eye(n, dtype=torch.bool)
    usable = family & others
    order = order_loss(logits, truth, usable, ORDER_GAP)
    return {"answer": torch.as_tensor(answer), "order": order}


def order_loss(logits: Tensor, agreement: Tensor, usable: Tensor, gap: float) -> Tensor:
    """A logistic loss on which of two candidates agrees more with a reference, where their
    agreement differs by more than `gap`. logits, agreement: n n. usable: n n bool.
    """
    better = agreement[:, :, None] > agreement[:, None] + gap
    better &= usable[:, :, None] & usable[:, None]
    ahead = logits[:, :, None] - logits[:, None]
    return F.softplus(-ahead)[better].mean() if better.any() else logits.new_zeros(())


class DrawnFamilies:
    """Families that the model drew, as the network's eye sees them, with the reader's labels.

    Raises:
        InputError: `folder` holds no shards, or nobody has said what they are made of.
    """

    def __init__(self, folder: Path, network: PairNetwork) -> None:
        told = check(folder, {"format": DRAWN_FORMAT})
        self.same: float = told["same"]
        self.families = []
        for number in available(folder):
            kept = load_tensors(shard_path(folder, number))
            with torch.inference_mode():
                low, middle = network.eye(kept["pictures"].float() / 255.0)
            self.families.append((low.half(), middle.half(), kept["agreement"]))
        if not self.families:
            raise InputError(f"{folder} holds no drawn families; draw some first")

    def batch(self, count: int, rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
        """What the eye sees of `count` families (low n c 32 32, middle n 2c 16 16), and how much
        their pictures agree, n n: nan where the reader cannot say, 0 between families.
        """
        picked = rng.sample(self.families, min(count, len(self.families)))
        agreement = torch.block_diag(*(part for _, _, part in picked))
        low, middle = (torch.cat([part[i] for part in picked]).float() for i in (0, 1))
        return low, middle, agreement

    def loss(self, logits: Tensor, agreement: Tensor) -> dict[str, Tensor]:
        """As `pair_loss`, by the reader's agreement n n; what lies between is left out."""
        same, other = agreement >= self.same, agreement <= DRAWN_OTHER
        upper = torch.ones_like(same).triu(1)
        answers = F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        parts = [answers[m & upper].mean() for m in (same, other) if (m & upper).any()]
        # Nobody is compared with themselves, nor strangers of two families with each other.
        usable = (agreement > 0.0) & ~torch.eye(len(logits), dtype=torch.bool)
        order = order_loss(logits, agreement, usable, DRAWN_GAP)
        return {"drawn_answer": torch.stack(parts).mean(), "drawn_order": order}


def draw_sets(config: PairRewardConfig, world: PairSets, network: PairNetwork) -> dict[str, str]:
    """Draw what is missing of the families and store what the network's eye sees of them, a shard
    for each; returns what the shards are made of.
    """
    reader = config.reader or weights_folder("reader")
    vae_folder = config.vae or weights_folder("storyworld") / "vae"
    inputs = {
        "format": FORMAT,
        "reader": folder_sha256(reader),
        "vae": folder_sha256(vae_folder),
        "redrawn_share": config.redrawn_share,
        **world_inputs(world),
    }
    claim(config.sets, inputs)
    missing = sorted(set(range(config.families)) - set(available(config.sets)))
    vae: Any = load_autoencoder(vae_folder)
    for number in missing:
        drawn = draw_shard(world, number, FAMILY)
        random_numbers = generator(frame_seed(world.seed, number), "disturbances")
        order = torch.randperm(FAMILY, generator=random_numbers)
        x = drawn["pictures"].float() / 255.0
        x[order] = augment(x[order], vae, config.redrawn_share, random_numbers)
        with torch.inference_mode():
            low, middle = network.eye(x)
        kept = {name: drawn[name] for name in KEPT}
        seen = {"low": low.half(), "middle": middle.half()}
        save_tensors(shard_path(config.sets, number), {**seen, **kept})
    return inputs


def readers_eye(network: PairNetwork, folder: Path) -> None:
    """Give the network the reader's first layers, which do not learn."""
    reader = Reader.load(folder)
    for name in EYE_PARTS:
        own = network.get_submodule(name)
        own.load_state_dict(reader.get_submodule(name).state_dict())
        own.requires_grad_(False)


def batches(
    config: PairRewardConfig, world: PairSets, step: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Endless batches of whole families with their true agreements (f grids grids), beginning with
    that of `step`: a batch is a function of seed and step.
    """
    truth = torch.from_numpy(np.stack([true_agreements(world, n) for n in range(config.families)]))
    count = max(1, config.batch // FAMILY)
    while True:
        rng = random.Random(f"pairs {config.seed} {step}")
        picked = rng.sample(range(config.families), count)
        parts = [load_tensors(shard_path(config.sets, n)) for n in picked]
        yield {name: torch.cat([p[name] for p in parts]) for name in parts[0]}, truth[picked]
        step += 1


def relations(truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Agreement, same grid and same family of all cells, n n each, from f grids grids."""
    count, grids = truth.shape[:2]
    n = count * grids * CELLS
    which = torch.arange(n)
    family = which[:, None] // (grids * CELLS) == which[None] // (grids * CELLS)
    same = which[:, None] // CELLS == which[None] // CELLS
    agree = torch.zeros(n, n)
    for f in range(count):
        at = slice(f * grids * CELLS, (f + 1) * grids * CELLS)
        agree[at, at] = truth[f].repeat_interleave(CELLS, 0).repeat_interleave(CELLS, 1)
    return agree, same, family


def all_pairs(network: PairNetwork, regions: Tensor) -> Tensor:
    """Logits of every two of n pictures with regions n r d + 1: n n, on the CPU, 0 for oneself."""
    rows, columns = torch.triu_indices(len(regions), len(regions), 1)
    values = network.logits(regions[rows], regions[columns]).cpu()
    half = torch.zeros(len(regions), len(regions)).index_put((rows, columns), values)
    return half + half.T


def main(config: PairRewardConfig) -> dict[str, float]:
    """Train and save to `config.run/weights`; returns the answers' accuracy on training pairs."""
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    world = PairSets("train")
    torch.manual_seed(config.seed)  # initial weights only
    network = PairNetwork(schema().parts, config.width or WIDTH)
    if config.init is not None:
        network = PairNetwork.load(config.init).train()
    readers_eye(network, config.reader or weights_folder("reader"))
    draw_sets(config, world, network)
    drawn = None if config.drawn is None else DrawnFamilies(config.drawn, network)
    model = nn.ModuleDict({"network": network, "aid": FactorAid(schema())}).to(place)
    optimizers = build_optimizers(*split_parameters([model]), config.lr)
    training = Training(config, {"model": model}, optimizers)
    stream = batches(config, world, training.seen // config.batch)
    hits = 0.0

    for _ in training.steps():
        target, truth = next(stream)
        seen = (target[name].to(place).float() for name in ("low", "middle"))
        regions, parts = network.look(*seen)
        logits = all_pairs(network, regions)
        agree, same, family = relations(truth)
        losses = pair_loss(logits, agree, same, family)
        labels = target["labels"].long()  # of one figure, so a label is a part
        losses["parts"] = F.cross_entropy(parts.cpu(), labels)
        said = tuple(part.cpu() for part in model["aid"](regions))
        losses["factors"] = factor_loss(said, target)
        loss = losses["answer"] + 0.5 * losses["order"] + losses["parts"] + 0.1 * losses["factors"]
        if drawn is not None:
            rng = random.Random(f"drawn pairs {config.seed} {training.seen}")
            low, middle, read = drawn.batch(max(1, config.drawn_batch // FAMILY), rng)
            shown, _ = network.look(low.to(place), middle.to(place))
            losses |= drawn.loss(all_pairs(network, shown), read)
            loss = loss + losses["drawn_answer"] + 0.5 * losses["drawn_order"]
        loss.backward()
        right = ((logits > 0) == same)[family & ~torch.eye(len(logits), dtype=torch.bool)]
        hits = float(right.float().mean())
        training.update(**{name: value.detach() for name, value in losses.items()}, right=hits)
        if training.due():
            training.save()
    final = training.averaged("model").cpu()["network"]
    final.save(config.run / "weights")
    scores = {"right_in_training": hits, "parameters": sum(p.numel() for p in final.parameters())}
    write_json(config.run / "scores.json", scores)
    print(scores)
    return scores
