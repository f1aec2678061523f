"""What may enter the queue, and how it is written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consistent_gen.errors import InputError
from services.errors import BusyError, Conflict, NotFound, QuotaError
from services.jobs import queue as job_queue
from services.jobs.records import OrderedFrame
from services.keys import Quota
from services.settings import LimitSettings
from services.store import Database
from services.store.database import ConstraintError
from services.store.identifiers import micros

KINDS = ("story", "image", "reroll", "changes")
_UNFINISHED = "state IN ('queued', 'running')"
_MAX_STEPS = 100_000


@dataclass(frozen=True)
class NewJob:
    """A job as it is asked for."""

    id: str
    owner: str
    user: str
    kind: str
    story: str
    frames: tuple[OrderedFrame, ...]
    bulk: bool
    deadline_s: float | None


class Admission:
    """Limits at the door. Every method but `running_quota` belongs into a transaction."""

    def __init__(
        self, database: Database, limits: LimitSettings, quota_of: Callable[[str], Quota] | None
    ) -> None:
        self._db = database
        self._limits = limits
        self._quota_of = quota_of or (lambda owner: Quota())

    def running_quota(self, owner: str) -> int:
        """How many frames of an owner may be drawn at once."""
        quota = self._quota_of(owner).running
        return self._limits.running_per_key if quota is None else quota

    def check(self, owner: str) -> None:
        """Refuse one more unfinished job. Raises QuotaError, BusyError."""
        rows = self._db.rows(
            f"SELECT owner, COUNT(*) AS jobs FROM jobs WHERE {_UNFINISHED} GROUP BY owner"
        )
        jobs = {row["owner"]: int(row["jobs"]) for row in rows}
        total, own = sum(jobs.values()), jobs.get(owner, 0)
        quota = self._quota_of(owner).queued
        allowed = self._limits.queued_per_key if quota is None else quota
        if own >= allowed:
            raise QuotaError(
                f"{own} of your jobs are unfinished and {allowed} are allowed; wait for one to "
                "finish or cancel one",
                retry_after=job_queue.retry_after_s(self._db.rows, total),
            )
        if total >= self._limits.queue:
            raise BusyError(
                f"the server has {total} unfinished jobs, which is all it takes; try again later",
                retry_after=job_queue.retry_after_s(self._db.rows, total),
            )

    def insert(self, job: NewJob, now: int, idempotency: tuple[str, str] | None) -> None:
        """Write the job and its frames. Raises InputError, NotFound, Conflict."""
        _check(job)
        self._check_story(job)
        shared = _shared([frame.order for frame in job.frames])
        deadline = None if job.deadline_s is None else now + micros(job.deadline_s)
        self._db.change(
            """INSERT INTO jobs (id, owner, end_user, kind, story, bulk, plan, state, created_at,
                   updated_at, deadline_s, deadline_at, next_event)
               VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, 1)""",
            (
                job.id, job.owner, job.user, job.kind, job.story, int(job.bulk),
                _json(shared), now, now, job.deadline_s, deadline,
            ),
        )  # fmt: skip
        try:
            self._db.many(
                """INSERT INTO job_frames (job, frame, story, version, seed, steps, step, plan,
                       prompt, state, attempt, cancelling, queued_at, scores)
                   VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, 'queued', 0, 0, ?, '{}')""",
                [_frame_values(job, frame, shared, now) for frame in job.frames],
            )
        except ConstraintError:
            raise Conflict(
                "a frame of the story is already being drawn in this version; reserve the next one"
            ) from None
        self._db.many(
            """UPDATE story_frames SET last_version = ?
               WHERE story = ? AND frame = ? AND last_version < ?""",
            [(f.version, job.story, f.index, f.version) for f in job.frames],
        )
        if idempotency is not None:
            self._db.change(
                "INSERT INTO idempotency (owner, end_user, key, request_hash, job)"
                " VALUES (?, ?, ?, ?, ?)",
                (job.owner, job.user, *idempotency, job.id),
            )

    def replayed(self, owner: str, user: str, idempotency: tuple[str, str]) -> str | None:
        """The job that an idempotency key made. Raises Conflict when the request was another."""
        key, request_hash = idempotency
        row = self._db.one(
            "SELECT job, request_hash FROM idempotency"
            " WHERE owner = ? AND end_user = ? AND key = ?",
            (owner, user, key),
        )
        if row is None:
            return None
        if row["request_hash"] != request_hash:
            raise Conflict(
                "this idempotency key was used with another request; use a new key for a new one"
            )
        return str(row["job"])

    def reopen(self, job: str, now: int) -> None:
        """Let the failed and cancelled frames of a job wait again, as if for the first time."""
        self._db.change("DELETE FROM events WHERE job = ? AND type = 'done'", (job,))
        self._db.change(
            """UPDATE job_frames SET state = 'queued', attempt = 0, step = 0, problem = NULL,
                   queued_at = ? WHERE job = ? AND state IN ('failed', 'cancelled')""",
            (now, job),
        )
        row = self._db.one("SELECT deadline_s FROM jobs WHERE id = ?", (job,))
        if row is not None and row["deadline_s"] is not None:
            deadline = now + micros(row["deadline_s"])
            self._db.change("UPDATE jobs SET deadline_at = ? WHERE id = ?", (deadline, job))

    def _check_story(self, job: NewJob) -> None:
        found = self._db.rows(
            """SELECT f.frame FROM story_frames f JOIN stories s ON s.id = f.story
               WHERE s.id = ? AND s.owner = ?""",
            (job.story, job.owner),
        )
        missing = {frame.index for frame in job.frames} - {row["frame"] for row in found}
        if not found or missing:
            raise NotFound("no such story, or it has no such frame; see GET /v1/stories for yours")


def _check(job: NewJob) -> None:
    if job.kind not in KINDS:
        raise InputError(f"kind is {job.kind!r}; expected {' or '.join(KINDS)}")
    if not job.frames:
        raise InputError("a job needs at least one frame")
    if len({frame.index for frame in job.frames}) != len(job.frames):
        raise InputError("a job has each frame of a story at most once; make two jobs")
    if job.deadline_s is not None and not job.deadline_s > 0:
        raise InputError(f"deadline_s is {job.deadline_s}; expected more than 0 seconds")
    for frame in job.frames:
        if not 1 <= frame.steps <= _MAX_STEPS or frame.version < 1 or frame.index < 0:
            raise InputError(
                f"frame {frame.index} has version {frame.version} and {frame.steps} steps; "
                f"expected frames from 0, versions from 1 and 1 to {_MAX_STEPS} steps"
            )
        if not 0 <= frame.seed < 2**63:
            raise InputError(f"frame {frame.index} has a seed outside of 0 to 2^63 - 1")


def _shared(orders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # The orders of a story's frames all contain the story; it is kept once.
    first, *others = orders
    return {
        key: value
        for key, value in first.items()
        if all(key in order and order[key] == value for order in others)
    }


def _frame_values(
    job: NewJob, frame: OrderedFrame, shared: Mapping[str, Any], now: int
) -> tuple[Any, ...]:
    own = {key: value for key, value in frame.order.items() if key not in shared}
    prompt = frame.order.get("prompt")
    return (
        job.id, frame.index, job.story, frame.version, frame.seed, frame.steps, _json(own),
        prompt if isinstance(prompt, str) else None, now,
    )  # fmt: skip


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, allow_nan=False)
