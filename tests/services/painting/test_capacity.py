"""How many more leases a painter asks for, and when; what newcomers do to those who have begun."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from consistent_gen.client.types import StoryIn
from consistent_gen.methods import FOR_EVERY_MODEL
from consistent_gen.models.backbone import Backbone
from services.jobs import Lease
from services.painting.painter import Painter
from services.painting.reports import Drawn, Stepped
from tests.every_run import or_slow
from tests.services.painting.test_painter import draw_file, drive, pictures
from tests.services.small_model import MakeLease, story


def stepped(painter: Painter) -> list[str]:
    """Make a call; returns the leases that were in it."""
    return [report.lease for report in painter.step() if isinstance(report, Stepped)]


def test_room_is_what_the_next_call_has_rows_for(tiny: Backbone, make_lease: MakeLease) -> None:
    painter = Painter(tiny, bucket=6, max_frames=8)
    assert painter.room == 3
    for index in range(3):
        painter.submit(make_lease(story(steps=1), index))
    assert painter.room == 0
    painter.step()
    assert painter.room == 3


def test_room_opens_a_call_before_a_frame_ends(tiny: Backbone, make_lease: MakeLease) -> None:
    """Whoever comes early waits: calls stay full, and nobody who has begun is passed over."""
    painter = Painter(tiny, bucket=4, max_frames=8)
    painter.submit(make_lease(story(steps=2), 0))
    painter.submit(make_lease(story(steps=3), 1))
    assert painter.room == 0
    painter.step()
    assert painter.room == 1, "the first one has one step left"
    late = make_lease(story(steps=2), 2)
    painter.submit(late)
    order = [[r.lease for r in painter.step() if isinstance(r, Drawn)] for _ in range(3)]
    assert [len(drawn) for drawn in order] == [1, 1, 1] and order[2] == [late.id]
    assert painter.idle and painter.calls == 4


def test_newcomers_are_as_many_as_would_get_a_row_at_once(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    painter = Painter(tiny, bucket=6, max_frames=3)
    for index in range(3):
        painter.submit(make_lease(story(steps=2), index, user="large"))
    assert (painter.room, painter.newcomers) == (0, 2)
    for number, user in enumerate(("ann", "ben")):
        painter.submit(make_lease(story(steps=2), number, name=f"sto_{user}", user=user))
    assert (painter.room, painter.newcomers) == (0, 0), "three users have the three rows"
    assert len(stepped(painter)) == 3
    assert len(pictures(drive(painter))) == 5
    assert (painter.room, painter.newcomers) == (3, 0), "who comes now finds a free row"


def test_bulk_leases_make_room_for_newcomers(tiny: Backbone, make_lease: MakeLease) -> None:
    painter = Painter(tiny, bucket=4)
    for index in range(2):
        painter.submit(make_lease(story(bulk=True), index))
    assert (painter.room, painter.newcomers) == (0, 2)


@pytest.mark.parametrize("options", [{"max_frames": 1}, {"bucket": 2}, {"late_join": False}])
def test_no_newcomers_where_frames_are_drawn_one_at_a_time_or_in_whole_batches(
    tiny: Backbone, make_lease: MakeLease, options: dict[str, int]
) -> None:
    painter = Painter(tiny, **{"bucket": 4, **options})
    for index in range(painter.room):
        painter.submit(make_lease(story(steps=4), index))
    painter.step()
    assert (painter.room, painter.newcomers) == (0, 0)


def test_a_newcomer_is_in_the_next_call_and_every_one_after(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    painter = Painter(tiny, bucket=4)
    large = [make_lease(story(steps=8), index, user="large") for index in (0, 1)]
    for lease in large:
        painter.submit(lease)
    assert stepped(painter) == [lease.id for lease in large]
    small = make_lease(story(steps=3), 3, name="sto_2", user="small")
    painter.submit(small)
    calls = [stepped(painter) for _ in range(3)]
    assert all(small.id in call and len(call) == 2 for call in calls)
    assert len({call[0] for call in calls}) == 2, "the large user's frames sit out by turns"
    # 19 steps of frames in calls of two, and not one call more.
    assert pictures(drive(painter)).keys() == {lease.id for lease in large}
    assert painter.calls == 10


@pytest.mark.parametrize("method", or_slow(FOR_EVERY_MODEL, ["head_start"]))
def test_frames_that_sit_out_have_the_same_bytes(
    tiny: Backbone, make_lease: MakeLease, method: str
) -> None:
    """A large user's story beside small users who come one after another."""
    request = story(method, steps=3)
    ones = [story(seed=n, steps=1 + n % 2, frames=[{"prompt": "a fox"}]) for n in range(2)]
    expected = draw_file(tiny, request)
    expected_ones = [draw_file(tiny, one)[0] for one in ones]
    painter = Painter(tiny, bucket=4)
    leases = {index: make_lease(request, index, user="large") for index in range(5)}
    for lease in leases.values():
        painter.submit(lease)
    small: dict[str, int] = {}
    numbers = itertools.count()
    found: dict[str, np.ndarray] = {}
    while not painter.idle:
        if small.keys() <= found.keys() and any(one.id not in found for one in leases.values()):
            one = newcomer(make_lease, ones, next(numbers))
            small[one.id] = one.order["seed"]
            painter.submit(one)
        found |= pictures(painter.step())
    assert len(small) > 2
    for index, lease in leases.items():
        assert np.array_equal(found[lease.id], expected[index]), index
    seeds = [make_lease(one, 0).order["seed"] for one in ones]
    for lease_id, seed in small.items():
        assert np.array_equal(found[lease_id], expected_ones[seeds.index(seed)])


def newcomer(make_lease: MakeLease, ones: list[StoryIn], number: int) -> Lease:
    """The lease of a user who was never there before."""
    return make_lease(ones[number % 2], 0, name=f"sto_{number + 2}", user=f"user {number}")
