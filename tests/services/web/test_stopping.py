"""A server that stops and clients that leave: what happens to what they waited for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from consistent_gen.client import Client
from consistent_gen.client.types import JobState
from tests.every_run import or_slow
from tests.services.web.hand import Hand, Server, settings_in, until, world_png

WAITING: dict[str, dict[str, Any]] = {
    "generations": {"url": "/v1/images/generations", "json": {"prompt": "a fox"}},
    "edits": {
        "url": "/v1/images/edits",
        "files": {"image": world_png(1)},
        "data": {"prompt": "a small fox", "character": "a small fox"},
    },
    "images": {
        "url": "/v1/images", "json": {"prompt": "a fox"}, "headers": {"Prefer": "wait=60"},
    },
}  # fmt: skip


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Server]:
    """A server of its own, on which nobody draws."""
    served = Server(settings_in(tmp_path / "data")).start()
    yield served
    served.stop()


def asked(
    server: Server, kind: str, key: str | None = None, timeout: float = 60.0
) -> Callable[[], httpx.Response]:
    request = WAITING[kind]
    headers = {**request.get("headers", {}), **({"Idempotency-Key": key} if key else {})}
    return lambda: httpx.post(
        server.url + request["url"],
        **{name: value for name, value in request.items() if name not in ("url", "headers")},
        headers=headers,
        timeout=timeout,
    )


def job_of(server: Server) -> str:
    """The only job."""
    with Client(server.url) as client:
        (job,) = until(lambda: client.jobs().jobs, "a job")
        return str(job.id)


def state_of(server: Server, job: str) -> JobState:
    return server.state.jobs.get("anonymous", job).state


STOPPED = [("generations", None), ("edits", "mine"), ("generations", "mine"), ("edits", None)]


@pytest.mark.parametrize("case", or_slow(STOPPED, STOPPED[:2]))
def test_stopping_tells_the_truth_and_cancels_nothing(
    tmp_path: Path, case: tuple[str, str | None]
) -> None:
    kind, key = case
    server = Server(settings_in(tmp_path / "data")).start()
    answers: list[httpx.Response] = []
    call = asked(server, kind, key)
    waiting = threading.Thread(target=lambda: answers.append(call()))
    waiting.start()
    job = job_of(server)
    server.stop()
    waiting.join(60.0)
    (answer,) = answers
    told = answer.json()
    assert answer.status_code == 503 and told["code"] == told["error"]["code"] == "stopping"
    assert job in told["detail"] and "600" not in told["detail"]
    assert ("Idempotency-Key" in told["detail"]) == (key is not None)
    assert answer.headers["location"] == f"/v1/jobs/{job}" and "retry-after" in answer.headers
    server = Server(server.settings).start()
    hand = Hand(server.url).start()
    try:
        assert state_of(server, job) in (JobState.queued, JobState.running, JobState.succeeded)
        if key is not None:
            again = asked(server, kind, key)()
            assert again.status_code == 200 and again.json()["job"] == job
        until(lambda: state_of(server, job) is JobState.succeeded, "the drawing")
    finally:
        hand.stop()
        server.stop()


def test_a_stream_that_stops_says_so(tmp_path: Path) -> None:
    server = Server(settings_in(tmp_path / "data")).start()
    body = {"prompt": "a fox", "stream": True}
    with httpx.stream(
        "POST", f"{server.url}/v1/images/generations", json=body, timeout=60.0
    ) as answer:
        lines = answer.iter_lines()
        job = job_of(server)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        events = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
        stopping.join(60.0)
    assert [event["type"] for event in events] == ["error"]
    assert events[0]["error"]["code"] == "stopping" and job in events[0]["error"]["message"]
    server = Server(server.settings).start()
    assert state_of(server, job) is JobState.queued
    server.stop()


@pytest.mark.parametrize("kind", or_slow(WAITING, ["generations"]))
def test_who_leaves_cancels_for_themselves_alone(idle: Server, kind: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        asked(idle, kind, timeout=1.0)()
    job = job_of(idle)
    until(lambda: state_of(idle, job) is JobState.cancelled, "the cancelling")


@pytest.mark.parametrize("kind", or_slow(WAITING, ["images"]))
def test_who_leaves_cancels_nothing_that_has_a_key(idle: Server, kind: str) -> None:
    """Two wait for one job; one of them leaves, and the other gets its pictures."""
    answers: list[httpx.Response] = []
    call = asked(idle, kind, "shared")
    waiting = threading.Thread(target=lambda: answers.append(call()))
    waiting.start()
    job = job_of(idle)
    with pytest.raises(httpx.ReadTimeout):
        asked(idle, kind, "shared", timeout=1.0)()
    until(lambda: len(idle.state.feed) == 1, "that it was noticed")
    assert job_of(idle) == job and state_of(idle, job) is JobState.queued
    hand = Hand(idle.url).start()
    try:
        waiting.join(60.0)
        assert answers[0].status_code == 200
        later = asked(idle, kind, "shared")()
        assert later.json() == answers[0].json(), "and whoever comes later"
    finally:
        hand.stop()


def test_a_reader_who_leaves_a_stream_with_a_key_cancels_nothing(idle: Server) -> None:
    body = {"prompt": "a fox", "stream": True}
    for key, state in (("mine", JobState.queued), (None, JobState.cancelled)):
        headers = {} if key is None else {"Idempotency-Key": key}
        with (
            httpx.stream(
                "POST",
                f"{idle.url}/v1/images/generations",
                json=body,
                headers=headers,
                timeout=60.0,
            ),
            Client(idle.url) as client,
        ):
            job = until(lambda: client.jobs(), "a job").jobs[0].id
        until(lambda: len(idle.state.feed) == 0, "that it was noticed")
        until(lambda job=job, state=state: state_of(idle, job) is state, "its state")  # type: ignore[misc]


def test_a_key_belongs_to_one_request(idle: Server) -> None:
    for kind in ("generations", "edits"):
        with pytest.raises(httpx.ReadTimeout):
            asked(idle, kind, kind, timeout=1.0)()
    other = httpx.post(
        f"{idle.url}/v1/images/generations",
        json={"prompt": "a bear"},
        headers={"Idempotency-Key": "generations"},
    )
    assert other.status_code == 409 and other.json()["error"]["code"] == "conflict"
    edit = httpx.post(
        idle.url + WAITING["edits"]["url"],
        files={"image": world_png(2)},
        data=WAITING["edits"]["data"],
        headers={"Idempotency-Key": "edits"},
    )
    assert edit.status_code == 409, "another picture is another request"
