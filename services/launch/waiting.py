"""Connections that do not say what they want: they get a deadline, and only so many may wait.

uvicorn waits for the rest of a request's head as long as somebody holds the connection. A few
hundred connections that send half a head each would use up what the process may open.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 15.0  # from the first byte, or from the connection, to the end of a request's head
MAX_WAITING = 256


class PromptProtocol(H11Protocol):
    """HTTP/1.1 whose callers send their requests' heads within HEAD_S."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller: whoever has waited longest makes room for one too many."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Bytes: a head is whole, or its deadline runs."""
        super().data_received(data)
        # Idle with bytes left over is half a head; idle without any, a connection kept alive, which
        # uvicorn has a time of its own for.
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _waiting(self) -> dict[PromptProtocol, None]:
        """All of this server's, in the order of their coming."""
        found: dict[PromptProtocol, None] = vars(self.server_state).setdefault("waiting", {})
        return found

    def _wait(self) -> None:
        if self._deadline is not None:
            return  # bytes that trickle in win no time
        self._deadline = self.loop.call_later(HEAD_S, self._give_up)
        waiting: Any = self._waiting
        waiting[self] = None
        if len(waiting) > MAX_WAITING:
            next(iter(waiting))._give_up()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._waiting.pop(self, None)

    def _give_up(self) -> None:
        self._stop_waiting()
        self.transport.abort()
