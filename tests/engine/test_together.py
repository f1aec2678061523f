"""The first frame of several characters: who reads it, in any company, and again alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from consistent_gen.attention.roles import Source, group_name
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
AGAIN = replace(BOTH, id="again", prompt="a fox and a cat reading", seed=5)
PORTRAIT = replace(BOTH, id="portrait", prompt="a fox and a cat", seed=6, hidden=True)
SETTINGS: dict[str, dict[str, Any]] = {
    "head_start": {},
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.25, 0.75)},
    "consistyle": {"mixing_steps": 0.5, "structure_steps": (0.25, 0.75)},
    "consistory ahead": {"anchors": 1, "lead": 0.5, "gate": "nearest"},
    "consistyle ahead": {"anchors": 1, "lead": 0.5, "gate": "nearest"},
}


def recipe_of(method: str, **more: Any) -> Recipe:
    settings = {**SETTINGS[method], "together": True, **more}
    return tuning.recipe_of(method.partition(" ")[0], settings)


def cast(engine: Engine, recipe: Recipe, **strengths: float) -> SharedStory:
    story = SharedStory(engine, recipe, seed=7)
    for name, token in (("fox", 2), ("cat", 2)):
        who = (Subject(name=name, tokens=(token,)),)
        own = [
            replace(ALONE, id=f"{name}{i}", prompt=f"a {name}", seed=10 + i, subjects=who)
            for i in range(recipe.anchors)
        ]
        story.cast(name, own, strength=strengths.get(name, 1.0))
    return story


def draw(
    backbone: Backbone,
    recipe: Recipe,
    batches: Sequence[Sequence[FrameRequest]],
    portrait: FrameRequest | None = PORTRAIT,
    **strengths: float,
) -> dict[str, np.ndarray]:
    """Batches one after the other; anchors and portrait come with the first."""
    engine = Engine(backbone, bucket=8)
    story = cast(engine, recipe, **strengths)
    if portrait is not None:
        story.cast_together(portrait)
    found: dict[str, np.ndarray] = {}
    for batch in batches:
        for frame in batch:
            story.submit(frame)
        found |= {name: event.image for name, event in engine.drain().items()}
    return found


@pytest.mark.parametrize("method", or_slow(SETTINGS, ["head_start"]))
def test_who_reads_it_and_in_any_company(tiny: Backbone, method: str) -> None:
    recipe = recipe_of(method)
    all_at_once = draw(tiny, recipe, [[ALONE, BOTH, AGAIN]])
    one_by_one = draw(tiny, recipe, [[], [AGAIN], [BOTH], [ALONE]])
    for name in ("alone", "both", "again"):
        assert np.array_equal(all_at_once[name], one_by_one[name]), name
    without = draw(tiny, recipe, [[ALONE, BOTH]], portrait=None)
    other = draw(tiny, recipe, [[ALONE, BOTH]], portrait=replace(PORTRAIT, seed=60))
    for drawn in (without, other):
        assert np.array_equal(drawn["alone"], all_at_once["alone"])
        assert not np.array_equal(drawn["both"], all_at_once["both"])


@pytest.mark.parametrize("method", ["head_start", "consistory"])
def test_the_portrait_reads_the_anchors(tiny: Backbone, method: str) -> None:
    """What is read in it is not what it would be alone: a character stays itself in both."""
    engine = Engine(tiny, bucket=8)
    story = cast(engine, recipe_of(method))
    story.cast_together(PORTRAIT)
    engine.drain()
    exports = story.run.bank._exports
    left = {
        key: kept
        for key, kept in exports.items()
        if key[0] == Source("cat", frozenset({"fox", "cat"}))
    }
    alone = SharedStory(Engine(tiny, bucket=8), recipe_of(method, anchors=1), seed=7)
    alone.cast("cat", [replace(PORTRAIT, subjects=(CAT,))])
    alone.engine.drain()
    last = max(key[2] for key in left)
    pairs = [
        tuple(
            one.parts["v"].on(torch.device("cpu"))
            for one in (
                next(iter(kept.values())),
                alone.run.bank._exports[Source("cat"), *key[1:]][0],
            )
        )
        for key, kept in left.items()
        if key[2] == last
    ]
    assert pairs and any(a.shape != b.shape or not np.allclose(a, b, atol=1e-4) for a, b in pairs)


@pytest.mark.parametrize("method", or_slow(SETTINGS, ["consistyle ahead"]))
def test_a_frame_that_read_it_can_be_drawn_again(tiny: Backbone, method: str) -> None:
    engine = Engine(tiny, bucket=8)
    recipe = recipe_of(method)
    story = cast(engine, recipe)
    story.cast_together(PORTRAIT)
    story.submit(replace(BOTH, method=recipe.name))
    drawn = engine.drain()["both"]
    result = replay(drawn.image, drawn.metadata, tiny, recipe_of=lambda _: recipe)
    assert result.verdict == "identical"


def test_strength_is_still_a_dial_of_each(tiny: Backbone) -> None:
    recipe = recipe_of("head_start")
    plain = next(e for e in Engine(tiny, bucket=8).run([BOTH]) if isinstance(e, FrameDone)).image
    found = [
        draw(tiny, recipe, [[BOTH]], fox=fox, cat=cat)["both"]
        for fox, cat in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    ]
    assert np.array_equal(found[3], plain)
    assert len({picture.tobytes() for picture in found}) == 4


def test_dropping_frees_it_and_others_read_their_anchors_again(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    recipe = recipe_of("head_start")
    story = cast(engine, recipe)
    engine.drain()
    before = story.run.bank.bytes
    story.cast_together(PORTRAIT)
    engine.drain()
    assert story.run.bank.bytes > before
    story.drop_together(group_name(("cat", "fox")))
    assert story.run.bank.bytes == before
    story.submit(BOTH)
    without = draw(tiny, recipe, [[BOTH]], portrait=None)
    assert np.array_equal(engine.drain()["both"].image, without["both"])
    story.cast_together(replace(PORTRAIT, id="second"))
    engine.drain()
    story.drop("fox")
    assert story.run.bank.bytes < before


def test_what_cannot_be_a_portrait_is_refused(tiny: Backbone) -> None:
    story = cast(Engine(tiny, bucket=8), recipe_of("head_start"))
    with pytest.raises(InputError, match="fewer than two"):
        story.cast_together(replace(PORTRAIT, subjects=(FOX,)))
    story.cast_together(PORTRAIT)
    with pytest.raises(InputError, match="has one already"):
        story.cast_together(replace(PORTRAIT, id="more"))
    with pytest.raises(InputError, match="steps is 3"):
        story.submit(BOTH.with_settings(steps=3))


def test_a_bank_that_would_be_too_large_is_refused_before_drawing(tiny: Backbone) -> None:
    engine = Engine(tiny, bucket=8)
    story = cast(engine, recipe_of("head_start"))
    engine.drain()
    room = 2 * story.predicted_bytes(PORTRAIT)
    story.run.bank.limit_bytes = story.run.bank.bytes + room - 1
    with pytest.raises(LimitError, match="MB are allowed"):
        story.cast_together(PORTRAIT)
    story.run.bank.limit_bytes += 1
    assert story.cast_together(PORTRAIT) == "portrait"
