"""What a frame is drawn from: where that is equal, the pictures are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consistent_gen.engine import Engine, FrameDone
from consistent_gen.methods import FOR_EVERY_MODEL
from consistent_gen.methods.tuning import tuned
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.cast import Cast
from consistent_gen.story.changes import drawn_from
from consistent_gen.story.plan import Overrides, StoryPlan, plan_story
from consistent_gen.story.script import parse_story
from tests.every_run import or_slow

CAST = {"Mia": "a girl with a red hat", "Bo": "a small bear"}
FRAMES = (
    ("{Mia} and {Bo}", 1),
    ("{Mia} reading in the forest", 2),
    ("{Bo} walking", 3),
    ("a green fox", 4),
    ("{Mia} sitting", 5),
)


def plan_of(
    backbone: Backbone, method: str, cast: dict[str, str] = CAST, frames: object = FRAMES
) -> StoryPlan:
    people = "\n".join(f"  {name}: {words}" for name, words in cast.items())
    assert isinstance(frames, tuple)
    scenes = "\n".join(f'  - {{prompt: "{words}", seed: {seed}}}' for words, seed in frames)
    text = f"title: x\nseed: 7\ncharacters:\n{people}\nframes:\n{scenes}\n"
    story = parse_story(text.encode(), source="s.yaml")
    return plan_story(story, backbone, Overrides(method=method, settings={"steps": 2}), Path())


def pictures(backbone: Backbone, plan: StoryPlan) -> list[np.ndarray]:
    engine = Engine(backbone, bucket=4)
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)
    found = {}
    while not engine.idle:
        for event in engine.step():
            if isinstance(event, FrameDone):
                found[int(event.id)] = event.image
    return [found[index] for index in range(len(plan.frames))]


@pytest.mark.parametrize("method", or_slow(FOR_EVERY_MODEL, ["head_start"]))
def test_frames_that_are_drawn_from_the_same_are_the_same(tiny: Backbone, method: str) -> None:
    plan = plan_of(tiny, method)
    other_mia = CAST | {"Mia": "a girl with a green hat"}
    added = (FRAMES[3], *FRAMES[:3], ("{Bo} sitting in the forest", 9), *FRAMES[4:])
    before = drawn_from(plan, tuned(method, tiny))
    drawn = pictures(tiny, plan)
    for cast, frames in ((other_mia, FRAMES), (CAST, added), (CAST, FRAMES[1:])):
        changed = plan_of(tiny, method, cast, frames)
        after = drawn_from(changed, tuned(method, tiny))
        again = pictures(tiny, changed)
        same = [(i, j) for i, one in enumerate(before) for j, new in enumerate(after) if one == new]
        assert same, "a frame without characters never changes"
        for i, j in same:
            assert np.array_equal(drawn[i], again[j]), (i, j)


def test_who_reads_a_changed_anchor_changes(tiny: Backbone) -> None:
    recipe = tuned("head_start", tiny)
    before = drawn_from(plan_of(tiny, "head_start"), recipe)
    frames = (("{Mia} and {Bo} walking", 1), *FRAMES[1:])
    after = drawn_from(plan_of(tiny, "head_start", frames=frames), recipe)
    # The first frame is the anchor of both, so only the fox stays.
    assert [a == b for a, b in zip(before, after, strict=True)] == [False] * 3 + [True, False]
    alone = tuned("vanilla", tiny)
    before = drawn_from(plan_of(tiny, "vanilla"), alone)
    after = drawn_from(plan_of(tiny, "vanilla", frames=frames), alone)
    assert [a == b for a, b in zip(before, after, strict=True)] == [False] + [True] * 4


def test_a_rerolled_frame_changes_with_those_of_its_own_words(tiny: Backbone) -> None:
    recipe = tuned("head_start", tiny)
    plan = plan_of(tiny, "head_start")
    rerolled = plan_of(tiny, "head_start", frames=(*FRAMES[:3], ("{Bo} sitting", 4), FRAMES[4]))
    frames = (*plan.frames[:3], rerolled.frames[3], plan.frames[4])
    before = drawn_from(plan, recipe, frames)
    assert before[:3] == drawn_from(plan, recipe)[:3]
    other = plan_of(tiny, "head_start", CAST | {"Bo": "a green bear"})
    assert drawn_from(other, recipe, frames)[3] != before[3]
