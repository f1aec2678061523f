"""Rewards against closed forms and hand-made readings."""

from __future__ import annotations

import math

import pytest
import torch

from consistent_gen.encoders.factors import Reading
from consistent_gen.rewards.attributes import Wanted, attribute_hits
from consistent_gen.rewards.distribution import frechet_distance
from consistent_gen.rewards.sight import hue_word

CLASSES = {"kind": ("fox", "cat")}
SCENE = {"place": ("moon", "farm")}
ANCHORS = {"red": 0.07, "blue": 0.7, "pink": 0.98}


def _reading(kinds: list[int], place: int, angle: float) -> Reading:
    logits = torch.zeros(1, 3, 2)
    for slot, kind in enumerate(kinds):
        logits[0, slot, kind] = 5.0
    scene = torch.zeros(1, 2)
    scene[0, place] = 5.0
    turn = 2 * math.pi * angle
    hues = torch.tensor([math.cos(turn), math.sin(turn)]).expand(1, 3, 1, 2)
    return Reading(
        present=torch.ones(1, 3),
        subject={"kind": logits},
        hues=hues,
        scalars=torch.zeros(1, 3, 0),
        scene={"place": scene},
        masks=torch.zeros(1, 4, 2, 2),
        parts=None,
        features=torch.zeros(1, 1),
    )


def test_hits_are_per_attribute_and_averaged_over_subjects() -> None:
    reading = _reading([0, 0], place=1, angle=0.7)
    wanted = Wanted(({"kind": "fox", "top_hue": "blue"}, {"kind": "cat"}), {"place": "moon"})
    (hits,) = attribute_hits(reading, [wanted], CLASSES, ("top_hue",), SCENE, ANCHORS)
    assert hits == {"kind": 0.5, "top_hue": 1.0, "place": 0.0}


def test_what_is_not_named_is_left_out() -> None:
    reading = _reading([0], place=1, angle=0.0)
    (hits,) = attribute_hits(reading, [Wanted(({},), {})], CLASSES, ("top_hue",), SCENE, ANCHORS)
    assert hits == {}


def test_hue_words_wrap_around_the_circle() -> None:
    assert hue_word(0.99, ANCHORS) == "pink"
    assert hue_word(0.03, ANCHORS) == "red"
    assert hue_word(0.6, ANCHORS) == "blue"


def test_frechet_distance_of_gaussians_along_an_axis() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60_000, 2, generator=generator, dtype=torch.float64)
    b = torch.randn(60_000, 2, generator=generator, dtype=torch.float64) * torch.tensor([2.0, 1.0])
    b[:, 0] += 3.0
    # |3|^2 + (1 - 2)^2 for independent coordinates.
    assert frechet_distance(a, b) == pytest.approx(10.0, abs=0.15)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_frechet_distance_is_symmetric_and_refuses_single_vectors() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(50, 4, generator=generator), torch.randn(60, 4, generator=generator) + 1.0
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
    with pytest.raises(ValueError, match="expected at least 2"):
        frechet_distance(a[:1], b)
