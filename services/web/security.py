"""The gate before the application: who calls, how much comes in, and what is written down.

For every request: an id, security headers on the answer, one line in the log (method, route,
status, time; never a body, a query or a header) and a count in the metrics. For /v1: an API key,
or a caller on this machine where those are allowed; bodies of the expected type, bounded while they
arrive; a bound on the requests that one caller has open.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import Refusal
from services.keys import ANONYMOUS, Key, KeyRing
from services.settings import Settings
from services.store.archive import MAX_ARCHIVE_BYTES
from services.telemetry.logs import fields
from services.telemetry.traces import Traces, TraceSpan
from services.web.metrics import Metrics
from services.web.problems import log_fault, problem_response

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


WRONG_KEYS_PER_MINUTE = 30
KEY_REMEMBERED_S = 10.0
MAX_REMEMBERED = 4096


class KeyCheck:
    """Verifies bearer tokens: right ones are remembered for a moment, guessing is slowed down.

    Many callers may share an address (a proxy's), so a right key is let in however often others
    there were wrong; but from an address with many wrong ones, one token at a time is looked at.
    """

    def __init__(self, keys: KeyRing, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._known: dict[bytes, tuple[Key, float]] = {}
        self._wrong: Counter[str] = Counter()
        self._minute = 0
        self._suspects = asyncio.Lock()

    async def verify(self, token: str, client: str) -> Key:
        """The token's key. Raises ``Refusal``: 401 for a wrong one, 429 after many wrong ones."""
        if not token:
            raise unauthorized("send your API key as 'Authorization: Bearer KEY'")
        now = self._clock()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        key, until = self._known.get(digest, (None, 0.0))
        if key is not None and now < until:
            return key
        if int(now / 60) != self._minute:
            self._minute = int(now / 60)
            self._wrong.clear()
        suspect = self._wrong[client] >= WRONG_KEYS_PER_MINUTE
        # Hashing takes time on purpose, which must not be the event loop's.
        async with self._suspects if suspect else contextlib.nullcontext():
            key = await run_in_threadpool(self._keys.verify, token)
        if key is None and suspect:
            raise Refusal(429, "too_many_wrong_keys", "too many wrong keys", retry_after=60.0)
        if key is None:
            if len(self._wrong) < MAX_REMEMBERED:
                self._wrong[client] += 1
            raise unauthorized("this API key is not known; ask the operator for one")
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[digest] = (key, now + KEY_REMEMBERED_S)
        return key


def unauthorized(detail: str) -> Refusal:
    """The answer to a call without a right key."""
    return Refusal(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


IMPORT_PATH = "/v1/characters/import"
ARCHIVE_BODY_BYTES = MAX_ARCHIVE_BYTES + (64 << 10)  # the form's own lines
OPEN_PER_KEY = 512
OPEN_IN_ALL = 2048
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/openapi.json"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_USER = re.compile(r"[\x21-\x7e]{1,64}")
_UPLOADS = re.compile(
    r"/v1/(artifacts|images/edits|characters/(import|[^/]+/references)|persona-lab/cards)"
    r"|/internal/leases/[^/]+/finish"
)
_LOCAL_HOST = re.compile(
    r"(localhost|.+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE
)
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_API_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# For pages of the sites in `server.cors_origins`. Without credentials: keys are sent by hand.
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, X-Request-ID, X-User"
    ),
    "Access-Control-Max-Age": "600",
}
_EXPOSED = "Content-Disposition, Location, Preference-Applied, Retry-After, X-Request-ID"
_log = logging.getLogger("services.access")


@dataclass(frozen=True)
class Caller:
    """Who asks: `owner` is the id of the API key, `user` the end user the key speaks for. `request`
    and `trace` name the request that is being answered.
    """

    owner: str
    user: str = ""
    request: str = field(default="", compare=False)
    trace: str = field(default="", compare=False)


