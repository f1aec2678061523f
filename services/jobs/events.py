"""The event log of a job: what is written into it, and how long."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    row = db.one("SELECT next_event FROM jobs WHERE id = ?", (job,))
    assert row is not None, "an event needs a job"
    db.change(
        "UPDATE jobs SET next_event = next_event + 1, updated_at = ? WHERE id = ?", (now, job)
    )
    db.change(
        "INSERT INTO events (job, id, type, frame, at, data, artifact)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (job, row["next_event"], kind, frame, now, json.dumps(content), artifact),
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
