"""What may enter the queue, and how it is written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import IntegrityError
from typing import Any

from consistent_gen.errors import InputError
from services.errors import BusyError, Conflict, NotFound, QuotaError
from services.jobs import queue as job_queue
from services.jobs.records import FrameTask
from services.keys import Quota
from services.settings import LimitSettings
from services.store import Database
from services.store.identifiers import micros

KINDS = ("story", "image", "reroll")
_UNFINISHED = "state IN ('queued', 'running')"
_MAX_STEPS = 100_000


@dataclass(frozen=True)
class Order:
    """A job as it is asked for."""

    job: str
    owner: str
    user: str
    kind: str
    story: str
    tasks: tuple[FrameTask, ...]
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

    def insert(self, order: Order, now: int, idempotency: tuple[str, str] | None) -> None:
        """Write the job and its frames. Raises InputError, NotFound, Conflict."""
        _check(order)
        self._check_story(order)
        shared = _shared([task.plan for task in order.tasks])
        deadline = None if order.deadline_s is None else now + micros(order.deadline_s)
        self._db.change(
            """INSERT INTO jobs (id, owner, end_user, kind, story, bulk, plan, state, created_at,
                   updated_at, deadline_s, deadline_at, next_event)
               VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, 1)""",
            (
                order.job, order.owner, order.user, order.kind, order.story, int(order.bulk),
                _json(shared), now, now, order.deadline_s, deadline,
            ),
        )  # fmt: skip
        try:
            self._db.many(
                """INSERT INTO job_frames (job, frame, story, version, seed, steps, step, plan,
                       prompt, state, attempt, cancelling, queued_at, scores)
                   VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, 'queued', 0, 0, ?, '{}')""",
                [_frame_values(order, task, shared, now) for task in order.tasks],
            )
        except IntegrityError:
            raise Conflict(
                "a frame of the story is already being drawn in this version; reserve the next one"
            ) from None
        self._db.many(
            """UPDATE story_frames SET last_version = ?
               WHERE story = ? AND frame = ? AND last_version < ?""",
            [(task.version, order.story, task.index, task.version) for task in order.tasks],
        )
        if idempotency is not None:
            self._db.change(
                "INSERT INTO idempotency (owner, end_user, key, request_hash, job)"
                " VALUES (?, ?, ?, ?, ?)",
                (order.owner, order.user, *idempotency, order.job),
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

    def _check_story(self, order: Order) -> None:
        found = self._db.rows(
            """SELECT f.frame FROM story_frames f JOIN stories s ON s.id = f.story
               WHERE s.id = ? AND s.owner = ?""",
            (order.story, order.owner),
        )
        missing = {task.index for task in order.tasks} - {row["frame"] for row in found}
        if not found or missing:
            raise NotFound("no such story, or it has no such frame; see GET /v1/stories for yours")


def _check(order: Order) -> None:
    if order.kind not in KINDS:
        raise InputError(f"kind is {order.kind!r}; expected {' or '.join(KINDS)}")
    if not order.tasks:
        raise InputError("a job needs at least one frame")
    if len({task.index for task in order.tasks}) != len(order.tasks):
        raise InputError("a job has each frame of a story at most once; make two jobs")
    if order.deadline_s is not None and not order.deadline_s > 0:
        raise InputError(f"deadline_s is {order.deadline_s}; expected more than 0 seconds")
    for task in order.tasks:
        if not 1 <= task.steps <= _MAX_STEPS or task.version < 1 or task.index < 0:
            raise InputError(
                f"frame {task.index} has version {task.version} and {task.steps} steps; expected "
                f"frames from 0, versions from 1 and 1 to {_MAX_STEPS} steps"
            )
        if not 0 <= task.seed < 2**63:
            raise InputError(f"frame {task.index} has a seed outside of 0 to 2^63 - 1")


def _shared(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # The plans of a story's frames all contain the story; it is kept once.
    first, *others = plans
    return {
        key: value
        for key, value in first.items()
        if all(key in plan and plan[key] == value for plan in others)
    }


def _frame_values(
    order: Order, task: FrameTask, shared: Mapping[str, Any], now: int
) -> tuple[Any, ...]:
    own = {key: value for key, value in task.plan.items() if key not in shared}
    prompt = task.plan.get("prompt")
    return (
        order.job, task.index, order.story, task.version, task.seed, task.steps, _json(own),
        prompt if isinstance(prompt, str) else None, now,
    )  # fmt: skip


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, allow_nan=False)
