"""A bank's size is bounded before anything is drawn, and one too large harms nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consistent_gen.attention.roles import Source
from consistent_gen.engine import Engine, Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import InputError, LimitError
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.models.backbone import Backbone
from tests.engine.test_sharing import COUPLING, FOX, PLAIN, READING, new_story, portraits
from tests.every_run import or_slow

CAT = Subject(name="cat", tokens=(5,))
BOTH = replace(READING, id="both", prompt="a fox and a cat reading", subjects=(FOX, CAT))
CATS = replace(portraits(1)[0], id="cat", prompt="a small green cat", subjects=(CAT,))
EVERYWHERE = np.ones((8, 8), dtype=np.float32)

_QUICK = ("head_start", "consistory")


@pytest.mark.parametrize("method", or_slow(COUPLING, _QUICK))
def test_bytes_are_bounded_before_there_are_any(tiny: Backbone, method: str) -> None:
    """Exactly so where no mask decides, or where the character is everywhere."""
    for everywhere in (False, True):
        engine = Engine(tiny, bucket=8)
        story = new_story(engine, method)
        anchors = portraits(story.run.recipe.anchors)
        predicted = story.predicted_bytes(anchors[0])
        masks = dict.fromkeys(range(len(anchors)), EVERYWHERE) if everywhere else None
        story.cast("fox", anchors, masks=masks)
        engine.drain()
        used = story.run.bank.bytes
        assert 0 < used <= predicted
        assert used == predicted or not everywhere
        story.submit(READING)
        engine.drain()
        assert story.run.bank.bytes == used


def test_bytes_of_two_who_share_an_anchor_are_bounded(tiny: Backbone) -> None:
    """Where both could be, a token counts for one of them."""
    engine = Engine(tiny, bucket=8)
    story = new_story(engine, "head_start")
    story.cast_all({"fox": 1.0, "cat": 1.0}, [BOTH])
    engine.drain()
    used = [story.run.bank.bytes_of(Source(name)) for name in ("fox", "cat")]
    assert sum(used) == story.run.bank.bytes > 0
    assert sum(used) <= story.predicted_bytes(BOTH)


def test_bytes_of_the_first_frame_of_two_are_bounded(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    story = SharedStory(engine, recipe_of("head_start", {"portrait": True}), seed=7)
    story.cast("fox", portraits(1))
    story.cast("cat", [CATS])
    engine.drain()
    story.cast_together(BOTH)
    engine.drain()
    group = frozenset({"fox", "cat"})
    used = [story.run.bank.bytes_of(Source(name, group)) for name in group]
    assert min(used) > 0 and max(used) <= story.predicted_bytes(BOTH)


@pytest.mark.parametrize("method", _QUICK)
def test_who_might_be_too_large_fails_before_leaving_anything(tiny: Backbone, method: str) -> None:
    """Strangers in the same engine are drawn on, and the same character with room enough."""
    engine = Engine(tiny, bucket=16)
    engine.submit(PLAIN)
    engine.step()
    story = new_story(engine, method)
    anchors = portraits(story.run.recipe.anchors)
    wanted = story.predicted_bytes(anchors[0])
    story.run.bank.limit_bytes = wanted - 1
    with pytest.raises(LimitError, match=r"MB are allowed; use fewer steps, .* or raise the limit"):
        story.cast("fox", anchors)
    assert len(engine.frames) == 1 and story.run.bank.bytes == 0
    with pytest.raises(LimitError):
        story.cast("fox", anchors)  # it was not cast halfway
    alone = next(iter(engine.drain().values())).image
    plain = Engine(tiny, bucket=16)
    plain.submit(PLAIN)
    assert np.array_equal(alone, plain.drain()["plain"].image)
    story.run.bank.limit_bytes = wanted
    story.cast("fox", anchors)
    story.submit(READING)
    assert "reading" in engine.drain()


def test_room_is_kept_for_who_is_still_being_drawn(tiny: Backbone) -> None:
    """Of two who each fit alone the second is refused at once, not in the middle of a call."""
    engine = Engine(tiny, bucket=8)
    story = new_story(engine, "head_start")
    story.run.bank.limit_bytes = 2 * story.predicted_bytes(portraits(1)[0]) - 1
    corner = np.zeros((8, 8), dtype=np.float32)
    corner[:4, :4] = 1.0
    story.cast("fox", portraits(1), masks={0: corner})
    with pytest.raises(LimitError):
        story.cast("cat", [CATS])
    engine.drain()
    story.cast("cat", [CATS])  # the fox needs less than was kept for it
    engine.drain()


def taken_id(story: SharedStory) -> Any:
    return story.cast("cat", [replace(CATS, id="plain")])


def unknown_frame(story: SharedStory) -> Any:
    return story.cast("cat", [replace(CATS, after=("nobody",))])


@pytest.mark.parametrize("wrong", [taken_id, unknown_frame])
def test_a_cast_that_is_refused_keeps_no_room(
    tiny: Backbone, wrong: Callable[[SharedStory], Any]
) -> None:
    engine = Engine(tiny, bucket=8)
    engine.submit(PLAIN)
    story = new_story(engine, "head_start")
    story.run.bank.limit_bytes = story.predicted_bytes(CATS)
    with pytest.raises(InputError):
        wrong(story)
    story.cast("cat", [CATS])
    engine.drain()
