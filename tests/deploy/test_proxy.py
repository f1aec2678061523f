"""The proxy of deploy/, run for real: what it passes, what it hides, that events flow at once."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from consistent_gen.client.types import Problem
from tests.ports import kept_port

CONF = Path(__file__).resolve().parents[2] / "deploy/kubernetes/base/proxy.conf"
PATIENCE_S = 15.0

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")


class Gateway(BaseHTTPRequestHandler):
    """Answers every GET with its path; /v1/slow sends one line and, once that was read, another."""

    was_read = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.path == "/v1/slow":
            self.wfile.write(b"first\n")
            self.wfile.flush()
            self.wfile.write(f"read: {self.was_read.wait(PATIENCE_S)}\n".encode())
            return
        self.wfile.write(f"{self.path} for {self.headers['X-Forwarded-For']}\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with kept_port() as port:
        yield port


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("proxy")
    gateway = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    gateway.daemon_threads = False  # closing it waits for the answers under way
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    text = CONF.read_text(encoding="utf-8").replace("/tmp/", f"{folder}/")
    text = text.replace("gateway:8000", f"127.0.0.1:{gateway.server_port}")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
    (folder / "nginx.conf").write_text(text)
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20
        ) as client:
            for _ in range(200):
                try:
                    client.get("/livez")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, "nginx refuses the configuration"
                    time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(20)
        gateway.shutdown()
        gateway.server_close()


@pytest.mark.parametrize(
    "path", ["/", "/v1/jobs?state=queued", "/livez", "/readyz", "/assets/x.js"]
)
def test_what_is_for_everybody_passes(proxy: httpx.Client, path: str) -> None:
    answer = proxy.get(path, headers={"X-Forwarded-For": "6.6.6.6"})
    assert answer.status_code == 200
    assert answer.text == f"{path} for 127.0.0.1\n", "a caller cannot claim another address"


@pytest.mark.parametrize(
    "path",
    [
        "/internal/leases",
        "/internal",
        "//internal/leases",
        "/v1/../internal/leases",
        "/v1/%2e%2e/internal/leases",
        "/%69nternal/leases",
        "/./internal/workers",
        "/metrics",
        "/%6detrics",
    ],
)
def test_what_is_for_workers_is_hidden_however_it_is_written(
    proxy: httpx.Client, path: str
) -> None:
    with socket.create_connection((proxy.base_url.host, proxy.base_url.port or 0)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := raw.recv(4096):
            answer += piece
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer[:200]


def test_events_arrive_when_they_happen(proxy: httpx.Client) -> None:
    with proxy.stream("GET", "/v1/slow") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "first"
        Gateway.was_read.set()
        assert next(lines) == "read: True", "the proxy kept the first line back"


def _from_address(proxy: httpx.Client, own: str) -> httpx.Client:
    """A caller of an address of its own, so that limits do not touch the other tests."""
    return httpx.Client(
        base_url=proxy.base_url, transport=httpx.HTTPTransport(local_address=own), timeout=30.0
    )


def test_a_flood_of_requests_is_told_to_wait_and_ends(proxy: httpx.Client) -> None:
    """200 at once and 50 a second; the connections stay the gateway's."""
    with _from_address(proxy, "127.0.0.3") as client:
        answers = [client.get("/livez") for _ in range(600)]
        passed = [answer for answer in answers if answer.status_code == 200]
        (refused, *_) = (answer for answer in answers if answer.status_code != 200)
        assert len(passed) >= 150
        problem = refused.json()
        assert (refused.status_code, problem["status"], problem["code"]) == (
            429, 429, "too_many_requests",
        )  # fmt: skip
        assert refused.headers["Retry-After"] == "1" and Problem.model_validate(problem)
        assert refused.headers["content-type"] == "application/problem+json"
        end = time.monotonic() + PATIENCE_S
        while client.get("/livez").status_code != 200:
            assert time.monotonic() < end, "the limit does not end"
            time.sleep(0.1)


def test_one_address_has_so_many_connections_with_requests(proxy: httpx.Client) -> None:
    """Each waits for an answer that does not end by itself."""
    Gateway.was_read.clear()
    address = proxy.base_url.host, proxy.base_url.port or 0
    with contextlib.ExitStack() as open_ones:
        found = []
        for _ in range(70):
            raw = open_ones.enter_context(
                socket.create_connection(address, PATIENCE_S, source_address=("127.0.0.2", 0))
            )
            raw.sendall(b"GET /v1/slow HTTP/1.1\r\nHost: x\r\n\r\n")
            found.append(raw.recv(12)[9:])
        Gateway.was_read.set()
    assert found.count(b"200") == 64 and found.count(b"429") == 6


def test_what_is_too_large_is_told_by_the_gateway_or_refused(proxy: httpx.Client) -> None:
    assert proxy.post("/v1/artifacts", content=bytes(22 << 20)).status_code == 413
