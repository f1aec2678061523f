"""Stories in which several characters meet: which frames the others read, and what fails with them.

Mia's and Bo's anchor is their first frame. Ada meets Bo, who has an anchor already: hers is a
portrait, and the first frame of these two is read beside both anchors.
"""

from __future__ import annotations

import numpy as np
import pytest

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
from tests.services.small_model import CHARACTERS, MakeLease, story

PROMPTS = [
    "{Mia} and {Bo} walking",
    "{Bo} reading",
    "{Bo} and {Mia} in the forest",
    "{Ada} and {Bo} reading",
    "{Bo} and {Ada} walking",
]
REQUEST = story(
    "head_start",
    frames=[{"prompt": prompt} for prompt in PROMPTS],
    characters=CHARACTERS | {"Ada": {"description": "a green fox"}},
)


def test_frames_are_equal_in_any_order_and_company(tiny: Backbone, make_lease: MakeLease) -> None:
    request = REQUEST
    expected = draw_file(tiny, request)
    for order in ([2, 4, 1, 0, 3], [3, 0, 2, 1, 4]):
        painter = painter_of(tiny)
        for index in order:
            lease = make_lease(request, index)
            painter.submit(lease)
            assert np.array_equal(pictures(drive(painter))[lease.id], expected[index]), index
    painter = painter_of(tiny, bucket=BUCKET)
    leases = [make_lease(request, index) for index in range(5)]
    for lease in leases:
        painter.submit(lease)
    found = pictures(drive(painter))
    assert all(np.array_equal(found[lease.id], expected[i]) for i, lease in enumerate(leases))


@pytest.fixture(scope="module")
def wide(tiny: Backbone) -> dict[int, np.ndarray]:
    """The story, drawn with eight rows to a call."""
    return draw_file(tiny, REQUEST, bucket=8)


@pytest.mark.parametrize(
    ("poison", "lost"),
    [
        ("a girl with a red hat and a small bear walking", {0, 1, 2, 3, 4}),  # Bo's anchor, too
        ("a green fox and a small bear reading", {3, 4}),
        ("a small bear and a green fox walking", {4}),
    ],
)
def test_a_first_frame_that_fails_takes_its_readers_along(
    tiny: Backbone,
    make_lease: MakeLease,
    wide: dict[int, np.ndarray],
    poison: str,
    lost: set[int],
) -> None:
    request = REQUEST
    leases = [make_lease(request, index) for index in range(5)]
    painter = painter_of(tiny, bucket=8)
    with poisoned(tiny, poison):
        for lease in leases:
            painter.submit(lease)
        reports = drive(painter)
    failed = {r.lease for r in reports if isinstance(r, Failed)}
    assert failed == {leases[i].id for i in lost}
    drawn = {r.lease for r in reports if isinstance(r, Drawn)}
    assert drawn == {leases[i].id for i in set(range(5)) - lost}
    again = make_lease(request, 4)
    painter.submit(again)
    found = pictures(drive(painter))
    assert np.array_equal(found[again.id], wide[4]), "the failure ends with its cause"
