"""Anchors of several characters in common: who reads what, in any company, and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consistent_gen.attention.settings import Recipe
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest, Subject, replay
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import InputError, LimitError
from consistent_gen.methods import tuning
from consistent_gen.models.backbone import Backbone
from tests.every_run import or_slow

FOX, CAT = (Subject(name=name, tokens=(place,)) for name, place in (("fox", 2), ("cat", 5)))
SETTINGS_OF_ALL = DrawSettings(steps=4, size=(64, 64))
ALONE = FrameRequest(
    id="alone", prompt="a fox reading", seed=3, subjects=(FOX,), settings=SETTINGS_OF_ALL
)
BOTH = replace(ALONE, id="both", prompt="a fox and a cat walking", seed=4, subjects=(FOX, CAT))
ANCHOR = replace(BOTH, id="anchor", prompt="a fox and a cat", seed=6)
SETTINGS: dict[str, dict[str, Any]] = {
    "head_start": {},
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.25, 0.75)},
    "consistyle": {"mixing_steps": 0.5, "structure_steps": (0.25, 0.75)},
    "consistory ahead": {"anchors": 1, "lead": 0.5, "gate": "nearest", "portrait": False},
}
QUICK = ("consistory ahead",)


def recipe_of(method: str) -> Recipe:
    return tuning.recipe_of(method.partition(" ")[0], SETTINGS[method])


def cast(backbone: Backbone, recipe: Recipe, **strengths: float) -> SharedStory:
    story = SharedStory(Engine(backbone, bucket=8), recipe, seed=7)
    anchors = [
        replace(ANCHOR, id="anchor" if i == 0 else f"anchor{i}", seed=6 + i, method=recipe.name)
        for i in range(recipe.anchors)
    ]
    story.cast_all({"fox": 1.0, "cat": 1.0} | strengths, anchors)
    return story


def draw(
    backbone: Backbone, recipe: Recipe, batches: Sequence[Sequence[FrameRequest]], **more: float
) -> dict[str, np.ndarray]:
    """Batches one after the other; anchors come with the first."""
    story = cast(backbone, recipe, **more)
    found: dict[str, np.ndarray] = {}
    for batch in batches:
        for frame in batch:
            story.submit(frame)
        found |= {name: event.image for name, event in story.engine.drain().items()}
    return found


@pytest.mark.parametrize("method", or_slow(SETTINGS, QUICK))
def test_frames_of_one_and_of_both_read_it_in_any_company(tiny: Backbone, method: str) -> None:
    recipe = recipe_of(method)
    all_at_once = draw(tiny, recipe, [[ALONE, BOTH]])
    one_by_one = draw(tiny, recipe, [[], [BOTH], [ALONE]])
    for name in ("anchor", "alone", "both"):
        assert np.array_equal(all_at_once[name], one_by_one[name]), name
    for frame in (ALONE, BOTH):
        events = Engine(tiny, bucket=8).run([frame])
        plain = next(event for event in events if isinstance(event, FrameDone))
        assert not np.array_equal(all_at_once[str(frame.id)], plain.image), frame.id


def test_with_one_anchor_it_is_drawn_as_if_nobody_read_it(tiny: Backbone) -> None:
    recipe = recipe_of("head_start")
    unread = replace(ANCHOR, alone_for=recipe.lead(ANCHOR.settings.steps))
    plain = next(e for e in Engine(tiny, bucket=8).run([unread]) if isinstance(e, FrameDone))
    found = draw(tiny, recipe, [[ALONE]])
    assert np.array_equal(found["anchor"], plain.image)


def test_a_frame_of_one_does_not_read_the_other(tiny: Backbone) -> None:
    recipe = recipe_of("head_start")
    full, weaker = (draw(tiny, recipe, [[ALONE, BOTH]], cat=cat) for cat in (1.0, 0.2))
    assert np.array_equal(full["alone"], weaker["alone"])
    assert not np.array_equal(full["both"], weaker["both"])


@pytest.mark.parametrize("method", or_slow(SETTINGS, QUICK))
def test_every_frame_can_be_drawn_again(tiny: Backbone, method: str) -> None:
    recipe = recipe_of(method)
    story = cast(tiny, recipe)
    for frame in (ALONE, BOTH):
        story.submit(replace(frame, method=recipe.name))
    drawn = story.engine.drain()
    for which in ("alone", "both", "anchor"):
        done = drawn[which]
        result = replay(done.image, done.metadata, tiny, recipe_of=lambda _: recipe)
        assert result.verdict == "identical", which


def test_dropping_one_frees_both(tiny: Backbone) -> None:
    story = cast(tiny, recipe_of("head_start"))
    story.engine.drain()
    assert story.run.bank.bytes > 0
    story.drop("cat")
    assert story.run.bank.bytes == 0
    assert story.run.roles == {}
    story.cast_all({"fox": 1.0, "cat": 1.0}, [replace(ANCHOR, id="second")])


def test_anchors_that_show_others_are_refused(tiny: Backbone) -> None:
    story = SharedStory(Engine(tiny, bucket=8), recipe_of("head_start"))
    both = {"fox": 1.0, "cat": 1.0}
    with pytest.raises(InputError, match=r"it shows: fox$"):
        story.cast_all(both, [ALONE])
    with pytest.raises(InputError, match="has 2 anchors; head_start takes 1"):
        story.cast_all(both, [ANCHOR, BOTH])
    story.cast("fox", [ALONE])
    with pytest.raises(InputError, match="'fox' is cast already"):
        story.cast_all(both, [ANCHOR])
    with pytest.raises(InputError, match="no other character of the story; it shows: cat, fox"):
        story.cast("cat", [BOTH])


def test_room_is_asked_for_all_of_them(tiny: Backbone) -> None:
    story = SharedStory(Engine(tiny, bucket=8), recipe_of("head_start"))
    story.run.bank.limit_bytes = 2 * story.predicted_bytes(ANCHOR) - 1
    with pytest.raises(LimitError, match="MB are allowed"):
        story.cast_all({"fox": 1.0, "cat": 1.0}, [ANCHOR])
    story.run.bank.limit_bytes += 1
    assert story.cast_all({"fox": 1.0, "cat": 1.0}, [ANCHOR]) == ["anchor"]


def test_a_frame_that_needs_no_mask_is_not_searched(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("head_start")
    story = cast(tiny, recipe)
    for frame in (ALONE, BOTH):
        story.submit(frame)
    for _ in range(5):
        story.engine.step()
    found = {name: story.run.masks.finest(name) for name in ("anchor", "both", "alone")}
    assert found["anchor"] and found["both"] and found["alone"] is None
    searched = draw(tiny, recipe, [[ALONE, BOTH]])
    monkeypatch.setattr("consistent_gen.attention.run.SharedRun.seeks", lambda *_: True)
    everywhere = draw(tiny, recipe, [[ALONE, BOTH]])
    assert all(np.array_equal(everywhere[name], searched[name]) for name in searched)
