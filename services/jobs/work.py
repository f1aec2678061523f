"""The half of the job store that workers use: lease, report, hand in, give back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from consistent_gen.client.types import Problem
from services.jobs import frames as job_frames
from services.jobs import leasing as job_leasing
from services.jobs import rows as job_rows
from services.jobs.admission import Admission
from services.jobs.changes import Changes
from services.jobs.queue import waiting_newcomers
from services.jobs.records import Lease, Progress
from services.store import Database
from services.store.artifacts import adopt
from services.store.database import Row
from services.store.identifiers import micros, new_id
from services.store.stories import append_version


class JobWork:
    """Leases on frames. A lease may be given by itself or by its id."""

    _db: Database
    _clock: Callable[[], float]
    _lease_us: int
    _max_attempts: int
    _admission: Admission
    _changes: Changes

    def lease(
        self,
        worker: str,
        count: int,
        *,
        newcomers: int = 0,
        prefer_stories: Collection[str] = (),
    ) -> list[Lease]:
        """Up to ``count`` frames to draw now, shared fairly; empty when nothing may run. On top of
        them, for up to ``newcomers`` users of whom no interactive frame is drawn, one such frame.

        Interactive work before bulk; deficit round robin (cost: steps) over owners, then over the
        users of an owner; within a user stories in ``prefer_stories`` (whose anchors the worker
        has), then small ones, growing older counts as growing smaller. Nobody runs more than
        their ``running`` quota. Lapsed leases and deadlines are dealt with first.
        """
        self.expire()
        if not self._worth_asking(count, newcomers):
            return []
        with self._db.transaction():
            now = self._now()
            chosen = job_leasing.choose(
                self._db, count, now, prefer_stories, self._admission.running_quota, newcomers
            )
            leases = [self._start(frame, worker, now) for frame in chosen]
            for job in {lease.job for lease in leases}:
                job_frames.settle(self._db, job, now)
                self._announce(job)
        return leases

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
                answers.append(frame is not None and not _must_end(frame, now))
                if frame is not None and answers[-1]:
                    until = now + self._lease_us
                    job_frames.progress(self._db, frame, report.step, report.preview, now, until)
                    self._announce(frame["job"])
        for report, goes_on in zip(reports, answers, strict=True):
            if not goes_on:
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

    def fail(self, lease: Lease | str, problem: Problem, *, retryable: bool) -> None:
        """The frame could not be drawn. ``retryable`` queues it again while attempts are left.

        Does nothing when the lease was lost.
        """
        with self._db.transaction():
            frame, now = self._leased(_id(lease)), self._now()
            if frame is None:
                return
            if frame["cancelling"]:
                job_frames.cancel(self._db, frame, now)
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
        """Take back lapsed leases and fail what is past its deadline; returns how many frames.

        A frame whose worker was lost is queued again, or failed with code ``worker_lost`` after
        the last attempt. :meth:`lease` does the same first, so this is only needed while no
        worker asks for work.
        """
        now = self._now()
        if not job_leasing.due(self._db.rows, now, self._lease_us):
            return 0
        with self._db.transaction():
            ended = [
                frame
                for frame in job_leasing.due(self._db.rows, now, self._lease_us)
                if job_leasing.take_back(self._db, frame, now, self._lease_us, self._max_attempts)
            ]
            for frame in {frame["job"]: frame for frame in ended}.values():
                self._settle(frame, now)
        return len(ended)

    # Inside ---------------------------------------------------------------------------------------
    def _now(self) -> int:
        return micros(self._clock())

    def _worth_asking(self, count: int, newcomers: int) -> bool:
        """Whether a frame may be there: a worker asks often, and a transaction costs much more."""
        if count > 0:
            return bool(self._db.rows("SELECT 1 FROM job_frames WHERE state = 'queued' LIMIT 1"))
        return newcomers > 0 and bool(waiting_newcomers(self._db.rows))

    def _announce(self, job: str) -> None:
        self._db.after_commit(lambda: self._changes.notify((job,)))

    def _leased(self, lease: str) -> Row | None:
        return self._db.one(f"{job_frames.FRAME} WHERE f.lease = ?", (lease,))

    def _start(self, frame: Row, worker: str, now: int) -> Lease:
        lease, until = new_id("lease"), now + self._lease_us
        job_frames.start(self._db, frame, lease, worker, now, until)
        shared = self._db.one("SELECT plan FROM jobs WHERE id = ?", (frame["job"],))
        assert shared is not None, "a frame without a job"
        return job_rows.lease(frame, json.loads(shared["plan"]), lease, until)

    def _settle(self, frame: Row, now: int) -> None:
        job_frames.settle(self._db, frame["job"], now)
        self._announce(frame["job"])

    def _end_if_due(self, lease: str, now: int) -> None:
        with self._db.transaction():
            frame = self._leased(lease)
            if frame is None or not _must_end(frame, now):
                return
            if frame["cancelling"]:
                job_frames.cancel(self._db, frame, now)
            else:
                job_frames.fail(self._db, frame, job_frames.DEADLINE, now)
            self._settle(frame, now)


def _must_end(frame: Row, now: int) -> bool:
    deadline = frame["deadline_at"]
    return bool(frame["cancelling"]) or (deadline is not None and deadline <= now)


def _id(lease: Lease | str) -> str:
    return lease if isinstance(lease, str) else lease.id
