"""Who counts as dead, whose attempt counts, and who is drawn alone: by clocks that tests move."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.jobs import JobStore, Lease
from services.jobs.silence import ListeningClock
from services.store import schema
from services.store.sqlite_database import ServerSqlite
from tests.services.shop import Shop


def frames(shop: Shop, job: str, owner: str = "alice") -> list[tuple[str, int]]:
    """State and attempt of each frame of a job."""
    return [(frame.state.value, frame.attempt) for frame in shop.jobs.get(owner, job).frames]


def outcomes(shop: Shop) -> list[str | None]:
    return [
        row["outcome"] for row in shop.db.rows("SELECT outcome FROM attempts ORDER BY started_at")
    ]


def die(shop: Shop) -> None:
    """Whoever draws now dies, and that is noticed."""
    shop.clock.advance(shop.lease_s + 0.1)
    shop.jobs.expire()


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_takes_no_lease(shop: Shop, hours: int) -> None:
    job = shop.submit(frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    for step in range(5):
        shop.clock.step(3600.0 * hours)
        assert shop.jobs.expire() == 0
        shop.clock.advance(3.0)
        assert shop.jobs.renew(lease, step=step)
    assert frames(shop, job.id) == [("running", 1)]
    shop.clock.step(-3600.0 * hours)
    shop.clock.advance(4.1)
    assert shop.jobs.expire() == 1, "and it keeps none for ever"


def test_the_absence_of_the_gateway_takes_no_lease(shop: Shop) -> None:
    job = shop.submit(frames=2)
    leases = shop.jobs.lease("worker", 2)
    for step in range(5):
        shop.db.close()
        shop.clock.advance(60.0)
        shop.open()
        assert shop.jobs.expire() == 0
        shop.clock.advance(3.0)
        assert shop.jobs.expire() == 0, "a whole lease from the start"
        assert all(shop.jobs.renew(lease, step=step) for lease in leases)
    assert frames(shop, job.id) == [("running", 1)] * 2
    assert all(shop.draw(lease) for lease in leases)


def test_time_in_which_nobody_listened_is_no_silence(folder: Path) -> None:
    now = [100.0]
    listening = ListeningClock(lambda: now[0])
    shop = Shop(folder)
    shop.jobs = JobStore(
        shop.db, shop.limits, clock=shop.clock, listening=listening, lease_s=shop.lease_s
    )
    shop.submit(frames=1)
    shop.jobs.lease("worker", 1)
    for _ in range(6):  # a stopped process, or a loop that does not go round
        now[0] += 3600.0
        assert shop.jobs.expire() == 0
        listening.tick()
        assert shop.jobs.expire() == 0
    for _ in range(20):
        now[0] += 0.25
        listening.tick()
    assert shop.jobs.expire() == 1
    shop.db.close()


def test_of_several_frames_only_the_one_that_kills_is_charged(shop: Shop) -> None:
    job = shop.submit(frames=4)
    assert len(shop.jobs.lease("worker", 8)) == 4
    die(shop)
    assert frames(shop, job.id) == [("queued", 0)] * 4
    drawn: list[int] = []
    for _ in range(10):
        leases = shop.jobs.lease("worker", 8, newcomers=8)
        if not leases:
            break
        (lease,) = leases
        assert shop.jobs.lease("worker", 8, newcomers=8) == [], "nothing beside a suspect"
        if lease.frame == 2:
            die(shop)
        else:
            assert shop.draw(lease)
            drawn.append(lease.frame)
    assert drawn == [0, 1, 3]
    found = shop.jobs.get("alice", job.id)
    assert [frame.state for frame in found.frames] == [
        "succeeded", "succeeded", "failed", "succeeded",
    ]  # fmt: skip
    assert [frame.attempt for frame in found.frames] == [1, 1, 3, 1]
    assert found.frames[2].error is not None and found.frames[2].error.code == "worker_lost"
    shop.jobs.retry("alice", job.id)
    (again,) = shop.jobs.lease("worker", 8)
    shop.submit(frames=3)
    assert shop.jobs.lease("worker", 8) == [], "it is still suspected"
    assert shop.draw(again)
    assert len(shop.jobs.lease("worker", 8)) == 3


def test_others_go_on_while_a_suspect_is_drawn(shop: Shop) -> None:
    job = shop.submit(frames=2)
    shop.jobs.lease("dies", 2)
    shop.submit("bob", frames=6)
    busy = shop.jobs.lease("busy", 2)
    assert [lease.owner for lease in busy] == ["bob"] * 2
    shop.clock.advance(3.0)
    for lease in busy:
        shop.jobs.renew(lease, step=1)
    shop.clock.advance(1.5)
    assert shop.jobs.lease("busy", 2) == [], "it makes room for the first suspect"
    (suspect,) = shop.jobs.lease("idle", 8)
    assert (suspect.job, suspect.attempt) == (job.id, 1)
    (beside,) = shop.jobs.lease("busy", 1)
    assert beside.owner == "bob", "one suspect at a time"
    assert shop.draw(suspect)
    (second,) = shop.jobs.lease("idle", 8)
    assert second.job == job.id and shop.draw(second)
    assert len(shop.jobs.lease("idle", 8)) == 3


def test_bulk_suspects_wait_for_those_in_a_hurry(shop: Shop) -> None:
    shop.submit(frames=2, bulk=True)
    shop.jobs.lease("worker", 2)
    die(shop)
    shop.submit("bob", frames=2)
    assert [lease.bulk for lease in shop.jobs.lease("worker", 1)] == [False]
    assert [lease.bulk for lease in shop.jobs.lease("other", 2)] == [False]
    assert [lease.bulk for lease in shop.jobs.lease("third", 2)] == [True]


def test_a_death_counts_for_all_that_its_worker_had(shop: Shop) -> None:
    """Whatever the moments at which it last spoke of each."""
    job = shop.submit(frames=3)
    first, second, third = shop.jobs.lease("worker", 3)
    for lease in (first, second, third):
        shop.clock.advance(1.0)
        shop.jobs.renew(lease, step=1)
    shop.clock.advance(2.5)
    assert shop.jobs.expire() == 0, "the first is older than a lease, its worker is not"
    shop.clock.advance(1.6)
    assert shop.jobs.expire() == 3
    assert frames(shop, job.id) == [("queued", 0)] * 3


def test_what_a_living_worker_never_heard_of_is_given_out_again(shop: Shop) -> None:
    job = shop.submit(frames=2)
    (known,) = shop.jobs.lease("worker", 1)
    shop.jobs.lease("worker", 1)  # the answer was lost on its way
    for _ in range(3):
        shop.clock.advance(3.0)
        assert shop.jobs.renew(known, step=1)
        shop.jobs.expire()
    assert frames(shop, job.id) == [("running", 1), ("queued", 0)]
    assert outcomes(shop) == [None, "lapsed"]
    (again,) = shop.jobs.lease("worker", 1)
    assert again.attempt == 1 and shop.draw(again) and shop.draw(known)


def test_a_process_that_starts_tells_of_the_death_of_the_one_before(shop: Shop) -> None:
    job = shop.submit(frames=2)
    lost = shop.jobs.lease("worker-1", 2, instance="a")
    other = shop.submit("bob", frames=1)
    (kept,) = shop.jobs.lease("worker-2", 1, instance="a")
    assert shop.jobs.started("worker-1", "b") == 2
    assert shop.jobs.started("worker-1", "b") == 0
    assert frames(shop, job.id) == [("queued", 0)] * 2
    assert not any(shop.jobs.renew(lease, step=1) for lease in lost)
    (lease,) = shop.jobs.lease("worker-1", 2, instance="b")
    assert shop.jobs.started("worker-1", "b") == 0, "its own"
    assert shop.jobs.started("worker-1", "c") == 1
    assert frames(shop, job.id)[lease.frame] == ("queued", 1), "it was alone this time"
    assert frames(shop, other.id, "bob") == [("running", 1)] and shop.draw(kept)


def test_a_fault_of_one_of_several_is_charged_to_none(shop: Shop) -> None:
    from tests.services.jobs.test_jobs import BROKEN

    job = shop.submit(frames=2)
    leases = shop.jobs.lease("worker", 2)
    for lease in leases:
        shop.jobs.fail(lease, BROKEN, retryable=True, alone=False)
    assert frames(shop, job.id) == [("queued", 0)] * 2
    (alone,) = shop.jobs.lease("worker", 2)
    shop.jobs.fail(alone, BROKEN, retryable=True)
    assert frames(shop, job.id)[alone.frame] == ("queued", 1)


def test_leases_of_an_older_version_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:5])
        old = ServerSqlite(folder / "server.sqlite")
        old.change(
            "INSERT INTO stories (id, owner, title, layout, revision, created_at, updated_at,"
            " request) VALUES ('sto_1', 'alice', 't', 'grid', 1, 1, 1, '{}')"
        )
        old.change("INSERT INTO story_frames VALUES ('sto_1', 0, '', '[]', NULL, 1)")
        old.change(
            "INSERT INTO jobs (id, owner, end_user, kind, story, bulk, state, created_at,"
            " updated_at, next_event, plan)"
            " VALUES ('job_1', 'alice', '', 'story', 'sto_1', 0, 'running', 1, 1, 2, '{}')"
        )
        old.change(
            "INSERT INTO job_frames (job, frame, story, version, seed, steps, step, state, attempt,"
            " cancelling, queued_at, lease, lease_expires_at, scores, plan)"
            " VALUES ('job_1', 0, 'sto_1', 1, 7, 20, 3, 'running', 1, 0, 1, 'lea_1', 5, '{}', '{}')"
        )
        old.change(
            "INSERT INTO attempts (lease, job, frame, attempt, worker, steps, started_at)"
            " VALUES ('lea_1', 'job_1', 0, 1, 'w', 20, 1)"
        )
        old.close()
    shop = Shop(folder)
    assert shop.jobs.expire() == 0
    assert shop.jobs.renew("lea_1", step=4)
    assert frames(shop, "job_1") == [("running", 1)]
    die(shop)
    lease: Lease = shop.jobs.lease("w", 1, instance="new")[0]
    assert lease.attempt == 2 and lease.order == {}
    shop.db.close()
