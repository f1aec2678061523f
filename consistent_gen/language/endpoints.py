"""A small client for OpenAI-compatible HTTP endpoints, with bounds on everything.

Standard library only. No redirects, no proxies, no retries, no environment variables: what is
asked goes to the address that was given and nowhere else. Messages never quote what was sent.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from consistent_gen.errors import ConsistentGenError, InputError, LimitError

_CHUNK = 65_536


class EndpointError(ConsistentGenError):
    """An endpoint could not be reached, was too slow, or answered with something unusable."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to send JSON and what to accept back.

    url: base address such as ``http://localhost:8000/v1``.
    api_key: sent as a bearer token and kept out of ``repr``.
    connect_s: seconds for the connection; total_s: seconds for the whole exchange.
    max_request_bytes, max_reply_bytes: larger bodies are refused.

    Raises ``InputError`` for an address that is not http or https.
    """

    url: str
    api_key: str = field(default="", repr=False)
    connect_s: float = 5.0
    total_s: float = 60.0
    max_request_bytes: int = 8 * 1024**2
    max_reply_bytes: int = 4 * 1024**2

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InputError(
                "an endpoint is an http(s) address without credentials, such as "
                "http://localhost:8000/v1; give the key as api_key"
            )
        if self.api_key and not self.api_key.isascii():
            raise InputError("the api_key has characters outside ASCII; check how it was copied")

    def post(self, path: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """POST ``payload`` as JSON to ``url/path`` and return the JSON object of the reply.

        Raises:
            LimitError: the request is larger than ``max_request_bytes``.
            EndpointError: no connection, deadline passed, status other than 200, reply too large,
                not JSON or not an object.
        """
        body = json.dumps(payload, ensure_ascii=True).encode()
        if len(body) > self.max_request_bytes:
            raise LimitError(
                f"the request has {len(body):,} bytes; the limit is {self.max_request_bytes:,}"
            )
        status, data = self._exchange(path, body)
        if status != 200:
            raise EndpointError(f"the endpoint {self._host} answered with status {status}")
        try:
            reply = json.loads(data)
        except (ValueError, RecursionError):
            raise EndpointError(f"the endpoint {self._host} did not answer with JSON") from None
        if not isinstance(reply, dict):
            raise EndpointError(f"the endpoint {self._host} answered with JSON but not an object")
        return reply

    @property
    def _host(self) -> str:
        return urlsplit(self.url).netloc

    def _exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        assert parts.hostname is not None
        connection = kind(parts.hostname, parts.port, timeout=self.connect_s)
        expired = threading.Event()
        watchdog: threading.Timer | None = None
        try:
            connection.connect()
            sock = connection.sock
            sock.settimeout(self.total_s)
            # Socket timeouts restart with every byte; only closing the socket bounds the whole.
            watchdog = threading.Timer(self.total_s, _cut, (sock, expired))
            watchdog.daemon = True
            watchdog.start()
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self.api_key:
                headers["Authorization"] = f"Bearer {self.api_key}"
            connection.request("POST", f"{parts.path.rstrip('/')}/{path}", body, headers)
            with connection.getresponse() as response:
                return response.status, self._read(response, expired)
        except (OSError, http.client.HTTPException) as error:
            late = expired.is_set() or isinstance(error, TimeoutError)
            reason = f"took longer than {self.total_s:g} s" if late else type(error).__name__
            raise EndpointError(f"the endpoint {self._host} failed: {reason}") from None
        finally:
            if watchdog is not None:
                watchdog.cancel()
            connection.close()

    def _read(self, response: http.client.HTTPResponse, expired: threading.Event) -> bytes:
        data = bytearray()
        while block := response.read(_CHUNK):
            data += block
            if len(data) > self.max_reply_bytes:
                raise EndpointError(
                    f"the endpoint {self._host} sent more than {self.max_reply_bytes:,} bytes"
                )
        if expired.is_set():
            raise TimeoutError
        return bytes(data)


def _cut(sock: socket.socket, expired: threading.Event) -> None:
    expired.set()
    with contextlib.suppress(OSError):  # it may have been closed in the meantime
        sock.shutdown(socket.SHUT_RDWR)
