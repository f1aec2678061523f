"""Muon: its direction is semi-orthogonal, and both optimizers learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from consistent_gen.training.attention_kernel import explicit_attention, training_attention
from consistent_gen.training.optim import Muon, build_optimizers, orthogonalize, split_parameters


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 6, 20), (3, 20, 6)])
def test_singular_values_come_close_to_one(shape: tuple[int, int, int]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(g, steps=5).float())
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_the_direction_keeps_the_singular_vectors() -> None:
    g = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(g)
    between = (u.transpose(1, 2) @ orthogonalize(g).float() @ v.transpose(1, 2))[0]
    diagonal = between.diagonal()
    rest = between - torch.diag(diagonal)
    assert diagonal.min() > 0.25
    assert rest.abs().max() < 0.12


def test_muon_fits_a_linear_map() -> None:
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(8, 16, generator=generator)
    weight = nn.Parameter(torch.zeros(8, 16))
    optimizer = Muon([weight], lr=0.3, weight_decay=0.0)
    x = torch.randn(64, 16, generator=generator)
    first = (x @ target.T).square().mean().item()
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 150)
        loss = (x @ (weight - target).T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * first


def test_vectors_and_embeddings_go_to_adam() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "e": nn.Embedding(5, 4), "c": nn.Conv2d(2, 3, 3)})
    split = split_parameters([model], exclude=[model["c"].weight])
    muon, adam = build_optimizers(*split, 1e-3)
    inside = {id(p) for group in muon.param_groups for p in group["params"]}
    assert inside == {id(model["a"].weight)}
    count = sum(len(group["params"]) for o in (muon, adam) for group in o.param_groups)
    assert count == len(list(model.parameters()))


@pytest.mark.parametrize("causal", [False, True])
def test_explicit_attention_is_attention(causal: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 3, 7, 8, generator=generator) for _ in range(3))
    expected = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    with training_attention(torch.device("cpu")):
        actual = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert torch.allclose(expected, actual, atol=1e-5)
    mask = torch.rand(2, 1, 7, 7, generator=generator) > 0.3
    mask |= torch.eye(7, dtype=torch.bool)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.allclose(expected, explicit_attention(q, k, v, mask), atol=1e-5)


def test_the_fused_kernel_comes_back() -> None:
    before = nn.functional.scaled_dot_product_attention
    with pytest.raises(RuntimeError), training_attention(torch.device("cpu")):
        raise RuntimeError
    assert nn.functional.scaled_dot_product_attention is before


@pytest.mark.parametrize("rank", [8, 2])
def test_wide_matrices_take_the_short_way_to_the_same_place(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consistent_gen.training.optim.training_dtype", lambda _: torch.float32)
    generator = torch.Generator().manual_seed(4)
    g = torch.randn(2, 8, rank, generator=generator) @ torch.randn(2, rank, 40, generator=generator)
    short = orthogonalize(g)
    monkeypatch.setattr("consistent_gen.training.optim.WIDE", 1000)
    assert torch.allclose(short, orthogonalize(g), atol=1e-4)
