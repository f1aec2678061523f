"""The probe reads what it is told to read, where it can be seen, and only there."""

from __future__ import annotations

import torch
from torch import nn

from consistent_gen.training.probes import IGNORE, FactorProbe
from consistent_gen.training.shards import draw_shard
from consistent_gen.training.truth import schema, truth
from consistent_gen.world.dataset import StoryWorld


def _targets(
    world: StoryWorld, numbers: list[int], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    target = truth(world, numbers, labels)
    return target["factors"], target["hues"]


def _learn(probe: FactorProbe, layer: nn.Module, features: torch.Tensor, steps: int) -> list[float]:
    world, numbers = StoryWorld("train"), list(range(len(features)))
    labels = draw_shard(world, 0, len(features))["labels"]
    factors, hues = _targets(world, numbers, labels)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.05, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        layer(features)
        loss = probe.loss(factors, hues, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_features_that_tell_the_truth_are_read() -> None:
    world = StoryWorld("train")
    labels = draw_shard(world, 0, 4)["labels"]
    byte = labels[:, 1::2, 1::2].long()
    # One feature per (picture, label): everything that the heads are asked for follows from it.
    told = torch.zeros(4, 4 * 25, 16, 16)
    for i in range(4):
        told[i].scatter_(0, (25 * i + byte[i]).unsqueeze(0), 1.0)
    torch.manual_seed(0)
    layer, probe = nn.Identity(), FactorProbe(schema(), 100)
    probe.watch(layer)
    losses = _learn(probe, layer, told, 60)
    assert losses[-1] < 0.1 * losses[0]

    layer, blind = nn.Identity(), FactorProbe(schema(), 100)
    blind.watch(layer)
    noise = torch.randn(told.shape, generator=torch.Generator().manual_seed(1))
    assert min(_learn(blind, layer, noise, 60)) > 2.0 * losses[-1]


def test_nothing_to_see_gives_finite_loss_and_gradients_of_the_parts_alone() -> None:
    torch.manual_seed(0)
    layer, probe = nn.Identity(), FactorProbe(schema(), 8)
    probe.watch(layer)
    features = torch.randn(2, 8, 16, 16, requires_grad=True)
    labels = torch.zeros(2, 32, 32, dtype=torch.uint8)
    factors, hues = _targets(StoryWorld("train"), [0, 1], labels)
    assert (factors[..., list(schema().subject).index("shoes")] == IGNORE).all()
    layer(features)
    loss = probe.loss(factors, hues, labels)
    loss.backward()
    assert torch.isfinite(loss)
    weight = probe.read.weight.grad
    assert weight is not None
    parts = 1 + len(schema().parts)
    assert weight[:parts].abs().max() > 0.0 and weight[parts:].abs().max() == 0.0
