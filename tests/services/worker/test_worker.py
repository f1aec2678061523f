"""A worker over real stores and a real gateway: bytes, cancels, drains, faults, lost gateways."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from consistent_gen.client.types import JobFrameState, JobState, RerollIn, StoryIn
from consistent_gen.draw_settings import USUAL_MEND
from consistent_gen.models.backbone import Backbone
from services.painting.painter import Painter
from services.painting.reports import Drawn
from services.worker.courier import png_bytes
from services.worker.leases import HttpLeases, StoreLeases, Unreachable
from services.worker.loop import Watchdog, Worker
from tests.ports import kept_port
from tests.services.painting.test_painter import poisoned
from tests.services.small_model import MakeLease, story
from tests.services.worker.servers import (
    BUCKET,
    TOKEN,
    Gateway,
    gateway,
    local_worker,
    settings_for,
    until,
)


@pytest.fixture
def served(tmp_path: Path, tiny: Backbone) -> Iterator[Gateway]:
    with gateway(settings_for(tmp_path / "data", model=tiny.path)) as server:
        yield server


@pytest.fixture
def port() -> Iterator[int]:
    with kept_port() as port:
        yield port


def alone(tiny: Backbone, make_lease: MakeLease, request: StoryIn, index: int) -> bytes:
    """The PNG of one frame that a painter draws with nothing beside it."""
    painter = Painter(tiny, bucket=BUCKET)
    painter.submit(make_lease(request, index))
    while not painter.idle:
        for report in painter.step():
            if isinstance(report, Drawn):
                return png_bytes(report.image, report.metadata)
    raise AssertionError("it was not drawn")


def test_bytes_through_http_do_not_depend_on_company(
    served: Gateway, tiny: Backbone, make_lease: MakeLease
) -> None:
    """Stories of several users at once, some cancelled: every artifact is the lone frame's."""
    dice = random.Random(0)
    requests = [
        # As a server settles it when a story is begun.
        story(m, seed=n, steps=2, mend=USUAL_MEND)
        for n, m in enumerate(("vanilla", "consistory", "style_aligned"))
    ]
    # Before the worker starts: two threads must not draw with one model.
    expected = {
        (number, index): alone(tiny, make_lease, request, index)
        for number, request in enumerate(requests)
        for index in dice.sample(range(5), 2)
    }
    with local_worker(served, tiny), served.client() as client:
        jobs = []
        for request in requests:
            jobs.append(client.create_story(request).job)
            extra = client.create_story(story("vanilla", seed=99, steps=30)).job
            time.sleep(dice.random() * 0.2)
            client.cancel(extra)
        done = [client.wait(job) for job in jobs]
        assert {job.state for job in done} == {JobState.succeeded}
        for (number, index), png in expected.items():
            artifact = done[number].frames[index].artifact
            assert artifact is not None
            assert client.artifact(artifact) == png, (requests[number].method, index)


def test_a_reroll_with_the_same_seed_has_the_same_bytes(served: Gateway, tiny: Backbone) -> None:
    with local_worker(served, tiny), served.client() as client:
        accepted = client.create_story(story("consistory"))
        first = client.wait(accepted.job).frames[1]
        assert first.artifact is not None
        again = client.wait(client.reroll(accepted.story, 1, RerollIn(seed=first.seed)).job)
        other = client.wait(client.reroll(accepted.story, 1).job)
        assert again.frames[0].artifact is not None and other.frames[0].artifact is not None
        assert client.artifact(again.frames[0].artifact) == client.artifact(first.artifact)
        assert client.artifact(other.frames[0].artifact) != client.artifact(first.artifact)


