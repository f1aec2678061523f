"""Train the subject encoder: one vector per subject, and where its parts and keypoints are.

Identity metric learning on the truth: InfoNCE (van den Oord et al., arXiv 1807.03748) over a batch
of views, in which each view's positive is the other view of the same subject and all others are
negatives, among them a twin that differs in three factors. Beside it, linear probes read every
factor of the identity that the view shows; they are thrown away, and say in a few thousand views
what a contrast of pairs would take very many to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.checkpoints import load_tensors, write_json
from consistent_gen.encoders.factors import Schema
from consistent_gen.encoders.subject import GRID, SubjectEncoder, SubjectReading
from consistent_gen.errors import InputError
from consistent_gen.runtime import device, training_dtype, tune_allocator
from consistent_gen.training.loop import RecipeConfig, Replica, Training
from consistent_gen.training.optim import build_optimizers, split_parameters
from consistent_gen.training.probes import IGNORE, heads_cross_entropy
from consistent_gen.training.reader import disturbed, known_mse
from consistent_gen.training.shards import available, check, shard_path
from consistent_gen.training.subject_views import FORMAT, GROUP, SubjectViews, draw_views
from consistent_gen.training.truth import schema
from consistent_gen.world.painter import PARTS

PASSING = ("action", "expression")  # factors of a moment, not of an identity
HELD_OUT_SEED = 7  # of the views that are measured


@dataclass(frozen=True, kw_only=True)
class SubjectEncoderConfig(RecipeConfig):
    """Settings of the recipe; lengths in views ("images")."""

    run: Path = Path("runs/subject_encoder")
    views: Path = Path("runs/views")
    images: int = 40_000
    batch: int = 64
    lr: float = 1.5e-3
    warmup_images: int = 1000
    decay_share: float = 0.6
    halflife_images: float = 2500.0
    every_s: float = 30.0
    width: int = 72
    temperature: float = 0.1
    box_share: float = 0.25  # of views of which only a box is known, no mask
    probe_weight: float = 1.0
    part_weight: float = 1.0
    point_weight: float = 4.0
    measured: int = 100  # held-out subjects in the scores


class IdentityProbe(nn.Module):
    """Linear readings of the factors of an identity from features b f."""

    def __init__(self, names: Schema, width: int) -> None:
        super().__init__()
        kept = [i for i, name in enumerate(names.subject) if name not in PASSING]
        self.kept, self.hues = kept, len(names.hues)
        self.sizes = [len(classes) for n, classes in names.subject.items() if n not in PASSING]
        self.read = nn.Linear(width, sum(self.sizes) + 2 * self.hues + len(names.scalars))

    def loss(self, features: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Mean of the heads' losses where the factor can be seen; `target` as in views."""
        read = self.read(features.to(self.read.weight.dtype)).float()
        classes, angles, scalars = read.split(
            [sum(self.sizes), 2 * self.hues, read.shape[1] - sum(self.sizes) - 2 * self.hues], 1
        )
        wanted = target["factors"][:, self.kept].long()
        by_head = heads_cross_entropy(classes, self.sizes, wanted).sum(0)
        by_head = by_head / (wanted != IGNORE).sum(0).clamp(min=1)
        angle = target["hues"].float() * (2.0 * math.pi)
        circle = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
        return (
            by_head.mean()
            + 4.0 * known_mse(angles, circle)
            + 4.0 * known_mse(scalars, target["scalars"].float())
        )


def info_nce(embeddings: Tensor, temperature: float) -> Tensor:
    """How far each view is from saying that its neighbour shows the same: a mean, in nats.

    embeddings: b d of length 1; rows 2 i and 2 i + 1 show one subject, all others another one.
    """
    agreement = embeddings @ embeddings.T / temperature
    agreement.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(embeddings), device=embeddings.device) ^ 1
    return F.cross_entropy(agreement, partner)


