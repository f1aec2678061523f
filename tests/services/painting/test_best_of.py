"""The best of several candidates by leases: the frame of its story, progress, cancels, failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from consistent_gen.client.types import StoryIn
from consistent_gen.engine import Engine, FrameDone
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.best_of import ChosenFrame, candidate_seeds
from consistent_gen.story.cast import Cast
from services.painting.painter import Painter
from services.painting.reports import Drawn, Failed, Stepped
from services.plans import validate_story
from tests.every_run import or_slow
from tests.services.painting.test_painter import BUCKET, drive, poisoned
from tests.services.small_model import MakeLease, story
from tests.story.choosing import by_brightness


def painter_of(backbone: Backbone) -> Painter:
    return Painter(backbone, bucket=BUCKET, scorer=by_brightness)


def as_a_file(backbone: Backbone, request: StoryIn) -> dict[int, ChosenFrame]:
    """The story as `consistent-gen story` draws it."""
    plan = validate_story(request, backbone)
    engine = Engine(backbone, bucket=BUCKET)
    cast = Cast(plan, engine, scorer=by_brightness)
    done: dict[str, FrameDone] = {}

    def run() -> None:
        for found in engine.drain().values():
            cast.drawn(found)
            done[found.id] = found

    while any([cast.before(frame) for frame in plan.frames]):
        run()
    ids = [cast.candidates(frame) for frame in plan.frames]
    run()
    return {
        frame.index: cast.choose(frame, [done[x] if isinstance(x, str) else x for x in found])
        for frame, found in zip(plan.frames, ids, strict=True)
    }


@pytest.mark.parametrize("method", or_slow(["vanilla", "head_start", "consistory"], ["head_start"]))
def test_a_lease_gives_the_frame_of_the_story(
    tiny: Backbone, make_lease: MakeLease, method: str
) -> None:
    request = story(method, best_of=3)
    expected = as_a_file(tiny, request)
    together = painter_of(tiny)
    leases: dict[str, int] = {}
    for index in range(5):
        lease = make_lease(request, index)
        leases[lease.id] = index
        together.submit(lease)
    reports = drive(together)
    alone = painter_of(tiny)
    lease = make_lease(request, 4)
    leases[lease.id] = 4
    alone.submit(lease)
    reports += drive(alone)
    drawn = [report for report in reports if isinstance(report, Drawn)]
    assert len(drawn) == 6 and not [r for r in reports if isinstance(r, Failed)]
    for report in drawn:
        choice = expected[leases[report.lease]]
        assert np.array_equal(report.image, choice.done.image)
        assert report.metadata["seed"] == choice.seed
        assert report.scores["candidate"] == choice.number + 1
        assert report.frame is not None and report.frame.index == leases[report.lease]


def test_a_reroll_is_one_drawing_that_reads_what_was_chosen(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    request = story("head_start", best_of=2)
    painter = painter_of(tiny)
    painter.submit(make_lease(request, 4, seed=5))
    (drawn,) = [r for r in drive(painter) if isinstance(r, Drawn)]
    assert drawn.metadata["seed"] == 5 and drawn.scores == {}
    read = drawn.metadata["story"]["sharing"]["cast"][0]["anchors"][0]["seed"]
    assert read == as_a_file(tiny, request)[0].seed  # frame 0 is the anchor of both
    assert len(drawn.others) == 1


def test_progress_counts_all_candidates_and_never_goes_back(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    for index in (0, 4):
        painter = painter_of(tiny)
        painter.submit(make_lease(story("head_start", steps=4, best_of=3), index))
        told = [r.step for r in drive(painter) if isinstance(r, Stepped)]
        assert told == sorted(told) and told[-1] == 12


@pytest.mark.parametrize("steps_before", [0, 2, 5])
def test_a_cancel_ends_all_candidates(
    tiny: Backbone, make_lease: MakeLease, steps_before: int
) -> None:
    painter = painter_of(tiny)
    lease = make_lease(story("head_start", steps=3, best_of=3), 4)
    painter.submit(lease)
    for _ in range(steps_before):
        painter.step()
    painter.cancel(lease.id)
    assert not [r for r in drive(painter) if not isinstance(r, Stepped)]
    assert painter.engine.idle and painter.idle


def test_a_first_frame_that_cannot_be_drawn_fails_who_is_compared_with_it(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    request = story("vanilla", best_of=2)
    words = validate_story(request, tiny).frames[0].prompt
    painter = painter_of(tiny)
    leases: dict[str, int] = {}
    for index in range(5):
        lease = make_lease(request, index)
        leases[lease.id] = index
        painter.submit(lease)
    with poisoned(tiny, words):
        reports: list[Any] = drive(painter)
    failed = {leases[r.lease] for r in reports if isinstance(r, Failed)}
    drawn = {leases[r.lease] for r in reports if isinstance(r, Drawn)}
    assert failed == {0, 1, 2, 4} and drawn == {3}


def test_only_the_frame_at_fault_fails(tiny: Backbone, make_lease: MakeLease) -> None:
    request = story("vanilla", best_of=2)
    words = validate_story(request, tiny).frames[3].prompt
    painter = painter_of(tiny)
    leases: dict[str, int] = {}
    for index in (2, 3):
        lease = make_lease(request, index)
        leases[lease.id] = index
        painter.submit(lease)
    with poisoned(tiny, words):
        reports: list[Any] = drive(painter)
    assert {leases[r.lease] for r in reports if isinstance(r, Failed)} == {3}
    assert {leases[r.lease] for r in reports if isinstance(r, Drawn)} == {2}


def test_the_first_candidate_has_the_seed_that_was_asked_for(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    lease = make_lease(story("vanilla", best_of=2), 3)
    painter = painter_of(tiny)
    painter.submit(lease)
    (drawn,) = [r for r in drive(painter) if isinstance(r, Drawn)]
    assert drawn.metadata["seed"] in candidate_seeds(lease.order["seed"], 2)
