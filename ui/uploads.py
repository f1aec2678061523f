"""What browsers upload to the page: bounded in each request and in all, and told as problems.

Gradio puts uploads into a folder of temporary files before anybody has looked at them, and anyone
who reaches the page may upload. Without a bound the folder fills the disk that the whole server
writes its temporary files to.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from consistent_gen.client.types import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_FILE_BYTES = 64 << 20  # an exported character; pictures have a bound of their own
MAX_BODY_BYTES = MAX_FILE_BYTES + (1 << 20)
FOLDER_BYTES = 512 << 20
FREE_BYTES = 128 << 20  # of the disk, which others write to as well
QUIET_S = 600.0  # a younger upload may be about to be used


class UploadGate:
    """ASGI around the page. folder: where uploads go."""

    def __init__(self, page: ASGIApp, folder: Path) -> None:
        self._page, self._folder = page, folder
        self._underway = 0  # bytes of uploads that are arriving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the page, or refuse it: 413 too large, 507 no room."""
        headers = {} if scope["type"] != "http" else dict(scope["headers"])
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._page(scope, receive, send)
            return
        said = headers.get(b"content-length", b"").decode("latin-1")
        size = int(said) if said.isdecimal() else MAX_BODY_BYTES
        answer = _UploadAnswer(receive, send)
        if size > MAX_BODY_BYTES:
            answer.refused = 413
        elif not headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            await self._pass(scope, answer)
        else:
            self._underway += size
            try:
                if await asyncio.to_thread(self._has_room, self._underway):
                    await self._pass(scope, answer)
                else:
                    answer.refused = 507
            finally:
                self._underway -= size
        if answer.refused:
            await answer.tell(answer.refused)

    async def _pass(self, scope: Scope, answer: _UploadAnswer) -> None:
        try:
            await self._page(scope, answer.receive, answer.send)
        except Exception:
            # The page was told that the caller had left.
            if not answer.refused:
                raise

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes fit, after the oldest uploads have made room as far as they may."""
        files = sorted(_files(self._folder), key=lambda file: file[0])
        used = sum(length for _, length, _ in files)
        before = time.time() - QUIET_S
        for changed, length, path in files:
            if used + size <= FOLDER_BYTES or changed > before:
                break
            path.unlink(missing_ok=True)
            used -= length
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        return used + size <= FOLDER_BYTES and free - size >= FREE_BYTES


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """(time of the last change, bytes, path) of all files below a folder."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                status = path.stat()
            except OSError:  # gone meanwhile
                continue
            found.append((status.st_mtime, status.st_size, path))
    return found


class _UploadAnswer:
    """`receive` and `send` of a request whose body is bounded while it arrives."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._bytes = 0
        self._begun = False
        self.refused = 0

    async def receive(self) -> Message:
        """The next message; of a body that is too large, the news that the caller has left."""
        message: Message = {"type": "http.disconnect"}
        if not self.refused:
            message = await self._receive()
            self._bytes += len(message.get("body", b""))
        if self._bytes > MAX_BODY_BYTES and not self._begun:
            self.refused = 413
            message = {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the page answers, unless it is to be a problem."""
        if message["type"] == "http.response.start" and message["status"] == 413:
            self.refused = 413
        if not self.refused:
            self._begun = True
            await self._send(message)

    async def tell(self, status: int) -> None:
        """Answer with a problem."""
        if status == 413:
            code = "too_large"
            detail = f"an upload has at most {MAX_FILE_BYTES >> 20} MiB; choose a smaller file"
        else:
            code = "storage_full"
            detail = "there is no room for uploads now; try again in some minutes"
        title = HTTPStatus(status).phrase
        problem = Problem(title=title, status=status, code=code, detail=detail)
        body = problem.model_dump_json(exclude_none=True).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
