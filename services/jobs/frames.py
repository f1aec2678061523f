"""How frames of a job go from one state to another, each with its event.

Every function belongs into a transaction of the caller. ``frame`` is a row of the query
``FRAME``: the frame and what its job says about it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from consistent_gen.client.types import EventType, JobState, Problem
from services.jobs import events as job_events
from services.jobs import suspects as job_suspects
from services.jobs.queue import frames_ahead, waiting_jobs
from services.jobs.silence import WorkerId
from services.store import Database
from services.store.database import Query, Row

FRAME = """SELECT f.*, j.owner, j.end_user, j.bulk, j.deadline_at
           FROM job_frames f JOIN jobs j ON j.id = f.job"""

WORKER_LOST = Problem(
    title="Worker lost",
    status=503,
    detail="the process that drew this frame and nothing else died, as often as is tried; "
    "retry the job, and look at the worker's log if it happens again",
    code="worker_lost",
)
DEADLINE = Problem(
    title="Deadline passed",
    status=504,
    detail="the frame was not drawn before the job's deadline; retry the job to go on",
    code="deadline",
)


def state_of(states: Mapping[str, int]) -> JobState:
    """The state of a job from the number of its frames in each state."""
    total = sum(states.values())
    if states.get("queued", 0) == total:
        return JobState.queued
    if states.get("queued") or states.get("running"):
        return JobState.running
    if states.get("succeeded", 0) == total:
        return JobState.succeeded
    if states.get("succeeded") and states.get("failed"):
        return JobState.partial
    return JobState.cancelled if states.get("cancelled") else JobState.failed


def settle(db: Database, job: str, now: int) -> None:
    """Bring the job's state up to date with its frames; `done` when nothing more will happen."""
    before = db.one("SELECT state FROM jobs WHERE id = ?", (job,))
    assert before is not None, "a frame without a job"
    counts = db.rows(
        "SELECT state, COUNT(*) AS frames FROM job_frames WHERE job = ? GROUP BY state", (job,)
    )
    state = state_of({row["state"]: row["frames"] for row in counts})
    db.change("UPDATE jobs SET state = ?, updated_at = ? WHERE id = ?", (state, now, job))
    if state.finished and not JobState(before["state"]).finished:
        job_events.append(db, job, now, EventType.done, data={"state": state})


