"""Other people's classes are taken from their files as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks.consistency_stories import FRAMES, make_story
from consistent_gen.errors import InputError
from consistent_gen.world.captions import words_of

THEIRS = """
import nowhere_to_be_found

LIMIT = 3


def doubled(x):
    return x * FACTOR


class Layer(nn.Module):
    def forward(self, x: nowhere_to_be_found.Tensor):
        return doubled(x) + torch.ones(2)
"""


def test_what_is_named_is_taken_and_nothing_else_runs(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(THEIRS)
    found = peers.taken(tmp_path / "theirs.py", ("doubled", "Layer"), {"FACTOR": 2.0})
    assert found["Layer"]()(torch.full((2,), 3.0)).tolist() == [7.0, 7.0]
    assert "LIMIT" not in found
    with pytest.raises(InputError, match="has no Other"):
        peers.taken(tmp_path / "theirs.py", ("Layer", "Other"), {})
    with pytest.raises(InputError, match="is not there"):
        peers.taken(tmp_path / "none.py", ("Layer",), {})


def test_prompts_hold_the_noun_and_pictures_are_bytes() -> None:
    prompts, seeds, noun = peers.story_prompts(make_story(3, style_diverse=False, seed=7), 1)
    assert len(prompts) == len(set(seeds)) == FRAMES
    assert all(words_of(prompt).count(noun) >= 1 for prompt in prompts)
    found = peers.as_pictures([np.array([[[0.0, 0.5, 1.0]]])])
    assert found.dtype == np.uint8 and found.tolist() == [[[[0, 128, 255]]]]


def test_fused_attention_is_what_xformers_computes() -> None:
    q, k, v = torch.randn(3, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    found = peers.memory_efficient_attention(q, k, v, op=None, scale=0.3)
    assert torch.allclose(found, (q @ k.mT * 0.3).softmax(-1) @ v, atol=1e-6)


def test_stories_are_compared_where_both_ways_have_drawn_them() -> None:
    """So a measurement that was stopped says what it has, and goes on where it was."""
    known = {"ours": {"9": 0.25, "10": 0.5, "11": 0.9}, "theirs": {"9": 0.5, "10": 0.25}}
    found = peers.compared(known, 10)
    assert found["stories"] == 2 and found["values"] is known
    assert found["difference"]["mean"] == 0.0 and found["ours"]["mean"] == 0.375
    assert (found["difference"]["lo"], found["difference"]["hi"]) == (-0.25, 0.25)


def test_what_a_frame_adds_is_a_slope() -> None:
    assert peers.per_added_frame({"16": 34.0, "4": 10.0, "8": 11.0}) == 2.0
    assert peers.per_added_frame({"4": 10.0}) is None
