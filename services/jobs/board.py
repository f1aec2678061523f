"""Which workers there are and which of them can draw: readiness of the whole server."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.errors import ServiceError
from services.store import Database
from services.store.database import Row

MAX_WORKERS = 1000
FORGET_AFTER = 20.0  # times the patience: rows of workers and gateways that nobody hears of
_log = logging.getLogger("services.board")


@dataclass(frozen=True)
class Report:
    """What a worker said last, and when (seconds of the board's clock)."""

    ready: bool
    at: float
    info: Mapping[str, Any]


class WorkerBoard:
    """Reports of workers; one that was silent for `patience_s` does not count. Thread-safe.

    database: where other gateways leave what their workers report, and find what ours do; None
        where there can be none. gateway: this one's name among them.
    """

    def __init__(
        self,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
        database: Database | None = None,
        gateway: str = "",
    ) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._db, self._gateway = database, gateway
        self._lock = threading.Lock()
        self._reports: dict[str, Report] = {}
        # Numbers of reports in the database, and when each was first seen.
        self._beats: dict[tuple[str, str], tuple[int, float]] = {}

    def report(
        self, worker: str, *, ready: bool, info: Mapping[str, Any] | None = None, instance: str = ""
    ) -> None:
        """A worker says whether it can draw now. `info` may describe its model and device."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            if worker not in self._reports and len(self._reports) >= MAX_WORKERS:
                return
            self._reports[worker] = Report(ready, now, dict(info or {}))
        self._note(
            """INSERT INTO workers (name, instance, gateway, ready, beats, info)
               VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT (name) DO UPDATE SET
               instance = excluded.instance, gateway = excluded.gateway, ready = excluded.ready,
               beats = workers.beats + 1, info = excluded.info""",
            (worker, instance, self._gateway, int(ready), json.dumps(dict(info or {}))),
        )

    def heard(self, worker: str) -> None:
        """A worker asked for work, so it is alive."""
        with self._lock:
            old = self._reports.get(worker)
            if old is not None:
                self._reports[worker] = replace(old, at=self._clock())

    def gone(self, worker: str) -> None:
        """A worker said goodbye."""
        with self._lock:
            self._reports.pop(worker, None)
        self._note("DELETE FROM workers WHERE name = ?", (worker,))

    def beat(self) -> None:
        """Say that this gateway listens, and hear of the workers of others; to be repeated several
        times per `patience_s`.
        """
        if self._db is None:
            return
        self._note(
            """INSERT INTO gateways (name, beats) VALUES (?, 1)
               ON CONFLICT (name) DO UPDATE SET beats = gateways.beats + 1""",
            (self._gateway,),
        )
        workers = self._db.rows("SELECT * FROM workers")
        gateways = self._db.rows("SELECT name, beats FROM gateways")
        for table, name in self._take_note(workers, gateways):
            self._note(f"DELETE FROM {table} WHERE name = ?", (name,))

    def leave(self) -> None:
        """This gateway listens no more."""
        self._note("DELETE FROM gateways WHERE name = ?", (self._gateway,))

    def all(self) -> dict[str, Report]:
        """The workers that count."""
        with self._lock:
            self._forget(self._clock())
            return dict(self._reports)

    def states(self) -> dict[str, bool]:
        """worker -> ready."""
        return {name: report.ready for name, report in self.all().items()}

    @property
    def ready(self) -> bool:
        """Whether anybody can draw."""
        return any(self.states().values())

    def _take_note(self, workers: list[Row], gateways: list[Row]) -> list[tuple[str, str]]:
        """Take over what others heard; returns the tables and names of whom nobody hears any more.

        A row that is seen for the first time may be old: its worker counts once it reports again.
        """
        said: dict[tuple[str, str], Row] = {("workers", row["name"]): row for row in workers}
        said |= {("gateways", row["name"]): row for row in gateways}
        with self._lock:
            now = self._clock()
            for key, row in said.items():
                known = self._beats.get(key)
                if known is not None and known[0] == row["beats"]:
                    continue
                self._beats[key] = (row["beats"], now)
                if known is not None and key[0] == "workers" and row["gateway"] != self._gateway:
                    report = Report(bool(row["ready"]), now, json.loads(row["info"]))
                    self._reports[row["name"]] = report
            gone = {key for key in self._beats if key not in said}
            for table, name in gone:
                del self._beats[table, name]
                if table == "workers":
                    self._reports.pop(name, None)
            before = now - FORGET_AFTER * self._patience_s
            return [key for key, (_, at) in self._beats.items() if at < before]

    def _note(self, sql: str, values: tuple[Any, ...]) -> None:
        """Write for others; what is heard here counts here, even if it cannot be written."""
        if self._db is None:
            return
        try:
            with self._db.transaction(durable=False):
                self._db.change(sql, values)
        except ServiceError as error:
            _log.warning("other gateways do not hear of our workers: %s", error.message)

    def _forget(self, now: float) -> None:
        old = [n for n, report in self._reports.items() if now - report.at > self._patience_s]
        for name in old:
            del self._reports[name]
