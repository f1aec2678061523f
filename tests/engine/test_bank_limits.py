"""A bank's size is known before it holds anything, and one that is too large harms nobody else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consistent_gen.engine import Engine, FrameDone, FrameError, Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import LimitError
from consistent_gen.methods.head_start import HeadStart
from consistent_gen.models.backbone import Backbone
from tests.engine.test_sharing import COUPLING, FOX, PLAIN, READING, STEPS, new_story, portraits

CAT = Subject(name="cat", tokens=(5,))
BOTH = replace(READING, id="both", prompt="a fox and a cat reading", subjects=(FOX, CAT))
EVERYWHERE = np.ones((8, 8), dtype=np.float32)


def step_until_settled(engine: Engine, story: SharedStory) -> None:
    """Draw until the masks of who is drawn are final, and no step further."""
    settled = story.run.recipe.settled(STEPS)
    assert settled is not None
    while any(s.id.endswith("/twin") or s.index < settled for s in engine.frames):
        engine.step()


_QUICK = ("head_start", "consistory")
_PARAMS = [m if m in _QUICK else pytest.param(m, marks=pytest.mark.slow) for m in COUPLING]


@pytest.mark.parametrize("method", _PARAMS)
def test_bytes_are_known_before_there_are_any(tiny: Backbone, method: str) -> None:
    engine = Engine(tiny, bucket=8)
    story = new_story(engine, method)
    anchors = portraits(story.run.recipe.anchors)
    story.cast("fox", anchors)
    step_until_settled(engine, story)
    assert story.run.bank.bytes == 0
    predicted = story.predicted_bytes(anchors[0], "fox")
    engine.drain()
    assert predicted == story.run.bank.bytes > 0
    story.submit(READING)
    engine.drain()
    assert predicted == story.run.bank.bytes


@pytest.mark.parametrize("method", _QUICK)
def test_asking_before_masks_are_final_changes_nothing(tiny: Backbone, method: str) -> None:
    pictures = []
    for asked in (False, True):
        engine = Engine(tiny, bucket=8)
        story = new_story(engine, method)
        anchors = portraits(story.run.recipe.anchors)
        guessed = story.predicted_bytes(anchors[0])
        story.cast("fox", anchors)
        story.submit(READING)
        engine.step()
        if asked:
            assert story.predicted_bytes(anchors[0], "fox") == guessed
        pictures.append(engine.drain()["reading"].image)
    assert np.array_equal(*pictures)


def test_bytes_of_two_who_share_an_anchor_are_known(tiny: Backbone) -> None:
    """Where both could be, a token counts for one of them."""
    engine = Engine(tiny, bucket=8)
    story = new_story(engine, "head_start")
    story.cast_all({"fox": 1.0, "cat": 1.0}, [BOTH])
    step_until_settled(engine, story)
    predicted = [story.predicted_bytes(BOTH, name) for name in ("fox", "cat")]
    engine.drain()
    assert predicted == [story.run.bank.bytes_of(name) for name in ("fox", "cat")]
    assert sum(predicted) == story.run.bank.bytes > 0


def test_bytes_of_the_first_frame_of_two_are_known(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    story = SharedStory(engine, HeadStart(portrait=True).recipe(), seed=7)
    story.cast("fox", portraits(1))
    cat = replace(portraits(1)[0], id="cat", prompt="a small green cat", subjects=(CAT,))
    story.cast("cat", [cat])
    engine.drain()
    story.cast_together(BOTH)
    step_until_settled(engine, story)
    names = [f"{name} in cat & fox" for name in ("fox", "cat")]
    predicted = [story.predicted_bytes(BOTH, name) for name in names]
    engine.drain()
    assert predicted == [story.run.bank.bytes_of(name) for name in names]
    assert min(predicted) > 0


@pytest.mark.parametrize("method", _QUICK)
def test_who_turns_out_too_large_fails_before_leaving_anything(tiny: Backbone, method: str) -> None:
    """The guess fitted; the mask says it does not. Strangers in the same calls are drawn on."""
    engine = Engine(tiny, bucket=16)
    story = new_story(engine, method)
    anchors = portraits(story.run.recipe.anchors)
    story.run.bank.limit_bytes = story.predicted_bytes(anchors[0])
    story.cast("fox", anchors, masks=dict.fromkeys(range(len(anchors)), EVERYWHERE))
    story.submit(READING)
    engine.submit(PLAIN)
    events = []
    while not engine.idle:
        events += engine.step()
        assert story.run.bank.bytes == 0
    errors = {event.id: event.error for event in events if isinstance(event, FrameError)}
    assert isinstance(errors["fox0"], LimitError)
    assert "reads frame 'fox0', which was not drawn" in str(errors["reading"])
    done = {event.id: event.image for event in events if isinstance(event, FrameDone)}
    alone = Engine(tiny, bucket=16).run([PLAIN])
    plain = next(event.image for event in alone if isinstance(event, FrameDone))
    assert set(done) == {"plain"} and np.array_equal(done["plain"], plain)
