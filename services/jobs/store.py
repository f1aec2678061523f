"""Durable jobs: what is to be drawn, by whom, how far it is, and what happened.

A change of state and the event that tells of it are one transaction. Every public method is safe
to call from any thread, and several processes may use one database.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from consistent_gen.client.types import Event, EventType, Job, JobPage, JobState, Problem
from services.errors import Conflict, NotFound
from services.jobs import admission as job_admission
from services.jobs import events as job_events
from services.jobs import fairness as job_leasing
from services.jobs import frames as job_frames
from services.jobs import queue as job_queue
from services.jobs.events import Changes
from services.jobs.queue import waiting_newcomers
from services.jobs.records import Lease, OrderedFrame, OwnerLoad, Progress, QueueState
from services.jobs.silence import Silence, WorkerId
from services.jobs.suspects import suspect
from services.keys import Quota
from services.settings import LimitSettings
from services.store import Database
from services.store.artifacts import adopt
from services.store.database import Row
from services.store.identifiers import check_limit, cursor, micros, new_id, read_cursor
from services.store.stories import append_version

__all__ = ["JobStore", "Lease", "OrderedFrame", "OwnerLoad", "Progress", "QueueState"]

# Progress is written without waiting for the disk, so a loss of power may undo the newest event
# ids. Unfinished jobs go on this far behind, so that a client never sees an id twice.
_ID_GAP = 1000


class JobStore:
    """Jobs, their frames and events, and leases on frames; one may be given by its id."""

    def __init__(
        self,
        database: Database,
        limits: LimitSettings,
        *,
        clock: Callable[[], float] = time.time,
        listening: Callable[[], float] = time.monotonic,
        lease_s: float = 30.0,
        max_attempts: int = 3,
        quota_of: Callable[[str], Quota] | None = None,
        gateway: str = "",
    ) -> None:
        """``quota_of(owner)`` gives a key's own limits; None means ``limits`` for everybody.
        ``listening`` is a clock of seconds in which workers could have reported; ``clock`` is for
        what people read, and for deadlines. ``gateway`` is our name among those of the store.
        """
        self._db = database
        self._clock = clock
        self._silence = Silence(lease_s, listening, gateway)
        self._max_attempts = max_attempts
        self._admission = job_admission.Admission(database, limits, quota_of)
        self._changes = Changes(database)
        database.change(
            "UPDATE jobs SET next_event = next_event + ? WHERE state IN ('queued', 'running')",
            (_ID_GAP,),
        )

    # For clients ----------------------------------------------------------------------------------
    def create(
        self,
        *,
        owner: str,
        user: str = "",
        kind: str,
        story: str,
        frames: Sequence[OrderedFrame],
        bulk: bool = False,
        deadline_s: float | None = None,
        idempotency: tuple[str, str] | None = None,
    ) -> tuple[Job, bool]:
        """Queue a job over frames of an existing ``story``; returns it, and whether it is new.

        ``idempotency`` is (key, hash of the request). A known key with the same hash returns the
        job it made. ``kind`` is story, image, reroll or changes. To leave no story without its
        job, wrap the creation of both in ``database.transaction()`` and ask :meth:`replay` first.

        Raises:
            NotFound: the story, or one of the frames, is not the owner's.
            Conflict: the key was used with another hash; a (frame, version) is already asked for.
            QuotaError: the owner has too many unfinished jobs.
            BusyError: the server has.
            StorageFull: the database cannot be written.
            InputError: no frames, a frame twice, or numbers out of range.
        """
        with self._db.transaction():
            known = None if idempotency is None else self.replay(owner, user, idempotency)
            if known is not None:
                return known, False
            self._admission.check(owner)
            job, now = new_id("job"), self._now()
            new = job_admission.NewJob(
                job, owner, user, kind, story, tuple(frames), bulk, deadline_s
            )
            self._admission.insert(new, now, idempotency)
            self._tell_position(job, now)
            return self.get(owner, job), True

    def replay(self, owner: str, user: str, idempotency: tuple[str, str]) -> Job | None:
        """The job that this idempotency key made, None for a new key; Conflict as in create."""
        job = self._admission.replayed(owner, user, idempotency)
        return None if job is None else self.get(owner, job)

    def get(self, owner: str, job: str) -> Job:
        """A job with its frames by index. Raises NotFound, for other owners' jobs too."""
        with self._db.snapshot() as rows:
            found = rows("SELECT * FROM jobs WHERE id = ? AND owner = ?", (job, owner))
            if not found:
                raise _no_job()
            return job_queue.jobs(rows, found, self._now())[0]

    def page(
        self,
        owner: str,
        *,
        state: JobState | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Jobs of an owner, newest first. ``after`` is the ``next`` of the page before.

        Raises:
            InputError: ``after`` is not such a value, or ``limit`` is not in [1, 500].
        """
        at, last = read_cursor(after)
        with self._db.snapshot() as rows:
            found = rows(
                """SELECT * FROM jobs WHERE owner = ? AND (? = '' OR state = ?)
                       AND (created_at < ? OR (created_at = ? AND id < ?))
                   ORDER BY created_at DESC, id DESC LIMIT ?""",
                (owner, state or "", state or "", at, at, last, check_limit(limit) + 1),
            )
            more = cursor(found[limit - 1]) if len(found) > limit else None
            return JobPage(jobs=job_queue.jobs(rows, found[:limit], self._now()), next=more)

    def cancel(self, owner: str, job: str) -> Job:
        """Cancel what is unfinished: waiting frames now, running ones at their next report.

        Idempotent. Raises NotFound.
        """
        with self._db.transaction():
            self._check_owner(owner, job)
            now = self._now()
            self._db.change(
                "UPDATE job_frames SET cancelling = 1 WHERE job = ? AND state = 'running'", (job,)
            )
            waiting = self._db.rows(
                f"{job_frames.FRAME} WHERE f.job = ? AND f.state = 'queued'", (job,)
            )
            for frame in waiting:
                job_frames.cancel(self._db, frame, now)
            if waiting:
                job_frames.settle(self._db, job, now)
            self._announce(job)
        return self.get(owner, job)

    def retry(self, owner: str, job: str) -> Job:
        """Queue failed and cancelled frames again, with fresh attempts and a fresh deadline.

        Running frames that were to be cancelled go on. Idempotent.

        Raises:
            NotFound: the job is not the owner's.
            Conflict: its story has become another since.
            QuotaError, BusyError: as in :meth:`create`.
        """
        with self._db.transaction():
            found = self._check_owner(owner, job)
            was = JobState(found["state"])
            story = self._db.one("SELECT asked_at FROM stories WHERE id = ?", (found["story"],))
            if story is not None and found["created_at"] < story["asked_at"]:
                raise Conflict("the story was changed since; draw its frames again instead")
            self._db.change("UPDATE job_frames SET cancelling = 0 WHERE job = ?", (job,))
            ended = self._db.rows(
                "SELECT 1 FROM job_frames WHERE job = ? AND state IN ('failed', 'cancelled')",
                (job,),
            )
            if ended:
                if was.finished:
                    self._admission.check(owner)
                now = self._now()
                self._admission.reopen(job, now)
                job_frames.settle(self._db, job, now)
                self._tell_position(job, now)
        return self.get(owner, job)

    def references(self, story: str) -> Mapping[str, Sequence[str]] | None:
        """character -> the pictures that its story was drawn from last; None for no such job."""
        row = self._db.one(
            """SELECT plan FROM jobs WHERE story = ? AND kind IN ('story', 'changes')
               ORDER BY created_at DESC LIMIT 1""",
            (story,),
        )
        return None if row is None else json.loads(row["plan"]).get("references") or {}

    def undrawn(self, story: str) -> set[int]:
        """Frames of which a change of the story was not drawn: that failed or was cancelled."""
        found = self._db.rows(
            """SELECT f.frame FROM job_frames f JOIN jobs j ON j.id = f.job
               JOIN stories s ON s.id = f.story
               WHERE f.story = ? AND j.kind = 'changes' AND f.state IN ('failed', 'cancelled')
                   AND j.created_at >= s.asked_at
                   AND NOT EXISTS (SELECT 1 FROM frame_versions v WHERE v.story = f.story
                       AND v.frame = f.frame AND v.version > f.version)""",
            (story,),
        )
        return {int(row["frame"]) for row in found}

    def events(self, owner: str, job: str, *, after: int = 0, limit: int = 500) -> list[Event]:
        """Events with an id greater than ``after``, oldest first. Raises NotFound."""
        self._check_owner(owner, job)
        return job_events.read(self._db, job, after, check_limit(limit))

    # For watchers ---------------------------------------------------------------------------------
    def changed(self) -> int:
        """A number that differs once anything has changed; for :meth:`wait`."""
        return self._changes.count()

    def wait(self, seq: int, timeout: float, *, job: str | None = None) -> int:
        """Block until something (of ``job``, if given) changed since :meth:`changed` gave ``seq``,
        or ``timeout`` seconds went by; returns the new number. Changes by other processes are seen
        within half a second at the latest.
        """
        return self._changes.wait(seq, timeout, job)

    def subscribe(self, callback: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Call ``callback(job ids)`` after each change, on the thread that made it or that heard of
        it from another gateway; returns the function that ends it. For event loops: let the
        callback only ``call_soon_threadsafe``.
        """
        return self._changes.subscribe(callback)

    def queue(self) -> QueueState:
        """What waits and runs now, in all and by owner."""
        return job_queue.queue_state(self._db.rows, self._now())

    # For workers: lease, report, hand in, give back --------------------------------------------

    def lease(
        self,
        worker: str,
        count: int,
        *,
        instance: str = "",
        newcomers: int = 0,
        prefer_stories: Collection[str] = (),
    ) -> list[Lease]:
        """Up to ``count`` frames to draw now, shared fairly; empty when nothing may run. On top of
        them, for up to ``newcomers`` users of whom no interactive frame is drawn, one such frame.

        Interactive work before bulk; deficit round robin (cost: steps) over owners, then over the
        users of an owner; within a user stories in ``prefer_stories`` (whose anchors the worker
        has), then small ones, growing older counts as growing smaller. Nobody runs more than
        their ``running`` quota. Lapsed leases and deadlines are dealt with first. After a worker
        has died what it drew is given out alone, one frame at a time.

        ``instance`` tells processes of one ``worker``'s name apart.
        """
        self.expire()
        who = WorkerId(worker, instance)
        self._silence.asked(who)
        if not self._worth_asking(count, newcomers):
            return []
        with self._db.transaction():
            now = self._now()
            chosen = job_leasing.choose(
                self._db, who, count, now, prefer_stories, self._admission.running_quota, newcomers
            )
            leases = [self._start(frame, who, now) for frame in chosen]
            for job in {lease.job for lease in leases}:
                job_frames.settle(self._db, job, now)
                self._announce(job)
        return leases

    def started(self, worker: str, instance: str) -> int:
        """A worker's process begins, so those before it that had its name are gone; returns how
        many frames died with them.
        """
        mine = "outcome IS NULL AND worker = ? AND instance <> ?"
        with self._db.transaction():
            found = self._db.rows(
                f"{job_frames.FRAME} WHERE f.lease IN (SELECT lease FROM attempts WHERE {mine})",
                (worker, instance),
            )
            self._lost(found, self._now())
        return len(found)

    def renew(self, lease: Lease | str, *, step: int, preview: str | None = None) -> bool:
        """Report progress and keep the lease; False: stop (cancelled, past deadline, lease lost).

        ``preview`` is the id of a temporary artifact of the lease's owner. Only the newest step
        and preview event of a frame are kept.
        """
        return self.renew_many([Progress(_id(lease), step, preview)])[0]

    def renew_many(self, reports: Sequence[Progress]) -> list[bool]:
        """:meth:`renew` for all frames of a step in one transaction, in the order given."""
        now = self._now()
        answers = []
        # Progress may be lost with the power, an end may not.
        with self._db.transaction(durable=False):
            for report in reports:
                frame = self._leased(report.lease)
                answers.append(frame is not None and not job_frames.must_end(frame, now))
                if frame is not None and answers[-1]:
                    job_frames.progress(self._db, frame, report.step, report.preview, now)
                    self._announce(frame["job"])
        for report, goes_on in zip(reports, answers, strict=True):
            if goes_on:
                self._silence.renewed(report.lease)
            else:
                self._end_if_due(report.lease, now)
        return answers

    def finish(self, lease: Lease | str, *, artifact: str, scores: Mapping[str, float]) -> bool:
        """Accept the drawing of a frame and append it to its story, in one transaction.

        False when the lease was lost or the frame cancelled: drop the drawing. An accepted
        artifact is no longer temporary, so put it with ``temporary=True`` and a crash in between
        leaves nothing for ever. Scores that are not finite are left out.

        Raises:
            NotFound: ``artifact`` is not an artifact of the lease's owner.
        """
        finite = {name: float(score) for name, score in scores.items() if math.isfinite(score)}
        with self._db.transaction():
            frame, now = self._leased(_id(lease)), self._now()
            if frame is None:
                return False
            if frame["cancelling"]:
                job_frames.cancel(self._db, frame, now)
            else:
                adopt(self._db, frame["owner"], artifact)
                job_frames.succeed(self._db, frame, artifact, finite, now)
                append_version(self._db, frame, artifact, finite, now)
            self._settle(frame, now)
            return not frame["cancelling"]

    def fail(
        self, lease: Lease | str, problem: Problem, *, retryable: bool, alone: bool = True
    ) -> None:
        """The frame could not be drawn. ``retryable`` queues it again while attempts are left.
        Not ``alone``: others failed with it, and which one was at fault is not known, so it waits
        to be drawn alone and the attempt does not count.

        Does nothing when the lease was lost.
        """
        with self._db.transaction():
            frame, now = self._leased(_id(lease)), self._now()
            if frame is None:
                return
            if frame["cancelling"]:
                job_frames.cancel(self._db, frame, now)
            elif retryable and not alone:
                suspect(self._db, frame)
                job_frames.requeue(self._db, frame, problem.code, now, counts=False)
            elif retryable and frame["attempt"] < self._max_attempts:
                job_frames.requeue(self._db, frame, problem.code, now)
            else:
                job_frames.fail(self._db, frame, problem, now)
            self._settle(frame, now)

    def release(self, lease: Lease | str) -> None:
        """Give a frame back undrawn (drain); the attempt does not count."""
        with self._db.transaction():
            frame, now = self._leased(_id(lease)), self._now()
            if frame is None:
                return
            if frame["cancelling"]:
                job_frames.cancel(self._db, frame, now)
            else:
                job_frames.requeue(self._db, frame, "released", now, counts=False)
            self._settle(frame, now)

    def expire(self) -> int:
        """Take back the leases of dead workers and fail what is past its deadline; returns how many
        frames. :meth:`lease` does the same first, so this is only needed while no worker asks for
        work.

        A frame that was alone with a worker that died is queued again, or failed with code
        ``worker_lost`` after the last attempt. Others are queued again to be drawn alone.
        """
        now = self._now()
        if not (self._silence.look(self._db.rows) or job_frames.late(self._db.rows, now)):
            return 0
        with self._db.transaction():
            ended = 0
            lapses = self._silence.look(self._db.rows)
            for leases in lapses.dead:
                found = [frame for one in leases if (frame := self._leased(one)) is not None]
                self._lost(found, now)
                ended += len(found)
            for frame in (frame for one in lapses.unheard if (frame := self._leased(one))):
                if job_frames.must_end(frame, now):
                    job_frames.stop(self._db, frame, now)
                else:
                    job_frames.requeue(self._db, frame, "lapsed", now, counts=False)
                self._settle(frame, now)
                ended += 1
            for frame in job_frames.late(self._db.rows, now):
                job_frames.stop(self._db, frame, now)
                self._settle(frame, now)
                ended += 1
        return ended

    # Inside ---------------------------------------------------------------------------------------
    def _now(self) -> int:
        return micros(self._clock())

    def _worth_asking(self, count: int, newcomers: int) -> bool:
        """Whether a frame may be there: a worker asks often, and a transaction costs much more."""
        if count > 0:
            return bool(self._db.rows("SELECT 1 FROM job_frames WHERE state = 'queued' LIMIT 1"))
        return newcomers > 0 and bool(waiting_newcomers(self._db.rows))

    def _announce(self, job: str) -> None:
        self._db.tell(job)
        self._db.after_commit(lambda: self._changes.notify((job,)))

    def _leased(self, lease: str) -> Row | None:
        return self._db.one(f"{job_frames.FRAME} WHERE f.lease = ?", (lease,))

    def _start(self, frame: Row, worker: WorkerId, now: int) -> Lease:
        lease = new_id("lease")
        job_frames.start(self._db, frame, lease, worker, now)
        self._silence.started(lease, worker)
        shared = self._db.one("SELECT plan FROM jobs WHERE id = ?", (frame["job"],))
        assert shared is not None, "a frame without a job"
        return job_queue.lease(frame, json.loads(shared["plan"]), lease)

    def _lost(self, frames: Sequence[Row], now: int) -> None:
        job_frames.lost(self._db, frames, now, self._max_attempts)
        for frame in {frame["job"]: frame for frame in frames}.values():
            self._settle(frame, now)

    def _settle(self, frame: Row, now: int) -> None:
        job_frames.settle(self._db, frame["job"], now)
        self._announce(frame["job"])

    def _end_if_due(self, lease: str, now: int) -> None:
        with self._db.transaction():
            frame = self._leased(lease)
            if frame is None or not job_frames.must_end(frame, now):
                return
            job_frames.stop(self._db, frame, now)
            self._settle(frame, now)

    # How ------------------------------------------------------------------------------------------

    def _tell_position(self, job: str, now: int) -> None:
        position = job_queue.frames_ahead(job_queue.waiting_jobs(self._db.rows), job, now)
        data = {"position": position}
        job_events.append(self._db, job, now, EventType.queued, data=data)
        self._announce(job)

    def _check_owner(self, owner: str, job: str) -> Row:
        row = self._db.one("SELECT * FROM jobs WHERE id = ? AND owner = ?", (job, owner))
        if row is None:
            raise _no_job()
        return row


def _no_job() -> NotFound:
    return NotFound("no such job; see GET /v1/jobs for yours")


def _id(lease: Lease | str) -> str:
    return lease if isinstance(lease, str) else lease.id
