"""A small user beside a large one, over real stores and a real gateway."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consistent_gen.client import Client
from consistent_gen.client.types import JobState
from consistent_gen.models.backbone import Backbone
from services.painting.painter import Painter
from services.painting.reports import Drawn, Report, Stepped
from services.worker.leases import HttpLeases, LeaseSource, StoreLeases
from services.worker.loop import Worker
from tests.every_run import or_slow
from tests.services.small_model import MakeLease, story
from tests.services.worker.servers import (
    BUCKET,
    PATIENCE_S,
    TOKEN,
    Gateway,
    gateway,
    settings_for,
    until,
)
from tests.services.worker.test_worker import alone


class Held(Painter):
    """A painter that can be held between two steps, and stops by itself twice: when two frames have
    begun, and after the first picture.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, bucket=BUCKET)
        self.may_go = threading.Event()
        self.may_go.set()
        self._begun: set[str] = set()
        self._stops = [self._first_picture, self._two_have_begun]

    def step(self) -> list[Report]:
        assert self.may_go.wait(PATIENCE_S), "held for ever"
        reports = super().step()
        if self._stops and self._stops[-1](reports):
            self._stops.pop()
            self.may_go.clear()
        return reports

    def _two_have_begun(self, reports: list[Report]) -> bool:
        self._begun |= {report.lease for report in reports if isinstance(report, Stepped)}
        return len(self._begun) > 1

    def _first_picture(self, reports: list[Report]) -> bool:
        return any(isinstance(report, Drawn) for report in reports)


@contextmanager
def worker_of(server: Gateway, painter: Painter, kind: str) -> Iterator[Worker]:
    """A worker that asks the stores or the gateway's address."""
    state = server.state
    source: LeaseSource = (
        StoreLeases("here", state.jobs, state.artifacts, state.workers)
        if kind == "stores"
        else HttpLeases(server.address, TOKEN, "far")
    )
    worker = Worker(lambda: painter, source, lease_s=server.settings.engine.lease_s)
    worker.start()
    try:
        until(lambda: worker.ready, "the worker is ready")
        yield worker
    finally:
        assert worker.stop(PATIENCE_S)
        if isinstance(source, HttpLeases):
            source.close()


def steps_of(client: Client, job: str) -> list[int]:
    return [frame.step for frame in client.job(job).frames]


@pytest.mark.parametrize("kind", or_slow(["stores", "http"], ["http"]))
def test_a_small_user_does_not_wait_for_a_large_one(
    tmp_path: Path, tiny: Backbone, make_lease: MakeLease, kind: str
) -> None:
    """It has its picture while the first frames of the large one are still being drawn."""
    request = story(steps=8, frames=[{"prompt": p} for p in ("a fox", "a cat", "a bear")])
    one = story(steps=2, frames=[{"prompt": "a bear"}])
    expected = alone(tiny, make_lease, request, 1), alone(tiny, make_lease, one, 0)
    settings = settings_for(tmp_path / "data", "engine.lease_s=20", model=tiny.path)
    painter = Held(tiny)
    with (
        gateway(settings) as server,
        worker_of(server, painter, kind),
        server.client(user="large") as large,
        server.client(user="small") as small,
    ):
        job = large.create_story(request).job
        until(lambda: min(steps_of(large, job)[:2]) > 0, "two frames have begun")
        # Neither how fast steps are nor how slow the client is decides: the painter waits for the
        # lease of the small user, and after the first picture for the questions below.
        first = small.create_story(one).job
        until(lambda: small.job(first).frames[0].state.value == "running", "it has a lease")
        painter.may_go.set()
        *_, last = small.events(first)
        meanwhile = large.job(job)
        assert last.data["state"] == JobState.succeeded
        assert [frame.state.value for frame in meanwhile.frames[:2]] == ["running"] * 2
        painter.may_go.set()
        done = large.wait(job)
        assert done.state is JobState.succeeded
        assert [frame.attempt for frame in done.frames] == [1] * 3, "no lease was lost"
        found = done.frames[1].artifact, small.job(first).frames[0].artifact
        assert found[0] is not None and found[1] is not None
        assert (large.artifact(found[0]), small.artifact(found[1])) == expected


@pytest.mark.slow
def test_a_frame_that_sits_out_for_longer_than_a_lease_keeps_it(
    tmp_path: Path, tiny: Backbone
) -> None:
    """Bulk frames have no row while two newcomers draw."""
    lease_s = 3.0  # renewed four times as often: a busy machine may be late by two seconds
    wanted = (f"engine.lease_s={lease_s}", "limits.steps=1000")
    settings = settings_for(tmp_path / "data", *wanted, model=tiny.path)
    request = story(steps=300, bulk=True, frames=[{"prompt": "a fox"}, {"prompt": "a cat"}])
    one = story(steps=1000, frames=[{"prompt": "a bear"}])
    painter = Painter(tiny, bucket=BUCKET)
    with (
        gateway(settings) as server,
        worker_of(server, painter, "stores"),
        server.client() as client,
    ):

        def renewed() -> int:
            (row,) = server.state.database.rows(
                "SELECT MIN(renewals) AS times FROM attempts WHERE job = ? AND outcome IS NULL",
                (bulk,),
            )
            return int(row["times"])

        bulk = client.create_story(request).job
        until(lambda: min(steps_of(client, bulk)) > 0, "both have begun")
        users = [server.client(user=user) for user in ("ann", "ben")]
        jobs = [user.create_story(one).job for user in users]
        until(lambda: all(steps_of(client, job)[0] > 1 for job in jobs), "both are drawn")
        times = renewed()
        until(lambda: renewed() > times, "their last steps are reported")
        before, times, began = steps_of(client, bulk), renewed(), time.monotonic()
        until(lambda: time.monotonic() > began + 2 * lease_s, "two leases more have gone by")
        until(lambda: renewed() > times, "they were kept meanwhile")
        assert steps_of(client, bulk) == before, "they have sat out all the time"
        for user, job in zip(users, jobs, strict=True):
            user.cancel(job)
            user.close()
        done = client.wait(bulk)
        assert done.state is JobState.succeeded
        assert [frame.attempt for frame in done.frames] == [1, 1]
