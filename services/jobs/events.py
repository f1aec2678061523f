"""The event log of a job, and waking those who watch jobs when something has changed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from consistent_gen.client.types import Event, EventType
from consistent_gen.sqlite import moment
from services.store import Database
from services.store.database import Row


def append(
    db: Database,
    job: str,
    now: int,
    kind: EventType,
    *,
    frame: int | None = None,
    data: Mapping[str, Any] | None = None,
    artifact: str | None = None,
) -> None:
    """Write an event with the job's next id. ``artifact`` is named in ``data`` too."""
    content = {**(data or {}), **({} if artifact is None else {"artifact": artifact})}
    row = db.one(
        """UPDATE jobs SET next_event = next_event + 1, updated_at = ? WHERE id = ?
           RETURNING next_event - 1 AS number""",
        (now, job),
    )
    assert row is not None, "an event needs a job"
    db.change(
        "INSERT INTO events (job, id, type, frame, at, data, artifact)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (job, row["number"], kind, frame, now, json.dumps(content), artifact),
    )


def replace(
    db: Database,
    job: str,
    now: int,
    kind: EventType,
    *,
    frame: int,
    data: Mapping[str, Any],
    artifact: str | None = None,
) -> None:
    """Write an event in the place of the frame's former ones of its kind, under a new id."""
    db.change("DELETE FROM events WHERE job = ? AND frame = ? AND type = ?", (job, frame, kind))
    append(db, job, now, kind, frame=frame, data=data, artifact=artifact)


def forget_progress(db: Database, job: str, frame: int) -> None:
    """Remove a frame's step and preview events, once nobody needs them."""
    db.change(
        "DELETE FROM events WHERE job = ? AND frame = ? AND type IN ('step', 'preview')",
        (job, frame),
    )


def read(db: Database, job: str, after: int, limit: int) -> list[Event]:
    """Events with an id greater than ``after``, oldest first."""
    rows = db.rows(
        "SELECT * FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?", (job, after, limit)
    )
    return [_event(row) for row in rows]


def _event(row: Row) -> Event:
    return Event(
        id=row["id"],
        type=EventType(row["type"]),
        job=row["job"],
        frame=row["frame"],
        at=moment(row["at"]),
        data=json.loads(row["data"]),
    )


POLL_S = 0.5  # how late a change by another process is seen
_REMEMBERED_JOBS = 4096


class Changes:
    """A count of changes, in all and by job, that threads can wait on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._condition = threading.Condition()
        self._count = 0
        self._jobs: dict[str, int] = {}
        self._forgotten = 0  # the count below which changes of single jobs are not remembered
        self._foreign = database.foreign_version()
        self._callbacks: dict[object, Callable[[frozenset[str]], None]] = {}
        database.listen(self.notify)

    def notify(self, jobs: Iterable[str]) -> None:
        """Something about these jobs was committed, by this process or by one that tells."""
        changed = frozenset(jobs)
        with self._condition:
            self._count += 1
            for job in changed:
                self._jobs.pop(job, None)
                self._jobs[job] = self._count
            while len(self._jobs) > _REMEMBERED_JOBS:
                self._forgotten = self._jobs.pop(next(iter(self._jobs)))
            self._condition.notify_all()
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            callback(changed)

    def count(self) -> int:
        """The number of changes so far."""
        self._poll()
        with self._condition:
            return self._count

    def wait(self, seq: int, timeout: float, job: str | None = None) -> int:
        """Block until a change (of ``job``) after ``seq``, or ``timeout`` seconds; the count."""
        end = time.monotonic() + timeout
        while True:
            self._poll()
            with self._condition:
                left = end - time.monotonic()
                if self._newest(job) > seq or left <= 0:
                    return self._count
                self._condition.wait(min(left, POLL_S))

    def subscribe(self, callback: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Call back after each change that says its jobs; returns what ends it."""
        token = object()
        with self._condition:
            self._callbacks[token] = callback

        def unsubscribe() -> None:
            with self._condition:
                self._callbacks.pop(token, None)

        return unsubscribe

    def _newest(self, job: str | None) -> int:
        return self._count if job is None else self._jobs.get(job, self._forgotten)

    def _poll(self) -> None:
        # Not every process says which job it changed; then everybody looks.
        with self._condition:
            foreign = self._database.foreign_version()
            if foreign != self._foreign:
                self._foreign = foreign
                self._count += 1
                self._forgotten = self._count
                self._jobs.clear()
                self._condition.notify_all()