def start(db: Database, frame: Row, lease: str, worker: WorkerId, now: int) -> None:
    """A worker begins to draw a waiting frame."""
    db.change(
        """UPDATE job_frames SET state = 'running', attempt = attempt + 1, step = 0, lease = ?
           WHERE job = ? AND frame = ?""",
        (lease, frame["job"], frame["frame"]),
    )
    db.change(
        """INSERT INTO attempts (lease, job, frame, attempt, worker, instance, steps, started_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            lease, frame["job"], frame["frame"], frame["attempt"] + 1,
            worker.name, worker.instance, frame["steps"], now,
        ),
    )  # fmt: skip
    job_events.append(
        db,
        frame["job"],
        now,
        EventType.started,
        frame=frame["frame"],
        data={"step": 0, "steps": frame["steps"], "attempt": frame["attempt"] + 1},
    )


def progress(db: Database, frame: Row, step: int, preview: str | None, now: int) -> None:
    """Take note of a worker's report; steps never go back and never pass the end."""
    done = max(frame["step"], min(step, frame["steps"]))
    job, index = frame["job"], frame["frame"]
    db.change("UPDATE attempts SET renewals = renewals + 1 WHERE lease = ?", (frame["lease"],))
    if done != frame["step"]:
        db.change("UPDATE job_frames SET step = ? WHERE job = ? AND frame = ?", (done, job, index))
        data = {"step": done, "steps": frame["steps"]}
        job_events.replace(db, job, now, EventType.step, frame=index, data=data)
    if preview is not None:
        job_events.replace(
            db, job, now, EventType.preview, frame=index, data={"step": done}, artifact=preview
        )


def succeed(db: Database, frame: Row, artifact: str, scores: Mapping[str, float], now: int) -> None:
    """The drawing is accepted."""
    job, index = frame["job"], frame["frame"]
    db.change(
        """UPDATE job_frames SET step = steps, artifact = ?, scores = ?, problem = NULL
           WHERE job = ? AND frame = ?""",
        (artifact, json.dumps(scores), job, index),
    )
    job_suspects.acquit(db, frame)
    _end(db, frame, "succeeded", now)
    job_events.forget_progress(db, job, index)
    data = {"version": frame["version"], "seed": frame["seed"]}
    job_events.append(db, job, now, EventType.frame, frame=index, data=data, artifact=artifact)
    if scores:
        job_events.append(db, job, now, EventType.score, frame=index, data=scores)


def fail(db: Database, frame: Row, problem: Problem, now: int) -> None:
    """The frame will not be drawn."""
    content = problem.model_dump(mode="json", exclude_none=True)
    db.change(
        "UPDATE job_frames SET problem = ? WHERE job = ? AND frame = ?",
        (json.dumps(content), frame["job"], frame["frame"]),
    )
    _end(db, frame, "failed", now)
    job_events.forget_progress(db, frame["job"], frame["frame"])
    job_events.append(db, frame["job"], now, EventType.error, frame=frame["frame"], data=content)


def cancel(db: Database, frame: Row, now: int) -> None:
    """Nobody wants the frame any more."""
    _end(db, frame, "cancelled", now)
    job_events.forget_progress(db, frame["job"], frame["frame"])


def late(rows: Query, now: int) -> list[Row]:
    """Unfinished frames of jobs whose deadline has passed."""
    return rows(
        f"{FRAME} WHERE j.state IN ('queued', 'running') AND j.deadline_at <= ?"
        " AND f.state IN ('queued', 'running') ORDER BY f.job, f.frame",
        (now,),
    )


def must_end(frame: Row, now: int) -> bool:
    """Whether nobody wants the frame any more, or not so late."""
    deadline = frame["deadline_at"]
    return bool(frame["cancelling"]) or (deadline is not None and deadline <= now)


def stop(db: Database, frame: Row, now: int) -> None:
    """End a frame that must end."""
    if frame["cancelling"]:
        cancel(db, frame, now)
    else:
        fail(db, frame, DEADLINE, now)


def lost(db: Database, frames: Sequence[Row], now: int, max_attempts: int) -> None:
    """The worker that was drawing these, and nothing else, has died.

    One that was alone did it, and its attempt counts. Of several nobody knows which one: they wait
    again with the attempts that they had, as suspects.
    """
    alone = len(frames) == 1
    for frame in frames:
        if must_end(frame, now):
            stop(db, frame, now)
        elif alone and frame["attempt"] >= max_attempts:
            fail(db, frame, WORKER_LOST, now)
        else:
            job_suspects.suspect(db, frame)
            requeue(db, frame, "worker_lost", now, counts=alone)


def requeue(db: Database, frame: Row, reason: str, now: int, *, counts: bool = True) -> None:
    """The frame waits again; without ``counts`` as if the attempt had not been."""
    if not counts:
        db.change(
            "UPDATE job_frames SET attempt = attempt - 1 WHERE job = ? AND frame = ?",
            (frame["job"], frame["frame"]),
        )
    _end(db, frame, "queued", now, outcome=reason)
    db.change(
        "UPDATE job_frames SET step = 0 WHERE job = ? AND frame = ?", (frame["job"], frame["frame"])
    )
    job_events.forget_progress(db, frame["job"], frame["frame"])
    position = frames_ahead(waiting_jobs(db.rows), frame["job"], now)
    data = {"position": position, "reason": reason}
    job_events.append(db, frame["job"], now, EventType.queued, frame=frame["frame"], data=data)


def _end(db: Database, frame: Row, state: str, now: int, *, outcome: str | None = None) -> None:
    db.change(
        "UPDATE attempts SET ended_at = ?, outcome = ? WHERE lease = ?",
        (now, outcome or state, frame["lease"]),
    )
    db.change(
        """UPDATE job_frames SET state = ?, cancelling = 0, lease = NULL
           WHERE job = ? AND frame = ?""",
        (state, frame["job"], frame["frame"]),
    )