class Gate:
    """ASGI middleware; see the module. `worker_token` opens /internal."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keys: KeyRing,
        metrics: Metrics,
        worker_token: str,
        traces: Traces | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app, self._traces = app, traces or Traces()
        self._settings, self._metrics, self._clock = settings, metrics, clock
        self._keys = KeyCheck(keys, clock)
        former = settings.auth.former_worker_token
        self._worker_tokens = [token.encode() for token in (worker_token, former) if token]
        self._anonymous = settings.allows_anonymous
        public = urlsplit(settings.server.public_url or "").netloc
        self._public = frozenset({public} if public else ())
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope, moved = self._unprefixed(scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        span = self._traces.begin("request", headers.get("traceparent", ""))
        scope.setdefault("state", {}).update(request_id=request_id, trace=span.parent)
        shared = self._shared_with(scope["path"], headers)
        answer = _Answer(send, request_id, is_api=_is_api(scope["path"]), shared=shared)
        started = self._clock()
        try:
            if moved:
                await answer.refuse(RedirectResponse(moved, 308), scope, receive)
                return
            if shared and scope["method"] == "OPTIONS":
                await answer.refuse(Response(None, 204, _PREFLIGHT), scope, receive)
                return
            await self._admit(scope, headers, receive, answer)
        except Refusal as refusal:
            await answer.refuse(
                problem_response(refusal, request_id, scope["path"]), scope, receive
            )
        except Exception as error:
            log_fault(error, request_id)
            if answer.status:
                raise _Broken from None
            await answer.refuse(problem_response(error, request_id, scope["path"]), scope, receive)
        finally:
            self._note(scope, answer, started, span)

    async def _admit(
        self, scope: Scope, headers: Headers, receive: Receive, answer: _Answer
    ) -> None:
        path = scope["path"]
        if path in OPEN_PATHS:
            # Probes may ask with HEAD; the server leaves out the body by the method it was sent.
            heads = {"method": "GET"} if scope["method"] == "HEAD" else {}
            await self.app({**scope, **heads}, receive, answer)
            return
        self._check_origin(scope, headers)
        if not _is_api(path):
            await self.app(scope, receive, answer)
            return
        caller = await self._caller(path, headers, scope)
        state = scope["state"]
        state["caller"] = replace(caller, request=state["request_id"], trace=state["trace"])
        _check_type(scope["method"], path, headers)
        body = BoundedBody(receive, headers, self._body_bytes(path))
        await body.check_length()
        if self._open[caller.owner] >= OPEN_PER_KEY or self._open.total() >= OPEN_IN_ALL:
            mine = self._open[caller.owner] >= OPEN_PER_KEY
            raise Refusal(
                429 if mine else 503,
                "quota" if mine else "busy",
                "too many requests are open at once; wait for some to end",
                retry_after=1.0,
            )
        self._open[caller.owner] += 1
        try:
            await self.app(scope, body, answer)
        finally:
            self._open[caller.owner] -= 1
            if not self._open[caller.owner]:
                del self._open[caller.owner]

    def _body_bytes(self, path: str) -> int:
        """Most bytes of a body: what is imported may be as large as what is exported."""
        usual = self._settings.limits.body_bytes
        return max(usual, ARCHIVE_BODY_BYTES) if path == IMPORT_PATH else usual

    def _unprefixed(self, scope: Scope) -> tuple[Scope, str]:
        """The request without the path of `server.public_url`, which a proxy may have left on; and
        where it should have gone, when the slash behind that path is missing.
        """
        prefix, path = self._settings.server.public_path, scope["path"]
        if not prefix or not (path == prefix or path.startswith(prefix + "/")):
            return scope, ""
        rest = path[len(prefix) :]
        raw = scope.get("raw_path") or quote(path).encode()
        raw = raw[len(quote(prefix)) :] or b"/"
        return {**scope, "path": rest or "/", "raw_path": raw}, "" if rest else prefix + "/"

    def _shared_with(self, path: str, headers: Headers) -> str:
        """The other site whose page asks, where it may use /v1; else nothing."""
        origin = headers.get("origin", "")
        allowed = origin in self._settings.server.cors_origins
        return origin if allowed and path.startswith("/v1/") else ""

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Where anyone on this machine may call, others and web pages of other sites may not. The
        studio speaks with a key of its own, so pages of other sites may never use it.
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        foreign = (
            origin is not None
            and urlsplit(origin).netloc not in {host} | self._public
            and not self._shared_with(scope["path"], headers)
        )
        if foreign and not _is_api(scope["path"]):
            raise Refusal(403, "cross_site", "a page of another site may not use the studio")
        if not self._anonymous:
            return
        if _is_remote(scope):
            # Whatever address the server was told to listen on in the end.
            detail = "this server has no keys, so it serves this machine only"
            raise Refusal(403, "not_local", detail)
        if host not in self._public and not _LOCAL_HOST.fullmatch(host):
            # Else a page could give this machine a name of its own and read the answers.
            detail = "this server answers to localhost only; set server.public_url for other names"
            raise Refusal(403, "wrong_host", detail)
        cross = headers.get("sec-fetch-site") == "cross-site"
        if scope["method"] in _UNSAFE and (
            foreign or (cross and not self._shared_with(scope["path"], headers))
        ):
            raise Refusal(403, "cross_site", "a page of another site may not change anything here")

    async def _caller(self, path: str, headers: Headers, scope: Scope) -> Caller:
        token = _bearer(headers.get("authorization", ""))
        if path.startswith("/internal/"):
            shown = token.encode()
            if not any([secrets.compare_digest(shown, right) for right in self._worker_tokens]):
                raise unauthorized("this path is for drawing processes with the worker's token")
            return Caller("(worker)")
        user = headers.get("x-user", "")
        if user and not _USER.fullmatch(user):
            detail = "X-User is at most 64 visible ASCII characters without spaces"
            raise Refusal(400, "malformed", detail)
        if self._anonymous:
            return Caller(ANONYMOUS.id, user)
        client = (scope.get("client") or ("?",))[0]
        return Caller((await self._keys.verify(token, client)).id, user)

    def _note(self, scope: Scope, answer: _Answer, started: float, span: TraceSpan) -> None:
        route = getattr(scope.get("route"), "path", None)
        # Paths that are no route of ours could be endlessly many, or hold anything.
        name = route if isinstance(route, str) and route else "(other)"
        seconds = (answer.started_at or self._clock()) - started
        # So could methods: any word is one to HTTP.
        method = scope["method"] if scope["method"] in METHODS else "(other)"
        self._metrics.observe(method, name, answer.status, seconds)
        id = scope["state"]["request_id"]
        told = fields(
            method=method,
            route=name,
            status=answer.status,
            seconds=round(seconds, 4),
            request_id=id,
        )
        _log.info("%s %s %d %.3fs %s", method, name, answer.status, seconds, id, extra=told)
        span.end(
            f"{method} {name}",
            failed=answer.status >= 500 or not answer.status,
            **{"http.request.method": method, "http.route": name, "request_id": id},
            **{"http.response.status_code": answer.status},
        )


class _Broken(Exception):
    """The answer had begun when a fault came up, so the connection is cut."""


class _Answer:
    """`send` that adds our headers and remembers the status."""

    def __init__(self, send: Send, request_id: str, *, is_api: bool, shared: str) -> None:
        self._send, self._request_id, self._is_api = send, request_id, is_api
        self._shared = shared
        self.status = 0
        self.started_at: float | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.started_at = message["status"], time.monotonic()
            headers = MutableHeaders(scope=message)
            # What another application beside ours thinks of other sites is not asked.
            for name in [] if self._is_api else list(headers):
                if name.startswith("access-control-"):
                    del headers[name]
            if self._shared:
                headers["Access-Control-Allow-Origin"] = self._shared
                headers["Access-Control-Expose-Headers"] = _EXPOSED
                headers.add_vary_header("Origin")
            headers["X-Request-ID"] = self._request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Referrer-Policy", "no-referrer")
            for name, value in _API_HEADERS.items() if self._is_api else ():
                headers.setdefault(name, value)
        await self._send(message)

    async def refuse(self, response: Response, scope: Scope, receive: Receive) -> None:
        if not self.status:
            await response(scope, receive, self)


def _is_api(path: str) -> bool:
    return path.startswith(("/v1/", "/internal/")) or path in ("/v1", "/internal")


def _is_remote(scope: Scope) -> bool:
    """Whether the other end is another machine; what has no address is in this process."""
    try:
        return not ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return False


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _check_type(method: str, path: str, headers: Headers) -> None:
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if method not in _UNSAFE or method == "DELETE" or not has_body:
        return
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    wanted = "multipart/form-data" if _UPLOADS.fullmatch(path) else "application/json"
    if media_type != wanted:
        raise Refusal(415, "unsupported_media", f"the body must be {wanted}")
