"""One connection to a server: calls that may be repeated, event streams, errors as `ApiError`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from consistent_gen.client.types import Event, Problem
from consistent_gen.errors import ConsistentGenError

ATTEMPTS = 4  # of a call that may be repeated, over a connection that breaks
FIRST_PAUSE_S = 0.25
# Longer than the server's heartbeat: a stream that is silent for this long is dead.
STREAM_SILENCE_S = 45.0
Wire = TypeVar("Wire", bound=BaseModel)


class ApiError(ConsistentGenError):
    """The server refused, or no answer came (status 0; code "unreachable" or "timeout")."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem

    @property
    def code(self) -> str:
        """The problem's code, for programs."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status, 0 when no answer came."""
        return self.problem.status


class EndOfStream(Exception):
    """The server says that nothing will ever follow."""


class Connection:
    """HTTP with our headers. Arguments are those of `Client`."""

    def __init__(
        self,
        url: str,
        key: str | None,
        user: str | None,
        timeout: float,
        transport: httpx.BaseTransport | None,
    ) -> None:
        headers = {"User-Agent": "consistent-gen-client"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if user is not None:
            headers["X-User"] = user
        try:
            # Proxies of the environment are not asked: most servers run on this machine.
            self._http = httpx.Client(
                base_url=url, headers=headers, timeout=timeout, transport=transport,
                trust_env=False,
            )  # fmt: skip
        except (httpx.InvalidURL, ValueError) as error:
            raise _unreachable(f"{url!r} with this key and user cannot be used: {error}") from None
        if transport is None and self._http.base_url.scheme not in ("http", "https"):
            raise _unreachable(f"{url!r} is not an address such as http://127.0.0.1:7860")
        self.url = url.rstrip("/")

    def close(self) -> None:
        """Close what is open."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        file: tuple[bytes, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool = False,
        extra_s: float = 0.0,
    ) -> httpx.Response:
        """One call and its successful answer. Raises ``ApiError``.

        file: (bytes, media type) of the form field "file". repeat: try again over a connection
        that breaks. extra_s: added to the time to wait for the answer.
        """
        sent: dict[str, Any] = {"params": parameters, "headers": dict(headers or {})}
        if body is not None:
            sent["content"] = body.model_dump_json(exclude_none=True)
            sent["headers"]["Content-Type"] = "application/json"
        if file is not None:
            sent["files"] = {"file": ("upload", *file)}
        if extra_s:
            sent["timeout"] = self._longer(extra_s)
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._http.request(method, path, **sent)
                break
            except httpx.TransportError as error:
                if not repeat or attempt == ATTEMPTS:
                    raise _unreachable(f"{self.url} does not answer: {_reason(error)}") from None
                time.sleep(pause_s)
                pause_s *= 2
        if answer.status_code >= 300:
            raise ApiError(_problem_of(answer))
        return answer

    def stream(self, path: str, after: int, *, silence_s: float | None = None) -> Iterator[Event]:
        """The events that follow number `after`, until the server ends the stream.

        silence_s: after how many seconds without a byte it counts as broken.
        Raises ``EndOfStream`` when nothing will follow, ``ApiError`` when refused or broken.
        """
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        silence_s = STREAM_SILENCE_S if silence_s is None else silence_s
        timeout = httpx.Timeout(self._http.timeout.connect, read=silence_s)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                if answer.status_code == 204:
                    raise EndOfStream
                if answer.status_code >= 300:
                    answer.read()
                    raise ApiError(_problem_of(answer))
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        yield Event.model_validate_json(line[5:].strip())
        except httpx.TransportError as error:
            raise _unreachable(f"the stream broke: {_reason(error)}") from None
        except ValidationError:
            raise garbled(answer) from None

    def _longer(self, extra_s: float) -> httpx.Timeout:
        timeout = self._http.timeout
        read = None if timeout.read is None else timeout.read + extra_s
        return httpx.Timeout(timeout.connect, read=read)


def read(kind: type[Wire], answer: httpx.Response) -> Wire:
    """The body as `kind`. Raises ``ApiError`` (code "garbled") when it is something else."""
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError:
        raise garbled(answer) from None


def garbled(answer: httpx.Response) -> ApiError:
    """The error for an answer that is not in our language."""
    detail = "the answer is not what this client expects; are server and client of one version?"
    return ApiError(problem(answer.status_code, "garbled", detail))


def problem(status: int, code: str, detail: str) -> Problem:
    """A problem that this side noticed."""
    return Problem(title=code, status=status, detail=detail, code=code)


def path_id(text: str) -> str:
    """`text` as one path segment: an id from elsewhere cannot lead to another path."""
    if not text or not text.isascii() or not all(c.isalnum() or c in "_-" for c in text):
        raise ApiError(problem(404, "not_found", f"{text[:60]!r} is not an id of a server"))
    return text


def _problem_of(answer: httpx.Response) -> Problem:
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        detail = f"the server answered {answer.status_code} {answer.reason_phrase}"
        return problem(answer.status_code, "refused", detail)


def _unreachable(detail: str) -> ApiError:
    return ApiError(problem(0, "unreachable", detail))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
