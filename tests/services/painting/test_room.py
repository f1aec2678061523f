"""How many more leases a painter asks for, and when."""

from __future__ import annotations

from consistent_gen.models.backbone import Backbone
from services.painting.painter import Painter
from services.painting.reports import Drawn
from tests.services.small_model import MakeLease, story


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