def test_what_ran_out_of_memory_beside_kept_anchors_is_tried_again_and_drawn(
    served: Gateway, tiny: Backbone, make_lease: MakeLease
) -> None:
    """An allocator that is full as long as the worker keeps anchors of a story that nobody draws:
    they are let go, and the frame is drawn at its next attempt with the bytes that it has alone.
    """
    request = story("vanilla", seed=5, frames=[{"prompt": "a fox"}])
    expected = alone(tiny, make_lease, request, 0)
    made: list[Painter] = []

    def make() -> Painter:
        made.append(Painter(tiny, bucket=BUCKET))
        return made[0]

    failed = []

    def allocate(*_: Any) -> None:
        (painter,) = made
        if painter._cache.bytes:
            failed.append(painter._cache.bytes)
            raise torch.OutOfMemoryError("CUDA out of memory")

    with local_worker(served, tiny, make=make), served.client() as client:
        kept = client.wait(client.create_story(story("style_aligned", steps=2)).job)
        assert kept.state is JobState.succeeded and made[0]._cache.bytes
        hook = tiny.denoiser.register_forward_pre_hook(allocate)
        try:
            done = client.wait(client.create_story(request).job)
        finally:
            hook.remove()
        (frame,) = done.frames
        assert frame.artifact is not None and client.artifact(frame.artifact) == expected
    outcomes = served.state.database.rows(
        "SELECT attempt, outcome FROM attempts WHERE job = ? ORDER BY attempt", (done.id,)
    )
    assert failed and [row["attempt"] for row in outcomes] == [1, 2]
    assert outcomes[1]["outcome"] == "succeeded"


def test_a_cancelled_frame_takes_part_in_at_most_one_more_call(
    served: Gateway, tiny: Backbone
) -> None:
    calls: list[float] = []
    hook = tiny.denoiser.register_forward_pre_hook(lambda *_: calls.append(time.monotonic()))
    try:
        with local_worker(served, tiny), served.client() as client:
            job = client.create_story(story(steps=150, frames=[{"prompt": "a fox"}])).job
            until(lambda: len(calls) > 3, "it is being drawn")
            client.cancel(job)
            cancelled = time.monotonic()
            until(lambda: client.job(job).state is JobState.cancelled, "the job is cancelled")
            time.sleep(0.3)
            # One call may have been under way, one may have begun before the news arrived.
            assert sum(began > cancelled for began in calls) <= 1
    finally:
        hook.remove()


def test_previews_and_steps_are_told_while_a_frame_is_drawn(
    served: Gateway, tiny: Backbone
) -> None:
    with local_worker(served, tiny), served.client() as client:
        job = client.create_story(story(steps=8, preview_every=3, frames=[{"prompt": "a fox"}])).job
        events = list(client.events(job))
        kinds = [event.type.value for event in events]
        assert kinds[0] == "queued" and kinds[-1] == "done" and "preview" in kinds
        shown = next(event for event in events if event.type == "preview")
        assert client.artifact(shown.data["artifact"]).startswith(b"\x89PNG")


def test_a_poisoned_frame_fails_alone(served: Gateway, tiny: Backbone) -> None:
    prompts = ("a cat", "a bear", "a fox")
    request = story(frames=[{"prompt": prompt} for prompt in prompts])
    with poisoned(tiny, "a bear"), local_worker(served, tiny), served.client() as client:
        done = client.wait(client.create_story(request).job)
        assert done.state is JobState.partial
        assert [frame.state for frame in done.frames] == ["succeeded", "failed", "succeeded"]
        problem = done.frames[1].error
        assert problem is not None and "the kernel failed" in problem.detail
        assert done.frames[1].attempt == 3  # such a fault may pass, so it was tried again


def test_draining_gives_frames_back_and_another_worker_draws_them(
    served: Gateway, tiny: Backbone
) -> None:
    request = story(steps=8, frames=[{"prompt": "a fox"}, {"prompt": "a cat"}])
    with served.client() as client:
        with local_worker(served, tiny) as worker:
            job = client.create_story(request).job
            until(lambda: client.job(job).frames[0].state == "running", "it has begun")
            assert worker.stop()
            assert not worker.ready
            found = client.job(job)
            assert not [f for f in found.frames if f.state is JobFrameState.running]
            assert worker.tally.released > 0
        with local_worker(served, tiny):
            done = client.wait(job)
        assert done.state is JobState.succeeded
        assert [frame.attempt for frame in done.frames] == [1] * 2  # giving back is no attempt


