"""Deficit round robin over owners, and over the users of an owner: whose turn is it?

After Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round Robin" (1995). Each flow
in turn is granted a quantum and served while its saved-up grant covers its next piece of work. For
two flows that always have work, what they were served in any stretch of time differs by at most
``quantum + 2 * largest cost``, whatever the others do. Everything here is a pure function of values
that can be written as JSON, so turns survive restarts and are shared by processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

QUANTUM = 10  # steps; smaller mixes finer and costs nothing, since idle rounds are skipped


@dataclass(frozen=True)
class Turns:
    """Where a round robin stands. ``order`` begins with the flow whose visit it is; ``granted``
    tells whether it has had its quantum in this visit; ``saved`` are unused grants.
    """

    order: tuple[str, ...] = ()
    saved: Mapping[str, int] = field(default_factory=dict)
    granted: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"order": list(self.order), "saved": dict(self.saved), "granted": self.granted}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Turns:
        """What :meth:`to_json` wrote."""
        return cls(tuple(value["order"]), dict(value["saved"]), bool(value["granted"]))


def pick(turns: Turns, costs: Mapping[str, int], quantum: int = QUANTUM) -> tuple[str, Turns]:
    """The flow to serve now and the turns after it. ``costs`` has the cost (1 or more) of the next
    piece of work of each flow that has any; it must not be empty.

    A flow without work loses what it saved; a new one waits until all others had their visit.
    """
    assert costs and min(costs.values()) > 0, "nothing to pick from"
    order = [flow for flow in turns.order if flow in costs]
    granted = turns.granted and order[:1] == list(turns.order[:1])
    known = set(order)
    order += sorted(flow for flow in costs if flow not in known)
    saved = {flow: turns.saved.get(flow, 0) for flow in order}
    visits = 0
    while True:
        flow = order[0]
        if not granted:
            saved[flow] += quantum
        if saved[flow] >= costs[flow]:
            saved[flow] -= costs[flow]
            return flow, Turns(tuple(order), saved, granted=True)
        order.append(order.pop(0))
        granted = False
        visits += 1
        if visits == len(order):
            # Nobody could be served in a whole round: skip the rounds that would end likewise.
            rounds = min(-(-(costs[f] - saved[f]) // quantum) for f in order) - 1
            saved = {f: saved[f] + rounds * quantum for f in order}
            visits = 0


@dataclass(frozen=True)
class Shares:
    """Turns of owners, and of the users of each owner."""

    owners: Turns = field(default_factory=Turns)
    users: Mapping[str, Turns] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        users = {owner: turns.to_json() for owner, turns in self.users.items()}
        return {"owners": self.owners.to_json(), "users": users}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shares:
        """What :meth:`to_json` wrote."""
        users = {owner: Turns.from_json(turns) for owner, turns in value["users"].items()}
        return cls(Turns.from_json(value["owners"]), users)


def pick_user(
    shares: Shares, costs: Mapping[str, Mapping[str, int]], quantum: int = QUANTUM
) -> tuple[tuple[str, str], Shares]:
    """The (owner, user) to serve now; ``costs[owner][user]`` is the cost of their next work.

    An owner's share is the same however many users it has.
    """
    inner = {
        owner: pick(shares.users.get(owner, Turns()), users, quantum)
        for owner, users in costs.items()
    }
    next_costs = {owner: costs[owner][user] for owner, (user, _) in inner.items()}
    owner, owners = pick(shares.owners, next_costs, quantum)
    user, turns = inner[owner]
    kept = {name: shares.users[name] for name in costs if name in shares.users}
    return (owner, user), replace(shares, owners=owners, users={**kept, owner: turns})
