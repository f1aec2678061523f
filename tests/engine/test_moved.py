"""A picture that is moved while it is drawn: deterministic, told in its metadata, drawn again."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from consistent_gen.attention.masks import SubjectMasks
from consistent_gen.attention.settings import MaskProbe
from consistent_gen.cli.replay import recipe_named
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameRequest
from consistent_gen.engine.replaying import replay
from consistent_gen.engine.request import Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import LimitError
from consistent_gen.methods.tuning import tuned
from consistent_gen.models.backbone import Backbone

SETTINGS = DrawSettings(steps=4, size=(64, 64))


def request(**more: object) -> FrameRequest:
    return FrameRequest(prompt="a girl in a city", seed=3, settings=SETTINGS, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_what_is_drawn_is_moved_around_the_edge(tiny: Backbone, scheduler: str) -> None:
    engine = Engine(tiny)
    asked = request(moved=0.25, id="a").with_settings(scheduler=scheduler)
    engine.submit(asked)
    (state,) = engine.frames
    assert asked.moves_at == 1
    engine.step()
    here, remembered = state.latent, state.scheduler.model_outputs[-1]
    still = Engine(tiny)
    still.submit(request(id="a").with_settings(scheduler=scheduler))
    (other,) = still.frames
    still.step()
    assert here is not None and other.latent is not None
    cells = here.shape[2] // 4
    assert torch.equal(here, torch.roll(other.latent, cells, -1))
    assert torch.equal(remembered, torch.roll(other.scheduler.model_outputs[-1], cells, -1))


def test_a_moved_picture_is_replayed_and_its_neighbours_are_as_ever(tiny: Backbone) -> None:
    engine = Engine(tiny)
    moved, plain = engine.submit(request(moved=-0.25)), engine.submit(request())
    done = engine.drain()
    assert done[moved].metadata["story"] == {"moved": -0.25}
    assert done[plain].metadata["story"] == {}
    assert not np.array_equal(done[moved].image, done[plain].image)
    again = replay(done[moved].image, done[moved].metadata, tiny)
    assert again.verdict == "identical"
    alone = Engine(tiny)
    alone.submit(request())
    (one,) = alone.drain().values()
    assert np.array_equal(one.image, done[plain].image)


def test_an_anchor_that_was_moved_is_drawn_again_so(tiny: Backbone) -> None:
    engine = Engine(tiny)
    story = SharedStory(engine, tuned("head_start", tiny))
    girl = (Subject(name="Mia", tokens=(2,)),)
    story.cast("Mia", [request(moved=0.25, subjects=girl, method="head_start")])
    frame = story.submit(request(subjects=girl, method="head_start", id="later"))
    done = engine.drain()
    assert "moved" not in done[frame].metadata["story"]
    for one in done.values():
        again = replay(one.image, one.metadata, tiny, partial(recipe_named, tiny))
        assert again.verdict == "identical"


def test_masks_move_with_the_picture() -> None:
    masks = SubjectMasks(MaskProbe())
    attention = torch.zeros(4, 8)
    attention[1:3, 1:3] = 1.0
    masks.add("f", "Mia", 0, attention.flatten(), ((4, 8), (4, 8)))
    settled = masks.mask("f", "Mia", 1, (4, 8))
    assert settled is not None
    masks.move("f", 0.5)
    for found in (masks.mask("f", "Mia", 1, (4, 8)), masks.mask("f", "Mia", 2, (4, 8))):
        assert found is not None
        assert torch.equal(found.reshape(4, 8), torch.roll(settled.reshape(4, 8), 4, 1))


def test_further_than_half_a_picture_is_refused() -> None:
    with pytest.raises(LimitError, match=r"moved is 0\.6"):
        request(moved=0.6)