def shaken(
    rows: Mapping[str, Tensor], g: torch.Generator, box_share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Views moved and sized a little, in another light, with a mask as coarse as one that is read.

    Returns: crops b 4 64 64 in [0, 1], parts b 32 32 as classes, keypoints b 5 2, nan outside.
    """
    b, place = len(rows["crops"]), rows["crops"].device

    def even(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, device=place)

    size, shift = 0.88 + 0.26 * even(b, 1), 0.14 * (even(b, 2) - 0.5)
    move = torch.zeros(b, 2, 3, device=place)  # from a place in the new crop to one in the old
    move[:, 0, 0] = move[:, 1, 1] = size[:, 0]
    move[:, :, 2] = shift
    crops = rows["crops"].float() / 255.0
    known = masks_of(rows["parts"], rows["boxes"], even(b) < box_share)
    layers = F.grid_sample(
        torch.cat([crops, known], 1),
        F.affine_grid(move, [b, 4, *crops.shape[2:]], align_corners=False),
        align_corners=False,
    )
    parts = F.grid_sample(
        rows["parts"].float().unsqueeze(1),
        F.affine_grid(move, [b, 1, GRID, GRID], align_corners=False),
        mode="nearest", align_corners=False,
    )  # fmt: skip
    points = rows["keypoints"].float() * 2.0 - 1.0
    points = ((points - shift.unsqueeze(1)) / size.unsqueeze(1) + 1.0) / 2.0
    outside = ((points < 0) | (points > 1)).any(-1, keepdim=True)
    points = torch.where(outside, math.nan, points)
    return torch.cat([disturbed(layers[:, :3], g), layers[:, 3:]], 1), parts[:, 0].long(), points


def masks_of(parts: Tensor, boxes: Tensor, box_only: Tensor) -> Tensor:
    """What is known of where the subject is, b 1 64 64: a coarse mask, or where `box_only` (b) its
    box. parts: b 32 32. boxes: b 4, shares of the crop.
    """
    coarse = F.avg_pool2d((parts > 0).float().unsqueeze(1), 3, 1, 1)
    coarse = F.interpolate(coarse, scale_factor=2.0, mode="bilinear")
    side = coarse.shape[-1]
    at = (torch.arange(side, device=parts.device) + 0.5) / side
    x0, y0, x1, y1 = boxes.float().unsqueeze(-1).unbind(1)  # b 1 each
    inside_x, inside_y = (at >= x0) & (at < x1), (at >= y0) & (at < y1)
    box = (inside_y.unsqueeze(2) & inside_x.unsqueeze(1)).float().unsqueeze(1)
    return torch.where(box_only.view(-1, 1, 1, 1), box, coarse)


def load_views(folder: Path, facts: dict[str, Any], place: torch.device) -> dict[str, Tensor]:
    """The rows of the shards that a checkpoint's `facts` name, else of those that are there.

    Raises:
        InputError: there are none, or they are of another format.
    """
    numbers = facts.setdefault("shards", available(folder))
    if not numbers:
        raise InputError(
            f"no views in {folder}; run python -m consistent_gen.training.subject_views "
            f"--folder {folder}"
        )
    check(folder, {"format": FORMAT})
    parts = [load_tensors(shard_path(folder, n)) for n in numbers]
    return {name: torch.cat([p[name] for p in parts]).to(place) for name in parts[0]}


def place_losses(reading: SubjectReading, parts: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the parts, and mean distance of the keypoints that are in the crop."""
    known = ~points.isnan()
    error = torch.where(known, reading.keypoints - points.nan_to_num(), 0.0).abs()
    return F.cross_entropy(reading.parts, parts), error.sum() / known.sum().clamp(min=1)


def retrieval(agreement: Tensor) -> float:
    """Share of queries whose best agreement (n m, m >= n) is with the item of the same number."""
    return float((agreement.argmax(1) == torch.arange(len(agreement))).float().mean())


def area_under_curve(same: Tensor, other: Tensor) -> float:
    """The chance that a value of `same` is greater than one of `other`; ties count half."""
    rank = torch.from_numpy(np.sort(other.flatten().numpy()))
    flat = same.flatten().contiguous()
    below = torch.searchsorted(rank, flat) + torch.searchsorted(rank, flat, right=True)
    return float(below.double().mean() / 2 / len(rank))


def identity_scores(agreement: Tensor) -> dict[str, float]:
    """How well a measure tells subjects apart, from its agreement of all views with all (4 n 4 n,
    in groups of views).

    retrieval: the nearest of n in the other view; with twins: of 2 n, among them each one's twin.
    auc: same against different subjects; of twins: same against the twin.
    """
    one, again, twin, twin_again = (slice(row, None, GROUP) for row in range(GROUP))
    across = agreement[one, again]
    apart = ~torch.eye(len(across), dtype=torch.bool)
    own = torch.cat([across.diagonal(), agreement[twin, twin_again].diagonal()])
    twins = torch.cat([agreement[one, twin_again].diagonal(), agreement[twin, again].diagonal()])
    scores = {
        "retrieval": retrieval(across),
        "retrieval_with_twins": retrieval(torch.cat([across, agreement[one, twin_again]], 1)),
        "auc": area_under_curve(across.diagonal(), across[apart]),
        "auc_twins": area_under_curve(own, twins),
    }
    return {name: round(value, 4) for name, value in scores.items()}


@torch.inference_mode()
def measure(model: SubjectEncoder, rows: Mapping[str, Tensor]) -> dict[str, float]:
    """Scores on held-out views: `identity_scores`, share of cells with the right part, mean overlap
    of the parts, mean keypoint error as a share of the crop.
    """
    box_only = torch.zeros(len(rows["crops"]), dtype=torch.bool)
    masks = masks_of(rows["parts"], rows["boxes"], box_only)
    crops = torch.cat([rows["crops"].float() / 255.0, masks], 1)
    readings = [model(chunk) for chunk in crops.split(64)]
    parts = torch.cat([r.parts for r in readings]).argmax(1)
    points = torch.cat([r.keypoints for r in readings])
    wanted = rows["parts"].long()
    overlaps = [
        ((parts == c) & (wanted == c)).sum() / ((parts == c) | (wanted == c)).sum().clamp(min=1)
        for c in range(1 + len(PARTS))
        if (wanted == c).any()
    ]
    distance = (points - rows["keypoints"].float()).norm(dim=-1)
    vectors = torch.cat([r.embeddings for r in readings])
    scores = identity_scores(vectors @ vectors.T)
    return scores | {
        "part_accuracy": round(float((parts == wanted).float().mean()), 4),
        "part_overlap": round(float(torch.stack(overlaps).mean()), 4),
        "keypoint_error": round(float(distance[~distance.isnan()].mean()), 4),
    }


def main(config: SubjectEncoderConfig) -> dict[str, float]:
    """Train and save to `config.run/weights`; returns the scores on held-out subjects.

    Raises:
        InputError: there are no views, or the batch is not one of whole groups.
    """
    if config.batch % GROUP:
        raise InputError(f"batch is {config.batch}; expected a multiple of {GROUP}")
    tune_allocator()
    torch.set_num_threads(config.threads)
    place = device(config.device or None)
    torch.manual_seed(config.seed)  # initial weights only
    model = SubjectEncoder(PARTS, config.width).to(place)
    probe = IdentityProbe(schema(), 4 * config.width).to(place)
    optimizers = build_optimizers(
        *split_parameters([model, probe], exclude=probe.read.parameters()), config.lr
    )
    training = Training(config, {"model": model, "probe": probe}, optimizers)
    rows = load_views(config.views, training.facts, place)
    groups = len(rows["crops"]) // GROUP
    dtype = training_dtype(place)
    replica, probe_replica = Replica(model, dtype), Replica(probe, dtype)

    for _ in training.steps():
        picked = torch.randint(
            groups, (config.batch // GROUP,), generator=training.generator("groups")
        )
        index = (picked[:, None] * GROUP + torch.arange(GROUP)).flatten().to(place)
        batch = {name: values[index] for name, values in rows.items()}
        g = training.generator("disturbances", place)
        crops, parts, points = shaken(batch, g, config.box_share)
        replica.refresh()
        probe_replica.refresh()
        reading = replica.compute(crops)
        contrast = info_nce(reading.embeddings, config.temperature)
        probed = probe_replica.compute.loss(reading.features, batch)  # type: ignore[operator]
        of_parts, of_points = place_losses(reading, parts, points)
        loss = contrast + config.probe_weight * probed
        loss = loss + config.part_weight * of_parts + config.point_weight * of_points
        loss.backward()
        replica.collect_gradients()
        probe_replica.collect_gradients()
        training.update(
            contrast=contrast.detach(), probed=probed.detach(), parts=of_parts.detach(),
            points=of_points.detach(),
        )  # fmt: skip
        if training.due():
            training.save()
    final: SubjectEncoder = training.averaged("model").cpu()
    final.save(config.run / "weights")
    # Measured as it is published, rounded.
    published = SubjectEncoder.load(config.run / "weights")
    scores = measure(published, held_out_views(config.measured))
    write_json(config.run / "scores.json", scores)
    print(scores)
    return scores


def held_out_views(groups: int) -> dict[str, Tensor]:
    """Views of subjects, and of (action, place) pairs, that training never shows."""
    return draw_views(SubjectViews(held_out=True, seed=HELD_OUT_SEED), 0, groups)
