"""The best of several candidates: which is kept, and that it is the frame of its story."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from consistent_gen.checkpoints import weights_root
from consistent_gen.cli.replay import recipe_named
from consistent_gen.engine import Engine, FrameDone, read_png, replay
from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.anchors import first_shown, plan_anchors
from consistent_gen.story.best_of import ChosenFrame, best, candidate_seed, candidate_seeds
from consistent_gen.story.cast import Cast
from consistent_gen.story.draw import draw_story
from consistent_gen.story.plan import FramePlan, Overrides, StoryPlan, plan_story
from consistent_gen.story.script import dump_story, parse_story
from tests.every_run import or_slow
from tests.story.choosing import by_brightness

STORY = """\
title: x
characters:
  Mia: a girl with a red hat
  Bo: a small bear
frames:
  - "{Mia} and {Bo}"
  - "{Mia} reading in the forest"
  - "{Bo} walking"
  - "a green fox"
  - "{Mia} sitting"
"""
METHODS = ("vanilla", "head_start", "consistory")


def plan_of(
    backbone: Backbone, method: str, best_of: int | None = 3, text: str = STORY
) -> StoryPlan:
    settings = {"steps": 2, "size": (64, 64)}
    overrides = Overrides(method=method, settings=settings, best_of=best_of)
    return plan_story(parse_story(text), backbone, overrides)


def chosen(
    backbone: Backbone, plan: StoryPlan, frames: Sequence[FramePlan] | None = None
) -> dict[int, ChosenFrame]:
    """The choices for `frames`, or for all of the plan's, as `draw_story` and servers make them."""
    engine = Engine(backbone)
    cast = Cast(plan, engine, scorer=by_brightness)
    wanted = plan.frames if frames is None else frames
    done: dict[str, FrameDone] = {}

    def run() -> None:
        for found in engine.drain().values():
            cast.drawn(found)
            done[found.id] = found

    while any([cast.before(frame) for frame in wanted]):
        run()
    ids = {frame.index: cast.candidates(frame) for frame in wanted}
    run()
    return {
        frame.index: cast.choose(
            frame, [done[one] if isinstance(one, str) else one for one in ids[frame.index]]
        )
        for frame in wanted
    }


def test_words_go_before_likeness_and_the_first_before_others() -> None:
    assert best([{"alignment": 0.5, "likeness": 0.9}, {"alignment": 1.0, "likeness": 0.1}]) == 1
    assert best([{"alignment": 1.0, "likeness": 0.1}, {"alignment": 1.0, "likeness": 0.9}]) == 1
    assert best([{"alignment": 1.0}, {"alignment": 1.0}]) == 0
    assert best([{}, {"likeness": 0.2}]) == 1


def test_seeds_of_candidates_follow_from_the_frames_own() -> None:
    assert candidate_seed(7, 0) == 7
    seeds = candidate_seeds(7, 8)
    assert len(set(seeds)) == 8 and candidate_seeds(7, 3) == seeds[:3]
    assert not set(seeds[1:]) & set(candidate_seeds(8, 8))


@pytest.mark.parametrize("method", or_slow(METHODS, ["consistory"]))
def test_what_is_kept_is_the_story_drawn_from_the_seeds_that_were_chosen(
    tiny: Backbone, method: str
) -> None:
    plan = plan_of(tiny, method)
    found = chosen(tiny, plan)
    for index, choice in found.items():
        first = plan.frames[index].seed
        assert choice.seeds == candidate_seeds(first, 3)
        assert choice.done.metadata["seed"] == choice.seed
        record = choice.done.metadata["story"]["best_of"]
        assert record == {"of": 3, "candidate": choice.number + 1, "seed": first}
        assert choice.number == best(choice.scores)
    assert any(choice.number for choice in found.values()), "the test needs a choice to be made"
    frames = [replace(frame, seed=found[frame.index].seed) for frame in plan.frames]
    engine = Engine(tiny)
    cast = Cast(replace(plan, frames=tuple(frames), best_of=1), engine)
    ids = [cast.draw(frame) for frame in cast.plan.frames]
    drawn = engine.drain()
    for index, id_ in enumerate(ids):
        assert np.array_equal(drawn[str(id_)].image, found[index].done.image)


