"""Who may queue what: limits, idempotency, pages, and requests that are refused as a whole."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from consistent_gen.client.types import JobState
from consistent_gen.errors import InputError
from services.errors import BusyError, Conflict, NotFound, QuotaError
from services.keys import Quota
from services.settings import LimitSettings
from tests.services.shop import Shop, ordered


def test_idempotency_is_per_owner_and_user(shop: Shop) -> None:
    story = shop.story("alice")
    wanted = {"owner": "alice", "kind": "story", "story": story, "frames": ordered(3)}
    job, created = shop.jobs.create(**wanted, idempotency=("key", "hash"))
    assert created
    assert shop.jobs.create(**wanted, idempotency=("key", "hash")) == (job, False)
    assert shop.jobs.replay("alice", "", ("key", "hash")) == job
    assert shop.jobs.replay("alice", "ann", ("key", "hash")) is None
    assert shop.jobs.replay("bob", "", ("key", "hash")) is None
    with pytest.raises(Conflict, match="another request"):
        shop.jobs.create(**wanted, idempotency=("key", "other"))
    with pytest.raises(Conflict, match="already being drawn"):
        shop.jobs.create(**wanted, idempotency=("new", "hash"))
    assert len(shop.jobs.page("alice").jobs) == 1


def test_a_story_whose_job_is_refused_can_be_undone_with_it(folder: Path) -> None:
    shop = Shop(folder, limits=LimitSettings(queue=1))
    shop.submit()
    with pytest.raises(BusyError), shop.db.transaction():
        shop.submit("bob")
    assert shop.stories.list("bob").stories == []
    shop.db.close()


def test_limits_of_jobs(folder: Path) -> None:
    shop = Shop(folder, limits=LimitSettings(queue=3, queued_per_key=2))
    jobs = [shop.submit("alice").id for _ in range(2)]
    with pytest.raises(QuotaError) as quota:
        shop.submit("alice")
    shop.submit("bob")
    with pytest.raises(BusyError) as busy:
        shop.submit("carol")
    for refused in (quota.value, busy.value):
        assert 1 <= refused.retry_after <= 60
    shop.jobs.cancel("alice", jobs[0])
    shop.submit("carol")
    with pytest.raises(BusyError):
        shop.jobs.retry("alice", jobs[0])
    shop.db.close()


def test_a_key_has_limits_of_its_own(folder: Path) -> None:
    shop = Shop(folder)
    quotas = {"alice": Quota(running=2, queued=1)}
    shop.jobs = type(shop.jobs)(
        shop.db, shop.limits, clock=shop.clock, quota_of=lambda o: quotas.get(o, Quota())
    )
    shop.submit("alice", frames=5)
    with pytest.raises(QuotaError):
        shop.submit("alice")
    shop.submit("bob", frames=5)
    owners = [lease.owner for lease in shop.jobs.lease("worker", 10)]
    assert sorted(owners) == ["alice"] * 2 + ["bob"] * 5
    shop.db.close()


def test_pages_are_newest_first_and_whole(shop: Shop) -> None:
    made = []
    for number in range(7):
        made.append(shop.submit("alice", frames=1).id)
        if number % 2:
            shop.clock.advance(1)
    shop.submit("bob")
    seen, after = [], None
    while True:
        page = shop.jobs.page("alice", after=after, limit=3)
        seen += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            break
    assert sorted(seen) == sorted(made) and len(seen) == 7
    times = [shop.jobs.get("alice", job).created_at for job in seen]
    assert times == sorted(times, reverse=True)
    shop.jobs.cancel("alice", made[2])
    (only,) = shop.jobs.page("alice", state=JobState.cancelled).jobs
    assert only.id == made[2]
    for bad in ("", "x", "1-job_' OR 1=1", "99999999999999999999-job_0123456789abcdef"):
        with pytest.raises(InputError, match="after"):
            shop.jobs.page("alice", after=bad)
    with pytest.raises(InputError, match="limit"):
        shop.jobs.page("alice", limit=0)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": []},
        {"frames": ordered([0, 0])},
        {"frames": ordered(1, steps=0)},
        {"frames": ordered(1, version=0)},
        {"kind": "film"},
        {"deadline_s": 0.0},
        {"deadline_s": math.nan},
    ],
)
def test_what_cannot_be_queued_leaves_nothing(shop: Shop, change: dict[str, object]) -> None:
    wanted = {"owner": "alice", "kind": "story", "story": shop.story("alice"), "frames": ordered(3)}
    with pytest.raises(InputError):
        shop.jobs.create(**(wanted | change), idempotency=("k", "h"))  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        shop.jobs.create(**(wanted | {"frames": ordered([7])}))  # type: ignore[arg-type]
    assert shop.jobs.page("alice").jobs == [] and shop.jobs.queue().queued == 0
    assert shop.jobs.replay("alice", "", ("k", "h")) is None
