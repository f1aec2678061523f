"""Which workers there are and which of them can draw: readiness of the whole server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_WORKERS = 1000


@dataclass(frozen=True)
class Report:
    """What a worker said last, and when (seconds of the board's clock)."""

    ready: bool
    at: float
    info: Mapping[str, Any]


class WorkerBoard:
    """Reports of workers; one that was silent for `patience_s` does not count. Thread-safe."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._lock = threading.Lock()
        self._reports: dict[str, Report] = {}

    def report(self, worker: str, *, ready: bool, info: Mapping[str, Any] | None = None) -> None:
        """A worker says whether it can draw now. `info` may describe its model and device."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            if worker in self._reports or len(self._reports) < MAX_WORKERS:
                self._reports[worker] = Report(ready, now, dict(info or {}))

    def heard(self, worker: str) -> None:
        """A worker asked for work, so it is alive."""
        with self._lock:
            old = self._reports.get(worker)
            if old is not None:
                self._reports[worker] = Report(old.ready, self._clock(), old.info)

    def gone(self, worker: str) -> None:
        """A worker said goodbye."""
        with self._lock:
            self._reports.pop(worker, None)

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

    def _forget(self, now: float) -> None:
        old = [n for n, report in self._reports.items() if now - report.at > self._patience_s]
        for name in old:
            del self._reports[name]
