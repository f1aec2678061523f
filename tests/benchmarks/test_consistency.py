"""The consistency benchmark: its scores on cases whose value is known, and one tiny run of it."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import consistency, consistency_scores
from benchmarks.consistency_scores import (
    Seen,
    background_leak,
    excess_consistency,
    identity_similarity,
    interval,
    layout_diversity,
    paired_interval,
    pose_diversity,
    prompt_matching,
)
from benchmarks.consistency_stories import FRAMES, make_story, noun_index
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.models.tiny import build_tiny
from consistent_gen.training.reader import schema
from consistent_gen.world.captions import vocabulary, words_of
from consistent_gen.world.spec import sample_identity, scene_held_out


def seen(identity: torch.Tensor, n: int = 4) -> Seen:
    """n pictures of subjects whose factors follow from numbers in [0, 1), one row per picture."""
    identity = identity.expand(n, -1)
    places = torch.eye(n, 12).mul(9).log_softmax(-1)
    return Seen(
        present=torch.ones(n, dtype=torch.bool),
        words={f"w{i}": (identity[:, i] * 5).long() for i in range(8)},
        hues=identity[:, :3],
        scalars=identity[:, 3:6],
        mask=torch.zeros(n, 16, 16),
        scene={"place": places},
        action=torch.eye(n, 10).mul(9).log_softmax(-1),
    )


def numbers(rows: int, seed: int) -> torch.Tensor:
    return torch.rand(rows, 8, generator=torch.Generator().manual_seed(seed))


def test_a_kept_character_scores_one_and_a_forgotten_one_nothing() -> None:
    kept = excess_consistency(seen(numbers(1, 0)), seen(numbers(1, 1)))
    assert kept == pytest.approx(1.0)
    drawn = [
        excess_consistency(seen(numbers(4, 2 * i)), seen(numbers(4, 2 * i + 1))) for i in range(40)
    ]
    assert abs(sum(drawn) / len(drawn)) < 0.05


def test_collapse_gives_no_credit() -> None:
    same = seen(numbers(1, 0))
    assert excess_consistency(same, same) == 0.0


def test_unseen_subjects_are_left_out() -> None:
    first, second = seen(numbers(1, 0)), seen(numbers(1, 1))
    blind = replace(first, present=torch.tensor([True, True, True, False]))
    assert excess_consistency(blind, second) == pytest.approx(1.0)
    assert identity_similarity(blind, second)[3].isnan().all()
    nobody = replace(first, present=torch.zeros(4, dtype=torch.bool))
    assert math.isnan(excess_consistency(nobody, nobody))


def test_copied_sets_match_no_prompt() -> None:
    named = [{"place": i, "action": i} for i in range(4)]
    own = seen(numbers(1, 0))
    assert prompt_matching(own, named) == 1.0
    copied = replace(
        own,
        scene={"place": own.scene["place"][:1].expand(4, -1)},
        action=own.action[:1].expand(4, -1),
    )
    assert prompt_matching(copied, named) == 0.25


def test_layout_sees_places_and_pose_does_not() -> None:
    mask = torch.zeros(2, 16, 16)
    mask[0, 2:8, 2:5] = 1.0
    mask[1, 8:14, 9:12] = 1.0
    assert layout_diversity(mask) == pytest.approx(1.0)
    assert pose_diversity(mask) == pytest.approx(0.0, abs=1e-6)
    mask[1, 8:11, 9] = 0.0
    assert pose_diversity(mask) > 0.05
    assert layout_diversity(mask[:1].expand(2, -1, -1)) == pytest.approx(0.0)


def test_leak_is_read_where_another_place_was_asked_for() -> None:
    places = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]]).log()
    assert background_leak(places, [0, 1, 1], anchor=0) == pytest.approx(0.4)
    assert math.isnan(background_leak(places, [0, 0, 0], anchor=0))


def test_intervals_hold_the_mean_and_pairing_narrows_them() -> None:
    base = [float(x) for x in torch.rand(60, generator=torch.Generator().manual_seed(0))]
    better = [x + 0.1 for x in base]
    plain, paired = interval(better), paired_interval(better, base)
    assert plain["lo"] < plain["mean"] < plain["hi"]
    assert paired["mean"] == pytest.approx(0.1)
    assert paired["hi"] - paired["lo"] < 1e-6 < plain["hi"] - plain["lo"]
    assert interval([*base, math.nan])["mean"] == pytest.approx(interval(base)["mean"])


@pytest.mark.parametrize("diverse", [False, True])
def test_stories_are_held_out_sparing_and_in_the_models_words(diverse: bool) -> None:
    known = set(vocabulary())
    factors = len(sample_identity(random.Random(0)).to_dict())
    named = []
    for number in range(20):
        story = make_story(number, style_diverse=diverse)
        assert story == make_story(number, style_diverse=diverse)
        named.append(len(story.named) / factors)
        assert len({s.place for s in story.scenes}) == len({s.action for s in story.scenes}) == 5
        assert len({s.style for s in story.scenes}) == (5 if diverse else 1)
        assert not any(scene_held_out(s.action, s.place) for s in story.scenes)
        for request in [story.request(i, 1, 3, 2.0) for i in range(FRAMES)]:
            words = words_of(request.prompt)
            assert set(words) <= known
            (subject,) = request.subjects
            assert words[subject.tokens[0] - 1] == words_of(story.words)[noun_index(story.words)]
        assert "  " not in story.portrait(0, 1, 3, 2.0).prompt
    assert sum(named) / len(named) < 0.3


@pytest.mark.slow
def test_a_run_writes_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained networks of tiny size: what is written, not how good it is."""
    folder = build_tiny(tmp_path / "model", words=vocabulary())
    torch.manual_seed(0)
    Reader(schema(), width=8).save(tmp_path / "reader")
    Judge(schema(), width=32).save(tmp_path / "judge")
    monkeypatch.setattr(consistency, "weights_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(consistency_scores, "BOOTSTRAP_SAMPLES", 50)
    consistency.main(
        ["--stories", "1", "--methods", "consistory", "--steps", "2", "--model", str(folder),
         "--out", str(tmp_path / "out.json")]
    )  # fmt: skip
    written = json.loads((tmp_path / "out.json").read_text())
    assert {"machine", "versions", "seeds"} <= written.keys()
    assert set(written["methods"]) == {"vanilla", "best_of_4", "consistory"}
    for entry in written["methods"].values():
        assert {"mean", "lo", "hi"} == entry["c_star"].keys()
        assert set(consistency.COLUMNS) <= entry.keys()
    calls = {name: entry["denoiser_calls"] for name, entry in written["methods"].items()}
    assert calls == {"vanilla": 2.0, "best_of_4": 2 * 17 / 5, "consistory": 4.0}
