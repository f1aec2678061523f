"""Which workers have died: those that said nothing for a whole lease while somebody listened.

A lease carries the number of its renewals. How long that number has stood still is measured by each
process for itself, on a clock that runs only while it listens. So no lease is lost because a wall
clock was set, or because nobody was there to be told: a process that has just started has heard of
every lease just now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.store.database import Query

# A worker that renews its other leases may have been given one by an answer that never reached it.
# Only after so many lapses is it plain that the lease is not about to lapse with its worker.
UNHEARD_LEASES = 2
MOST_BETWEEN_TICKS_S = 0.5


@dataclass(frozen=True)
class WorkerId:
    """A worker's name, and which of the processes that had the name one after the other."""

    name: str
    instance: str = ""


class ListeningClock:
    """Seconds during which a gateway could be told anything; it calls `tick` several times each.

    What passes between two ticks beyond `MOST_BETWEEN_TICKS_S` does not count: whoever ticks late
    (a stopped process, a machine that swaps) has kept its callers waiting meanwhile.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticked = clock()
        self._seconds = 0.0

    def tick(self) -> None:
        """Now somebody listens. To be called from one thread."""
        now = self._clock()
        self._seconds += min(max(0.0, now - self._ticked), MOST_BETWEEN_TICKS_S)
        self._ticked = now

    def __call__(self) -> float:
        return self._seconds


@dataclass(frozen=True)
class Lapses:
    """Leases that lapsed, by id: those of each dead worker, and what a living one never knew of."""

    dead: tuple[tuple[str, ...], ...] = ()
    unheard: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.dead or self.unheard)


@dataclass
class _Lease:
    worker: WorkerId
    renewals: int
    since: float  # when that number was first seen


class Silence:
    """What was heard of workers and leases, and how long ago. Thread-safe.

    clock: seconds that count as silence.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float]) -> None:
        self._lease_s, self._clock = lease_s, clock
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease] = {}
        self._heard: dict[WorkerId, float] = {}

    def asked(self, worker: WorkerId) -> None:
        """A worker asked for work."""
        with self._lock:
            self._heard[worker] = self._clock()

    def started(self, lease: str, worker: WorkerId) -> None:
        """A lease was given."""
        with self._lock:
            self._leases[lease] = _Lease(worker, 0, self._clock())

    def renewed(self, lease: str) -> None:
        """A lease was renewed, once."""
        with self._lock:
            known = self._leases.get(lease)
            if known is not None:  # else the next look finds it, and takes it for renewed
                known.renewals, known.since = known.renewals + 1, self._clock()
                self._heard[known.worker] = known.since

    def look(self, rows: Query) -> Lapses:
        """Read all running leases, and say which of them lapsed."""
        found = rows(
            "SELECT lease, worker, instance, renewals FROM attempts WHERE outcome IS NULL", ()
        )
        with self._lock:
            now = self._clock()
            self._take_note([dict(row) for row in found], now)
            held: dict[WorkerId, list[str]] = {}
            for lease, known in self._leases.items():
                held.setdefault(known.worker, []).append(lease)
            silent = [w for w in held if now - self._heard[w] >= self._lease_s]
            long_ago = now - UNHEARD_LEASES * self._lease_s
            unheard = [
                lease
                for lease, known in self._leases.items()
                if known.since <= long_ago and known.worker not in silent
            ]
            return Lapses(tuple(tuple(held[worker]) for worker in silent), tuple(unheard))

    def _take_note(self, found: list[dict[str, object]], now: float) -> None:
        leases: dict[str, _Lease] = {}
        for row in found:
            lease, renewals = str(row["lease"]), int(str(row["renewals"]))
            known = self._leases.get(lease)
            if known is None or known.renewals != renewals:
                worker = WorkerId(str(row["worker"]), str(row["instance"]))
                known = _Lease(worker, renewals, now)
            leases[lease] = known
            self._heard[known.worker] = max(self._heard.get(known.worker, known.since), known.since)
        self._leases = leases
        holding = {known.worker for known in leases.values()}
        self._heard = {
            worker: at
            for worker, at in self._heard.items()
            if worker in holding or now - at < self._lease_s
        }
