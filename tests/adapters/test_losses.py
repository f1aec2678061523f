"""Losses on attention maps: closed forms, ranges, and that learning lowers them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.adapters.layout import BACKGROUND, TokenLayout, people_layout
from consistent_gen.adapters.losses import balanced_l1, group_maps, mask_mse, people_weighted
from consistent_gen.adapters.policy import Capture, Captured
from consistent_gen.attention.layers import Site, find_sites
from consistent_gen.attention.patch import attached
from tests.adapters.toys import LATENT, call_of, denoise, noise, small, small_unet, somebody

LAYOUT = TokenLayout(((BACKGROUND, 2),)) + people_layout(2, (("face", 1), ("body", 1)))
GRID = (4, 6)


def captured(attention: Tensor) -> Captured:
    site = Site("mid_block", "cross", "mid")
    return Captured(site, GRID, tuple(range(len(attention))), attention)


def halves(rows: int = 1) -> Tensor:
    """Two masks, left and right: [b 2 h w]."""
    masks = torch.zeros(rows, 2, 32, 48)
    masks[:, 0, :, :24], masks[:, 1, :, 24:] = 1.0, 1.0
    return masks


def test_looking_where_one_is_costs_nothing() -> None:
    left = torch.zeros(GRID)
    left[:, :3] = 1.0
    attention = torch.zeros(1, 2, 24, 6)
    attention[..., 2] = left.flatten()  # the face of the first
    attention[..., 5] = 1.0 - left.flatten()  # the body of the second
    assert mask_mse([captured(attention)], LAYOUT, halves(), grow=1) < 1e-12
    swapped = attention[..., [0, 1, 4, 5, 2, 3]]
    assert mask_mse([captured(swapped)], LAYOUT, halves(), grow=1) == pytest.approx(1.0)


def test_looking_evenly_has_a_closed_form() -> None:
    """Each of 3 groups has 1/3 everywhere: (4/9 + 1/9)/2 for each character, 1/9 for what is
    nobody's and nowhere, divided by 2 characters.
    """
    even = torch.full((1, 2, 24, 6), 1 / 6)
    value = mask_mse([captured(even)] * 3, LAYOUT, halves())
    assert value == pytest.approx((2 * 5 / 18 + 1 / 9) / 2, abs=1e-6)
    maps = group_maps([captured(even)], LAYOUT, (8, 12))
    assert maps.shape == (1, 3, 8, 12)
    assert torch.allclose(maps, torch.full_like(maps, 1 / 3))


def test_words_are_looked_at_inside_their_masks() -> None:
    inside = torch.zeros(1, 2, 24, 7)
    left = torch.zeros(GRID)
    left[:, :3] = 1.0
    mask = left[None, None]
    inside[..., 4] = left.flatten()
    at, valid = torch.tensor([[4]]), torch.tensor([[True]])
    assert balanced_l1([captured(inside)], at, mask, valid) == pytest.approx(-1.0, abs=1e-3)
    outside = inside.clone()
    outside[..., 4] = 1.0 - left.flatten()
    assert balanced_l1([captured(outside)], at, mask, valid) == pytest.approx(1.0, abs=1e-3)
    assert balanced_l1([captured(inside)], at, mask, ~valid) == 0.0
    for seed in range(3):
        random = noise((1, 2, 24, 7), seed).softmax(-1)
        assert -1.0 <= balanced_l1([captured(random)], at, mask, valid) <= 1.0


def test_the_prediction_counts_more_where_somebody_is() -> None:
    error = noise((2, 4, 8, 12), 1).square()
    everywhere = torch.ones(2, 1, 8, 12)
    shown = torch.tensor([True, True])
    plain = error.mean()
    assert people_weighted(error, everywhere, shown) == pytest.approx(float(6 * plain), rel=1e-5)
    # Rows whose features were dropped count evenly.
    assert people_weighted(error, everywhere, ~shown) == pytest.approx(float(plain), rel=1e-5)


def test_the_gradient_reaches_the_adapter_and_learning_helps() -> None:
    """On a frozen UNet: 15 steps on two characters lower the attention loss, and nothing but the
    adapter has a gradient, neither values nor what comes after the maps.
    """
    unet = small_unet()
    adapter = small("storymaker", unet).train()
    cast = [somebody(adapter, 1), somebody(adapter, 2)]
    last = max(site.level for site in find_sites(unet).values())
    capture = Capture(lambda site: site.level == last)
    policy = adapter.policy(capture=capture)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=5e-3)
    masks = halves(2)
    values: list[float] = []
    with attached(unet, policy):
        for _ in range(15):
            capture.clear()
            shown = adapter.identities(cast)
            for frame in ("a", "b"):
                policy.show(frame, shown)
            policy.begin(call_of(["a", "b"], guided=False))
            denoise(unet, 2)
            policy.end()
            loss = mask_mse(capture.branch, shown.layout, masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(float(loss.detach()))
    assert values[-1] < 0.7 * values[0]
    assert all(p.grad is None for p in unet.parameters())
    moved = {name.split(".")[-2] for name, p in adapter.named_parameters()
             if p.grad is not None and p.grad.abs().max() > 0}  # fmt: skip
    assert "to_k_ip" in moved
    places = [n for n in find_sites(unet) if n.startswith("up_blocks.1")]
    for name in places:  # after the last layer that was looked at
        layer: Any = adapter.attention.at(name)
        assert all(p.grad is None or not p.grad.any() for p in layer.parameters())


def test_rows_learn_together_as_they_draw_alone() -> None:
    """With gradients equal rows are computed at once; the numbers are those of each alone."""
    unet = small_unet(dtype=torch.float64)
    adapter = small("storymaker", unet)
    policy = adapter.policy()
    left = torch.zeros(LATENT)
    left[:, :6] = 1.0
    with attached(unet, policy):
        for i, frame in enumerate(("a", "b", "c")):
            cast = [somebody(adapter, i), somebody(adapter, i + 1)]
            policy.show(frame, adapter.identities(cast, masks={0: left} if i == 1 else None))
        policy.begin(call_of(["a", "b", "c"]))
        together = denoise(unet, 6)
        with torch.no_grad():
            alone = denoise(unet, 6)
    assert together.requires_grad and not alone.requires_grad
    assert torch.allclose(together, alone, atol=1e-10)
