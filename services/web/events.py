"""Server-sent events: what happens to a job, from any event on, for readers of any speed.

Nothing is kept per reader. A stream reads events from the job store a page at a time and sends the
next page when the last one has left; a reader that takes nothing for `SEND_TIMEOUT_S` is let go and
finds everything again with Last-Event-ID. A stream that is silent sends a comment every
`HEARTBEAT_S`, so that proxies and clients can tell silence from a dead connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator
from enum import Enum

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from consistent_gen.client.types import Event, EventType

HEARTBEAT_S = 15.0
SEND_TIMEOUT_S = 30.0
# Changes made by other processes do not wake us, so every stream also looks by itself.
LOOK_AGAIN_S = 1.0
# Steps of a small model come faster than anyone can watch.
SHORTEST_PAUSE_S = 0.05
PAGE = 500
RETRY_MS = 1000
Page = Callable[[int], list[Event]]


class Feed:
    """Wakes streams on event loops when the job store, on its threads, says that a job changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: set[tuple[str | None, asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._watchers)

    @property
    def closed(self) -> bool:
        """Whether streams shall end."""
        return self._closed

    def changed(self, jobs: Collection[str]) -> None:
        """Wake who watches one of `jobs`, and who watches everything. From any thread."""
        with self._lock:
            woken = [(loop, e) for job, loop, e in self._watchers if job is None or job in jobs]
        for loop, event in woken:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End all streams, so that the server can stop; readers come back and resume."""
        self._closed = True
        with self._lock:
            woken = list(self._watchers)
        for _, loop, event in woken:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    @contextlib.contextmanager
    def watch(self, job: str | None) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set when `job` (None: any job) changes."""
        watcher = (job, asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._watchers.add(watcher)
        try:
            yield watcher[2]
        finally:
            with self._lock:
                self._watchers.discard(watcher)


class WaitEnd(Enum):
    """Why a wait is over."""

    done = "what was waited for has happened"
    time = "it has not within the time"
    gone = "the client has left"
    stopping = "the server stops"

    def __bool__(self) -> bool:
        return self is WaitEnd.done


async def happened(changed: asyncio.Event, timeout_s: float) -> None:
    """Wait until `changed` is set or `timeout_s` went by."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(changed.wait(), timeout_s)


async def until(
    feed: Feed, job: str | None, done: Callable[[], bool], timeout_s: float,
    gone: Callable[[], Awaitable[bool]] | None = None,
) -> WaitEnd:  # fmt: skip
    """Wait until `done()` (asked on a thread after each change), and say what ended the waiting.

    gone: tells that the client has left.
    """
    end = time.monotonic() + timeout_s
    with feed.watch(job) as changed:
        while True:
            changed.clear()
            if await run_in_threadpool(done):
                return WaitEnd.done
            if gone is not None and await gone():
                return WaitEnd.gone
            if feed.closed:
                return WaitEnd.stopping
            left_s = end - time.monotonic()
            if left_s <= 0:
                return WaitEnd.time
            await happened(changed, min(left_s, LOOK_AGAIN_S))


async def job_events(feed: Feed, job: str, page: Page, after: int) -> AsyncGenerator[Event | None]:
    """The events of `job` after number `after`, until `done`; None when a heartbeat is due.

    page: reads up to `PAGE` events after a number; called on a thread.
    """
    heard = time.monotonic()
    with feed.watch(job) as changed:
        while not feed.closed:
            changed.clear()
            read_at = time.monotonic()
            events = await run_in_threadpool(page, after)
            for event in events:
                after = event.id
                yield event
            # More can follow a `done`: the job was tried again. Only the newest one ends.
            if events and events[-1].type is EventType.done:
                return
            if events:
                heard = time.monotonic()
            elif time.monotonic() - heard >= HEARTBEAT_S:
                yield None
                heard = time.monotonic()
            if len(events) < PAGE:
                await happened(changed, LOOK_AGAIN_S)
                await asyncio.sleep(max(0.0, read_at + SHORTEST_PAUSE_S - time.monotonic()))


async def as_lines(events: AsyncIterator[Event | None]) -> AsyncGenerator[bytes]:
    """Events as the lines of an event stream."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    async for event in events:
        if event is None:
            yield b": still here\n\n"
        else:
            data = event.model_dump_json(exclude_none=True)
            yield f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n".encode()


class EventStream(Response):
    """Sends `lines` as they come; ends when they do, the client leaves, or it reads too slowly."""

    media_type = "text/event-stream"

    def __init__(self, lines: AsyncGenerator[bytes], send_timeout_s: float | None = None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._lines = lines
        self._send_timeout_s = SEND_TIMEOUT_S if send_timeout_s is None else send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one reader."""
        start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, leaving):
                task.cancel()
            results = await asyncio.gather(writing, leaving, return_exceptions=True)
        if isinstance(results[0], Exception) and not isinstance(results[0], TimeoutError):
            raise results[0]

    async def _write(self, send: Send) -> None:
        async with contextlib.aclosing(self._lines) as lines:
            async for line in lines:
                await self._timed(send, line, more=True)
        await self._timed(send, b"", more=False)

    async def _timed(self, send: Send, body: bytes, *, more: bool) -> None:
        message: Message = {"type": "http.response.body", "body": body, "more_body": more}
        await asyncio.wait_for(send(message), self._send_timeout_s)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
