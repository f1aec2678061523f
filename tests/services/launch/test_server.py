"""A server that has stopped holds no connection, whenever it was made, whatever it waits for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from services.launch import waiting
from services.launch.listening import listen
from services.launch.server import Server
from services.launch.waiting import PromptProtocol


class Visited(Server):
    """Somebody connects when it is about to stop, so many turns of its loop before it does."""

    def __init__(self, config: uvicorn.Config, turns: int) -> None:
        super().__init__(config)
        self.turns = turns

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None
        self.visitor = socket.create_connection(sockets[0].getsockname())
        for _ in range(self.turns):
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def config(app: Any, graceful_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        app, lifespan="off", log_config=None, timeout_graceful_shutdown=graceful_s
    )


def read_to_the_end(connection: socket.socket) -> int:
    """How many bytes came until the other side closed; TimeoutError if it does not."""
    connection.settimeout(10)
    got = 0
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(1 << 20):
            got += len(data)
    return got


@pytest.mark.parametrize("turns", range(6))
def test_who_connects_while_it_stops_is_let_go_at_once(turns: int) -> None:
    async def nobody_asks(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nothing was sent")

    with listen("127.0.0.1", 0) as listener:
        server = Visited(config(nobody_asks, 60), turns)
        server.should_exit = True
        began = time.monotonic()
        server.run(sockets=[listener])
    with server.visitor:
        assert read_to_the_end(server.visitor) == 0
    assert time.monotonic() - began < 30


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"2")]})  # fmt: skip
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.contextmanager
def running(http: Any = PromptProtocol) -> Iterator[tuple[str, int]]:
    with listen("127.0.0.1", 0) as listener:
        told = uvicorn.Config(
            hello, lifespan="off", log_config=None, timeout_graceful_shutdown=1, http=http
        )
        server = Server(told)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def answered(connection: socket.socket) -> bool:
    """Whether `hello` answered; its parts may come one by one."""
    connection.settimeout(10)
    connection.sendall(ASK)
    got = b""
    while not got.endswith(b"ok") and (data := connection.recv(1000)):
        got += data
    return got.endswith(b"\r\n\r\nok")


ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_half_a_head_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HEAD_S", 1.0)
    with running() as address, contextlib.ExitStack() as stack:
        half, silent, kept = (
            stack.enter_context(socket.create_connection(address)) for _ in range(3)
        )
        half.sendall(ASK[:10])
        assert answered(kept)
        for connection in (half, silent):
            assert read_to_the_end(connection) == 0
        assert answered(kept)  # one that has asked before may take its time
        kept.sendall(ASK[:10])
        assert read_to_the_end(kept) == 0


def test_many_half_heads_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 20)
    with running() as address, contextlib.ExitStack() as stack:
        halves = [stack.enter_context(socket.create_connection(address)) for _ in range(60)]
        for half in halves:
            half.sendall(ASK[:10])
        good = stack.enter_context(socket.create_connection(address))
        assert answered(good)
        assert all(read_to_the_end(half) == 0 for half in halves[:30])  # the oldest made room


def test_small_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio looks for
        again = listen("127.0.0.1", 0, inherited=os.dup(listener.fileno()))
        with again:
            assert again.proto == socket.IPPROTO_TCP


def test_who_does_not_read_the_answer_is_cut_off() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        while True:
            server.should_exit = True
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})

    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()) as caller,
    ):
        caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server = Server(config(endless, 1))
        server.run(sockets=[listener])
        assert read_to_the_end(caller) > 0
