"""Positions of shared keys in a rotary model."""

from __future__ import annotations

import pytest
import torch

from consistent_gen.attention.attend import attend
from consistent_gen.attention.bank import Export
from consistent_gen.attention.policy import Extra, Heads, Rotary
from consistent_gen.attention.settings import Place
from consistent_gen.attention.sharing import extra_angles
from tests.attention.toys import build

GRID, TEXT = (8, 12), 7
N = GRID[0] * GRID[1]


def rotary(shift: float = 0.0) -> Rotary:
    ids = torch.zeros(*GRID, 3, dtype=torch.float64)
    ids[..., 1] = torch.arange(GRID[0])[:, None]
    ids[..., 2] = torch.arange(GRID[1])[None]
    everything = torch.cat([torch.zeros(TEXT, 3, dtype=torch.float64), ids.reshape(-1, 3)]) + shift
    return Rotary(everything, TEXT, len(everything) - TEXT, build("flux").model.pos_embed)


def export(anchor: int = 0) -> Export:
    tokens = torch.tensor([0, 5, 50])
    x = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Export(anchor=anchor, tokens=tokens, k=x, v=x + 1)


def angles(kind: str, anchor: int = 0, grid: tuple[int, int] = GRID) -> tuple[torch.Tensor, ...]:
    place = Place(kind=kind)  # type: ignore[arg-type]
    places = [torch.arange(N), torch.arange(N).flip(0)]
    return extra_angles(export(anchor), place, rotary(), grid, lambda: places)


def test_matched_by_the_identity_is_own() -> None:
    for own, matched in zip(angles("own"), angles("matched"), strict=True):
        assert torch.equal(own, matched)
    reversed_, own = angles("matched", anchor=1)[0], angles("own")[0]
    cos = rotary().angles(rotary().image_ids)[0]
    assert torch.equal(reversed_, cos[[N - 1, N - 6, N - 51]])
    assert torch.equal(own, cos[[0, 5, 50]])


def test_shift_by_nothing_is_own_and_anchors_stand_apart() -> None:
    for own, shifted in zip(angles("own"), angles("shift", grid=(8, 0)), strict=True):
        assert torch.equal(own, shifted)
    first, second = angles("shift")[0], angles("shift", anchor=1)[0]
    assert not torch.equal(first, second)
    assert not torch.equal(first, angles("frame")[0])


@pytest.mark.parametrize("kind", ["own", "shift", "frame", "matched"])
def test_moving_everything_changes_nothing(kind: str) -> None:
    """Rotary attention sees relative positions only (11)."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, N, 2, 16, generator=generator, dtype=torch.float64) for _ in range(3))
    results = []
    for shift in (0.0, 5.0):
        turn = rotary(shift)
        # Without text the ids are those of the image alone.
        image = Rotary(turn.image_ids, 0, turn.image, turn.embed)
        place = Place(kind=kind)  # type: ignore[arg-type]
        found = extra_angles(export(), place, image, GRID, lambda: [torch.arange(N)])
        heads = Heads(q, k, v, rotary=image)
        heads.reads = {0: [Extra(export().k, export().v, rotary=found)]}
        results.append(attend(heads)[0])
    assert torch.allclose(results[0], results[1], atol=1e-5)
