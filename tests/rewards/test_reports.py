"""Statistics, vectors of metrics, checks of rewards and agreement of judges, on known numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from consistent_gen.errors import InputError
from consistent_gen.rewards import contrast, pareto, statistics
from consistent_gen.rewards.agreeing import agreed
from consistent_gen.rewards.faces import assignment, match
from consistent_gen.rewards.pairs import (
    anchored,
    members,
    soft_minimum,
    weakest_member,
)


def values(mean: float, prompts: int = 20, seeds: int = 3, seed: int = 0) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return (mean + 0.1 * rng.normal(size=(prompts, 1)) + np.zeros((prompts, seeds))).tolist()


def test_pairing_takes_the_prompts_out() -> None:
    base = values(0.5)
    better = [[v + 0.02 for v in row] for row in base]
    found = statistics.paired(better, base)
    assert found.low == pytest.approx(0.02) and found.high == pytest.approx(0.02)
    assert found.above == 1.0
    alone = statistics.bootstrap(better)
    assert alone.high - alone.low > 0.05
    with pytest.raises(InputError, match="other numbers of prompts"):
        statistics.paired(base[:3], base)
    with pytest.raises(InputError, match="nothing could be scored"):
        statistics.bootstrap([[math.nan]])
    holes = [[math.nan, *row[1:]] for row in better]
    assert statistics.paired(holes, base).mean == pytest.approx(0.02)


def test_skewed_means_have_a_lopsided_interval() -> None:
    rng = np.random.default_rng(1)
    skewed = [[v] for v in np.exp(2.0 * rng.normal(size=12))]
    found = statistics.bootstrap(skewed)
    assert found.high - found.mean > found.mean - found.low


def test_holm_by_hand() -> None:
    assert statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )
    assert statistics.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_systems_that_the_metrics_disagree_about() -> None:
    systems = {
        "plain": {"consistency": 0.2, "alignment": 0.95},
        "shared": {"consistency": 0.4, "alignment": 0.90},
        "worse": {"consistency": 0.19, "alignment": 0.94},
    }
    found = pareto.conflicts(systems, {"consistency": 0.02, "alignment": 0.02})
    assert [(c.better, c.than, c.gains, c.losses) for c in found] == [
        ("plain", "shared", ("alignment",), ("consistency",)),
        ("shared", "worse", ("consistency",), ("alignment",)),
    ]
    assert pareto.conflicts(systems, {"consistency": 0.02, "alignment": 0.1}) == []


def test_tolerances_come_from_repeats() -> None:
    rng = np.random.default_rng(0)
    repeats = [[float(m + 0.01 * rng.normal()) for _ in range(50)] for m in (0.2, 0.5, 0.8)]
    assert pareto.tolerance(repeats) == pytest.approx(1.96 * math.sqrt(2) * 0.01, rel=0.1)
    assert pareto.tolerance([[0.5]]) == 0.0


def test_standings_say_how_sure_the_front_is() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 2, 30)) * 0.1
    centres = {"a": (0.2, 0.9), "b": (0.6, 0.6), "c": (0.1, 0.3)}
    samples = {
        name: {m: (centre[k] + noise[i, k]).tolist() for k, m in enumerate(("x", "y"))}
        for i, (name, centre) in enumerate(centres.items())
    }
    found = {s.name: s for s in pareto.standings(samples, resamples=200)}
    assert found["a"].on_front and found["b"].on_front and not found["c"].on_front
    assert found["a"].probability > 0.95 and found["c"].probability < 0.05
    assert list(found["a"].values) == ["x", "y"]


def test_contrast_is_strict_and_ties_are_apart() -> None:
    found = contrast.contrast([1.0, 1.0, 0.5, math.nan], [0.5, 1.0, 0.9, 0.1])
    assert (found.right, found.ties, found.count) == (pytest.approx(1 / 3), pytest.approx(1 / 3), 3)
    assert contrast.contrast([], []).right is None
    scores = np.array([[[0.9, 0.2], [0.3, 0.8]], [[0.9, 0.95], [0.1, 0.8]]])
    response, instruction = contrast.response_and_instruction(scores)
    assert response.right == 0.75 and instruction.right == 0.75 and response.count == 4


def test_checks_admit_a_good_reward_and_no_other() -> None:
    rng = np.random.default_rng(0)
    shades = [np.full((16, 16, 3), v, np.uint8) for v in rng.integers(0, 256, 12)]
    pairs = list(itertools.pairwise(shades))

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        return 1.0 - abs(float(a.mean()) - float(b.mean())) / 255.0

    def lopsided(a: np.ndarray, b: np.ndarray) -> float:
        return float(a.mean()) / 255.0

    good = contrast.RewardChecks(
        response=1.0, instruction=0.95, asymmetry=contrast.asymmetry(alike, pairs),
        background=contrast.background_change(alike, pairs, [b for _, b in pairs]),
        scale=contrast.scale_correlation(alike, pairs, lambda p: p[::2, ::2]),
    )  # fmt: skip
    assert good.asymmetry == 0.0 and good.scale == pytest.approx(1.0) and good.failures() == []
    bad = contrast.RewardChecks(
        response=0.5, instruction=None, asymmetry=contrast.asymmetry(lopsided, pairs),
        background=0.2, scale=None,
    )  # fmt: skip
    assert len(bad.failures()) == 5 and any("not measured" in text for text in bad.failures())


def test_judges_that_agree() -> None:
    found = agreed({"a": [1.0, -2.0, 0.5, None, 0.0], "b": [0.1, -0.1, -0.5, 1.0, 1.0]})
    assert found.preferences == (1, -1, 0, 0, 0)
    assert found.disagreement == pytest.approx(1 / 3) and found.uncompared == 2
    assert agreed({"a": [0.05], "b": [1.0]}, margin=0.1).preferences == (0,)
    with pytest.raises(InputError, match="at least two"):
        agreed({"a": [1.0]})
    with pytest.raises(InputError, match="other numbers of pairs"):
        agreed({"a": [1.0], "b": []})


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 4), (4, 2), (4, 4), (5, 3)])
def test_the_assignment_is_that_of_brute_force(rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows * 10 + columns)
    for _ in range(20):
        cost = rng.random((rows, columns))
        found = assignment(cost.tolist())
        assert len(found) == min(rows, columns)
        assert len({i for i, _ in found}) == len({j for _, j in found}) == len(found)
        if rows <= columns:
            best = min(
                sum(cost[i, j] for i, j in enumerate(p))
                for p in itertools.permutations(range(columns), rows)
            )
        else:
            best = min(
                sum(cost[i, j] for j, i in enumerate(p))
                for p in itertools.permutations(range(rows), columns)
            )
        assert sum(cost[i, j] for i, j in found) == pytest.approx(best)


def test_faces_are_given_to_all_names_at_once() -> None:
    """Each on its own would give both names the same face."""
    mia, bo = np.array([1.0, 0.0]), np.array([0.8, 0.6])
    faces = [np.array([0.95, 0.3]), np.array([0.9, -0.4])]
    found = match(faces, {"Mia": mia, "Bo": bo})
    assert found["Bo"] is faces[0] and found["Mia"] is faces[1]
    assert match([], {"Mia": mia}) == {} == match(faces, {})


def test_members_and_the_weakest() -> None:
    s = np.array([[1.0, 0.9, 0.3], [0.9, 1.0, 0.2], [0.3, 0.2, 1.0]])
    assert members(s) == pytest.approx([0.6, 0.55, 0.25]) and weakest_member(s) == 0.25
    soft = soft_minimum(members(s))
    assert soft is not None and 0.25 < soft < 0.4
    assert soft_minimum([0.5, 0.5]) == pytest.approx(0.5) and soft_minimum([None]) is None
    assert anchored(np.array([[0.4], [0.6]])) == 0.5
    assert anchored(np.array([[np.nan]])) is None
