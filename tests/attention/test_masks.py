from __future__ import annotations

import pytest
import torch

from consistent_gen.attention.layers import Site
from consistent_gen.attention.masks import SubjectMasks
from consistent_gen.attention.matching import match_tokens
from consistent_gen.attention.settings import MaskProbe
from consistent_gen.errors import InputError

GRID = (4, 6)


def blob(at: int, grid: tuple[int, int] = GRID) -> torch.Tensor:
    attention = torch.full(grid, 0.1)
    attention[1:3, at : at + 2] = 0.9
    return attention.flatten()


def test_a_mask_at_a_step_comes_from_earlier_steps() -> None:
    masks = SubjectMasks(MaskProbe(source="running"))
    masks.add("f", "fox", 0, blob(1), (GRID, GRID))
    masks.add("f", "fox", 1, blob(3), (GRID, GRID))
    assert masks.mask("f", "fox", 0, GRID) is None
    first, both = masks.mask("f", "fox", 1, GRID), masks.mask("f", "fox", 2, GRID)
    assert first is not None and both is not None
    assert torch.equal(first, blob(1) > 0.5)
    assert torch.equal(both, (blob(1) > 0.5) | (blob(3) > 0.5))
    assert masks.mask("f", "cat", 2, GRID) is None
    masks.forget("f")
    assert masks.mask("f", "fox", 2, GRID) is None


def test_only_recent_steps_count() -> None:
    masks = SubjectMasks(MaskProbe(source="running", last=2))
    for step, at in enumerate((1, 3, 3)):
        masks.add("f", "fox", step, blob(at), (GRID, GRID))
    found = masks.mask("f", "fox", 3, GRID)
    assert found is not None and torch.equal(found, blob(3) > 0.5)


def test_a_lower_cut_takes_in_what_the_word_is_looked_up_in_less() -> None:
    head, body = blob(1) > 0.5, blob(3) > 0.5
    seen = torch.where(head, 1.0, torch.where(body, 0.4, 0.0))
    found = []
    for cut in (1.0, 0.5):
        masks = SubjectMasks(MaskProbe(source="running", cut=cut))
        masks.add("f", "fox", 0, seen, (GRID, GRID))
        found.append(masks.mask("f", "fox", 1, GRID))
    assert found[0] is not None and torch.equal(found[0], head)
    assert found[1] is not None and torch.equal(found[1], head | body)


def test_layers_of_one_step_are_averaged_on_the_finest_grid() -> None:
    masks = SubjectMasks(MaskProbe())
    fine = (8, 12)
    masks.add("f", "fox", 0, blob(2, fine), (fine, fine))
    masks.add("f", "fox", 0, blob(2), (GRID, fine))
    found = masks.map("f", "fox", 1)
    assert found is not None and found.shape == (96,)


def test_an_outside_mask_overrules() -> None:
    masks = SubjectMasks(MaskProbe())
    masks.add("f", "fox", 0, blob(1), (GRID, GRID))
    outside = torch.zeros(64, 96)
    outside[32:, 48:] = 1.0
    masks.set_external("f", "fox", outside)
    found = masks.mask("f", "fox", 0, GRID)
    assert found is not None
    assert found.reshape(GRID)[2:, 3:].all() and int(found.sum()) == 6
    for wrong in (torch.ones(3), torch.full((2, 2), 2.0)):
        with pytest.raises(InputError, match="expected height and width, with values from 0 to 1"):
            masks.set_external("f", "fox", wrong)


def test_watched_layers_lie_in_the_range_or_are_the_coarsest() -> None:
    sites = [
        Site(f"{kind}{level}", kind, "up", level)
        for level in range(3)
        for kind in ("self", "cross")
    ]
    masks = SubjectMasks(MaskProbe(tokens=(64, 1024)))
    assert sorted(masks.watched(sites, (64, 64))) == ["cross1", "cross2"]
    assert sorted(masks.watched(sites, (512, 512))) == ["cross2"]


def test_matching_finds_a_moved_subject_again() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(24, 8, generator=generator)
    tokens = torch.tensor([7, 8, 13, 14])
    target = torch.randn(24, 8, generator=generator)
    target[tokens + 2] = source[tokens]
    match = match_tokens(target, tokens + 2, [source], [tokens])
    assert match.tokens.tolist() == (tokens + 2).tolist()
    assert tokens[match.source].tolist() == tokens.tolist()
    expected = torch.arange(24)
    expected[tokens] = tokens + 2
    assert torch.equal(match.places[0], expected)


def test_matching_takes_the_nearer_anchor_and_drops_poor_matches() -> None:
    eye = torch.eye(8)
    first, second = eye[:4], eye[4:]
    target = torch.stack([eye[5], eye[1], eye[2] + 0.01 * eye[3], -eye[0]])
    everywhere = torch.arange(4)
    match = match_tokens(target, everywhere, [first, second], [everywhere, everywhere])
    assert match.tokens.tolist() == [0, 1, 2]
    assert match.source.tolist() == [5, 1, 2]


def test_nothing_matches_an_empty_subject() -> None:
    x, none = torch.randn(4, 3), torch.empty(0, dtype=torch.long)
    match = match_tokens(x, none, [x], [torch.arange(4)])
    assert len(match.tokens) == len(match.source) == 0
    assert torch.equal(match.places[0], torch.arange(4))
