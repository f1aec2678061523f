"""Jobs from the first to the last event, one rule a test."""

from __future__ import annotations

import math
import threading

import pytest

from consistent_gen.client.types import EventType, JobFrameState, JobState, Problem
from services.errors import NotFound
from services.jobs import Progress
from services.jobs.frames import state_of
from tests.services.shop import Shop, ordered

BROKEN = Problem(title="Broken", status=500, detail="it broke", code="broken")


def states(shop: Shop, job: str, owner: str = "alice") -> list[str]:
    return [frame.state.value for frame in shop.jobs.get(owner, job).frames]


def kinds(shop: Shop, job: str, owner: str = "alice") -> list[str]:
    return [event.type.value for event in shop.jobs.events(owner, job)]


def test_a_job_from_queue_to_story(shop: Shop) -> None:
    job = shop.submit(frames=2)
    assert (job.state, job.queue_position) == (JobState.queued, 0)
    first, second = shop.jobs.lease("worker", 5)
    assert first.order == ordered(2)[0].order and second.order == ordered(2)[1].order
    assert (first.owner, first.attempt, first.frame) == ("alice", 1, 0)
    assert shop.jobs.get("alice", job.id).state == JobState.running
    preview = shop.artifacts.put("alice", b"preview", "image/png", temporary=True)
    assert shop.jobs.renew(first, step=5, preview=preview.id)
    assert shop.draw(first) and shop.draw(second)
    done = shop.jobs.get("alice", job.id)
    assert done.state == JobState.succeeded and done.eta_s is None and done.queue_position is None
    story = shop.stories.get("alice", job.story)
    for frame, drawn in zip(story.frames, done.frames, strict=True):
        (version,) = frame.versions
        assert frame.current == version.version == 1
        assert (version.artifact, version.job, version.seed) == (drawn.artifact, job.id, drawn.seed)
        assert version.prompt == f"scene {frame.index}" and version.scores == {"identity": 0.5}
        assert shop.artifacts.read("alice", version.artifact).startswith(b"drawing")
    assert kinds(shop, job.id) == [
        "queued", "started", "started", "frame", "score", "frame", "score", "done",
    ]  # fmt: skip


def test_events_say_what_their_type_promises(shop: Shop) -> None:
    job = shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    shop.jobs.renew(lease, step=5, preview="art_0123456789abcdef")
    found = {event.type: event for event in shop.jobs.events("alice", job.id)}
    assert found[EventType.queued].data == {"position": 0}
    assert found[EventType.started].data == {"step": 0, "steps": 20, "attempt": 1}
    assert found[EventType.step].data == {"step": 5, "steps": 20}
    assert found[EventType.preview].data == {"step": 5, "artifact": "art_0123456789abcdef"}
    shop.draw(lease)
    found = {event.type: event for event in shop.jobs.events("alice", job.id)}
    drawn = shop.jobs.get("alice", job.id).frames[0]
    assert found[EventType.frame].data == {
        "artifact": drawn.artifact, "version": 1, "seed": 2**63 - 1,
    }  # fmt: skip
    assert found[EventType.score].data == {"identity": 0.5}
    assert found[EventType.done].data == {"state": "succeeded"}


def test_progress_leaves_one_step_and_one_preview_event(shop: Shop) -> None:
    job = shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    newest = 0
    for step in range(1, 20):
        assert shop.jobs.renew(lease, step=step, preview=f"art_{step:016d}")
        events = shop.jobs.events("alice", job.id)
        assert [e.type.value for e in events] == ["queued", "started", "step", "preview"]
        assert [e.id for e in events] == sorted({e.id for e in events})
        assert events[-2].id > newest
        newest = events[-1].id
    assert shop.jobs.get("alice", job.id).frames[0].step == 19


def test_steps_never_go_back_nor_past_the_end(shop: Shop) -> None:
    job = shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    for reported, shown in ((7, 7), (3, 7), (-4, 7), (500, 20)):
        assert shop.jobs.renew(lease, step=reported)
        assert shop.jobs.get("alice", job.id).frames[0].step == shown


def test_cancel_ends_waiting_frames_at_once_and_running_ones_at_their_report(shop: Shop) -> None:
    job = shop.submit(frames=3)
    first, second = shop.jobs.lease("worker", 2)
    after = shop.jobs.cancel("alice", job.id)
    assert after.state == JobState.running and states(shop, job.id)[2] == "cancelled"
    assert shop.jobs.renew_many([Progress(first.id, 3)]) == [False]
    assert not shop.draw(second)
    assert shop.jobs.get("alice", job.id).state == JobState.cancelled
    assert kinds(shop, job.id)[-1] == "done"
    assert shop.jobs.cancel("alice", job.id) == shop.jobs.get("alice", job.id)
    assert shop.stories.get("alice", job.story).frames[1].versions == []


