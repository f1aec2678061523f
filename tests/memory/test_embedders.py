"""Embedders: unit vectors in named spaces, honest fallbacks, strict endpoints."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from consistent_gen.errors import InputError, LimitError
from consistent_gen.language.embedders import (
    EMBEDDERS,
    EndpointEmbedder,
    HashedNgrams,
    MiniLm,
    TextEmbedder,
    default_embedder,
    minilm_folder,
)
from consistent_gen.language.endpoints import Endpoint, EndpointError
from consistent_gen.registry import resolve


@contextmanager
def serving(answer: Any, *, status: int = 200, delay_s: float = 0.0) -> Iterator[tuple[str, list]]:
    """A real HTTP server that answers every POST with ``answer`` (bytes, or JSON by function)."""
    seen: list[tuple[str, dict[str, Any], str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, body, self.headers.get("Authorization", "")))
            data = answer if isinstance(answer, bytes) else json.dumps(answer(body)).encode()
            self.send_response(status)
            self.end_headers()
            try:
                for start in range(0, len(data), 1000):
                    self.wfile.write(data[start : start + 1000])
                    self.wfile.flush()
                    time.sleep(delay_s)
            except OSError:
                pass

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # closing it waits for the answers under way
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other)


def test_hashed_ngrams_match_spelling_and_say_so() -> None:
    embedder = HashedNgrams()
    assert isinstance(embedder, TextEmbedder)
    dog, dogs, cello = embedder.text(["my dog Biscuit", "my dogs and Biscuits", "cello lessons"])
    assert cosine(dog, dogs) > 0.3 > cosine(dog, cello) + 0.15
    assert "not meaning" in embedder.description
    assert np.array_equal(embedder.text(["my dog Biscuit"])[0], dog)


def test_vectors_are_unit_even_for_nothing() -> None:
    vectors = HashedNgrams().text(["", "!?", "caf\u00e9 \U0001f600"])
    assert vectors.shape == (3, 512) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1])


def test_the_default_is_the_best_that_is_installed() -> None:
    found = default_embedder()
    assert isinstance(found, MiniLm if minilm_folder() else HashedNgrams)


def test_the_table_resolves() -> None:
    assert {resolve(EMBEDDERS, name).__name__ for name in EMBEDDERS} >= {"MiniLm", "HashedNgrams"}


@pytest.mark.slow
@pytest.mark.skipif(minilm_folder() is None, reason="the extra 'local' is not installed")
def test_minilm_knows_meaning() -> None:
    puppy, animal, tax = MiniLm().text(
        ["The puppy sleeps.", "A young dog is napping.", "The tax form is due on Friday."]
    )
    assert cosine(puppy, animal) > 0.5 > 0.2 > cosine(puppy, tax)
    assert np.linalg.norm(puppy) == pytest.approx(1)


def test_endpoint_embedder_orders_by_index_and_sends_the_key() -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        rows = [
            {"index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(body["input"])
        ]
        return {"data": rows[::-1]}

    with serving(answer) as (url, seen):
        embedder = EndpointEmbedder(Endpoint(url=url, api_key="k"), "tiny", 2)
        short, long = embedder.text(["a", "abc"])
    assert short == pytest.approx(np.array([1, 1]) / 2**0.5)
    assert long == pytest.approx(np.array([3, 1]) / 10**0.5)
    assert seen == [("/v1/embeddings", {"model": "tiny", "input": ["a", "abc"]}, "Bearer k")]


@pytest.mark.parametrize("answer", [b"[]", b"not json", b'{"data": [{"index": 0}]}', b"[" * 9999])
def test_a_wrong_reply_is_one_clear_error(answer: bytes) -> None:
    with serving(answer) as (url, _), pytest.raises(EndpointError):
        EndpointEmbedder(Endpoint(url=url), "tiny", 2).text(["secret words"])


def test_endpoint_bounds() -> None:
    big = json.dumps({"x": "y" * 50_000}).encode()
    with serving(big) as (url, _):
        with pytest.raises(EndpointError, match="more than 1,000 bytes"):
            Endpoint(url=url, max_reply_bytes=1_000).post("chat", {})
        with pytest.raises(LimitError, match="limit is 10"):
            Endpoint(url=url, max_request_bytes=10).post("chat", {"text": "long enough"})
    with serving(big, delay_s=0.2) as (url, _), pytest.raises(EndpointError, match="longer than"):
        Endpoint(url=url, total_s=0.5).post("chat", {})
    with serving(b"{}", status=500) as (url, _), pytest.raises(EndpointError, match="500") as error:
        Endpoint(url=url).post("chat", {"text": "canary"})
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:80", "http://u:p@host/v1", ""])
def test_only_plain_http_addresses(url: str) -> None:
    with pytest.raises(InputError):
        Endpoint(url=url)


def test_the_key_is_not_shown() -> None:
    assert "s3cret" not in repr(Endpoint(url="http://localhost", api_key="s3cret"))
