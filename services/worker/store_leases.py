"""Leases straight from the stores of this process: the worker of a server that is one process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from consistent_gen.client.types import Problem
from services.errors import StorageFull
from services.jobs import JobStore, Lease, Progress, WorkerBoard
from services.store import ArtifactStore
from services.worker.leases import Advance

PNG = "image/png"


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
                self._worker, count, newcomers=newcomers, prefer_stories=prefer_stories
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
