"""First frames that are drawn again, by leases: the frame of its story, and what is reported."""

from __future__ import annotations

import numpy as np
import pytest

from consistent_gen.models.backbone import Backbone
from consistent_gen.story import mending
from consistent_gen.story.best_of import candidate_seed
from services.painting.painter import Painter
from services.painting.reports import Drawn, Stepped
from services.plans import validate_story
from tests.services.painting.test_painter import BUCKET, drive
from tests.services.small_model import MakeLease, story
from tests.story.test_mending import drawn, sees, with_drawing


@pytest.mark.parametrize(("method", "first"), [("head_start", 0), ("consistory", 1)])
def test_leases_give_the_frames_of_the_mended_story(
    tiny: Backbone, make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch, method: str, first: int
) -> None:
    request = story(method, mend=2)
    plain = validate_story(story(method, mend=0), tiny)
    expected = drawn(with_drawing(plain, first, 1), tiny)
    look = sees(drawn(plain, tiny)[first])
    monkeypatch.setattr(mending, "shipped", lambda: look)
    together = Painter(tiny, bucket=BUCKET)
    leases = {}
    for index in range(len(plain.frames)):
        lease = make_lease(request, index)
        leases[lease.id] = index
        together.submit(lease)
    reports = drive(together)
    alone = Painter(tiny, bucket=BUCKET)
    lease = make_lease(request, 4)
    leases[lease.id] = 4
    alone.submit(lease)
    reports += drive(alone)
    pictures = [report for report in reports if isinstance(report, Drawn)]
    assert len(pictures) == len(reports) - sum(isinstance(r, Stepped) for r in reports) == 6
    for report in pictures:
        index = leases[report.lease]
        assert np.array_equal(report.image, expected[index])
        assert report.scores == ({"drawing": 2.0} if index == first else {})
    mended = next(report for report in pictures if leases[report.lease] == first)
    assert mended.metadata["seed"] == candidate_seed(plain.frames[first].seed, 1)
    assert together.idle and alone.idle
