"""Rows of the job tables as the types that clients and workers see."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from consistent_gen.client.types import Job, JobFrame, JobFrameState, JobState, Problem
from consistent_gen.sqlite import moment
from services.jobs.queue import Waiting, frames_ahead, steps_per_s, waiting_jobs
from services.jobs.records import Lease
from services.store.database import Query, Row


def jobs(rows: Query, found: Sequence[Row], now: int) -> list[Job]:
    """Jobs with their frames; for unfinished ones where they stand in the queue."""
    waiting: list[Waiting] = []
    pace = None
    if any(not JobState(row["state"]).finished for row in found):
        waiting, pace = waiting_jobs(rows), steps_per_s(rows)
    return [_job(rows, row, waiting, pace, now) for row in found]


def lease(frame: Row, shared: Mapping[str, Any], lease_id: str, expires_at: int) -> Lease:
    """What a worker gets for a waiting frame; ``shared`` is what the orders of its job share."""
    deadline = frame["deadline_at"]
    return Lease(
        id=lease_id,
        job=frame["job"],
        story=frame["story"],
        frame=frame["frame"],
        version=frame["version"],
        attempt=frame["attempt"] + 1,
        owner=frame["owner"],
        user=frame["end_user"],
        order={**shared, **json.loads(frame["plan"])},
        expires_at=expires_at / 1e6,
        deadline_at=None if deadline is None else deadline / 1e6,
        bulk=bool(frame["bulk"]),
    )


def _job(rows: Query, row: Row, waiting: Sequence[Waiting], pace: float | None, now: int) -> Job:
    frames = [
        _frame(frame)
        for frame in rows("SELECT * FROM job_frames WHERE job = ? ORDER BY frame", (row["id"],))
    ]
    position = frames_ahead(waiting, row["id"], now)
    return Job(
        id=row["id"],
        story=row["story"],
        kind=cast(Literal["story", "image", "reroll", "changes"], row["kind"]),
        state=JobState(row["state"]),
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        frames=frames,
        queue_position=position,
        eta_s=_eta_s(frames, position, waiting, pace),
    )


def _eta_s(
    frames: Sequence[JobFrame],
    position: int | None,
    waiting: Sequence[Waiting],
    pace: float | None,
) -> float | None:
    """Seconds until the job is done, if the queue goes on at its pace."""
    own = sum(f.steps - f.step for f in frames if f.state in ("queued", "running"))
    if pace is None or own == 0:
        return None
    total = sum(job.frames for job in waiting)
    steps = sum(job.steps for job in waiting) / total if total else 0.0
    return round((own + (position or 0) * steps) / pace, 1)


def _frame(row: Row) -> JobFrame:
    problem = row["problem"]
    return JobFrame(
        index=row["frame"],
        version=row["version"],
        state=JobFrameState(row["state"]),
        step=row["step"],
        steps=row["steps"],
        seed=row["seed"],
        attempt=row["attempt"],
        artifact=row["artifact"],
        scores=json.loads(row["scores"]),
        error=None if problem is None else Problem.model_validate_json(problem),
    )
