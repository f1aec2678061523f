"""Random lives of a job store against a model that keeps the rules in a few lines.

What must hold whatever happens: no frame is lost, none is accepted twice, none is tried more often
than allowed, a cancelled one stops at its next report, event ids only grow and `done` is last.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from consistent_gen.client.types import JobState, Problem
from services.errors import BusyError, Conflict, NotFound, QuotaError
from services.jobs import Lease, OrderedFrame, Progress
from services.settings import LimitSettings
from tests.services.jobs.model import ENDED, LEASE_S, MAX_ATTEMPTS, Model, ModelFrame, ModelJob
from tests.services.shop import Shop, ordered

LIMITS = LimitSettings(queue=6, queued_per_key=3, running_per_key=4)
WHICH = st.integers(0, 1000)
OWNERS = st.sampled_from(["alice", "bob", "carol"])
USERS = st.sampled_from(["", "ann"])
SUBMISSIONS = st.fixed_dictionaries(
    {
        "owner": OWNERS,
        "user": USERS,
        "frames": st.integers(1, 5),
        "steps": st.integers(1, 50),
        "bulk": st.booleans(),
        "deadline_s": st.sampled_from([None, None, None, 3.0, 12.0]),
        "key": st.sampled_from([None, None, None, ("k", "g"), ("k", "h")]),
    }
)
REQUESTS = st.tuples(st.sampled_from(["cancel", "retry", "retry", "reroll", "delete"]), WHICH)
REPORTS = st.tuples(
    st.sampled_from(["renew", "renew", "finish", "finish", "fail", "release"]),
    WHICH,
    st.integers(0, 60),
    st.booleans(),
)
BROKEN = Problem(title="Broken", status=500, detail="it broke", code="broken")


class JobLives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.shop = Shop(self.folder, LIMITS, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS)
        self.model = Model()
        self.keys: dict[tuple[str, str, str], tuple[str, str]] = {}
        self.held: dict[str, Lease] = {}

    def teardown(self) -> None:
        try:
            self.check_everything()
        finally:
            self.shop.db.close()
            shutil.rmtree(self.folder)

    # The model ------------------------------------------------------------------------------------
    @property
    def now(self) -> float:
        return self.shop.clock.now

    @property
    def steady(self) -> float:
        return self.shop.clock.steady

    def some_lease(self, which: int) -> str:
        """Mostly one that counts, sometimes one that was lost or has ended."""
        live = [name for name in self.held if self.model.holder(name) is not None]
        pool = live if live and which % 4 else list(self.held)
        return pool[which % len(pool)]

    def some_job(self, which: int, *, finished: bool) -> str:
        """Mostly one that is finished, or one that is not."""
        wanted = [name for name, job in self.model.jobs.items() if job.finished == finished]
        pool = wanted if wanted and which % 4 else list(self.model.jobs)
        return pool[which % len(pool)]

    @initialize(owner=OWNERS)
    def begin(self, owner: str) -> None:
        for frames in (2, 3):
            self.create(owner, "", frames, 20, False, None, None)

    # Clients --------------------------------------------------------------------------------------
    @rule(wishes=st.lists(SUBMISSIONS | REQUESTS, min_size=1, max_size=3))
    def clients(self, wishes: list[dict[str, Any] | tuple[str, int]]) -> None:
        for wish in wishes:
            if isinstance(wish, dict):
                self.create(**wish)
            elif self.model.jobs:
                what, which = wish
                job = self.some_job(which, finished=what == "retry")
                {
                    "cancel": self.cancel,
                    "retry": self.retry,
                    "reroll": self.reroll,
                    "delete": self.delete_story,
                }[what](job)

    def create(
        self,
        owner: str,
        user: str,
        frames: int,
        steps: int,
        bulk: bool,
        deadline_s: float | None,
        key: tuple[str, str] | None,
    ) -> None:
        story = self.shop.story(owner, frames)
        wanted: dict[str, Any] = dict(
            owner=owner, user=user, kind="story", story=story, frames=ordered(frames, steps=steps),
            bulk=bulk, deadline_s=deadline_s, idempotency=key,
        )  # fmt: skip
        known = None if key is None else self.keys.get((owner, user, key[0]))
        if known is not None and key is not None:
            if known[1] != key[1]:
                with pytest.raises(Conflict):
                    self.shop.jobs.create(**wanted)
                return
            job, created = self.shop.jobs.create(**wanted)
            assert not created and job.id == known[0]
            return
        if self.model.unfinished(owner) >= LIMITS.queued_per_key:
            with pytest.raises(QuotaError):
                self.shop.jobs.create(**wanted)
            return
        if self.model.unfinished() >= LIMITS.queue:
            with pytest.raises(BusyError):
                self.shop.jobs.create(**wanted)
            return
        job, created = self.shop.jobs.create(**wanted)
        assert created
        if key is not None:
            self.keys[owner, user, key[0]] = (job.id, key[1])
        self.model.jobs[job.id] = ModelJob(
            owner, user, story, bulk, deadline_s, deadline_s and self.now + deadline_s,
            {i: ModelFrame(i, 1) for i in range(frames)},
        )  # fmt: skip

    def reroll(self, job: str) -> None:
        old = self.model.jobs[job]
        if self.model.unfinished(old.owner) >= 3 or self.model.unfinished() >= 6:
            return
        index = max(old.frames)
        versions = [
            frame.version
            for other in self.model.jobs.values()
            if other.story == old.story
            for frame in other.frames.values()
            if frame.index == index
        ]
        version = self.shop.stories.next_version(old.owner, old.story, index)
        assert version == max(versions) + 1
        frame = OrderedFrame(index, version, 7, 10, {"prompt": "again"})
        made, _ = self.shop.jobs.create(
            owner=old.owner, user=old.user, kind="reroll", story=old.story, frames=[frame]
        )
        self.model.jobs[made.id] = ModelJob(
            old.owner, old.user, old.story, False, None, None, {index: ModelFrame(index, version)}
        )

    def cancel(self, job: str) -> None:
        self.model.cancel(job)
        known = self.model.jobs[job]
        assert self.shop.jobs.cancel(known.owner, job).state == known.state

    def retry(self, job: str) -> None:
        known = self.model.jobs[job]
        again = [f for f in known.frames.values() if f.state in ("failed", "cancelled")]
        if again and known.finished:
            full = (
                QuotaError if self.model.unfinished(known.owner) >= LIMITS.queued_per_key else None
            )
            full = full or (BusyError if self.model.unfinished() >= LIMITS.queue else None)
            if full is not None:
                with pytest.raises(full):
                    self.shop.jobs.retry(known.owner, job)
                return
        self.model.retry(job, self.now)
        assert self.shop.jobs.retry(known.owner, job).state == known.state

    def delete_story(self, job: str) -> None:
        known = self.model.jobs[job]
        self.shop.stories.delete(known.owner, known.story)
        gone = [name for name, other in self.model.jobs.items() if other.story == known.story]
        for name in gone:
            self.keys = {k: v for k, v in self.keys.items() if v[0] != name}
            with pytest.raises(NotFound):
                self.shop.jobs.get(known.owner, name)
            del self.model.jobs[name]

    # Workers --------------------------------------------------------------------------------------
    @rule(
        who=st.sampled_from(["worker", "worker", "other"]),
        count=st.integers(0, 8),
        newcomers=st.sampled_from([0, 0, 1, 3]),
        prefer=st.booleans(),
        reports=st.lists(REPORTS, max_size=5),
    )
    def workers(
        self,
        who: str,
        count: int,
        newcomers: int,
        prefer: bool,
        reports: list[tuple[str, int, int, bool]],
    ) -> None:
        self.lease(who, count, newcomers, prefer)
        for what, which, step, choice in reports:
            if not self.held:
                return
            lease = self.some_lease(which)
            if what == "renew":
                self.renew(lease, step, choice)
            elif what == "fail":
                self.fail(lease, choice, alone=step % 3 > 0)
            else:
                {"finish": self.finish, "release": self.release}[what](lease)

    def lease(self, who: str, count: int, newcomers: int, prefer: bool) -> None:
        self.model.expire(self.now, self.steady)
        self.model.heard[who] = self.steady
        turn = self.model.turn(who, LIMITS.running_per_key)
        suspects = turn == "suspect"
        if suspects:
            newcomers, count = 0, min(count, 1)
        if turn == "nothing":
            newcomers = count = 0
        possible, room = self.model.possible(LIMITS.running_per_key, suspects)
        stories = [job.story for job in self.model.jobs.values()] if prefer else []
        served = self.model.served()
        got = self.shop.jobs.lease(who, count, newcomers=newcomers, prefer_stories=stories[:1])
        turns, extra = got[: min(count, possible)], got[min(count, possible) :]
        assert len(turns) == min(count, possible), "work must not wait beside an idle worker"
        served |= {(lease.owner, lease.user) for lease in turns if not lease.bulk}
        new = [(lease.owner, lease.user) for lease in extra]
        assert len(new) == len(set(new)) <= newcomers and not served.intersection(new)
        assert not any(lease.bulk for lease in extra)
        for lease in got:
            frame = self.model.jobs[lease.job].frames[lease.frame]
            assert frame.state == "queued" and lease.attempt == frame.attempt + 1 <= MAX_ATTEMPTS
            assert (
                lease.version == frame.version and lease.owner == self.model.jobs[lease.job].owner
            )
            frame.state, frame.lease, frame.attempt = "running", lease.id, lease.attempt
            assert frame.suspect == suspects
            frame.worker, frame.renewed = who, self.steady
            room[lease.owner] -= 1
            self.held[lease.id] = lease
        left = [
            job
            for job in self.model.jobs.values()
            if room[job.owner] > 0
            and any(f.state == "queued" and f.suspect == suspects for f in job.frames.values())
        ]
        if any(lease.bulk for lease in turns):
            assert all(job.bulk for job in left), "bulk goes last"
        if len(new) < newcomers:
            urgent = {(job.owner, job.user) for job in left if not job.bulk}
            assert not urgent.difference(served, new), "a newcomer was left out"

    def renew(self, lease: str, step: int, batch: bool) -> None:
        goes_on = self.model.renew(lease, self.now, self.steady)
        if batch:
            assert self.shop.jobs.renew_many([Progress(lease, step)]) == [goes_on]
        else:
            assert self.shop.jobs.renew(self.held[lease], step=step) is goes_on

    def finish(self, lease: str) -> None:
        assert self.shop.draw(self.held[lease]) is self.model.finish(lease)

    def fail(self, lease: str, retryable: bool, alone: bool) -> None:
        self.shop.jobs.fail(self.held[lease], BROKEN, retryable=retryable, alone=alone)
        self.model.fail(lease, retryable, alone)

    def release(self, lease: str) -> None:
        self.shop.jobs.release(self.held[lease])
        self.model.release(lease)

    def expire(self) -> None:
        assert self.shop.jobs.expire() == self.model.expire(self.now, self.steady)

    # The world ------------------------------------------------------------------------------------
    @rule(
        what=st.sampled_from(["expire", "restart", "sweep", "set", "set back", 0.5, 2.0, 4.0, 4.0])
    )
    def meanwhile(self, what: str | float) -> None:
        if what == "expire":
            self.expire()
        elif what == "restart":
            self.shop.reopen()
            self.model.restart(self.steady)
            self.expire()
        elif what == "set":
            self.shop.clock.step(3600.0)
        elif what == "set back":
            self.shop.clock.step(-3600.0)
        elif what == "sweep":
            self.shop.artifacts.sweep(0)
        else:
            self.shop.clock.advance(float(what))

    # What must hold -------------------------------------------------------------------------------
    @invariant()
    def the_queue_counts_right(self) -> None:
        kinds = [f.state for job in self.model.jobs.values() for f in job.frames.values()]
        queue = self.shop.jobs.queue()
        assert (queue.queued, queue.running) == (kinds.count("queued"), kinds.count("running"))

    @invariant()
    def jobs_are_as_the_model_says(self) -> None:
        for name, job in self.model.jobs.items():
            found = self.shop.jobs.get(job.owner, name)
            assert found.state == job.state
            assert (found.queue_position is not None) == any(
                frame.state == "queued" for frame in job.frames.values()
            )
            for frame in found.frames:
                known = job.frames[frame.index]
                assert frame.state == known.state and frame.attempt == known.attempt
                assert (frame.error.code if frame.error else None) == known.code
                assert (frame.artifact is not None) == (known.state == "succeeded")
            self.check_events(name, job)

    def check_events(self, name: str, job: ModelJob) -> None:
        events = self.shop.jobs.events(job.owner, name)
        ids = [event.id for event in events]
        assert ids == sorted(set(ids))
        fresh = set(ids) - job.seen_events
        assert all(event > max(job.seen_events, default=0) for event in fresh)
        job.seen_events |= fresh
        kinds = [event.type.value for event in events]
        assert ("done" in kinds) == job.finished
        if job.finished:
            assert kinds.index("done") == len(kinds) - 1
            assert events[-1].data == {"state": job.state}
        for frame in job.frames.values():
            own = [event.type.value for event in events if event.frame == frame.index]
            assert own.count("frame") == (frame.state == "succeeded")
            assert own.count("step") <= (frame.state == "running")

    def check_everything(self) -> None:
        for job in self.model.jobs.values():
            assert len(job.accepted) == len(set(job.accepted)), "a frame was accepted twice"
            story = self.shop.stories.get(job.owner, job.story)
            for frame in job.frames.values():
                drawn = [
                    v for v in story.frames[frame.index].versions if v.version == frame.version
                ]
                assert len(drawn) == (frame.index in job.accepted)
                for version in drawn:
                    assert self.shop.artifacts.read(job.owner, version.artifact)
        # Nothing is lost: with patient workers and no deadline everything that waits gets drawn.
        self.shop.clock.advance(100)
        self.model.expire(self.now, self.steady)
        drawn = self.shop.draw_all()
        waiting = [f for job in self.model.jobs.values() for f in job.frames.values()]
        assert drawn == sum(frame.state == "queued" for frame in waiting)
        for name, job in self.model.jobs.items():
            assert self.shop.jobs.get(job.owner, name).state.finished


JobLives.TestCase.settings = settings(max_examples=15, stateful_step_count=20)
TestJobLives = JobLives.TestCase


class LongJobLives(JobLives):
    """The same with far more and longer lives."""


LongJobLives.TestCase.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.slow
class TestLongJobLives(LongJobLives.TestCase):  # type: ignore[name-defined, misc]
    pass


def test_the_model_knows_every_state() -> None:
    assert {state.value for state in JobState} >= {*ENDED, "partial", "queued", "running"}
