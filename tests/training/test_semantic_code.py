"""The semantic code says what is where, and keeps classes apart."""

from __future__ import annotations

import itertools

import pytest
import torch

from consistent_gen.training.semantic_code import CHANNELS, face_places, semantic_code, spread
from consistent_gen.training.shards import draw_shard
from consistent_gen.world import spec
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS, label


@pytest.mark.parametrize(("count", "dimensions"), [(12, 4), (10, 4), (10, 3), (6, 2)])
def test_classes_keep_apart(count: int, dimensions: int) -> None:
    points = spread(count, dimensions)
    assert points.square().mean().item() == pytest.approx(2.0, rel=1e-4)
    nearest = min(torch.dist(a, b).item() for a, b in itertools.combinations(points, 2))
    radius = points.norm(dim=1).mean().item()
    assert nearest > 0.9 * radius  # neighbours on a hexagon are one radius apart


def test_latents_that_show_the_same_have_the_same_code() -> None:
    world = StoryWorld("train")
    data = draw_shard(world, 0, 6)
    code = semantic_code(world, range(6), data)
    assert code.shape == (6, CHANNELS, 16, 16)
    for row in range(6):
        blocks = data["labels"][row].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)  # 16 16 4
        whole = (blocks == blocks[..., :1]).all(-1)
        for byte in blocks[whole][:, 0].unique():
            same = code[row][:16, whole & (blocks[..., 0] == byte)]
            assert torch.allclose(same, same[:, :1].expand_as(same), atol=1e-5)


def test_the_code_tells_kinds_and_garments() -> None:
    """The nearest class point on a face is the kind, on a top the garment."""
    world = StoryWorld("train")
    data = draw_shard(world, 0, 24)
    code = semantic_code(world, range(24), data)
    seen = 0
    for row in range(24):
        blocks = data["labels"][row].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
        for k, subject in enumerate(world.frame(row).subjects):
            for part, words in (("face", spec.KINDS), ("top", spec.TOPS)):
                where = (blocks == label(k, part)).all(-1)
                if not where.any():
                    continue
                told = code[row][4:8, where].mean(1)
                nearest = torch.cdist(told[None], spread(len(words), 4)).argmin().item()
                wanted = subject.identity.kind if part == "face" else subject.identity.top
                assert words[int(nearest)] == wanted
                seen += 1
    assert seen > 24 and set(PARTS) >= {"face", "top"}


def test_heads_have_a_frame_of_their_own() -> None:
    """Across a head the place grows by what a latent measures in quarters of the head's height."""
    world = StoryWorld("train")
    data = draw_shard(world, 0, 12)
    places = face_places(data)
    on_face = data["labels"] == label(0, "face")
    assert not places[data["labels"] == 0].any()
    for row in range(12):
        height = (data["heads"][row, 0, 3] - data["heads"][row, 0, 1]).float()
        y, x = on_face[row].nonzero(as_tuple=True)
        if len(y) < 4 or height < 0.1:
            continue
        middle = data["keypoints"][row, 0].float().mean(0)
        assert torch.allclose(
            places[row, y, x, 0], ((x + 0.5) / 32 - middle[0]) / height * 4, atol=1e-2
        )
        assert places[row, y, x].abs().max() <= 4.0
