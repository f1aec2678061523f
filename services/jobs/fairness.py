"""Which frames are handed out next.

Whose turn it is, among owners and among the users of an owner, is decided by deficit round robin,
after Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round Robin" (1995). Each flow
in turn is granted a quantum and served while its saved-up grant covers its next piece of work. For
two flows that always have work, what they were served in any stretch of time differs by at most
``quantum + 2 * largest cost``, whatever the others do. Turns are values that can be written as
JSON, so they survive restarts and are shared by processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.jobs import frames as job_frames
from services.jobs import suspects as job_suspects
from services.jobs.queue import (
    Waiting,
    running_by_owner,
    serving_order,
    waiting_jobs,
    waiting_newcomers,
)
from services.jobs.silence import WorkerId
from services.store import Database
from services.store.database import Row

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


def choose(
    db: Database,
    worker: WorkerId,
    count: int,
    now: int,
    prefer_stories: Collection[str],
    running_quota: Callable[[str], int],
    newcomers: int = 0,
) -> list[Row]:
    """Up to ``count`` waiting frames in the order in which they are to be drawn, and after them one
    of each of up to ``newcomers`` users of whom no other interactive frame is drawn. Of suspects
    (see ``suspects``) one alone, where it is their turn.
    """
    jobs = serving_order(waiting_jobs(db.rows), now, prefer_stories)
    running = dict(running_by_owner(db))
    may_run = {j.owner for j in jobs if running.get(j.owner, 0) < running_quota(j.owner)}
    turn = job_suspects.turn_of(db, worker, may_run)
    if turn is job_suspects.NextUp.nothing:
        return []
    suspects = turn is job_suspects.NextUp.suspect
    if suspects:
        count, newcomers = min(count, 1), 0
    chosen: list[Row] = []
    for name, bulk in (("interactive", False), ("bulk", True)) if count > 0 else ():
        line = _Line(db, [job for job in jobs if job.bulk == bulk], count, suspects)
        shares = _load(db, name)
        while len(chosen) < count:
            costs = {
                owner: costs
                for owner, costs in line.costs().items()
                if running.get(owner, 0) < running_quota(owner)
            }
            if not costs:
                break
            (owner, user), shares = pick_user(shares, costs)
            chosen.append(line.take(owner, user))
            running[owner] = running.get(owner, 0) + 1
        _save(db, name, shares)
    served = {(frame["owner"], frame["end_user"]) for frame in chosen if not frame["bulk"]}
    for frame in _firsts(db, jobs, served) if newcomers > 0 else ():
        owner = frame["owner"]
        if newcomers > 0 and running.get(owner, 0) < running_quota(owner):
            chosen.append(frame)
            running[owner] = running.get(owner, 0) + 1
            newcomers -= 1
    return chosen


def _firsts(
    db: Database, jobs: list[Waiting], served: Collection[tuple[str, str]]
) -> Iterator[Row]:
    """The next frame of each newcomer who is not served already, in the order of ``jobs``.

    Their turns are not charged: it is one frame at a time, and what is drawn of it in each call is
    shared out by the painter.
    """
    who = waiting_newcomers(db.rows) - set(served)
    for job in jobs:
        if job.bulk or (job.owner, job.user) not in who:
            continue
        frames = _waiting_frames(db, job.job, 1, suspects=False)
        if frames:
            who.remove((job.owner, job.user))
            yield frames[0]


def _waiting_frames(db: Database, job: str, count: int, *, suspects: bool) -> list[Row]:
    """The first ``count`` of a job's waiting frames that are suspects, or that are none."""
    which = "EXISTS" if suspects else "NOT EXISTS"
    return db.rows(
        f"{job_frames.FRAME} WHERE f.job = ? AND f.state = 'queued'"
        f" AND {which} ({job_suspects.OF_FRAME}) ORDER BY f.frame LIMIT ?",
        (job, count),
    )


class _Line:
    """The next waiting frame of each user; reads no more frames than are asked for."""

    def __init__(self, db: Database, jobs: list[Waiting], count: int, suspects: bool) -> None:
        self._db, self._count, self._suspects = db, count, suspects
        lists: dict[tuple[str, str], list[Waiting]] = {}
        for job in jobs:
            lists.setdefault((job.owner, job.user), []).append(job)
        self._frames = {who: self._read(theirs) for who, theirs in lists.items()}
        firsts = {who: next(frames, None) for who, frames in self._frames.items()}
        self._next = {who: frame for who, frame in firsts.items() if frame is not None}

    def costs(self) -> dict[str, dict[str, int]]:
        """Steps of the next frame by owner and user."""
        costs: dict[str, dict[str, int]] = {}
        for (owner, user), frame in self._next.items():
            costs.setdefault(owner, {})[user] = frame["steps"]
        return costs

    def take(self, owner: str, user: str) -> Row:
        """Take a user's next frame out of the line."""
        frame = self._next.pop((owner, user))
        following = next(self._frames[owner, user], None)
        if following is not None:
            self._next[owner, user] = following
        return frame

    def _read(self, jobs: list[Waiting]) -> Iterator[Row]:
        for job in jobs:
            yield from _waiting_frames(self._db, job.job, self._count, suspects=self._suspects)


def _load(db: Database, name: str) -> Shares:
    row = db.one("SELECT state FROM turns WHERE name = ?", (name,))
    return Shares() if row is None else Shares.from_json(json.loads(row["state"]))


def _save(db: Database, name: str, shares: Shares) -> None:
    db.change(
        """INSERT INTO turns (name, state) VALUES (?, ?)
           ON CONFLICT (name) DO UPDATE SET state = excluded.state""",
        (name, json.dumps(shares.to_json())),
    )
