"""The arithmetic of the benchmarks of scores, and that their tables leave no score out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import pair_reward, planted_faults
from benchmarks.pair_reward import accuracy, area, threshold
from consistent_gen.checkpoints import read_json, weights_root, write_json
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.baselines import ColorHistogram, PixelDistance
from consistent_gen.rewards.pairs import MatrixReward
from consistent_gen.rewards.story_world import STORY_WORLD
from consistent_gen.training.pair_sets import PairSets


def test_the_area_is_the_chance_of_the_right_order() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 60) / 6.0, rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    assert area(scores, labels) == pytest.approx(np.mean(pairs))
    perfect = labels.astype(float)
    assert area(perfect, labels) == 1.0 and area(1.0 - perfect, labels) == 0.0
    holes = np.where(np.arange(60) < 10, np.nan, perfect)
    assert area(holes, labels) == 1.0


def test_the_threshold_is_the_best_one() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8, 0.9, np.nan])
    labels = np.array([False, False, True, True, True, True])
    least = threshold(scores, labels)
    best = max(accuracy(scores, labels, edge) for edge in np.linspace(0, 1, 101))
    assert accuracy(scores, labels, least) == pytest.approx(best)
    assert accuracy(scores, labels, 0.95) == 0.5, "what has no score is called neither way"


def test_every_score_of_the_story_world_has_its_row() -> None:
    names = {kind.card.name for kind in STORY_WORLD}
    for fault, expected in planted_faults.EXPECTED.items():
        assert expected.keys() == names, fault
        assert planted_faults.FALLS in expected.values()
    assert planted_faults.FAULTS.keys() == planted_faults.EXPECTED.keys()


@pytest.mark.parametrize("fault", planted_faults.FAULTS)
def test_a_fault_is_in_one_picture(fault: str) -> None:
    one, again = planted_faults.case(fault, 5), planted_faults.case(fault, 5)
    assert one.before.prompts == one.after.prompts
    same = [
        np.array_equal(a, b) for a, b in zip(one.before.pictures, one.after.pictures, strict=True)
    ]
    assert same == [True, False, True]
    pairs = zip(one.after.pictures, again.after.pictures, strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_verdicts() -> None:
    verdict = planted_faults.verdict
    assert verdict("falls", [0.1] * 95 + [0.0] * 5)[0]
    assert not verdict("falls", [0.1] * 94 + [0.0] * 6)[0]
    assert verdict("stays", [0.1, -0.1, float("nan")])[0] and not verdict("stays", [0.05])[0]
    assert verdict("may", [1.0])[0]


def test_known_similarities_rank_as_they_should() -> None:
    """Pixels and colours on real families: numbers in range, and a reference is like itself."""
    world = PairSets("held_out")
    for reward in (ColorHistogram(), PixelDistance()):
        assert isinstance(reward, MatrixReward)
        scores, labels = pair_reward.true_pairs(world, range(2), reward)
        assert int(labels.sum()) == 2 * 4 * 3 < len(scores) <= 2 * 66
        found = pair_reward.tau(world, range(2), reward)
        assert all(-1.0 <= value <= 1.0 for value in found.values())
        (trio,) = pair_reward.moved(world, range(1))
        drop = pair_reward.background_drop(reward, [trio])
        assert -1.0 < drop < 1.0
        s = reward.matrix(ImageSet(pictures=trio[:1] * 2))
        assert s[0, 1] == pytest.approx(1.0)


def test_rows_of_an_earlier_run_are_kept(tmp_path: Path) -> None:
    before = {"rows": {"pixel_l2": {"tau": 0.1}, "pair_network": {"tau": 0.2}}, "drawn_pairs": 3}
    found = {"rows": {"pair_network": {"tau": 0.9}}, "drawn_pairs": 3}
    both = pair_reward.merged(before, found)
    assert both == {
        "rows": {"pair_network": {"tau": 0.9}, "pixel_l2": {"tau": 0.1}},
        "drawn_pairs": 3,
    }
    assert list(both["rows"]) == ["pair_network", "pixel_l2"]
    assert pair_reward.merged(None, found) == found
    assert pair_reward.merged({"disagreement": 0.1}, {"disagreement": 0.2}) == {"disagreement": 0.2}
    write_json(tmp_path / "r.json", {"families": 3, "table": before})
    assert pair_reward.earlier(tmp_path / "r.json", {"families": 3})["table"] == before
    assert pair_reward.earlier(tmp_path / "r.json", {"families": 4}) == {}
    assert pair_reward.earlier(tmp_path / "none.json", {}) == {}


@pytest.mark.weights
@pytest.mark.slow
def test_a_few_planted_faults(tmp_path: Path) -> None:
    if not (weights_root() / "reader").is_dir():
        pytest.skip("the reader's weights are not here")
    out = tmp_path / "faults.json"
    assert planted_faults.main(["--cases", "3", "--out", str(out)]) == 0
    assert read_json(out)["faults"].keys() == planted_faults.EXPECTED.keys()
