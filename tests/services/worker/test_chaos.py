"""kill -9 of processes in the middle of stories: nothing lost, drawn twice or charged wrongly."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.client import Client
from consistent_gen.client.types import JobState
from consistent_gen.models.backbone import Backbone
from tests.ports import kept_port
from tests.services.small_model import story
from tests.services.worker.servers import (
    Gateway,
    GatewayProcess,
    WorkerProcess,
    gateway,
    settings_for,
    until,
)

# Each process loads torch and a model of its own.
pytestmark = pytest.mark.slow


def running(server: Gateway, worker: str) -> list[dict[str, Any]]:
    """Frames that a worker has on lease."""
    rows = server.state.database.rows(
        "SELECT f.job, f.frame, a.worker FROM attempts a JOIN job_frames f ON f.lease = a.lease "
        "WHERE a.worker = ? AND f.state = 'running'",
        (worker,),
    )
    return [dict(row) for row in rows]


def ready(server: Gateway) -> set[str]:
    """Names of the workers that can draw."""
    return {name for name, is_ready in server.state.workers.states().items() if is_ready}


def kill_in_mid_story(tmp_path: Path, tiny: Backbone, *, kills: int, lease_s: float) -> list[float]:
    """Returns how long after each kill the killed worker's first frame was on lease again."""
    settings = settings_for(
        tmp_path / "data",
        f"engine.lease_s={lease_s}",
        # Leases that a busy machine lets lapse are tried again, too.
        "storage.max_attempts=1000",
        model=tiny.path,
    )
    dice = random.Random(0)
    back_s: list[float] = []
    with gateway(settings) as server, server.client() as client:
        workers = {n: WorkerProcess(server.address, settings, n) for n in ("w0", "w1")}
        try:
            jobs = []
            for number in range(kills):
                # Somebody must be there to take over, or we would measure how a process starts.
                until(lambda: len(ready(server) & set(workers)) > 1, "two workers are ready")
                frames = [{"prompt": "a fox"}] * 3
                jobs.append(client.create_story(story(steps=8, seed=number, frames=frames)).job)
                held = until(lambda: [f for w in workers for f in running(server, w)], "they draw")
                victim = dice.choice(held)
                dead, job, index = victim["worker"], victim["job"], victim["frame"]
                workers.pop(dead).kill()
                killed = time.monotonic()
                fresh = f"w{number + 2}"
                workers[fresh] = WorkerProcess(server.address, settings, fresh)

                def resumed(job: str = job, index: int = index, dead: str = dead) -> bool:
                    frame = client.job(job).frames[index]
                    rows = server.state.database.rows(
                        "SELECT worker FROM attempts WHERE job = ? AND frame = ? "
                        "ORDER BY started_at DESC LIMIT 1",
                        (job, index),
                    )
                    return frame.state == "succeeded" or rows[0]["worker"] != dead

                until(resumed, "its frame is on lease again")
                back_s.append(time.monotonic() - killed)
            done = [client.wait(job) for job in jobs]
            assert {job.state for job in done} == {JobState.succeeded}
            for job in done:
                drawn = client.story(job.story).frames
                assert [len(frame.versions) for frame in drawn] == [1] * len(job.frames)
                assert [e.type for e in client.events(job.id)].count("frame") == len(job.frames)
        finally:
            for worker in workers.values():
                worker.kill()
    return back_s


def test_twenty_killed_workers_lose_nothing(tmp_path: Path, tiny: Backbone) -> None:
    back_s = kill_in_mid_story(tmp_path, tiny, kills=20, lease_s=1.0)
    print("lease back after", [round(s, 2) for s in back_s])


def test_a_worker_process_drains_on_sigterm(tmp_path: Path, tiny: Backbone) -> None:
    settings = settings_for(tmp_path / "data", model=tiny.path)
    with gateway(settings) as server, server.client() as client:
        worker = WorkerProcess(server.address, settings, "w")
        job = client.create_story(story(steps=100)).job
        until(lambda: running(server, "w"), "it draws")
        assert worker.terminate() == 0
        frames = client.job(job).frames
        assert {frame.state for frame in frames} == {"queued"}
        assert not server.state.workers.states()


def test_a_gateway_that_is_killed_costs_the_worker_nothing(tmp_path: Path, tiny: Backbone) -> None:
    """Three times, for longer than a lease, while a worker draws."""
    lease_s = 1.0
    settings = settings_for(
        tmp_path / "data", f"engine.lease_s={lease_s}", "storage.max_attempts=1", model=tiny.path
    )
    brake = tmp_path / "brake"
    brake.touch()
    with kept_port() as port:
        server = GatewayProcess(settings, port)
        worker = WorkerProcess(server.address, settings, "w", brake=str(brake))
        try:
            with Client(server.address, timeout=60.0) as client:
                request = story(steps=100, frames=[{"prompt": "a fox"}, {"prompt": "a cat"}])
                job = client.create_story(request).job
                for _ in range(3):
                    at = max(frame.step for frame in client.job(job).frames)
                    until(lambda at=at: client.job(job).frames[0].step > at, "it draws")  # type: ignore[misc]
                    server.kill()
                    time.sleep(2 * lease_s)
                    server.start()
                brake.unlink()
                done = client.wait(job)
                assert done.state is JobState.succeeded
                assert [frame.attempt for frame in done.frames] == [1, 1]
                assert [event.type for event in client.events(job)].count("frame") == 2
        finally:
            worker.kill()
            server.kill()


def test_a_frame_that_kills_its_worker_fails_alone(tmp_path: Path, tiny: Backbone) -> None:
    settings = settings_for(tmp_path / "data", model=tiny.path)
    prompts = ("a cat", "a bear", "a fox", "a cat")
    with gateway(settings) as server, server.client() as client:

        def fresh() -> WorkerProcess:
            return WorkerProcess(server.address, settings, "w", poison="a bear")

        worker, deaths = fresh(), 0
        try:
            job = client.create_story(story(steps=8, frames=[{"prompt": p} for p in prompts])).job
            end = time.monotonic() + 120.0
            while not client.job(job).state.finished:
                assert time.monotonic() < end
                if not worker.alive:
                    worker, deaths = fresh(), deaths + 1
                time.sleep(0.05)
        finally:
            worker.kill()
        done = client.job(job)
        assert [frame.state for frame in done.frames] == [
            "succeeded", "failed", "succeeded", "succeeded",
        ]  # fmt: skip
        assert [frame.attempt for frame in done.frames] == [1, 3, 1, 1]
        assert done.frames[1].error is not None and done.frames[1].error.code == "worker_lost"
        assert deaths == 4, "once in company, and three times alone"
