"""Where a worker gets its leases from, and whom it tells what came of them.

`LeaseSource` is all that a worker knows of the rest of the server. `StoreLeases` goes straight to
the stores of the same process; `leases_http.HttpLeases` goes to a gateway over HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from consistent_gen.client.types import Problem
from consistent_gen.errors import ConsistentGenError
from services.artifacts import ArtifactStore
from services.errors import StorageFull
from services.job_records import Lease, Progress
from services.jobs import JobStore
from services.workers import WorkerBoard

PNG = "image/png"


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
        self, count: int, *, prefer_stories: Collection[str] = (), wait_s: float = 0.0
    ) -> list[Lease]:
        """Up to `count` frames to draw; waits up to `wait_s` seconds for the first one."""

    def renew(self, advances: Sequence[Advance]) -> list[bool]:
        """Report progress and keep the leases; False where drawing must stop."""

    def urgent(self) -> bool:
        """Whether something changed since the last `renew`, such as a cancel. Costs nothing."""

    def finish(self, lease: Lease, png: bytes, scores: Mapping[str, float]) -> bool:
        """Hand in a drawing; False when nobody wants it any more."""

    def fail(self, lease: Lease, problem: Problem, *, retryable: bool) -> None:
        """The frame could not be drawn."""

    def release(self, lease: Lease) -> None:
        """Give a frame back undrawn; the attempt does not count."""

    def artifact(self, lease: Lease, artifact: str) -> bytes:
        """The bytes of a reference picture. Raises NotFound."""

    def announce(self, ready: bool, info: Mapping[str, Any]) -> None:
        """Say whether this worker can draw, and with what; to be repeated."""

    def leave(self) -> None:
        """Say goodbye."""


class StoreLeases:
    """Leases from the stores of this process."""

    renew_every_s = 1.0
    ask_every_s = 0.0

    def __init__(
        self, worker: str, jobs: JobStore, artifacts: ArtifactStore, board: WorkerBoard
    ) -> None:
        self._worker = worker
        self._jobs = jobs
        self._artifacts = artifacts
        self._board = board
        self._seen = -1

    def lease(
        self, count: int, *, prefer_stories: Collection[str] = (), wait_s: float = 0.0
    ) -> list[Lease]:
        """See `LeaseSource`."""
        seen = self._jobs.changed()
        found = self._jobs.lease(self._worker, count, prefer_stories=prefer_stories)
        if not found and wait_s > 0.0:
            self._jobs.wait(seen, wait_s)
            found = self._jobs.lease(self._worker, count, prefer_stories=prefer_stories)
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
        # Temporary until the job accepts it, so that a crash in between leaves nothing for ever.
        artifact = self._artifacts.put(lease.owner, png, PNG, temporary=True)
        return self._jobs.finish(lease, artifact=artifact.id, scores=scores)

    def fail(self, lease: Lease, problem: Problem, *, retryable: bool) -> None:
        """See `LeaseSource`."""
        self._jobs.fail(lease, problem, retryable=retryable)

    def release(self, lease: Lease) -> None:
        """See `LeaseSource`."""
        self._jobs.release(lease)

    def artifact(self, lease: Lease, artifact: str) -> bytes:
        """See `LeaseSource`."""
        return self._artifacts.read(lease.owner, artifact)

    def announce(self, ready: bool, info: Mapping[str, Any]) -> None:
        """See `LeaseSource`."""
        self._board.report(self._worker, ready=ready, info=info)

    def leave(self) -> None:
        """See `LeaseSource`."""
        self._board.gone(self._worker)

    def _preview(self, advance: Advance) -> str | None:
        if advance.preview is None:
            return None
        try:
            return self._artifacts.put(advance.lease.owner, advance.preview, PNG, temporary=True).id
        except StorageFull:
            return None  # a preview is not worth a drawing