def test_retry_draws_only_what_is_missing(shop: Shop) -> None:
    job = shop.submit(frames=3)
    first, second, third = shop.jobs.lease("worker", 3)
    shop.draw(first)
    shop.jobs.fail(second, BROKEN, retryable=False)
    assert states(shop, job.id) == ["succeeded", "failed", "running"]
    shop.draw(third)
    assert shop.jobs.get("alice", job.id).state == JobState.partial
    last = shop.jobs.events("alice", job.id)[-1].id
    again = shop.jobs.retry("alice", job.id)
    assert again.state == JobState.running and states(shop, job.id)[1] == "queued"
    assert again.frames[1].error is None and again.frames[1].attempt == 0
    assert "done" not in kinds(shop, job.id)
    assert shop.jobs.retry("alice", job.id).state == JobState.running
    assert shop.draw_all() == 1
    assert shop.jobs.get("alice", job.id).state == JobState.succeeded
    fresh = shop.jobs.events("alice", job.id, after=last)
    assert [e.type.value for e in fresh] == ["queued", "started", "frame", "score", "done"]


def test_retry_lets_a_running_frame_go_on_after_all(shop: Shop) -> None:
    job = shop.submit(frames=2)
    (lease,) = shop.jobs.lease("worker", 1)
    shop.jobs.cancel("alice", job.id)
    shop.jobs.retry("alice", job.id)
    assert shop.jobs.renew(lease, step=2)
    assert shop.draw(lease)
    assert shop.draw_all() == 1


def test_a_silent_worker_loses_its_frame_and_its_late_drawing_is_dropped(shop: Shop) -> None:
    job = shop.submit(frames=1)
    (lost,) = shop.jobs.lease("first", 1)
    shop.clock.advance(3.9)
    assert shop.jobs.lease("second", 1) == []
    shop.clock.advance(0.2)
    (taken,) = shop.jobs.lease("second", 1)
    assert taken.attempt == 2
    assert not shop.jobs.renew(lost, step=9)
    assert not shop.draw(lost)
    assert shop.draw(taken)
    assert not shop.draw(taken), "a lease ends with its drawing"
    (version,) = shop.stories.get("alice", job.story).frames[0].versions
    assert shop.jobs.get("alice", job.id).frames[0].artifact == version.artifact


def test_a_worker_that_reports_keeps_its_frame(shop: Shop) -> None:
    shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    for step in range(10):
        shop.clock.advance(3.5)
        assert shop.jobs.renew(lease, step=step)
        assert shop.jobs.expire() == 0


def test_a_poison_frame_fails_after_the_last_attempt_and_the_story_goes_on(shop: Shop) -> None:
    job = shop.submit(frames=2)
    first, _ = shop.jobs.lease("worker", 2)
    shop.draw(first)
    for attempt in (1, 2, 3):
        assert states(shop, job.id) == ["succeeded", "running"]
        assert shop.jobs.get("alice", job.id).frames[1].attempt == attempt
        shop.clock.advance(5)
        assert shop.jobs.expire() == 1
        shop.jobs.lease("worker", 1)
    done = shop.jobs.get("alice", job.id)
    assert done.state == JobState.partial
    assert done.frames[1].error is not None and done.frames[1].error.code == "worker_lost"
    assert kinds(shop, job.id)[-2:] == ["error", "done"]


def test_a_retryable_failure_is_tried_again_and_others_are_not(shop: Shop) -> None:
    job = shop.submit(frames=1)
    for _ in range(2):
        (lease,) = shop.jobs.lease("worker", 1)
        shop.jobs.fail(lease, BROKEN, retryable=True)
        assert states(shop, job.id) == ["queued"]
    (lease,) = shop.jobs.lease("worker", 1)
    shop.jobs.fail(lease, BROKEN, retryable=True)
    failed = shop.jobs.get("alice", job.id)
    assert failed.state == JobState.failed and failed.frames[0].error == BROKEN
    shop.jobs.fail(lease, BROKEN, retryable=True)
    assert shop.jobs.get("alice", job.id) == failed


def test_release_does_not_count_the_attempt(shop: Shop) -> None:
    job = shop.submit(frames=1)
    for _ in range(10):
        (lease,) = shop.jobs.lease("worker", 1)
        assert lease.attempt == 1
        shop.jobs.release(lease)
    assert states(shop, job.id) == ["queued"]
    assert shop.jobs.get("alice", job.id).state == JobState.queued


def test_past_its_deadline_nothing_is_drawn(shop: Shop) -> None:
    job = shop.submit(frames=3, deadline_s=10.0)
    first, second = shop.jobs.lease("worker", 2)
    assert first.deadline_at == pytest.approx(shop.clock.now + 10)
    shop.draw(first)
    for _ in range(3):
        shop.clock.advance(3.0)
        assert shop.jobs.renew(second, step=1)
    shop.clock.advance(2.0)
    assert not shop.jobs.renew(second, step=2)
    assert shop.jobs.lease("worker", 5) == []
    late = shop.jobs.get("alice", job.id)
    assert late.state == JobState.partial
    assert [frame.error.code for frame in late.frames if frame.error] == ["deadline"] * 2
    shop.jobs.retry("alice", job.id)
    assert shop.draw_all() == 2


