"""Leases over HTTP, for workers in processes and on machines of their own.

The worker asks the gateway and never the other way round, so a worker needs an address and a token
and nothing else, and a gateway that was away for a while is simply asked again.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import httpx

from consistent_gen.client.types import Problem
from consistent_gen.errors import ConsistentGenError, InputError
from services.errors import NotFound, StorageFull
from services.jobs import Lease
from services.worker.leases import Advance, Unreachable

TIMEOUT_S = 10.0
_BUSY = (429, 500, 502, 503, 504)


class HttpLeases:
    """See `LeaseSource`. Safe to use from several threads.

    Args:
        url: of the gateway. token: its worker token. worker: this worker's own name.
        renew_every_s: a cancel is learnt from the next report, so it may take this long.
    """

    def __init__(self, url: str, token: str, worker: str, *, renew_every_s: float = 0.25) -> None:
        if not token:
            raise InputError(
                "a worker needs the gateway's token; set CONSISTENT_GEN_AUTH_WORKER_TOKEN on both"
            )
        self.renew_every_s = renew_every_s
        self.ask_every_s = 0.1
        self._worker = worker
        self._lock = threading.Lock()
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            # What the environment says of proxies is not meant for our own processes.
            trust_env=False,
        )

    def lease(
        self,
        count: int,
        *,
        newcomers: int = 0,
        prefer_stories: Collection[str] = (),
        wait_s: float = 0.0,
    ) -> list[Lease]:
        """See `LeaseSource`."""
        body = {
            "worker": self._worker,
            "count": count,
            "newcomers": newcomers,
            "prefer_stories": list(prefer_stories),
            "wait_s": wait_s,
        }
        answer = self._call("POST", "/internal/leases", json=body, timeout=TIMEOUT_S + wait_s)
        return [Lease(**one) for one in answer.json()]

    def renew(self, advances: Sequence[Advance]) -> list[bool]:
        """See `LeaseSource`."""
        return [self._renew(advance) for advance in advances]

    def _renew(self, advance: Advance) -> bool:
        body: dict[str, Any] = {"step": advance.step}
        if advance.preview is not None:
            body["preview_png_base64"] = base64.b64encode(advance.preview).decode()
        try:
            answer = self._call("POST", f"/internal/leases/{advance.lease.id}/renew", json=body)
        except NotFound:
            return False
        return bool(answer.json()["go"])

    def urgent(self) -> bool:
        """Never: nobody calls a worker."""
        return False

    def finish(self, lease: Lease, png: bytes, scores: Mapping[str, float]) -> bool:
        """See `LeaseSource`. Raises StorageFull."""
        try:
            answer = self._call(
                "POST",
                f"/internal/leases/{lease.id}/finish",
                files={"png": ("frame.png", png, "image/png")},
                data={"scores": json.dumps(dict(scores))},
            )
        except NotFound:
            return False
        return bool(answer.json()["accepted"])

    def fail(self, lease: Lease, problem: Problem, *, retryable: bool) -> None:
        """See `LeaseSource`."""
        body = {"problem": problem.model_dump(mode="json"), "retryable": retryable}
        self._call("POST", f"/internal/leases/{lease.id}/fail", json=body)

    def release(self, lease: Lease) -> None:
        """See `LeaseSource`."""
        self._call("POST", f"/internal/leases/{lease.id}/release")

    def artifact(self, lease: Lease, artifact: str) -> bytes:
        """See `LeaseSource`."""
        return self._call("GET", f"/internal/artifacts/{artifact}").content

    def announce(self, ready: bool, info: Mapping[str, Any]) -> None:
        """See `LeaseSource`."""
        body = {**info, "worker": self._worker, "ready": ready}
        self._call("POST", "/internal/workers", json=body)

    def leave(self) -> None:
        """See `LeaseSource`."""
        self._call("DELETE", f"/internal/workers/{self._worker}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the gateway at {self._client.base_url} does not answer: {error}"
            ) from None
        if answer.status_code == 404:
            raise NotFound(f"the gateway knows no {path}")
        if answer.status_code == 507:
            raise StorageFull("the gateway has no room left to keep pictures")
        if answer.status_code in _BUSY:
            raise Unreachable(f"the gateway is busy ({answer.status_code})")
        if answer.status_code == 401:
            raise InputError(
                "the gateway refused this worker's token; let CONSISTENT_GEN_AUTH_WORKER_TOKEN "
                "be the same on both"
            )
        if answer.is_error:
            raise ConsistentGenError(f"the gateway refused {path}: {answer.text[:300]}")
        return answer
