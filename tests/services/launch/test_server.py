"""A server that has stopped holds no connection, whenever it was made, whatever it waits for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest
import uvicorn

from services.launch.listening import listen
from services.launch.server import Server


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
