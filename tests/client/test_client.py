"""The client against real servers that are slow, cut connections, stop and come back."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import EventType, ImageIn, Job, JobState, StoryIn
from consistent_gen.errors import ConsistentGenError
from tests.ports import kept_port
from tests.services.web.hand import Hand, Server, settings_in, until, world_png

STORY = StoryIn.model_validate(
    {"title": "x", "frames": [{"prompt": "a fox in a forest"}] * 4, "steps": 2, "preview_every": 1}
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = Server(settings_in(tmp_path_factory.mktemp("data"))).start()
    yield served
    served.stop()


@pytest.fixture(scope="module")
def hand(server: Server) -> Iterator[Hand]:
    drawing = Hand(server.url).start()
    yield drawing
    drawing.stop()


class Cutter(socketserver.ThreadingTCPServer):
    """A way to a server on which every connection breaks after so many bytes of answers.

    Leaving it waits for the connections, so callers must have closed theirs.
    """

    def __init__(self, port: int, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), CutConnection)
        self.there, self.limit = ("127.0.0.1", port), limit
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class CutConnection(socketserver.BaseRequestHandler):
    """One connection of a `Cutter`."""

    server: Cutter

    def handle(self) -> None:
        self.server.connections += 1
        with socket.create_connection(self.server.there) as there:
            asking = threading.Thread(target=pass_on, args=(self.request, there))
            asking.start()
            pass_on(there, self.request, self.server.limit)
            for connection in (there, self.request):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            asking.join()


def pass_on(one: socket.socket, other: socket.socket, limit: int = 1 << 40) -> None:
    """What `one` says, up to `limit` bytes, and that it says no more."""
    with contextlib.suppress(OSError):
        while limit > 0 and (data := one.recv(min(limit, 4096))):
            other.sendall(data)
            limit -= len(data)
        other.shutdown(socket.SHUT_WR)


def test_events_resume_over_a_connection_that_keeps_breaking(server: Server, hand: Hand) -> None:
    with Client(server.url) as direct, Cutter(server.port, 1100) as cutter:
        job = direct.create_story(STORY).job
        direct.wait(job)
        whole = list(direct.events(job))
        with Client(cutter.url) as client:
            pieced = list(client.events(job))
        assert pieced == whole
        assert cutter.connections > 3


def test_calls_are_tried_again_without_drawing_twice(server: Server, hand: Hand) -> None:
    """The answers to the first attempts are lost; the job was made by the first of them."""
    with Client(server.url) as direct, Cutter(server.port, 60) as cutter:
        before = {line.id for line in direct.jobs(limit=200).jobs}
        with Client(cutter.url) as client, pytest.raises(ApiError) as problem:
            client.create_story(STORY)
        assert (problem.value.status, problem.value.code) == (0, "unreachable")
        assert cutter.connections == 4
        made = {line.id for line in direct.jobs(limit=200).jobs} - before
        assert len(made) == 1


def test_waiting_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    with kept_port() as port:
        first = Server(settings_in(tmp_path), port).start()
        client = Client(first.url)
        job = client.create_story(STORY).job
        seen: list[EventType] = []
        done: list[Job] = []

        def read() -> None:
            for event in client.events(job):
                seen.append(event.type)

        reader = threading.Thread(target=read)
        waiter = threading.Thread(target=lambda: done.append(client.wait(job)))
        reader.start()
        waiter.start()
        until(lambda: seen, "the first event")
        first.stop()
        second = Server(settings_in(tmp_path), port).start()
        drawing = Hand(second.url).start()
        reader.join(60)
        waiter.join(60)
        assert seen[-1] is EventType.done
        assert seen.count(EventType.frame) == 4
        assert done[0].state is JobState.succeeded
        drawing.stop()
        second.stop()
        with pytest.raises(ApiError) as problem:
            client.wait(job, patience_s=0.0)
        assert problem.value.code == "unreachable"
        assert not client.ready()
        client.close()


def test_waiting_has_an_end(server: Server, hand: Hand) -> None:
    hand.pause()
    with Client(server.url) as client:
        job = client.create_story(STORY).job
        with pytest.raises(ApiError) as problem:
            client.wait(job, timeout_s=0.1)
        assert problem.value.code == "timeout"
        assert client.cancel(job).state is JobState.cancelled
    hand.go()


def test_ready_when_a_worker_is(server: Server, hand: Hand) -> None:
    with Client(server.url) as client:
        until(client.ready, "a ready worker")


def test_errors_are_problems(server: Server) -> None:
    with Client(server.url) as client:
        with pytest.raises(ConsistentGenError) as missing:
            client.job("job_" + "0" * 24)
        assert isinstance(missing.value, ApiError)
        assert missing.value.problem.status == 404
        assert missing.value.problem.request_id
        with pytest.raises(ApiError) as wrong:
            client.image(ImageIn(prompt="a wombat"))
        assert "wombat" in str(wrong.value)
    for url in ("", "nowhere", "ftp://x", "http://127.0.0.1:1"):
        with pytest.raises(ApiError) as away, Client(url) as client:
            client.limits()
        assert away.value.code == "unreachable"
    with pytest.raises(ApiError), Client(server.url, key="caf\u00e9\n"):
        pass


@pytest.mark.parametrize("id", ["", ".", "..", "../jobs", "a/b", "a?b", "a#b", "a b", "\u00e9"])
def test_ids_cannot_lead_elsewhere(server: Server, id: str) -> None:
    with Client(server.url) as client:
        for call in (client.job, client.artifact, client.delete_story, client.persona):
            with pytest.raises(ApiError) as problem:
                call(id)
            assert problem.value.status == 404


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200, content=b"<html>"), "garbled"),
        (httpx.Response(200, json={"unexpected": 1}), "garbled"),
        (httpx.Response(502, content=b"<html>bad gateway"), "refused"),
        (httpx.Response(301, headers={"Location": "http://elsewhere"}), "refused"),
    ],
)
def test_answers_of_something_else(answer: httpx.Response, code: str) -> None:
    """What a proxy or another program answers is no crash and is not followed."""
    with (
        Client("http://x", transport=httpx.MockTransport(lambda request: answer)) as client,
        pytest.raises(ApiError) as problem,
    ):
        client.limits()
    assert problem.value.code == code


def test_every_answer_has_its_type(server: Server, hand: Hand) -> None:
    with Client(server.url, user="somebody") as client:
        assert client.limits().frames == 64
        assert "vanilla" in client.model().methods
        accepted = client.create_story(STORY)
        job = client.wait(accepted.job)
        assert client.export(accepted.story, "zip").startswith(b"PK")
        assert client.artifact(str(job.frames[0].artifact)).startswith(b"\x89PNG")
        assert client.upload(world_png(1)).media_type == "image/png"
        assert client.characters().characters == []
        assert client.personas().personas == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, consistent_gen.client\n"
        "assert not {'httpx', 'pydantic', 'torch'} & set(sys.modules)\n"
        "from consistent_gen.client import Client, ApiError\n"
        "assert not {'torch', 'numpy', 'fastapi'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError):
        import consistent_gen.client

        consistent_gen.client.nothing  # noqa: B018


@pytest.mark.parametrize("wish", [-1.0, float("nan"), float("inf"), 1e9])
def test_a_server_cannot_make_a_client_wait_beyond_its_patience(wish: float) -> None:
    from consistent_gen.client.http import _Patience
    from consistent_gen.client.types import Problem

    problem = Problem(title="Busy", status=503, detail="busy", code="busy", retry_after=wish)
    patience = _Patience(0.1, longest_s=0.05)
    with pytest.raises(ApiError):
        for _ in range(100):
            patience.endure(ApiError(problem))