def test_a_worker_outlives_its_gateway(tmp_path: Path, tiny: Backbone, port: int) -> None:
    """Jobs and events are there after the gateway comes back, and the worker goes on."""
    settings = settings_for(tmp_path / "data", model=tiny.path)
    server = Gateway(settings, port)
    source = HttpLeases(server.address, TOKEN, "far")
    worker = Worker(lambda: Painter(tiny, bucket=BUCKET), source, lease_s=settings.engine.lease_s)
    worker.start()
    try:
        with server.client() as client:
            jobs = [client.create_story(story(steps=4, seed=n)).job for n in range(2)]
            until(lambda: client.job(jobs[0]).frames[0].state == "running", "it has begun")
            before = [event.id for event in server.state.jobs.events("anonymous", jobs[0])]
        server.stop()
        server = Gateway(settings, port)
        with server.client() as client:
            for job in jobs:
                assert client.wait(job).state is JobState.succeeded
            after = list(client.events(jobs[0]))
        assert [e.id for e in after] == sorted({e.id for e in after})
        assert after[-1].type == "done" and before[0] == after[0].id
        versions = server.state.database.rows(
            "SELECT COUNT(*) AS n FROM attempts WHERE outcome = 'succeeded'"
        )
        assert versions[0]["n"] == 10
    finally:
        assert worker.stop(60.0)
        source.close()
        server.stop()


def test_a_wrong_token_is_said_and_not_hammered(served: Gateway, tiny: Backbone) -> None:
    source = HttpLeases(served.address, "some other token of sixteen", "far")
    with pytest.raises(Exception, match="CONSISTENT_GEN_AUTH_WORKER_TOKEN"):
        source.lease(1)
    source.close()


def test_no_gateway_is_unreachable() -> None:
    source = HttpLeases("http://127.0.0.1:9", TOKEN, "far")
    with pytest.raises(Unreachable, match="does not answer"):
        source.lease(1)
    source.close()


def test_a_crash_of_the_painter_fails_what_it_drew_and_loads_anew(
    served: Gateway, tiny: Backbone
) -> None:
    made = []

    def make() -> Painter:
        painter = Painter(tiny, bucket=BUCKET)
        made.append(painter)
        if len(made) == 1:

            def step() -> Any:
                raise AssertionError("a mistake of ours")

            painter.step = step  # type: ignore[method-assign]
        return painter

    with local_worker(served, tiny, make=make), served.client() as client:
        done = client.wait(client.create_story(story(frames=[{"prompt": "a fox"}])).job)
        assert done.state is JobState.succeeded
        assert len(made) == 2 and done.frames[0].attempt == 2


def test_a_model_that_cannot_be_loaded_ends_the_worker(served: Gateway) -> None:
    def make() -> Painter:
        raise FileNotFoundError("no weights")

    state = served.state
    source = StoreLeases("here", state.jobs, state.artifacts, state.workers)
    worker = Worker(make, source)
    worker.start()
    assert worker.wait(60.0)
    assert isinstance(worker.failure, FileNotFoundError) and not worker.healthy
    worker.stop()


def test_the_watchdog_knows_a_slow_step_from_one_that_hangs() -> None:
    now = [0.0]
    dog = Watchdog(lambda: now[0])
    for _ in range(5):
        dog.begin()
        now[0] += 6.0
        dog.end()
    dog.begin()
    now[0] += 59.0
    assert not dog.hangs
    now[0] += 2.0
    assert dog.hangs
    dog.end()
    assert not dog.hangs


def test_a_hanging_worker_says_so_and_lets_its_leases_lapse(tmp_path: Path, tiny: Backbone) -> None:
    hanging, told = threading.Event(), threading.Event()
    hook = tiny.denoiser.register_forward_pre_hook(lambda *_: hanging.wait(60.0) and None)
    settings = settings_for(
        tmp_path / "data", "engine.lease_s=0.5", "storage.max_attempts=1", model=tiny.path
    )
    try:
        with gateway(settings) as server, server.client() as client:
            state = server.state
            source = StoreLeases("here", state.jobs, state.artifacts, state.workers)
            worker = Worker(
                lambda: Painter(tiny, bucket=BUCKET), source, lease_s=0.5, on_hang=told.set
            )
            worker._watchdog._seconds.extend([1e-9] * 5)
            worker.start()
            job = client.create_story(story(frames=[{"prompt": "a fox"}])).job
            # The frame is given out before its first step begins.
            began = until(lambda: worker._watchdog._began, "it has begun")
            worker._watchdog._began = began - 60.0  # as if it had taken so long already
            assert told.wait(60.0)
            done = client.wait(job)
            assert done.frames[0].error is not None
            assert done.frames[0].error.code == "worker_lost"
            assert not state.workers.ready
            hanging.set()
            assert worker.stop(60.0)
    finally:
        hanging.set()
        hook.remove()
