"""Stories in which several characters meet: their first frame together is read by later ones."""

from __future__ import annotations

import numpy as np

from consistent_gen.models.backbone import Backbone
from services.painting.reports import Drawn, Failed
from tests.services.painting.test_painter import (
    BUCKET,
    draw_file,
    drive,
    painter_of,
    pictures,
    poisoned,
)
from tests.services.small_model import MakeLease, story

TOGETHER = [
    {"prompt": "{Mia} and {Bo} walking"},
    {"prompt": "{Bo} reading"},
    {"prompt": "{Bo} and {Mia} in the forest"},
    {"prompt": "{Mia} reading"},
]


def test_the_first_frame_of_both_is_read_by_the_others(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    request = story("head_start", frames=TOGETHER)
    expected = draw_file(tiny, request)
    for order in ([2, 1, 0, 3], [3, 0, 2, 1]):
        painter = painter_of(tiny)
        for index in order:
            lease = make_lease(request, index)
            painter.submit(lease)
            assert np.array_equal(pictures(drive(painter))[lease.id], expected[index]), index
    painter = painter_of(tiny, bucket=BUCKET)
    leases = [make_lease(request, index) for index in range(4)]
    for lease in leases:
        painter.submit(lease)
    found = pictures(drive(painter))
    assert all(np.array_equal(found[lease.id], expected[i]) for i, lease in enumerate(leases))


def test_a_first_frame_that_fails_takes_its_readers_along(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    request = story("head_start", frames=TOGETHER)
    expected = draw_file(tiny, request, bucket=8)
    leases = [make_lease(request, index) for index in range(4)]
    painter = painter_of(tiny, bucket=8)
    with poisoned(tiny, "a girl with a red hat and a small bear walking"):
        for lease in leases:
            painter.submit(lease)
        reports = drive(painter)
    failed = {r.lease for r in reports if isinstance(r, Failed)}
    assert failed == {leases[0].id, leases[2].id}
    assert {r.lease for r in reports if isinstance(r, Drawn)} == {leases[i].id for i in (1, 3)}
    again = make_lease(request, 2)
    painter.submit(again)
    found = pictures(drive(painter))
    assert np.array_equal(found[again.id], expected[2]), "the failure ends with its cause"
