"""Leases beyond the free rows: for users of whom nothing is drawn, and for nobody else."""

from __future__ import annotations

import pytest

from services.settings import LimitSettings
from tests.services.shop import Shop


def owners(shop: Shop, count: int, newcomers: int) -> list[str]:
    leases = shop.jobs.lease("worker", count, newcomers=newcomers)
    return [lease.owner + lease.user for lease in leases]


def test_a_newcomer_is_served_though_nothing_is_free(shop: Shop) -> None:
    shop.submit("large", frames=9)
    assert owners(shop, 4, 3) == ["large"] * 4, "who is served by turns is no newcomer"
    assert owners(shop, 0, 3) == []
    shop.submit("small", frames=3)
    assert owners(shop, 0, 0) == []
    assert owners(shop, 0, 3) == ["small"], "one frame each"
    assert owners(shop, 0, 3) == [], "it has a row now"


def test_users_of_one_key_are_newcomers_each(shop: Shop) -> None:
    shop.submit("school", frames=9, user="ann")
    shop.jobs.lease("worker", 4)
    for user in ("ben", "cleo", "dan"):
        shop.submit("school", frames=2, user=user)
        shop.clock.advance(0.1)
    assert owners(shop, 0, 2) == ["schoolben", "schoolcleo"]
    assert owners(shop, 0, 2) == ["schooldan"]


def test_who_is_drawn_by_another_worker_is_no_newcomer(shop: Shop) -> None:
    shop.submit("alice", frames=2)
    shop.jobs.lease("elsewhere", 1)
    assert owners(shop, 0, 4) == []


def test_newcomers_come_after_those_whose_turn_it_is(shop: Shop) -> None:
    shop.submit("alice", frames=3)
    shop.submit("bob", frames=3)
    shop.submit("carol", frames=3)
    leases = shop.jobs.lease("worker", 1, newcomers=4)
    assert sorted(lease.owner for lease in leases) == ["alice", "bob", "carol"]
    assert len({lease.id for lease in leases}) == 3


def test_small_newcomers_first(shop: Shop) -> None:
    shop.submit("patient", frames=20)
    shop.submit("hasty", frames=1)
    assert owners(shop, 0, 1) == ["hasty"]


def test_bulk_work_makes_nobody_a_newcomer_and_hides_nobody(shop: Shop) -> None:
    shop.submit("alice", frames=4, bulk=True)
    shop.jobs.lease("worker", 2)
    shop.submit("bob", frames=4, bulk=True)
    assert owners(shop, 0, 4) == []
    shop.submit("alice", frames=1)
    (lease,) = shop.jobs.lease("worker", 0, newcomers=4)
    assert lease.owner == "alice" and not lease.bulk


@pytest.mark.parametrize("count", [0, 1])
def test_newcomers_keep_to_their_keys_quota(shop: Shop, count: int) -> None:
    shop.limits = LimitSettings(running_per_key=2)
    shop.reopen()
    for user in ("ann", "ben", "cleo"):
        shop.submit("school", frames=2, user=user)
    assert len(owners(shop, count, 8)) == 2
    assert owners(shop, count, 8) == []


def test_a_newcomer_does_not_take_a_turn_from_those_who_wait(shop: Shop) -> None:
    """What others saved up is theirs still."""
    shop.submit("alice", frames=9)
    shop.submit("bob", frames=9)
    for _ in range(4):
        for lease in shop.jobs.lease("worker", 1):
            shop.draw(lease)
        shop.submit("guest", frames=1, user=str(shop.clock.now))
        shop.clock.advance(1)
        for lease in shop.jobs.lease("worker", 0, newcomers=1):
            shop.draw(lease)
    order = [lease.owner for _ in range(6) for lease in shop.jobs.lease("worker", 1)]
    assert abs(order.count("alice") - order.count("bob")) <= 1