def test_a_clock_that_is_put_back_keeps_no_frame_for_ever(shop: Shop) -> None:
    shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    shop.clock.advance(-3600)
    assert shop.jobs.expire() == 0
    assert shop.jobs.renew(lease, step=1)
    shop.clock.advance(5)
    assert len(shop.jobs.lease("other", 1)) == 1


def test_a_drawing_must_be_an_artifact_of_the_owner(shop: Shop) -> None:
    job = shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    foreign = shop.artifacts.put("bob", b"not yours", "image/png")
    for artifact in (foreign.id, "art_00000000000000000000"):
        with pytest.raises(NotFound):
            shop.jobs.finish(lease, artifact=artifact, scores={})
    assert states(shop, job.id) == ["running"] and shop.draw(lease)


def test_scores_that_are_not_numbers_are_left_out(shop: Shop) -> None:
    job = shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    drawing = shop.artifacts.put("alice", b"drawing", "image/png")
    scores = {"identity": math.nan, "alignment": 0.25, "speed": math.inf}
    shop.jobs.finish(lease, artifact=drawing.id, scores=scores)
    assert shop.jobs.get("alice", job.id).frames[0].scores == {"alignment": 0.25}


def test_a_deleted_story_takes_its_jobs_along(shop: Shop) -> None:
    job = shop.submit(frames=2)
    first, second = shop.jobs.lease("worker", 2)
    shop.draw(first)
    shop.stories.delete("alice", job.story)
    assert not shop.jobs.renew(second, step=1) and not shop.draw(second)
    with pytest.raises(NotFound):
        shop.jobs.events("alice", job.id)
    assert shop.jobs.queue().running == 0
    shop.clock.advance(1000)
    shop.artifacts.sweep()
    assert shop.artifacts.used_bytes() == 0


def test_positions_and_estimates(shop: Shop) -> None:
    first = shop.submit("alice", frames=4)
    second = shop.submit("bob", frames=2)
    assert (first.queue_position, second.queue_position) == (0, 1)
    bulk = shop.submit("carol", frames=1, bulk=True)
    assert bulk.queue_position == 6
    assert shop.jobs.get("bob", second.id).eta_s is None, "nothing was drawn yet"
    for _ in range(4):
        (lease,) = shop.jobs.lease("worker", 1)
        shop.clock.advance(2.0)
        assert shop.draw(lease)
    bulk = shop.jobs.get("carol", bulk.id)
    assert bulk.queue_position == 2
    # 20 steps took 2 s: two frames before ours and ours.
    assert bulk.eta_s == pytest.approx(6.0)
    state = shop.jobs.queue()
    assert (state.queued, state.running, state.oldest_queued_s) == (3, 0, 8.0)
    assert sum(load.queued for load in state.owners.values()) == 3


def test_watchers_wake_for_their_job(shop: Shop) -> None:
    mine, other = shop.submit(frames=2), shop.submit("bob", frames=2)
    seq = shop.jobs.changed()
    assert shop.jobs.wait(seq, 0.01, job=mine.id) == seq
    woken: list[int] = []
    thread = threading.Thread(target=lambda: woken.append(shop.jobs.wait(seq, 30, job=mine.id)))
    thread.start()
    shop.jobs.cancel("bob", other.id)
    shop.jobs.cancel("alice", mine.id)
    thread.join(timeout=30)
    assert woken and woken[0] > seq


def test_subscribers_are_told_which_jobs_changed_after_the_commit(shop: Shop) -> None:
    seen: list[tuple[str, JobFrameState]] = []

    def look(jobs: frozenset[str]) -> None:
        seen.extend((job, shop.jobs.get("alice", job).frames[0].state) for job in jobs)

    end = shop.jobs.subscribe(look)
    job = shop.submit(frames=1)
    shop.jobs.cancel("alice", job.id)
    end()
    shop.jobs.retry("alice", job.id)
    assert seen == [(job.id, JobFrameState.queued), (job.id, JobFrameState.cancelled)]


def test_event_ids_are_never_used_twice_across_restarts(shop: Shop) -> None:
    job = shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    before = shop.jobs.events("alice", job.id)[-1].id
    shop.reopen()
    assert shop.jobs.renew(lease, step=3), "a lease outlives the server"
    (fresh,) = shop.jobs.events("alice", job.id, after=before)
    assert fresh.type == EventType.step


@pytest.mark.parametrize(
    ("frames", "state"),
    [
        ({"queued": 2}, "queued"),
        ({"queued": 1, "succeeded": 1}, "running"),
        ({"running": 1, "cancelled": 3}, "running"),
        ({"succeeded": 3}, "succeeded"),
        ({"succeeded": 1, "failed": 1}, "partial"),
        ({"succeeded": 1, "failed": 1, "cancelled": 1}, "partial"),
        ({"succeeded": 1, "cancelled": 1}, "cancelled"),
        ({"failed": 1, "cancelled": 1}, "cancelled"),
        ({"failed": 2}, "failed"),
    ],
)
def test_the_state_of_a_job(frames: dict[str, int], state: str) -> None:
    assert state_of(frames) == state
