"""Bodies of requests, bounded in bytes and in time while they arrive."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from services.errors import Refusal

BODY_PAUSE_S = 30.0  # between two pieces of a body
DISCARD_S, DISCARD_BYTES = 5.0, 256 << 20  # of a body that is refused


class BoundedBody:
    """`receive` of a request whose body is bounded in bytes and in time while it arrives."""

    def __init__(self, receive: Receive, headers: Headers, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._bytes, self._complete = 0, False
        self._length = headers.get("content-length", "0")

    async def check_length(self) -> None:
        """Judge the announced length. Raises ``Refusal``."""
        if not self._length.isdecimal():
            raise Refusal(400, "malformed", "Content-Length is not a number")
        if int(self._length) > self._limit:
            await self._discard()
            raise Refusal(413, "too_large", self._too_large, headers={"Connection": "close"})

    async def __call__(self) -> Message:
        """The next message. Raises ``HTTPException``, which body parsers let through."""
        if self._complete:
            return await self._receive()
        message = await self._next()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            await self._discard()
            raise HTTPException(413, self._too_large, {"Connection": "close"})
        return message

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), BODY_PAUSE_S)
        except TimeoutError:
            detail = f"the body stopped arriving for {BODY_PAUSE_S:.0f} s"
            raise HTTPException(408, detail, {"Connection": "close"}) from None
        self._complete = not message.get("more_body", False)
        return message

    async def _discard(self) -> None:
        """Take what is under way, within bounds: most clients read no answer before they sent all,
        and a connection that is closed on unread data loses the answer.
        """
        with contextlib.suppress(TimeoutError, HTTPException):
            async with asyncio.timeout(DISCARD_S):
                thrown = 0
                while not self._complete and thrown < DISCARD_BYTES:
                    thrown += len((await self._next()).get("body", b""))

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self._limit:,} bytes; GET /v1/limits says what fits"
