"""A part of a picture drawn again: the rest keeps its bytes, and characters stay who they are."""

from __future__ import annotations

from dataclasses import replace as replaced
from functools import partial
from typing import Any

import numpy as np
import pytest

from consistent_gen.cli.replay import recipe_named
from consistent_gen.engine import Engine, FrameRequest
from consistent_gen.engine.redrawing import Redrawing
from consistent_gen.engine.replaying import redraw, replay
from consistent_gen.errors import InputError
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.cast import Cast
from consistent_gen.story.plan import Overrides, plan_story
from consistent_gen.story.types import Character, Frame, Story


def right_half(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.bool_)
    mask[:, width // 2 :] = True
    return mask


def first(tiny: Backbone, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
    engine = Engine(tiny)
    asked = FrameRequest(prompt="a girl", seed=1, id="one")
    engine.submit(asked.with_settings(steps=4, size=(64, 64), **settings))
    done = engine.drain()["one"]
    return done.image, dict(done.metadata)


@pytest.mark.parametrize("settings", [{}, {"retouch": 0.5}, {"scheduler": "dpm"}])
def test_outside_of_the_mask_every_byte_stays(tiny: Backbone, settings: dict[str, Any]) -> None:
    image, metadata = first(tiny, **settings)
    mask = right_half(64, 64)
    again = redraw(image, metadata, tiny, mask, seed=2)
    assert np.array_equal(again.image[~mask], image[~mask])
    assert not np.array_equal(again.image[mask], image[mask])
    assert np.array_equal(redraw(image, metadata, tiny, mask, seed=2).image, again.image)
    other = redraw(image, metadata, tiny, mask, seed=3).image
    assert np.array_equal(other[~mask], image[~mask])
    assert not np.array_equal(other[mask], again.image[mask])


def test_a_larger_picture_keeps_its_size_and_its_pixels(tiny: Backbone) -> None:
    """As a second stage leaves it: the model draws at half of the picture's side."""
    image, metadata = first(tiny)
    large = image.repeat(2, 0).repeat(2, 1)
    mask = right_half(128, 128)
    again = redraw(large, metadata, tiny, mask, seed=2).image
    assert again.shape == large.shape and np.array_equal(again[~mask], large[~mask])


def test_the_seam_rises_inside_the_mask_only() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    share = Redrawing(picture=picture, mask=right_half(64, 64)).share()
    assert (share[:, :32] == 0.0).all() and (share[:, 32] > 0.0).all()
    assert (np.diff(share[:, 32:36], axis=1) >= 0.0).all() and (share[:, 36:] == 1.0).all()
    whole = Redrawing(picture=picture, mask=np.ones((64, 64), np.bool_))
    assert (whole.share() == 1.0).all(), "the picture's own edge is no seam"


def test_what_is_given_is_checked(tiny: Backbone) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(InputError, match="marks nothing"):
        Redrawing(picture=picture, mask=np.zeros((64, 64), np.bool_))
    with pytest.raises(InputError, match="the picture's size"):
        Redrawing(picture=picture, mask=np.ones((32, 64), np.bool_))
    with pytest.raises(InputError, match="expected uint8"):
        Redrawing(picture=picture[..., 0], mask=np.ones((64, 64), np.bool_))


@pytest.fixture(scope="module")
def shared(tiny: Backbone) -> tuple[np.ndarray, dict[str, Any]]:
    """The second frame of a shared story, which stands on an anchor."""
    mia = Character(name="Mia", description="a girl with a red hat")
    frames = (Frame(prompt="{Mia} walking"), Frame(prompt="{Mia} sitting"))
    story = Story(title="x", characters={"Mia": mia}, frames=frames)
    overrides = Overrides(method="head_start", seed=1, settings={"steps": 4, "size": (64, 64)})
    plan = plan_story(story, tiny, overrides)
    engine = Engine(tiny)
    cast = Cast(plan, engine)
    ids = [str(cast.draw(frame)) for frame in plan.frames]
    done = engine.drain()[ids[1]]
    return done.image, dict(done.metadata)


def test_a_shared_frame_reads_its_anchors_again(
    tiny: Backbone, shared: tuple[np.ndarray, dict[str, Any]]
) -> None:
    image, metadata = shared
    mask, recipe_of = right_half(64, 64), partial(recipe_named, tiny)
    again = redraw(image, metadata, tiny, mask, seed=5, recipe_of=recipe_of)
    assert np.array_equal(again.image[~mask], image[~mask])
    alone = redraw(
        image,
        {**metadata, "method": "vanilla", "story": {}},
        tiny,
        mask,
        seed=5,
    )
    assert not np.array_equal(again.image, alone.image)
    # Once more, over what was drawn over: the record of the first time does not stand in the way.
    twice = redraw(again.image, again.metadata, tiny, ~mask, seed=6, recipe_of=recipe_of)
    assert np.array_equal(twice.image[mask], again.image[mask])
    with pytest.raises(InputError, match="a part of the picture was drawn again"):
        replay(again.image, again.metadata, tiny, recipe_of)


def test_another_prompt_says_who_is_meant(
    tiny: Backbone, shared: tuple[np.ndarray, dict[str, Any]]
) -> None:
    image, metadata = shared
    mask, recipe_of = right_half(64, 64), partial(recipe_named, tiny)
    found = redraw(
        image, metadata, tiny, mask, seed=5, prompt="walking a small girl", recipe_of=recipe_of
    )
    ids = tiny.tokenizer("walking a small girl").input_ids
    girl = tiny.tokenizer("girl").input_ids[1]
    assert found.metadata["story"]["sharing"]["subjects"] == [["Mia", [ids.index(girl)]]]
    with pytest.raises(InputError, match="stands for Mia: 'girl'"):
        redraw(image, metadata, tiny, mask, seed=5, prompt="a small bear", recipe_of=recipe_of)


def test_frames_that_share_calls_do_not_disturb_each_other(tiny: Backbone) -> None:
    image, _ = first(tiny)
    part = Redrawing(picture=image, mask=right_half(64, 64))
    asked = FrameRequest(prompt="a girl", seed=2, id="part", redrawing=part)
    asked = asked.with_settings(steps=4, size=(64, 64))
    other = replaced(asked, id="whole", redrawing=None)

    def drawn(*requests: FrameRequest) -> dict[str, np.ndarray]:
        engine = Engine(tiny)
        for one in requests:
            engine.submit(one)
        return {name: done.image for name, done in engine.drain().items()}

    both = drawn(asked, other)
    assert np.array_equal(both["part"], drawn(asked)["part"])
    assert np.array_equal(both["whole"], drawn(other)["whole"])
