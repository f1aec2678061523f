"""What strangers' connections cost a server: a reply in time, and memory that they may fill.

    python -m benchmarks.strangers [--requests 10000] [--half-open 500] [--out FILE.json]

Against `python -m services.serve --no-ui` in a process of its own, and beside it a bare
application on uvicorn alone, asked in turns over one kept connection each; use an idle machine.

- keep_alive: milliseconds of `GET /livez`, median and 95th percentile, ours and the bare one's.
- metrics_bytes: of `/metrics` after requests with invented methods, paths and names of headers.
- half_open: seconds of one good request while so many connections have sent half a head.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from benchmarks.serving_load import serve
from consistent_gen.checkpoints import write_json
from consistent_gen.runtime import versions

ROUNDS = 400  # of the two in turns
# Nothing but a reply, on the same library; the socket tells which port it got.
BARE = """
import asyncio, socket, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"2"), (b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})
found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
found.bind(("127.0.0.1", 0))
print(found.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error")).run(sockets=[found])
"""


class KeptConnection:
    """One connection that stays open and asks again and again."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._socket = socket.create_connection(self._address, 30.0)

    def ask(self, head: bytes) -> bytes:
        """Send a whole head; the status line of the answer, b"" where the server hung up."""
        try:
            self._socket.sendall(head)
            return self._answer()
        except OSError:
            return b""

    def again(self) -> None:
        """A new connection in the place of one that the server closed."""
        self._socket.close()
        self._socket = socket.create_connection(self._address, 30.0)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _answer(self) -> bytes:
        got = b""
        while b"\r\n\r\n" not in got:
            part = self._socket.recv(65536)
            if not part:
                return b""
            got += part
        head, _, body = got.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            part = self._socket.recv(65536)
            if not part:
                return b""
            body += part
        return head.split(b"\r\n")[0]


@contextlib.contextmanager
def bare() -> Iterator[tuple[str, int]]:
    """A server that does nothing but reply."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = "127.0.0.1", int(process.stdout.readline())
            connected(address)
            yield address
        finally:
            process.kill()


def connected(address: tuple[str, int]) -> None:
    """Wait until somebody listens there."""
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(address, 1.0):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens at {address}")


def head(method: str, path: str, **headers: str) -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def keep_alive(ours: tuple[str, int], other: tuple[str, int]) -> dict[str, dict[str, float]]:
    """Milliseconds of `GET /livez`, in turns, so that both meet the same machine."""
    connections = {"ours": KeptConnection(*ours), "bare": KeptConnection(*other)}
    taken: dict[str, list[float]] = {name: [] for name in connections}
    request = head("GET", "/livez")
    for turn in range(ROUNDS + 20):
        for name, connection in connections.items():
            began = time.perf_counter()
            status = connection.ask(request)
            assert b" 200 " in status, status
            if turn >= 20:  # the first ones warm up
                taken[name].append(1000.0 * (time.perf_counter() - began))
    for connection in connections.values():
        connection.close()
    return {
        name: {
            "p50_ms": round(statistics.median(values), 3),
            "p95_ms": round(statistics.quantiles(values, n=20)[-1], 3),
        }
        for name, values in taken.items()
    }


def hostile(address: tuple[str, int], count: int) -> int:
    """Send requests that nobody means; returns how many were answered at all."""
    dice = random.Random(0)
    connection = KeptConnection(*address)
    answered = 0
    for number in range(count):
        name = "".join(dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=12))
        request = (
            head(name, "/v1/stories"),
            head("GET", f"/v1/{name.lower()}/{number}"),
            head("POST", f"/{name}", Authorization=f"Bearer {name}", Content_Length="0"),
            head("GET", "/livez", **{f"X_{name}": name}),
        )[number % 4]
        status = connection.ask(request)
        answered += bool(status)
        if not status:
            connection.again()
    connection.close()
    return answered


def metrics_bytes(address: tuple[str, int]) -> int:
    """Size of what `/metrics` answers now."""
    with socket.create_connection(address, 30.0) as connection:
        connection.sendall(head("GET", "/metrics", Connection="close"))
        size = 0
        while part := connection.recv(65536):
            size += len(part)
    return size


def half_open(address: tuple[str, int], count: int) -> float:
    """Seconds of a good request while `count` connections have sent half a head."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            half = stack.enter_context(socket.create_connection(address, 30.0))
            with contextlib.suppress(OSError):  # the oldest may have had to go
                half.sendall(b"GET /livez HTT")
        began = time.perf_counter()
        good = KeptConnection(*address)
        stack.callback(good.close)
        status = good.ask(head("GET", "/livez"))
        assert b" 200 " in status, status
        return time.perf_counter() - began


def measure(requests: int, halves: int) -> dict[str, Any]:
    """All figures, as JSON."""
    with serve("--no-ui") as served, bare() as other:
        parts = urlsplit(served.url)
        ours = str(parts.hostname), int(parts.port or 80)
        found: dict[str, Any] = {"keep_alive": keep_alive(ours, other)}
        before = metrics_bytes(ours)
        answered = hostile(ours, requests)
        found["metrics_bytes"] = {
            "before": before, "after": metrics_bytes(ours), "requests": requests,
            "answered": answered,
        }  # fmt: skip
        found["half_open"] = {
            "connections": halves,
            "none_s": round(half_open(ours, 0), 4),
            "good_s": round(half_open(ours, halves), 4),
        }
    return found | {"versions": versions()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--half-open", type=int, default=500)
    parser.add_argument("--out", help="write the figures to this JSON file")
    options = parser.parse_args(arguments)
    found = measure(options.requests, options.half_open)
    for name in ("keep_alive", "metrics_bytes", "half_open"):
        print(f"{name}: {found[name]}")
    if options.out:
        write_json(options.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
