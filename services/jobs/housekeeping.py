"""What has to happen now and then: lapsed leases, forgotten files, and what is past keeping.

Several gateways of one store each do all of it. Every part decides inside of a transaction, so what
one has done the others find done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.jobs import JobStore, WorkerBoard
from services.store import ArtifactStore, Database
from services.store.artifacts import forget_older
from services.store.identifiers import micros
from services.store.stories import drop

_DAY_S = 86_400.0
_BATCH = 200


@dataclass(frozen=True)
class Tidied:
    """How many things a round removed or took back."""

    leases: int = 0
    stories: int = 0
    artifacts: int = 0


class Housekeeper:
    """Call :meth:`round` every second or so; expensive parts take care of their own pace."""

    def __init__(
        self,
        database: Database,
        jobs: JobStore,
        artifacts: ArtifactStore,
        board: WorkerBoard | None = None,
        *,
        retention_days: float | None = None,
        sweep_every_s: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = database
        self._jobs = jobs
        self._artifacts = artifacts
        self._board = board
        self._retention_days = retention_days
        self._sweep_every_s = sweep_every_s
        self._clock = clock
        self._swept_at: float | None = None

    def round(self) -> Tidied:
        """Expire leases and deadlines; from time to time forget old things and sweep files.

        Raises:
            StorageFull: the disk is full; the next round tries again.
        """
        if self._board is not None:
            self._board.beat()
        leases = self._jobs.expire()
        now = self._clock()
        # A clock that was put back must not stop the sweeping.
        if self._swept_at is not None and 0 <= now - self._swept_at < self._sweep_every_s:
            return Tidied(leases=leases)
        self._swept_at = now
        stories = uploads = 0
        if self._retention_days is not None:
            before = micros(now - self._retention_days * _DAY_S)
            stories, uploads = self._forget_stories(before), forget_older(self._db, before)
        return Tidied(leases, stories, uploads + self._artifacts.sweep())

    def _forget_stories(self, before: int) -> int:
        with self._db.transaction():
            old = self._db.rows(
                """SELECT id FROM stories WHERE updated_at < ? AND NOT EXISTS (
                       SELECT 1 FROM jobs j WHERE j.story = stories.id
                       AND j.state IN ('queued', 'running')) LIMIT ?""",
                (before, _BATCH),
            )
            for row in old:
                drop(self._db, row["id"])
        return len(old)
