"""The personality evolving mechanism against its closed forms (arXiv 2604.13074)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.memory.data.records import BIG_FIVE, TraitObservation
from consistent_gen.memory.talk.personality import Personality, alignment_lines, ema_weight, fold

STEADY = settings(deadline=None, max_examples=30)
SCORES = st.dictionaries(st.sampled_from(BIG_FIVE), st.integers(1, 5))


def observe(**scores: int) -> TraitObservation:
    return TraitObservation(scores=scores)


def test_the_published_ends_and_middle_of_the_schedule() -> None:
    assert ema_weight(0) == pytest.approx(0.5)
    assert ema_weight(25) == pytest.approx(0.7)
    assert ema_weight(50) == ema_weight(10**9) == pytest.approx(0.9)


@STEADY
@given(st.integers(0, 49))
def test_the_schedule_is_the_published_formula_and_rises(n: int) -> None:
    published = 1 - (0.1 + 0.4 * (1 + math.cos(math.pi * min(n, 50) / 50)) / 2)
    assert ema_weight(n) == pytest.approx(published)
    assert ema_weight(n) < ema_weight(n + 1)


@STEADY
@given(st.integers(1, 5), st.integers(1, 120))
def test_constant_evidence_follows_the_product_form(score: int, count: int) -> None:
    state = fold([observe(openness=score)] * count)
    left = math.prod(ema_weight(n) for n in range(count))
    assert state.scores["openness"] == pytest.approx(score + (3 - score) * left)


@STEADY
@given(st.lists(SCORES, max_size=60))
def test_scores_stay_in_range_and_neutral_moves_nothing(turns: list[dict[str, int]]) -> None:
    state = fold([TraitObservation(scores=turn) for turn in turns])
    assert all(1 <= score <= 5 for score in state.scores.values())
    after = state.after(dict.fromkeys(BIG_FIVE, 3))
    assert after.scores == state.scores
    assert after.observations == state.observations + 1
    assert after.evidence == state.evidence


def test_neutral_turns_still_count_towards_n() -> None:
    late = fold([observe()] * 50 + [observe(extraversion=5)])
    assert late.scores["extraversion"] == pytest.approx(0.9 * 3 + 0.1 * 5)


def test_forgetting_a_turn_and_folding_again_leaves_no_trace() -> None:
    turns = [observe(openness=5), observe(neuroticism=1), observe(openness=2)]
    assert fold([turns[0], turns[2]]) == Personality().after({"openness": 5}).after({"openness": 2})
    assert fold([turns[0], turns[2]]) != fold(turns)


def test_advice_only_for_notable_traits() -> None:
    assert alignment_lines(Personality()) == ()
    (line,) = alignment_lines(fold([observe(neuroticism=5)]))
    assert line == "neuroticism 4.0 of 5: be reassuring and avoid alarm"
