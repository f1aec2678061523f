"""Sights against the world's truth: agreement, alignment, consistency, and what does not apply."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from consistent_gen.encoders.factors import Reading, Schema
from consistent_gen.errors import InputError
from consistent_gen.rewards.base import Scores, mean
from consistent_gen.rewards.consistency import character_consistency
from consistent_gen.rewards.sight import Sight, agreement, alignment, all_sights, main_sights
from consistent_gen.training.truth import schema
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.naming import named_factors
from consistent_gen.world.palette import hue_anchors

WORLD = StoryWorld("train")
ANCHORS = hue_anchors()


def truth(number: int) -> Sight:
    """What a perfect reader would see of picture `number`."""
    frame = WORLD.frame(number)
    names, subject = schema(), frame.subjects[0]
    values = subject.identity.to_dict() | {
        "action": subject.action,
        "expression": subject.expression,
    }
    return Sight(
        present=True,
        subject={
            name: {c: float(c == values[name]) for c in classes}
            for name, classes in names.subject.items()
        },
        hues={name: values[name] for name in names.hues},
        scalars={name: values[name] for name in names.scalars},
        scene={
            name: {c: float(c == getattr(frame, name)) for c in classes}
            for name, classes in names.scene.items()
        },
    )


def test_agreement_knows_who_is_who() -> None:
    sights = [truth(number) for number in range(30)]
    for a in sights:
        assert agreement(a, a) == 1.0
        for b in sights:
            value = agreement(a, b)
            assert value == agreement(b, a)
            assert value is not None and 0.0 <= value <= 1.0
            assert a is b or value < 0.95
    nobody = replace(sights[0], present=False)
    assert agreement(nobody, sights[1]) is None
    # What a character does is not who it is.
    subject = sights[0].subject | {"action": sights[1].subject["action"]}
    assert agreement(sights[0], replace(sights[0], subject=subject)) == 1.0


def test_alignment_is_the_share_that_is_seen() -> None:
    numbers = [n for n in range(60) if len(WORLD.frame(n).subjects) == 1]
    for number in numbers:
        found = named_factors(WORLD.caption(number).text)
        assert alignment(truth(number), found, ANCHORS) == (1.0 if found else None)
    sight, frame = truth(numbers[0]), WORLD.frame(numbers[0])
    kind = frame.subjects[0].identity.kind
    other = "fox" if kind != "fox" else "bear"
    assert alignment(sight, {"kind": other}, ANCHORS) == 0.0
    assert alignment(sight, {"kind": other, "place": frame.place}, ANCHORS) == 0.5


def test_of_nobody_only_the_scene_is_shown() -> None:
    """A character that is not there is a miss; what names nothing does not apply."""
    nobody = replace(truth(0), present=False)
    frame = WORLD.frame(0)
    kind = frame.subjects[0].identity.kind
    wanted = {"kind": kind, "place": frame.place}
    assert alignment(nobody, wanted, ANCHORS) == 0.5
    assert alignment(nobody, {}, ANCHORS) is None


def test_a_character_is_consistent_with_itself() -> None:
    mia, bo = truth(0), truth(7)
    scores = character_consistency([{"Mia": mia}, {"Mia": mia, "Bo": bo}, {}, {"Mia": mia}])
    assert scores.optional() == (1.0, 1.0, None, 1.0)
    assert scores.parts["Mia"].mean() == 1.0
    # One picture of Bo says nothing about how well he is kept, and that is not a zero.
    assert scores.parts["Bo"].optional() == (None,) * 4 and scores.parts["Bo"].mean() is None
    assert not any(scores.parts["Bo"].valid) and math.isnan(scores.parts["Bo"].values[1])


def test_a_mix_up_of_characters_is_seen() -> None:
    mia, bo = truth(0), truth(7)
    kept = character_consistency([{"Mia": mia}, {"Mia": mia}, {"Mia": mia}])
    mixed = character_consistency([{"Mia": mia}, {"Mia": mia}, {"Mia": bo}])
    between = agreement(mia, bo)
    assert between is not None and kept.mean() == 1.0
    assert mixed.parts["Mia"].mean() == pytest.approx((1.0 + 2.0 * between) / 3.0)
    assert mixed.values[2] == pytest.approx(between)  # the frame at fault stands out


def test_nobody_anywhere_has_no_consistency() -> None:
    assert character_consistency([{}, {}]).optional() == (None, None)
    assert character_consistency([]).optional() == ()


def test_scores_that_do_not_apply_are_left_out_of_means() -> None:
    scores = Scores.of([1.0, None, 0.0])
    assert scores.valid == (True, False, True) and scores.mean() == 0.5
    assert Scores.of([None]).mean() is None and mean([]) is None
    with pytest.raises(InputError, match="1 values and 2 marks"):
        Scores((1.0,), (True, False))


def test_the_characters_of_a_picture_from_left_to_right() -> None:
    """Slots fill from the left; the main character is the largest."""
    names = schema()
    sights = [
        _sight_reading(names, kinds=("fox", "bear"), areas=(0.1, 0.4)),
        _sight_reading(names, kinds=(), areas=()),
    ]
    two, none = (all_sights(reading, names, "r")[0] for reading in sights)
    assert [s.word("kind") for s in two] == ["fox", "bear"]
    assert all(s.present and s.reader == "r" for s in two) and two[0].area < two[1].area
    assert len(none) == 1 and not none[0].present
    assert main_sights(sights[0], names)[0].word("kind") == "bear"
    assert not main_sights(sights[1], names)[0].present


def _sight_reading(names: Schema, kinds: tuple[str, ...], areas: tuple[float, ...]) -> Reading:
    present = torch.zeros(1, 3)
    present[0, : len(kinds)] = 1.0
    subject = {name: torch.zeros(1, 3, len(c)) for name, c in names.subject.items()}
    masks = torch.zeros(1, 4, 10, 10)
    masks[:, 0] = 9.0
    for slot, (kind, area) in enumerate(zip(kinds, areas, strict=True)):
        subject["kind"][0, slot, names.subject["kind"].index(kind)] = 9.0
        rows = slice(5 * slot, 5 * slot + round(10 * area))
        masks[0, 1 + slot, rows] = 99.0
    return Reading(
        present=present,
        subject=subject,
        hues=torch.ones(1, 3, len(names.hues), 2),
        scalars=torch.zeros(1, 3, len(names.scalars)),
        scene={name: torch.zeros(1, len(c)) for name, c in names.scene.items()},
        masks=masks,
        parts=None,
        features=torch.zeros(1, 1),
    )
