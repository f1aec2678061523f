"""Intervals hold the truth in about 95 of 100 worlds, where cases are few, alike or grouped."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from consistent_gen.persona.evaluate.personagym import rubric_report
from consistent_gen.persona.statistics import (
    Estimate,
    cronbach_alpha,
    line,
    mean,
    measured,
    paired_share_difference,
    resampled,
    share,
)

WORLDS = 300
World = tuple[Estimate, float]  # what was found, and the truth


def few_answers(rng: np.random.Generator) -> World:
    return mean((rng.random(25) < 0.1).astype(float).tolist()), 0.1


def skewed(rng: np.random.Generator) -> World:
    return mean(rng.exponential(1.0, 30).tolist()), 1.0


def uneven_dialogues(rng: np.random.Generator) -> World:
    """Dialogues of 3 to 12 turns that differ in how often a turn contradicts."""
    rates, sizes = rng.beta(1.2, 2.8, 40), rng.integers(3, 13, 40)
    groups = np.repeat(np.arange(40), sizes)
    said = rng.random(len(groups)) < rates[groups]
    return mean(said.astype(float).tolist(), groups=groups.tolist()), 0.3


def same_questions(rng: np.random.Generator) -> World:
    """Two who answer the same questions, most of which both know or neither does."""
    easy = rng.random(80) < 0.5
    first = rng.random(80) < np.where(easy, 0.9, 0.3)
    second = rng.random(80) < np.where(easy, 0.8, 0.1)
    return paired_share_difference(first.tolist(), second.tolist()), 0.15


def noisy_scale(rng: np.random.Generator) -> World:
    """A trait that six items measure with errors of its own size, and what goes with it."""
    trait = rng.normal(0.0, 1.0, 120)
    items = trait[:, None] + rng.normal(0.0, 1.2, (120, 6)) + np.arange(6)
    acts = 2.0 * trait + rng.normal(0.0, 1.0, 120)
    alpha = cronbach_alpha(items)
    return line(items.mean(1).tolist(), acts.tolist(), reliability=alpha), 2.0


def two_judges(rng: np.random.Generator) -> World:
    first = rng.integers(1, 6, 80)
    second = np.where(rng.random(80) < 0.4, first, rng.integers(1, 6, 80))
    grades = {"Toxicity Control": [first.tolist(), second.tolist()]}
    found = rubric_report(grades, ("a", "b"))[-1]
    return Estimate(found.value, found.low, found.high, math.nan, found.n), 0.4


@pytest.mark.parametrize(
    "world",
    [few_answers, skewed, uneven_dialogues, same_questions, noisy_scale, two_judges],
    ids=lambda world: world.__name__,
)
def test_intervals_hold_the_truth(world: Callable[[np.random.Generator], World]) -> None:
    rng = np.random.default_rng(7)
    inside = [e.low <= truth <= e.high for e, truth in (world(rng) for _ in range(WORLDS))]
    assert 0.90 <= sum(inside) / WORLDS <= 0.98


def test_what_goes_wrong_without() -> None:
    """Turns taken for independent, and a scale taken for exact, are too sure."""
    rng = np.random.default_rng(7)
    alone, exact = 0, 0
    for _ in range(WORLDS):
        rates = rng.beta(0.6, 1.4, 40)
        said = (rng.random((40, 8)) < rates[:, None]).astype(float).ravel().tolist()
        found = mean(said)
        alone += found.low <= 0.3 <= found.high
        trait = rng.normal(0.0, 1.0, 120)
        told = trait + rng.normal(0.0, 0.5, 120)
        slope = line(told.tolist(), (2.0 * trait + rng.normal(0.0, 1.0, 120)).tolist())
        exact += slope.low <= 2.0 <= slope.high
    assert alone / WORLDS < 0.85 and exact / WORLDS < 0.5


def test_what_is_always_alike_is_not_sure() -> None:
    """Five right answers of five say little; of one dialogue, less than of five."""
    assert share(5, 5).low == pytest.approx(0.566, abs=1e-3) and share(0, 5).low == 0.0
    assert mean([1.0] * 5).low == share(5, 5).low
    assert mean([0.0] * 20, groups=[0] * 10 + [1] * 10).high == share(0, 2).high
    one = mean([0.4])
    assert one.value == 0.4 and math.isnan(one.low)
    failed = measured("x", [1.0, math.nan, 0.0], failed=2)
    assert (failed.value, failed.n, failed.failed) == (0.5, 2, 3)
    assert math.isnan(mean([math.nan]).value)


def test_resampling_a_mean_is_the_mean() -> None:
    x = np.arange(30.0) ** 2
    found = resampled(lambda w: w @ x / w.sum(1), 30)
    assert found == resampled(lambda w: w @ x / w.sum(1), 30)
    assert found[0] == pytest.approx(x.mean())
    assert found[1] < x.mean() < found[2]
    nobody = resampled(lambda w: np.full(len(w), np.nan), 30)
    assert all(math.isnan(v) for v in nobody)
