"""Jobs as clients and workers see them: who waits, in which order, and how fast the queue moves.

Only queries and pure functions: the store decides when to ask and writes what follows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from consistent_gen.client.types import Job, JobFrame, JobFrameState, JobState, Problem
from consistent_gen.sqlite import moment
from services.jobs.records import Lease, OwnerLoad, QueueState
from services.store import Database
from services.store.database import Query, Row

# A waiting story counts as this many steps smaller per second that it waits, so that a large one
# cannot be passed for ever by the small ones of the same user.
AGING_STEPS_PER_S = 2.0
_PACE_SAMPLES = 64
_DEFAULT_RETRY_S = 5.0


@dataclass(frozen=True)
class Waiting:
    """A job with waiting frames; ``steps`` is what these cost together, times in microseconds."""

    job: str
    story: str
    owner: str
    user: str
    bulk: bool
    created_at: int
    frames: int
    steps: int


def waiting_jobs(rows: Query) -> list[Waiting]:
    """All jobs with waiting frames."""
    found = rows(
        """SELECT j.id, j.story, j.owner, j.end_user, j.bulk, j.created_at, w.frames, w.steps
           FROM (SELECT job, COUNT(*) AS frames, SUM(steps) AS steps
                 FROM job_frames WHERE state = 'queued' GROUP BY job) w
           JOIN jobs j ON j.id = w.job""",
        (),
    )
    return [
        Waiting(
            row["id"], row["story"], row["owner"], row["end_user"], bool(row["bulk"]),
            row["created_at"], row["frames"], int(row["steps"]),
        )
        for row in found
    ]  # fmt: skip


def waiting_newcomers(rows: Query) -> set[tuple[str, str]]:
    """(owner, user) of whom interactive frames wait and none is drawn, by any worker."""
    found = rows(
        """SELECT owner, end_user FROM jobs WHERE state IN ('queued', 'running') AND bulk = 0
           EXCEPT
           SELECT j.owner, j.end_user FROM job_frames f JOIN jobs j ON j.id = f.job
           WHERE f.state = 'running' AND j.bulk = 0""",
        (),
    )
    return {(row["owner"], row["end_user"]) for row in found}


def serving_order(
    jobs: Iterable[Waiting], now: int, prefer_stories: Collection[str] = ()
) -> list[Waiting]:
    """A user's jobs in the order in which they are served: preferred stories, then small ones."""

    def place(job: Waiting) -> tuple[bool, float, int, str]:
        age_s = max(0, now - job.created_at) / 1e6
        size = job.steps - AGING_STEPS_PER_S * age_s
        return job.story not in prefer_stories, size, job.created_at, job.job

    return sorted(jobs, key=place)


def frames_ahead(jobs: Sequence[Waiting], job: str, now: int) -> int | None:
    """An estimate of the frames served before the first one of ``job``; None if it does not wait.

    Everyone takes turns, so another user or owner gets at most one frame more than we do before
    our turn; all interactive work goes before bulk.
    """
    mine = next((waiting for waiting in jobs if waiting.job == job), None)
    if mine is None:
        return None
    rivals = [other for other in jobs if other.bulk == mine.bulk]
    ahead = 0
    users: dict[str, list[Waiting]] = {}
    owners: dict[str, int] = {}
    for other in rivals:
        if other.owner == mine.owner:
            users.setdefault(other.user, []).append(other)
        else:
            owners[other.owner] = owners.get(other.owner, 0) + other.frames
    for other in serving_order(users.pop(mine.user), now):
        if other.job == job:
            break
        ahead += other.frames
    ahead += sum(min(sum(w.frames for w in their), ahead + 1) for their in users.values())
    ahead += sum(min(frames, ahead + 1) for frames in owners.values())
    if mine.bulk:
        ahead += sum(other.frames for other in jobs if not other.bulk)
    return ahead


def steps_per_s(rows: Query) -> float | None:
    """Steps that all workers together did per second of work, over the newest drawings."""
    found = rows(
        """SELECT started_at, ended_at, steps FROM attempts WHERE outcome = 'succeeded'
           ORDER BY ended_at DESC LIMIT ?""",
        (_PACE_SAMPLES,),
    )
    busy, end = 0, None
    for row in sorted(found, key=lambda row: int(row["started_at"])):
        start = row["started_at"] if end is None else max(row["started_at"], end)
        busy += max(0, row["ended_at"] - start)
        end = max(row["ended_at"], start)
    return sum(row["steps"] for row in found) / (busy / 1e6) if busy else None


def unfinished_steps(rows: Query) -> int:
    """Steps of everything that waits or runs."""
    found = rows(
        "SELECT SUM(steps) AS steps FROM job_frames WHERE state IN ('queued', 'running')", ()
    )
    return int(found[0]["steps"] or 0)


def retry_after_s(rows: Query, jobs: int) -> float:
    """Seconds until about one of ``jobs`` unfinished jobs is done, in [1, 60]."""
    pace = steps_per_s(rows)
    if pace is None or jobs == 0:
        return _DEFAULT_RETRY_S
    return min(60.0, max(1.0, unfinished_steps(rows) / jobs / pace))


def queue_state(rows: Query, now: int) -> QueueState:
    """Frames that wait and run, in all and by owner."""
    found = rows(
        """SELECT j.owner, w.state, SUM(w.frames) AS frames, MIN(w.oldest) AS oldest
           FROM (SELECT job, state, COUNT(*) AS frames, MIN(queued_at) AS oldest
                 FROM job_frames WHERE state IN ('queued', 'running') GROUP BY state, job) w
           JOIN jobs j ON j.id = w.job GROUP BY j.owner, w.state""",
        (),
    )
    loads: dict[str, dict[str, int]] = {}
    for row in found:
        loads.setdefault(row["owner"], {})[row["state"]] = int(row["frames"])
    owners = {owner: OwnerLoad(**load) for owner, load in sorted(loads.items())}
    oldest = min((row["oldest"] for row in found if row["state"] == "queued"), default=now)
    return QueueState(
        queued=sum(load.queued for load in owners.values()),
        running=sum(load.running for load in owners.values()),
        oldest_queued_s=max(0, now - oldest) / 1e6,
        owners=owners,
    )


def running_by_owner(db: Database) -> Mapping[str, int]:
    """Frames that each owner has running."""
    found = db.rows(
        """SELECT j.owner, COUNT(*) AS frames FROM job_frames f JOIN jobs j ON j.id = f.job
           WHERE f.state = 'running' GROUP BY j.owner"""
    )
    return {row["owner"]: int(row["frames"]) for row in found}


def jobs(rows: Query, found: Sequence[Row], now: int) -> list[Job]:
    """Jobs with their frames; for unfinished ones where they stand in the queue."""
    waiting: list[Waiting] = []
    pace = None
    if any(not JobState(row["state"]).finished for row in found):
        waiting, pace = waiting_jobs(rows), steps_per_s(rows)
    return [_job(rows, row, waiting, pace, now) for row in found]


def lease(frame: Row, shared: Mapping[str, Any], lease_id: str) -> Lease:
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
