"""What tests ask of answers."""

from __future__ import annotations

import httpx


def problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, object]:
    """The answer is a problem of this status, and repeats nothing that was sent."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert code is None or body["code"] == code, body
    return body


def upload(raw: httpx.Client, data: bytes, name: str = "a.png") -> httpx.Response:
    return raw.post("/v1/artifacts", files={"file": (name, data, "image/png")})
