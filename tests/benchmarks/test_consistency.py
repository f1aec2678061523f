"""The consistency benchmark: its scores on cases whose value is known, and one tiny run of it."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import consistency, consistency_drawing, consistency_scores
from benchmarks.consistency_cost import measure
from benchmarks.consistency_drawing import parse_candidate
from benchmarks.consistency_scores import (
    Seen,
    background_leak,
    excess_consistency,
    identity_similarity,
    interval,
    layout_diversity,
    mask_overlap,
    paired_interval,
    pose_diversity,
    prompt_matching,
)
from benchmarks.consistency_stories import (
    FRAMES,
    make_story,
    noun_index,
    true_frames,
    with_sheet,
)
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.errors import InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.story.wording import read_vocabulary
from consistent_gen.training.truth import schema
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


def test_masks_of_a_method_are_compared_with_those_seen() -> None:
    there = torch.zeros(2, 32, 32)
    there[:, 8:24, 8:24] = 1.0
    right = np.zeros((16, 16), np.uint8)
    right[4:12, 4:12] = 1
    half = right.copy()
    half[8:] = 0
    assert mask_overlap({0: right}, there) == 1.0
    assert mask_overlap({0: right, 1: half}, there) == 0.75
    assert math.isnan(mask_overlap({}, there))


def test_the_truth_is_one_person_whom_the_words_describe() -> None:
    story = make_story(3, style_diverse=False)
    first, second = (true_frames(story, random.Random(seed)) for seed in (1, 2))
    people = [{frame.subjects[0].identity for frame in frames} for frames in (first, second)]
    assert [len(found) for found in people] == [1, 1]
    assert people[0] != people[1]
    for who in (*people[0], *people[1]):
        for name in story.named:
            assert getattr(who, name) == getattr(story.identity, name)
    assert [(f.place, f.style, f.subjects[0].action) for f in first] == [
        (s.place, s.style, s.action) for s in story.scenes
    ]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("consistory", "consistory"),
        ("consistory: dropout=0.2; window.blocks=[mid, up]", None),
        ("consistory as published", "consistory as published"),
        ("vanilla", "vanilla"),
        ("best_of_4", "best_of_4"),
        ("head_start with sheets", "head_start with sheets"),
        ("vanilla with sheets", "vanilla with sheets"),
        ("consistory with sheets: dropout=0.2; window.blocks=[mid, up]", None),
    ],
)
def test_candidates(text: str, label: str | None) -> None:
    candidate = parse_candidate(text)
    assert candidate.label == (label or text)
    assert candidate.sheets == ("sheets" in text)
    if label is None:
        assert candidate.recipe is not None
        rule = candidate.recipe.rules[0]
        assert (rule.select.dropout, rule.window.blocks) == (0.2, ("mid", "up"))


def test_sheets_follow_the_seed_and_keep_what_is_named() -> None:
    story, vocabulary = make_story(0, style_diverse=False), read_vocabulary()
    sheets = [with_sheet(story, seed, vocabulary).words for seed in (1, 2, 2)]
    assert story.words == "a woman with orange hair in orange overalls"
    assert sheets[0] != sheets[1] == sheets[2]
    assert all("ginger" in words and "orange overalls" in words for words in sheets)
    for words in sheets:
        assert words_of(words)[noun_index(words)] == "woman"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("consistry", "did you mean 'consistory'"),
        ("consistory: droput=1", "did you mean 'dropout'"),
        ("vanilla: dropout=1", "has no settings"),
    ],
)
def test_wrong_candidates_are_named(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse_candidate(text)


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Untrained networks of tiny size; costs are measured in this process."""
    folder = build_tiny(tmp_path / "model", words=vocabulary())
    torch.manual_seed(0)
    Reader(schema(), width=8).save(tmp_path / "reader")
    Judge(schema(), width=32).save(tmp_path / "judge")
    monkeypatch.setattr(consistency, "weights_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(consistency_scores, "BOOTSTRAP_SAMPLES", 50)
    story = make_story(0, style_diverse=False)
    monkeypatch.setattr(
        consistency,
        "frame_costs",
        lambda candidate, settings, model: measure(
            load_backbone(model), candidate, settings, story
        ),
    )
    common = ["--steps", "2", "--model", str(folder), "--keep", str(tmp_path / "keep")]

    def run(*arguments: str) -> dict[str, Any]:
        consistency.main([*common, *arguments, "--out", str(tmp_path / "out.json")])
        written: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
        return written

    return run


@pytest.mark.slow
def test_a_run_writes_the_contract(trial: Any) -> None:
    """What is written, not how good it is."""
    written = trial("--stories", "1", "--methods", "consistory")
    assert {"machine", "versions", "seeds"} <= written.keys()
    assert written["networks"] == ["reader", "judge"]
    assert set(written["methods"]) == {"vanilla", "best_of_4", "consistory"}
    for entry in written["methods"].values():
        assert {"mean", "lo", "hi"} == entry["c_star"].keys()
        assert set(consistency.COLUMNS) <= entry.keys()
    calls = {name: entry["denoiser_calls"] for name, entry in written["methods"].items()}
    assert calls == {"vanilla": 2.0, "best_of_4": pytest.approx(2 * 17 / 5), "consistory": 4.0}


@pytest.mark.slow
def test_a_run_goes_on_where_it_was(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another method and another story draw what is missing only; without a judge it says so."""
    drawn: list[tuple[str, int]] = []
    really = consistency_drawing.draw_stories

    def noted(backbone: Any, part: Any, candidate: Any, settings: Any) -> Any:
        drawn.extend((candidate.label, story.number) for story, _ in part)
        return really(backbone, part, candidate, settings)

    monkeypatch.setattr(consistency_drawing, "draw_stories", noted)
    options = ("--no-costs", "--no-best-of", "--methods")
    first = trial("--stories", "1", *options, "vanilla")
    assert drawn == [("vanilla", 0)] * 2
    drawn.clear()
    shutil.rmtree(consistency.weights_folder("judge"))
    second = trial("--stories", "2", *options, "style_aligned", "--strength", "2")
    # Vanilla shares nothing, so strength does not change it.
    assert drawn == [("vanilla", 1)] * 2 + [("style_aligned", n) for n in (0, 0, 1, 1)]
    assert first["networks"] == ["reader", "judge"] and second["networks"] == ["reader"]
    drawn.clear()
    trial("--stories", "1", *options, "vanilla", "--dev")
    assert drawn == [("vanilla", 0)] * 2  # other stories
