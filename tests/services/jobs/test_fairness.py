"""Deficit round robin: the bound of the paper, shares of owners and users, and the store's use."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from services.jobs.fairness import QUANTUM, Shares, Turns, pick, pick_user
from tests.services.shop import Shop

COSTS = st.integers(1, 150)
FLOWS = st.sampled_from("abcdef")
ARRIVALS = st.lists(st.tuples(FLOWS, st.lists(COSTS, min_size=1, max_size=6)), max_size=30)


class Line:
    """Queues of costs that are served by turns."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.queues: dict[str, list[int]] = {}

    def add(self, flow: str, costs: list[int]) -> None:
        self.queues.setdefault(flow, []).extend(costs)

    def serve(self, quantum: int) -> tuple[str, int] | None:
        heads = {flow: queue[0] for flow, queue in self.queues.items() if queue}
        if not heads:
            return None
        flow, self.turns = pick(self.turns, heads, quantum)
        return flow, self.queues[flow].pop(0)


@settings(max_examples=40)
@given(
    before=ARRIVALS,
    during=ARRIVALS,
    first=st.lists(COSTS, min_size=40, max_size=40),
    second=st.lists(COSTS, min_size=40, max_size=40),
    quantum=st.sampled_from([1, QUANTUM, 60, 400]),
    warm_up=st.integers(0, 20),
)
def test_two_flows_that_always_have_work_get_the_same_within_the_bound(
    before: list[tuple[str, list[int]]],
    during: list[tuple[str, list[int]]],
    first: list[int],
    second: list[int],
    quantum: int,
    warm_up: int,
) -> None:
    line = Line()
    for flow, costs in before:
        line.add(flow, costs)
    for _ in range(warm_up):
        line.serve(quantum)
    line.add("x", first)
    line.add("y", second)
    largest = 150
    served = {"x": 0, "y": 0}
    history = [(0, 0)]
    others = iter(during)
    while len(line.queues["x"]) > 1 and len(line.queues["y"]) > 1:
        for flow, costs in [next(others, None) or ("a", [])]:
            line.add(flow, costs)
        flow, cost = line.serve(quantum) or ("", 0)
        if flow in served:
            served[flow] += cost
            history.append((served["x"], served["y"]))
    gaps = [x - y for x, y in history]
    # In any stretch: the gap's change between any two moments.
    assert max(gaps) - min(gaps) <= quantum + 2 * largest


@settings(max_examples=40)
@given(ARRIVALS, st.sampled_from([1, 10, 500]))
def test_everything_is_served_once_and_in_order(
    arrivals: list[tuple[str, list[int]]], quantum: int
) -> None:
    line = Line()
    wanted: dict[str, list[int]] = {}
    for flow, costs in arrivals:
        line.add(flow, costs)
        wanted.setdefault(flow, []).extend(costs)
    served: dict[str, list[int]] = {}
    while (step := line.serve(quantum)) is not None:
        served.setdefault(step[0], []).append(step[1])
    assert served == wanted


@settings(max_examples=30)
@given(ARRIVALS, ARRIVALS)
def test_turns_survive_being_written_down(
    before: list[tuple[str, list[int]]], after: list[tuple[str, list[int]]]
) -> None:
    kept, written = Line(), Line()
    for line in (kept, written):
        for flow, costs in before:
            line.add(flow, list(costs))
            line.serve(QUANTUM)
    for flow, costs in after:
        kept.add(flow, list(costs))
        written.add(flow, list(costs))
        written.turns = Turns.from_json(json.loads(json.dumps(written.turns.to_json())))
        assert kept.serve(QUANTUM) == written.serve(QUANTUM)


@settings(max_examples=40)
@given(st.dictionaries(FLOWS, COSTS, min_size=1), st.sampled_from([1, 10]))
def test_skipping_idle_rounds_changes_nothing(costs: dict[str, int], quantum: int) -> None:
    def slowly(turns: Turns) -> tuple[str, Turns]:
        order = [*turns.order, *sorted(costs.keys() - set(turns.order))]
        saved, granted = {f: turns.saved.get(f, 0) for f in order}, turns.granted
        while True:
            saved[order[0]] += 0 if granted else quantum
            if saved[order[0]] >= costs[order[0]]:
                saved[order[0]] -= costs[order[0]]
                return order[0], Turns(tuple(order), saved, True)
            order, granted = [*order[1:], order[0]], False

    fast, slow = Turns(), Turns()
    for _ in range(15):
        one, fast = pick(fast, costs, quantum)
        other, slow = slowly(slow)
        assert (one, fast) == (other, slow)


