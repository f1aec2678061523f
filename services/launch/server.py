"""Uvicorn as we run it: once it has stopped, no connection is open any more."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

# Turns of the event loop from accepting a connection until uvicorn knows of it.
ACCEPTING_TURNS = 3


class Server(uvicorn.Server):
    """A uvicorn server whose connections all end with it.

    When it stops, uvicorn tells the connections it knows of to end after their answers. One that
    was accepted a moment before is not among them: asyncio loses its socket when the listener is
    closed first, or it holds up the stop until the time for a graceful end is over and stays open.
    Either way its caller waits for an answer that never comes. So accepting ends before anything
    else does, and what is still open after the graceful end is cut off.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nobody any more, let the answers under way end, close every connection."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listener in server.sockets:
                loop.remove_reader(listener.fileno())
        for _ in range(ACCEPTING_TURNS):
            await asyncio.sleep(0)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # a transport closes its socket one turn later
