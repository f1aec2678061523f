"""Where a worker gets its leases from, and whom it tells what came of them.

`LeaseSource` is all that a worker knows of the rest of the server. `StoreLeases` go straight to the
stores of the same process. `HttpLeases` are for workers in processes and on machines of their own:
the worker asks the gateway and never the other way round, so it needs an address and a token and
nothing else, and a gateway that was away for a while is simply asked again.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from consistent_gen.client.types import Problem
from consistent_gen.errors import ConsistentGenError, InputError
from services.errors import NotFound, StorageFull
from services.jobs import JobStore, Lease, Progress, WorkerBoard
from services.safety import Safety
from services.store import ArtifactStore


class Unreachable(ConsistentGenError):
    """The gateway does not answer now; the same call may succeed later."""


@dataclass(frozen=True)
class Advance:
    """Progress of a lease: `step` steps are done. `preview` is a PNG file or None."""

    lease: Lease
    step: int
    preview: bytes | None = None


class LeaseSource(Protocol):
    """The other side of a worker. Every method may raise `Unreachable`.

    `renew_every_s` is how long a lease's progress may go unreported while nothing is `urgent`;
    `ask_every_s` how often a worker with rows to spare asks for more while it draws.
    """

    renew_every_s: float
    ask_every_s: float

    def lease(
        self,
        count: int,
        *,
        newcomers: int = 0,
        prefer_stories: Collection[str] = (),
        wait_s: float = 0.0,
    ) -> list[Lease]:
        """Up to `count` frames to draw, and one of each of up to `newcomers` users of whom nothing
        is drawn (see `JobStore.lease`); waits up to `wait_s` seconds for the first one.
        """

    def renew(self, advances: Sequence[Advance]) -> list[bool]:
        """Report progress and keep the leases; False where drawing must stop."""

    def urgent(self) -> bool:
        """Whether something changed since the last `renew`, such as a cancel. Costs nothing."""

    def finish(self, lease: Lease, png: bytes, scores: Mapping[str, float]) -> bool:
        """Hand in a drawing; False when nobody wants it any more."""

    def fail(self, lease: Lease, problem: Problem, *, retryable: bool, alone: bool = True) -> None:
        """The frame could not be drawn; not `alone`: as others with it (see `JobStore.fail`)."""

    def release(self, lease: Lease) -> None:
        """Give a frame back undrawn; the attempt does not count."""

    def artifact(self, lease: Lease, artifact: str) -> bytes:
        """The bytes of a reference picture. Raises NotFound."""

    def announce(self, ready: bool, info: Mapping[str, Any]) -> None:
        """Say whether this worker can draw, and with what; to be repeated. Whatever a former
        process of its name held is taken back when it is said for the first time.
        """

    def leave(self) -> None:
        """Say goodbye."""


PNG = "image/png"


class StoreLeases:
    """Leases from the stores of this process."""

    renew_every_s = 1.0
    ask_every_s = 0.0

    def __init__(
        self,
        worker: str,
        jobs: JobStore,
        artifacts: ArtifactStore,
        board: WorkerBoard,
        safety: Safety | None = None,
    ) -> None:
        self._worker = worker
        self._instance = secrets.token_hex(8)
        self._registered = False
        self._jobs = jobs
        self._artifacts = artifacts
        self._board = board
        self._withheld = (lambda owner, png: None) if safety is None else safety.withheld
        self._seen = -1

    def lease(
        self,
        count: int,
        *,
        newcomers: int = 0,
        prefer_stories: Collection[str] = (),
        wait_s: float = 0.0,
    ) -> list[Lease]:
        """See `LeaseSource`."""

        def take() -> list[Lease]:
            return self._jobs.lease(
                self._worker,
                count,
                instance=self._instance,
                newcomers=newcomers,
                prefer_stories=prefer_stories,
            )

        seen = self._jobs.changed()
        found = take()
        if not found and wait_s > 0.0:
            self._jobs.wait(seen, wait_s)
            found = take()
        return found

    def renew(self, advances: Sequence[Advance]) -> list[bool]:
        """See `LeaseSource`."""
        reports = [Progress(a.lease.id, a.step, self._preview(a)) for a in advances]
        answers = self._jobs.renew_many(reports)
        self._seen = self._jobs.changed()
        return answers

    def urgent(self) -> bool:
        """See `LeaseSource`. A cancel of this process is seen at once."""
        return self._jobs.changed() != self._seen

    def finish(self, lease: Lease, png: bytes, scores: Mapping[str, float]) -> bool:
        """See `LeaseSource`. Raises StorageFull."""
        if problem := self._withheld(lease.owner, png):
            self._jobs.fail(lease, problem, retryable=False)
            return False
        # Temporary until the job accepts it, so that a crash in between leaves nothing for ever.
        artifact = self._artifacts.put(lease.owner, png, PNG, temporary=True)
        return self._jobs.finish(lease, artifact=artifact.id, scores=scores)

    def fail(self, lease: Lease, problem: Problem, *, retryable: bool, alone: bool = True) -> None:
        """See `LeaseSource`."""
        self._jobs.fail(lease, problem, retryable=retryable, alone=alone)

    def release(self, lease: Lease) -> None:
        """See `LeaseSource`."""
        self._jobs.release(lease)

    def artifact(self, lease: Lease, artifact: str) -> bytes:
        """See `LeaseSource`."""
        return self._artifacts.read(lease.owner, artifact)

    def announce(self, ready: bool, info: Mapping[str, Any]) -> None:
        """See `LeaseSource`."""
        if not self._registered:
            self._jobs.started(self._worker, self._instance)
            self._registered = True
        self._board.report(self._worker, ready=ready, info=info, instance=self._instance)

    def leave(self) -> None:
        """See `LeaseSource`."""
        self._board.gone(self._worker)

    def _preview(self, advance: Advance) -> str | None:
        if advance.preview is None or self._withheld(advance.lease.owner, advance.preview):
            return None
        try:
            return self._artifacts.put(advance.lease.owner, advance.preview, PNG, temporary=True).id
        except StorageFull:
            return None  # a preview is not worth a drawing


TIMEOUT_S = 10.0
_BUSY = (429, 500, 502, 503, 504)


class HttpLeases:
    """See `LeaseSource`. Safe to use from several threads.

    Args:
        url: of the gateway. token: its worker token. worker: this worker's own name.
    """

    ask_every_s = 0.1
    renew_every_s = 0.25  # a cancel is learnt from the next report, so it may take this long

    def __init__(self, url: str, token: str, worker: str) -> None:
        if not token:
            raise InputError(
                "a worker needs the gateway's token; set CONSISTENT_GEN_AUTH_WORKER_TOKEN on both"
            )
        self._worker = worker
        self._instance = secrets.token_hex(8)
        self._registered = False
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
            "instance": self._instance,
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

    def fail(self, lease: Lease, problem: Problem, *, retryable: bool, alone: bool = True) -> None:
        """See `LeaseSource`."""
        said = problem.model_dump(mode="json")
        body = {"problem": said, "retryable": retryable, "alone": alone}
        self._call("POST", f"/internal/leases/{lease.id}/fail", json=body)

    def release(self, lease: Lease) -> None:
        """See `LeaseSource`."""
        self._call("POST", f"/internal/leases/{lease.id}/release")

    def artifact(self, lease: Lease, artifact: str) -> bytes:
        """See `LeaseSource`."""
        return self._call("GET", f"/internal/artifacts/{artifact}").content

    def announce(self, ready: bool, info: Mapping[str, Any]) -> None:
        """See `LeaseSource`."""
        body = {**info, "worker": self._worker, "instance": self._instance, "ready": ready}
        self._call("POST", "/internal/workers", json={**body, "starts": not self._registered})
        self._registered = True

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