def test_an_owner_gets_no_more_for_having_many_users() -> None:
    shares = Shares()
    costs = {"alone": {"": 20}, "crowd": {f"user{i}": 20 for i in range(9)}}
    served: dict[tuple[str, str], int] = {}
    for _ in range(360):
        who, shares = pick_user(shares, costs)
        shares = Shares.from_json(json.loads(json.dumps(shares.to_json())))
        served[who] = served.get(who, 0) + 1
    assert served["alone", ""] == pytest.approx(180, abs=2)
    assert all(served["crowd", f"user{i}"] == pytest.approx(20, abs=2) for i in range(9))


@settings(max_examples=20)
@given(st.lists(st.tuples(FLOWS, FLOWS, COSTS), min_size=1, max_size=12))
def test_who_has_no_work_is_forgotten(work: list[tuple[str, str, int]]) -> None:
    shares = Shares()
    for owner, user, cost in work:
        _, shares = pick_user(shares, {owner: {user: cost}})
        assert list(shares.users) == [owner] and shares.owners.order == (owner,)


# In the store -------------------------------------------------------------------------------------
def served(shop: Shop, count: int, at_once: int = 1) -> list[str]:
    """Owners (and users) of the next leases, each drawn before the next round."""
    found = []
    while len(found) < count and (leases := shop.jobs.lease("worker", at_once)):
        for lease in leases:
            found.append(lease.owner + lease.user)
            shop.draw(lease)
    return found


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_small_owner_does_not_wait_for_a_large_one(shop: Shop, at_once: int) -> None:
    for _ in range(3):
        shop.submit("large", frames=40)
    served(shop, 5)
    shop.submit("small", frames=5)
    order = served(shop, 30, at_once)
    last = max(i for i, owner in enumerate(order) if owner == "small")
    assert order.count("small") == 5 and last < 12


def test_users_of_one_key_take_turns(shop: Shop) -> None:
    shop.submit("school", frames=40, user="ann")
    shop.submit("school", frames=4, user="ben")
    shop.submit("other", frames=40)
    order = served(shop, 24)
    assert order.count("other") == pytest.approx(12, abs=2)
    assert order[:20].count("schoolben") == 4


def test_cost_is_steps_and_not_frames(shop: Shop) -> None:
    shop.submit("patient", frames=40, steps=100)
    shop.submit("hasty", frames=40, steps=20)
    order = served(shop, 36)
    assert order.count("hasty") == pytest.approx(5 * order.count("patient"), abs=5)


def test_turns_go_on_after_a_restart(shop: Shop) -> None:
    shop.submit("alice", frames=20)
    shop.submit("bob", frames=20)
    order = []
    for _ in range(12):
        order += served(shop, 1)
        shop.reopen()
    assert order.count("alice") == pytest.approx(6, abs=1)


def test_interactive_before_bulk(shop: Shop) -> None:
    shop.submit("bulky", frames=6, bulk=True)
    shop.submit("alice", frames=3)
    shop.submit("bulky", frames=2)
    order = served(shop, 11)
    assert sorted(order[:5]) == ["alice"] * 3 + ["bulky"] * 2 and order[5:] == ["bulky"] * 6


def test_small_stories_first_but_large_ones_not_for_ever(shop: Shop) -> None:
    large = shop.submit("alice", frames=10)
    small = shop.submit("alice", frames=2)
    assert [lease.job for lease in shop.jobs.lease("worker", 2)] == [small.id] * 2
    # 200 steps of the large one against 40 of newer ones: aging makes up for it in 80 seconds.
    for _ in range(9):
        shop.clock.advance(10)
        shop.jobs.cancel("alice", small.id)
        small = shop.submit("alice", frames=2)
    (lease,) = shop.jobs.lease("worker", 1)
    assert lease.job == large.id


def test_a_worker_gets_stories_whose_anchors_it_has(shop: Shop) -> None:
    shop.submit("alice", frames=2)
    known = shop.submit("alice", frames=6)
    (lease,) = shop.jobs.lease("worker", 1, prefer_stories=[known.story])
    assert lease.story == known.story
