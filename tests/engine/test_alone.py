"""Frames for whom others wait: they go first, in calls of as many rows as they have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Call, Coupling, Engine, FrameRequest, Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import InputError
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.models.backbone import Backbone

SMALL = DrawSettings(steps=4, size=(64, 64))
FOX = FrameRequest(id="fox", prompt="a red fox", seed=1, settings=SMALL)
CAT = FrameRequest(id="cat", prompt="a cat reading", seed=2, settings=SMALL)

Calls = list[tuple[int, set[str]]]


class Watch(Coupling):
    """Notes of every call how many rows it has and whose."""

    def __init__(self) -> None:
        self.calls: Calls = []

    def begin_call(self, call: Call) -> None:
        self.calls.append((call.size, {row.frame for row in call.rows}))


def drawn(engine: Engine, *requests: FrameRequest) -> Calls:
    watch = Watch()
    for request in requests:
        engine.submit(replace(request, coupling=watch))
    engine.drain()
    return watch.calls


def test_it_goes_first_alone_in_a_small_call(tiny: Backbone) -> None:
    fox = replace(FOX, alone_for=2)
    calls = drawn(Engine(tiny, bucket=8), CAT, fox)
    assert calls == [(2, {"fox"})] * 2 + [(8, {"cat", "fox"})] * 2 + [(8, {"cat"})] * 2


def test_a_gang_takes_the_rows_of_all_its_members(tiny: Backbone) -> None:
    engine, watch = Engine(tiny, bucket=8), Watch()
    gang = [replace(FOX, alone_for=1, coupling=watch), replace(CAT, alone_for=1, coupling=watch)]
    engine.submit_gang(gang)
    assert all(found.metadata["bucket"] == 8 for found in engine.drain().values())
    assert watch.calls == [(4, {"fox", "cat"})] + [(8, {"fox", "cat"})] * 3


def test_two_who_go_alone_do_not_share(tiny: Backbone) -> None:
    one, two = (replace(frame, alone_for=1) for frame in (FOX, CAT))
    assert [size for size, _ in drawn(Engine(tiny, bucket=8), one, two)] == [2, 2, 8, 8, 8]


def test_calls_of_any_size_are_shared_from_the_start(tiny: Backbone) -> None:
    fox = replace(FOX, alone_for=2)
    assert drawn(Engine(tiny, exact=False), CAT, fox) == [(4, {"cat", "fox"})] * 4


def test_members_of_a_gang_are_alone_equally_long(tiny: Backbone) -> None:
    with pytest.raises(InputError, match="alone"):
        Engine(tiny).submit_gang([replace(FOX, alone_for=1), CAT])


@pytest.mark.parametrize(("lead", "alone"), [(0.0, 0), (0.5, 3), (1.0, 3)])
def test_anchors_that_lead_are_alone_until_somebody_may_follow(
    tiny: Backbone, lead: float, alone: int
) -> None:
    recipe = recipe_of("head_start", {"lead": lead})
    engine = Engine(tiny, bucket=8)
    story = SharedStory(engine, recipe, seed=7)
    story.cast("fox", [replace(FOX, subjects=(Subject(name="fox", tokens=(3,)),))])
    story.submit(replace(CAT, subjects=(Subject(name="fox", tokens=(2,)),)))
    assert {f.id: f.request.alone_for for f in engine.frames} == {"fox": alone, "cat": 0}
    engine.drain()
