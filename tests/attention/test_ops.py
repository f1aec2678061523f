from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxPosEmbed

from consistent_gen.attention import ops
from consistent_gen.runtime import generator


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn


@pytest.mark.parametrize("seed", range(6))
def test_otsu_against_all_thresholds(seed: int) -> None:
    values = torch.cat([random(17, seed=seed), 4 + random(9, seed=seed + 50)])
    values = (values * 3).round() / 3  # with ties
    scores = {}
    for threshold in values.unique()[:-1]:
        low, high = values[values <= threshold], values[values > threshold]
        scores[float(threshold)] = len(low) * len(high) * float(low.mean() - high.mean()) ** 2
    best = max(scores.values())
    assert scores[ops.otsu_threshold(values)] == pytest.approx(best)


def test_otsu_without_a_cut() -> None:
    assert not (torch.ones(5) > ops.otsu_threshold(torch.ones(5))).any()
    assert ops.otsu_threshold(torch.tensor([0.0, 0.0, 1.0])) == 0.0


def test_nearest_tokens_of_itself_and_of_a_permutation() -> None:
    tokens = random(20, 8)
    index, distance = ops.nearest_tokens(tokens, tokens)
    assert torch.equal(index, torch.arange(20))
    assert float(distance.abs().max()) < 1e-12
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    index, _ = ops.nearest_tokens(tokens, tokens[order] * 7.0)  # length plays no part
    assert torch.equal(order[index], torch.arange(20))


@pytest.mark.parametrize("grid", [(8, 12), (4, 6), (16, 24), (5, 7)])
def test_resized_masks_keep_their_share(grid: tuple[int, int]) -> None:
    mask = torch.zeros(8, 12)
    mask[2:6, 3:9] = 1.0
    resized = ops.resize_grid(mask.reshape(-1, 1), (8, 12), grid)[:, 0] > 0.5
    assert abs(float(resized.double().mean()) - 0.25) <= 1 / min(grid)


def test_grids_shrunk_without_averages_see_only_what_lies_next_to_a_token() -> None:
    planes = random(8 * 12, 3)
    blocks = planes.T.reshape(3, 4, 2, 6, 2).mean((2, 4)).reshape(3, -1).T
    halved = ops.resize_grid(planes, (8, 12), (4, 6), average=False)
    assert torch.allclose(halved, blocks, atol=1e-6)  # of two sides, the two next to it
    assert not torch.allclose(ops.resize_grid(planes, (8, 12), (4, 6)), blocks, atol=1e-2)
    point = torch.zeros(16 * 16, 1)
    point[0] = 1.0  # a corner, which a quarter of the size does not reach
    assert float(ops.resize_grid(point, (16, 16), (4, 4), average=False).max()) == 0.0
    assert float(ops.resize_grid(point, (16, 16), (4, 4)).max()) > 0.0


def test_adain_toward_itself_changes_nothing_and_toward_others_gives_their_statistics() -> None:
    x, y = random(30, 2, 4), 3 + 2 * random(25, 2, 4, seed=1)
    own, other = ops.token_statistics(x), ops.token_statistics(y)
    assert torch.allclose(ops.adain(x, own, own), x, atol=1e-14)
    mean, deviation = ops.token_statistics(ops.adain(x, own, other))
    assert torch.allclose(mean, other[0], atol=1e-12)
    assert torch.allclose(deviation, other[1], atol=1e-4)


def test_a_level_per_part_equals_an_additive_mask() -> None:
    q, k, v = random(5, 3, 8), random(9, 3, 8, seed=1), random(9, 3, 8, seed=2)
    lengths, biases = [2, 4, 3], [0.0, 0.7, -1.5]
    scale = 1 / math.sqrt(8)
    wide = [
        ops.join([[q]], [[1.0]])[0],
        ops.join([k.split(lengths)], [[bias / scale for bias in biases]])[0],
        ops.join([v.split(lengths)], [[0.0] * 3])[0],
    ]
    attend = torch.nn.functional.scaled_dot_product_attention
    bias = torch.repeat_interleave(torch.tensor(biases).double(), torch.tensor(lengths))
    dense = attend(*(x.transpose(0, 1) for x in (q, k, v)), attn_mask=bias.expand(3, 5, 9))
    folded = attend(*(x.transpose(0, 1) for x in wide), scale=scale)[..., :8]
    assert torch.allclose(folded, dense, atol=1e-13)


def test_drawn_tokens_have_a_fixed_count_and_depend_on_the_purpose_alone() -> None:
    tokens = torch.arange(3, 40)
    first = ops.draw_tokens(tokens, 0.5, generator(1, "a"))
    torch.randn(3)  # a global stream plays no part
    assert torch.equal(first, ops.draw_tokens(tokens, 0.5, generator(1, "a")))
    assert not torch.equal(first, ops.draw_tokens(tokens, 0.5, generator(1, "b")))
    assert len(first) == 18 == ops.kept_count(37, 0.5)
    assert set(first.tolist()) <= set(tokens.tolist())
    assert torch.equal(first, first.sort().values)
    assert len(ops.draw_tokens(tokens, 1.0, generator(1, "a"))) == 0
    assert torch.equal(ops.draw_tokens(tokens, 0.0, generator(1, "a")), tokens)


def test_rotation_is_that_of_diffusers() -> None:
    ids = torch.stack([torch.zeros(6), torch.arange(6.0), torch.arange(6.0) * 2], dim=1)
    cos, sin = FluxPosEmbed(theta=10000, axes_dim=[4, 4, 8])(ids)
    x = random(2, 6, 3, 16).float()
    assert torch.equal(ops.rotate(x, cos, sin), apply_rotary_emb(x, (cos, sin), sequence_dim=1))


def test_smoothing_keeps_flat_pictures_and_spreads_points() -> None:
    flat = torch.full((20, 3), 2.0)
    assert torch.allclose(ops.smooth_grid(flat, (4, 5)), flat)
    point = torch.zeros(20, 1)
    point[7] = 1.0  # row 1, column 2
    spread = ops.smooth_grid(point, (4, 5)).reshape(4, 5)
    assert float(spread.sum()) == pytest.approx(1.0)
    assert float(spread[1, 2]) > float(spread[1, 1]) > float(spread[0, 1]) > 0.0
    dark = ops.smooth_grid(flat, (4, 5), "constant").reshape(4, 5, 3)
    assert torch.allclose(dark[1:3, 1:4], flat.reshape(4, 5, 3)[1:3, 1:4])  # the inside is the same
    assert float(dark[0, 0, 0]) < float(dark[0, 1, 0]) < 2.0