@pytest.mark.parametrize("method", or_slow(METHODS, ["consistory"]))
def test_a_frame_alone_is_that_of_its_story(tiny: Backbone, method: str) -> None:
    plan = plan_of(tiny, method)
    whole = chosen(tiny, plan)
    for frame in (plan.frames[4], plan.frames[0]):
        alone = chosen(tiny, plan, [frame])[frame.index]
        assert alone.number == whole[frame.index].number
        assert alone.scores == whole[frame.index].scores
        assert np.array_equal(alone.done.image, whole[frame.index].done.image)


@pytest.mark.parametrize("method", or_slow(METHODS, ["consistory"]))
def test_what_is_kept_can_be_replayed(tiny: Backbone, method: str) -> None:
    recipe = partial(recipe_named, tiny)
    for choice in chosen(tiny, plan_of(tiny, method)).values():
        result = replay(choice.done.image, choice.done.metadata, tiny, recipe)
        assert result.verdict == "identical"


def test_frames_are_compared_with_the_first_that_show_their_characters(tiny: Backbone) -> None:
    plan = plan_of(tiny, "vanilla")
    assert {one.key: one.frames for one in first_shown(plan, [])} == {"Bo & Mia": (0,)}
    text = STORY.replace('"{Mia} and {Bo}"', "a fox")
    plan = plan_of(tiny, "vanilla", text=text)
    assert {one.key: one.frames for one in first_shown(plan, [])} == {"Mia": (1,), "Bo": (2,)}


def test_one_candidate_is_the_story_as_it_was(tiny: Backbone, tmp_path: Path) -> None:
    for name, count in (("plain", None), ("one", 1)):
        draw_story(plan_of(tiny, "head_start", count), tiny, tmp_path / name, scorers={})
    for index in range(5):
        files = [tmp_path / name / f"frames/0{index}.png" for name in ("plain", "one")]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert "best_of" not in read_png(files[0])[1]["story"]
    report = json.loads((tmp_path / "one/report.json").read_text())
    assert "best_of" not in report and "best_of" not in report["frames"][0]


@pytest.mark.weights
def test_the_report_tells_the_scores_of_all_candidates(tiny: Backbone, tmp_path: Path) -> None:
    if not (weights_root() / "pair_reward").is_dir():
        pytest.skip("the weights are not here")
    plan = plan_of(tiny, "vanilla", 2)
    draw_story(plan, tiny, tmp_path / "out", scorers={})
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["best_of"] == 2
    for index, frame in enumerate(report["frames"]):
        told = frame["best_of"]["candidates"]
        assert [one["seed"] for one in told] == list(candidate_seeds(plan.frames[index].seed, 2))
        assert frame["seed"] == told[frame["best_of"]["chosen"] - 1]["seed"]
        metadata = read_png(tmp_path / "out" / frame["path"])[1]
        assert metadata["seed"] == frame["seed"]
        compared = index in (1, 2, 4)  # frame 0 is the first of both, frame 3 shows nobody
        assert all(("likeness" in one["scores"]) == compared for one in told)
        assert all("alignment" in one["scores"] for one in told if index != 3)


def test_a_story_file_may_ask_for_it_and_an_option_goes_first(tiny: Backbone) -> None:
    story = parse_story(STORY + "best_of: 4\n")
    assert plan_story(story, tiny).best_of == 4
    assert plan_story(story, tiny, Overrides(best_of=2)).best_of == 2
    assert plan_story(parse_story(dump_story(story)), tiny).best_of == 4


@pytest.mark.parametrize("said", ["0", "9", "two", "1.5"])
def test_a_number_of_candidates_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(InputError, match="best_of"):
        parse_story(STORY + f"best_of: {said}\n")


def test_pictures_of_other_models_are_not_chosen_among(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny), "vocabulary", lambda self: None)
    with pytest.raises(InputError, match=r"--best-of: best_of is 2, .* story world"):
        plan_of(tiny, "vanilla", 2)
    assert plan_of(tiny, "vanilla", 1).best_of == 1


def test_every_anchor_that_is_a_frame_is_chosen_first(tiny: Backbone) -> None:
    from consistent_gen.methods.tuning import tuned

    plan = plan_of(tiny, "head_start")
    anchored = plan_anchors(plan, tuned("head_start", tiny))
    assert first_shown(plan, anchored) == [one for one in anchored if one.frames]
