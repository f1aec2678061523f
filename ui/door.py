"""Who may raise the page's own events: browsers that have opened the page.

Gradio hides private events from its client library and serves them to anyone who posts to its
queue. Here the page gives a cookie to whoever opens it, and posts without one reach the public
routes alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Collection
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from consistent_gen.client.types import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "consistent-gen-studio"
MAX_BODY_BYTES = 1 << 20  # of a public call; a story is some kilobytes
_REFUSED = "this is for the studio's page: open it, or call one of its public routes"


class SessionDoor:
    """ASGI around the page.

    Args:
        secret: what cookies are sealed with, the same after a restart.
        root: the path under which browsers see the page.
        public: name -> number of the events that anybody may call.
    """

    def __init__(self, page: ASGIApp, secret: str, root: str, public: dict[str, int]) -> None:
        self._page, self._secret = page, secret.encode()
        self._root, self._public = root or "/", public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the page, or refuse it with 403 or 413."""
        if scope["type"] != "http" or self._has_opened(Headers(scope=scope)):
            await self._page(scope, receive, send)
        elif scope["method"] == "GET":
            await self._page(scope, receive, self._greeting(scope, send))
        elif scope["method"] == "POST":
            await self._admit(scope, receive, send)
        else:
            await self._page(scope, receive, send)

    def _has_opened(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        given = cookies[COOKIE].value if COOKIE in cookies else ""
        session, _, seal = given.partition(".")
        return hmac.compare_digest(seal.encode(), self._seal(session).encode())

    def _seal(self, session: str) -> str:
        return hmac.new(self._secret, f"session {session}".encode(), hashlib.sha256).hexdigest()

    def _greeting(self, scope: Scope, send: Send) -> Send:
        """`send` that gives a cookie along with the page itself, and with nothing else of it."""

        async def greet(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    session = secrets.token_urlsafe(18)
                    kept = f"{COOKIE}={session}.{self._seal(session)}; Path={self._root}; "
                    secure = "; Secure" if scope.get("scheme") == "https" else ""
                    headers.append("Set-Cookie", f"{kept}HttpOnly; SameSite=Strict{secure}")
            await send(message)

        return greet

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message["type"] == "http.request" and message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                detail = f"a call has {MAX_BODY_BYTES:,} bytes at most"
                await _problem(413, "too_large", detail)(scope, receive, send)
                return
        if not self._is_public(scope["path"], body):
            await _problem(403, "no_session", _REFUSED)(scope, receive, send)
            return
        arrived = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return arrived.pop() if arrived else await receive()

        await self._page(scope, again, send)

    def _is_public(self, path: str, body: bytes) -> bool:
        try:
            said = json.loads(body)
        except ValueError:
            return False
        if not isinstance(said, dict):
            return False
        number = said.get("fn_index")  # it comes before the name in the path
        if path.endswith("/queue/join"):
            return type(number) is int and number in self._public.values()
        head, _, name = path.rstrip("/").rpartition("/")
        by_name = head.endswith(("/call", "/run", "/api")) and name in self._public
        return by_name and (number is None or number == self._public[name])


def numbers_of(dependencies: Collection[object], names: Collection[str]) -> dict[str, int]:
    """name -> number of these events of a page's configuration."""
    found: dict[str, int] = {}
    for number, event in enumerate(dependencies):
        assert isinstance(event, dict)
        if event["api_visibility"] == "public":
            found[event["api_name"]] = int(event.get("id", number))
    assert set(found) == set(names), f"public events: {sorted(found)}"
    return found


def _problem(status: int, code: str, detail: str) -> Response:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code)
    body = problem.model_dump_json(exclude_none=True)
    headers = {"Connection": "close"} if status == 413 else {}
    return Response(body, status, headers, media_type="application/problem+json")
