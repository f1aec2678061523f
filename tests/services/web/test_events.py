"""Event streams: the format on the wire, resuming, slow and leaving readers, and the end of all."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from consistent_gen.client import Client
from consistent_gen.client.types import EventType, StoryIn
from services.web import events as events_stream
from services.web.events import EventStream, Feed, job_events, until
from tests.services.web.hand import Hand, Server
from tests.services.web.hand import until as eventually


def lines_of(answer: httpx.Response) -> list[tuple[int, str, dict[str, Any]]]:
    """(id, type, data) of each event, read as the standard says."""
    found = []
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line:
            if "data" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
    return found


def lasting(events: list[tuple[int, str, dict[str, Any]]]) -> list[tuple[int, str, dict[str, Any]]]:
    return [event for event in events if event[1] not in ("step", "preview")]


def test_a_stream_in_the_standard_format(
    alice: Client, raw: httpx.Client, hand: Hand, story: StoryIn
) -> None:
    job = alice.create_story(story).job
    with raw.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        found = lines_of(answer)
    assert found[-1][1] == "done"
    assert all(data["id"] == number and data["type"] == kind for number, kind, data in found)
    assert [number for number, _, _ in found] == sorted({number for number, _, _ in found})
    # A preview is a picture that can be had.
    previews = [data["data"]["artifact"] for _, kind, data in found if kind == "preview"]
    assert previews

    # From any place on, by header or by parameter, the rest is the same; steps and previews are
    # kept until the frame is there.
    middle = found[len(found) // 2][0]
    rest = lasting([event for event in found if event[0] > middle])
    path = f"/v1/jobs/{job}/events"
    for options in (
        {"headers": {"Last-Event-ID": str(middle)}},
        {"params": {"after": str(middle)}},
        {"headers": {"Last-Event-ID": str(middle)}, "params": {"after": "0"}},
    ):
        with raw.stream("GET", path, **options) as answer:  # type: ignore[arg-type]
            assert lasting(lines_of(answer)) == rest
    # Nothing will follow: a browser must stop asking.
    last = {"Last-Event-ID": str(found[-1][0])}
    assert raw.get(path, headers=last).status_code == 204
    for bad in ("x", "-1", "9" * 30, "\u0663".encode().decode("latin-1")):
        assert raw.get(path, headers={"Last-Event-ID": bad.encode("latin-1")}).status_code == 400


def test_a_reader_that_is_cut_off_misses_nothing(alice: Client, hand: Hand, story: StoryIn) -> None:
    """Take one event per connection, breaking off each time in the middle of the job."""
    hand.pause()
    job = alice.create_story(story).job
    seen: list[int] = []
    kinds: list[EventType] = []
    hand.go()
    while not kinds or kinds[-1] is not EventType.done:
        stream = alice.events(job, after=seen[-1] if seen else 0)
        event = next(stream)
        stream.close()  # type: ignore[attr-defined]
        seen.append(event.id)
        kinds.append(event.type)
    assert seen == sorted(set(seen))
    # Steps and previews may have been replaced by newer ones; what is kept for good was seen.
    assert {event.id for event in alice.events(job)} <= set(seen)
    assert [kinds.count(EventType.frame), kinds[-1]] == [3, EventType.done]


def test_waiting_streams_are_woken_by_each_change(
    alice: Client, hand: Hand, story: StoryIn
) -> None:
    hand.pause()
    job = alice.create_story(story).job
    got: list[EventType] = []
    reader = threading.Thread(target=lambda: got.extend(e.type for e in alice.events(job)))
    reader.start()
    eventually(lambda: got, "the first event")
    hand.go()
    reader.join(60)
    assert got[-1] is EventType.done


def test_a_leaving_reader_leaves_nothing_behind(
    server: Server, alice: Client, hand: Hand, story: StoryIn
) -> None:
    hand.pause()
    job = alice.create_story(story).job
    eventually(lambda: len(server.state.feed) == 0, "the end of earlier streams")
    streams = [alice.events(job) for _ in range(5)]
    for stream in streams:
        next(stream)
    assert len(server.state.feed) == 5
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    eventually(lambda: len(server.state.feed) == 0, "the end of the streams")
    alice.cancel(job)


def test_a_deleted_story_ends_its_streams(alice: Client, hand: Hand, story: StoryIn) -> None:
    from consistent_gen.client import ApiError

    hand.pause()
    accepted = alice.create_story(story)
    stream = alice.events(accepted.job)
    next(stream)
    alice.delete_story(accepted.story)
    with pytest.raises(ApiError) as problem:
        list(stream)
    assert problem.value.status == 404


async def endless() -> AsyncGenerator[bytes]:
    while True:
        yield b"x" * 65536
        await asyncio.sleep(0)


def test_a_slow_reader_is_let_go_and_holds_no_memory() -> None:
    """A reader that stops taking: a page at most is waiting for it, and then it is dropped."""
    sent = 0

    async def run() -> None:
        async def send(message: Any) -> None:
            nonlocal sent
            if message["type"] == "http.response.body":
                if sent >= 4:
                    await asyncio.Event().wait()  # the connection takes no more
                sent += 1

        async def receive() -> Any:
            await asyncio.Event().wait()

        stream = EventStream(endless(), send_timeout_s=0.2)
        await asyncio.wait_for(stream({"type": "http"}, receive, send), 30)

    asyncio.run(run())
    assert sent == 4


def test_a_reader_of_a_real_socket_that_never_reads_is_let_go(
    monkeypatch: pytest.MonkeyPatch, server: Server, alice: Client, hand: Hand, story: StoryIn,
    keys: tuple[Any, str, str],
) -> None:  # fmt: skip
    monkeypatch.setattr(events_stream, "SEND_TIMEOUT_S", 0.3)

    async def flood(*_: Any) -> AsyncGenerator[bytes]:
        async for piece in endless():
            yield piece

    monkeypatch.setattr("services.web.routes.jobs.as_lines", lambda events: flood())
    job = alice.create_story(story).job
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        request = f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        connection.sendall(f"{request}Authorization: Bearer {keys[1]}\r\n\r\n".encode())
        time.sleep(1.0)
        got = 0
        connection.settimeout(30)
        # What had been buffered comes, and then the end.
        while data := connection.recv(1 << 20):
            got += len(data)
        assert 0 < got < 64 << 20


def test_a_silent_stream_says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_stream, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(events_stream, "LOOK_AGAIN_S", 0.01)

    async def run() -> None:
        feed = Feed()
        events = job_events(feed, "job", lambda after: [], 0)
        assert await asyncio.wait_for(anext(events), 30) is None
        assert await asyncio.wait_for(anext(events), 30) is None
        feed.close()
        assert [event async for event in events] == []
        assert len(feed) == 0

    asyncio.run(run())


def test_waiting_ends_by_change_by_time_and_by_leaving() -> None:
    async def run() -> None:
        feed = Feed()
        done = threading.Event()

        def finish() -> None:
            done.set()
            feed.changed({"job"})

        threading.Timer(0.1, finish).start()
        assert await until(feed, "job", done.is_set, 30.0)
        assert not await until(feed, "job", lambda: False, 0.05)

        async def gone() -> bool:
            return True

        assert not await until(feed, "job", lambda: False, 30.0, gone)

    asyncio.run(run())


def test_streams_end_when_the_server_stops(tmp_path: Any, story: StoryIn) -> None:
    from tests.services.web.hand import settings_in

    served = Server(settings_in(tmp_path)).start()
    with Client(served.url) as client:
        stream = client.events(client.create_story(story).job, patience_s=0.0)
        next(stream)
        served.stop()
