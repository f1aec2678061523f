"""Which workers have died: those that said nothing for a whole lease while somebody listened.

A lease carries the number of its renewals, a worker and a gateway that of their reports. How long
these numbers have stood still is measured by each process for itself, on a clock that runs only
while it listens. So no lease is lost because a wall clock was set, because nobody was there to be
told (a process that has just started has heard of every lease just now), or because a worker tells
another gateway. Where that gateway is the one that is silent, nobody knows whether its workers have
died: what they draw is given out again, and charged to none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.store.database import Query, Row

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
    """Leases that lapsed, by id: those of each dead worker, and those that nobody is to blame for:
    what a living worker never knew of, and what workers hold whose gateway is silent.
    """

    dead: tuple[tuple[str, ...], ...] = ()
    unheard: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.dead or self.unheard)


@dataclass
class _Lease:
    worker: WorkerId
    renewals: int
    since: float  # when that number was first seen


@dataclass
class _Beats:
    """A number of reports that grows while somebody is there."""

    number: int | None
    since: float  # when it was first seen
    returned: float  # when it grew after it had long stood still; at first when it was seen


class Silence:
    """What was heard of workers and leases, and how long ago. Thread-safe.

    clock: seconds that count as silence. gateway: this one's name among those of the store.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float], gateway: str = "") -> None:
        self._lease_s, self._clock, self._gateway = lease_s, clock, gateway
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease] = {}
        self._heard: dict[WorkerId, float] = {}
        self._workers: dict[WorkerId, _Beats] = {}
        self._gateways: dict[str, _Beats] = {}

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
            """SELECT a.lease, a.worker, a.instance, a.renewals, w.beats, w.gateway,
                   g.beats AS gateway_beats
               FROM attempts a
               LEFT JOIN workers w ON w.name = a.worker AND w.instance = a.instance
               LEFT JOIN gateways g ON g.name = w.gateway
               WHERE a.outcome IS NULL""",
            (),
        )
        with self._lock:
            now = self._clock()
            cut_off = self._take_note(found, now)
            held: dict[WorkerId, list[str]] = {}
            for lease, known in self._leases.items():
                held.setdefault(known.worker, []).append(lease)
            silent = [w for w in held if now - self._heard[w] >= self._lease_s]
            long_ago = now - UNHEARD_LEASES * self._lease_s
            unheard = [
                lease
                for lease, known in self._leases.items()
                if (known.worker in cut_off if known.worker in silent else known.since <= long_ago)
            ]
            dead = [tuple(held[worker]) for worker in silent if worker not in cut_off]
            return Lapses(tuple(dead), tuple(unheard))

    def _take_note(self, found: Sequence[Row], now: float) -> set[WorkerId]:
        """Returns the workers whose gateway does not listen now."""
        leases: dict[str, _Lease] = {}
        workers: dict[WorkerId, _Beats] = {}
        gateways: dict[str, _Beats] = {}
        cut_off: set[WorkerId] = set()
        for row in found:
            worker = WorkerId(row["worker"], row["instance"])
            known = self._leases.get(row["lease"])
            if known is None or known.renewals != row["renewals"]:
                known = _Lease(worker, row["renewals"], now)
            leases[row["lease"]] = known
            heard = [known.since]
            if row["beats"] is not None:
                workers[worker] = self._counted(self._workers.get(worker), row["beats"], now)
                heard.append(workers[worker].since)
                name = row["gateway"]
                if name != self._gateway:
                    beats = self._counted(self._gateways.get(name), row["gateway_beats"], now)
                    gateways[name] = beats
                    heard.append(beats.returned)
                    if now - beats.since >= self._lease_s / 2:
                        cut_off.add(worker)
            self._heard[worker] = max(self._heard.get(worker, heard[0]), *heard)
        self._leases, self._workers, self._gateways = leases, workers, gateways
        holding = {known.worker for known in leases.values()}
        self._heard = {
            worker: at
            for worker, at in self._heard.items()
            if worker in holding or now - at < self._lease_s
        }
        return cut_off

    def _counted(self, known: _Beats | None, number: int | None, now: float) -> _Beats:
        if known is None:
            return _Beats(number, now, now)
        if known.number == number:
            return known
        was_away = now - known.since >= self._lease_s / 2
        return _Beats(number, now, now if was_away else known.returned)
