"""Prometheus metrics of a gateway. No label holds a key, a user, or anything that was typed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.jobs import QueueState
from services.jobs.board import Report
from services.settings import StorageSettings
from services.store import Database

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "consistent_gen"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one server; each server has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            f"{_PREFIX}_requests",
            "Answered requests.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            f"{_PREFIX}_request_seconds", "Time to the first byte of an answer.", ["route"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.refusals = Counter(
            f"{_PREFIX}_refusals",
            "Refused requests by status.",
            ["status"],
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if status >= 400:
            self.refusals.labels(str(status)).inc()

    def watch(self, source: Collector) -> None:
        """Ask `source` for more metrics whenever ours are read."""
        self.registry.register(source)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class ServerGauges(Collector):
    """What is true now: queue, frames, leases, storage, streams, workers."""

    def __init__(
        self,
        database: Database,
        queue: Callable[[], QueueState],
        used_bytes: Callable[[], int],
        streams: Callable[[], int],
        workers: Callable[[], Mapping[str, Report]],
        storage: StorageSettings,
    ) -> None:
        self._database, self._queue, self._used_bytes = database, queue, used_bytes
        self._streams, self._workers, self._storage = streams, workers, storage

    def describe(self) -> Iterable[Metric]:
        """Nothing is read while the source is being registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Read everything once."""
        queue = self._queue()
        yield _gauge("queue_frames", "Frames that wait or are drawn.", "state",
                     {"queued": queue.queued, "running": queue.running})  # fmt: skip
        yield _single(
            "queue_oldest_seconds", "Age of the oldest waiting frame.", queue.oldest_queued_s
        )
        yield _single("queue_owners", "Callers with unfinished frames.", len(queue.owners))
        yield _gauge("frames", "Frames in the store.", "state", self._count("job_frames", "state"))
        yield _gauge("jobs", "Jobs in the store.", "state", self._count("jobs", "state"))
        yield _gauge("leases", "Leases ever given, by what became of them.", "outcome",
                     self._count("attempts", "COALESCE(outcome, 'open')"))  # fmt: skip
        yield _single("storage_bytes", "Bytes of all stored files.", self._used_bytes())
        yield _single(
            "storage_quota_bytes", "What they may take.", float(self._storage.quota_bytes)
        )
        places = {"data": self._storage.data_dir, "tmp": Path(tempfile.gettempdir())}
        yield _gauge("free_bytes", "Free bytes of the disks in use.", "place", _free(places))
        yield _single(
            "wal_bytes", "Bytes of SQLite's write-ahead log.", _wal(self._storage.data_dir)
        )
        yield _single("event_streams", "Open event streams and waits.", self._streams())
        reports = self._workers()
        ready = [report.ready for report in reports.values()]
        yield _gauge("workers", "Workers heard of lately.", "state",
                     {"ready": sum(ready), "loading": len(ready) - sum(ready)})  # fmt: skip

        memory = GaugeMetricFamily(
            f"{_PREFIX}_worker_memory_bytes",
            "Memory that a worker draws with: of its card, or of its process and machine.",
            labels=["worker", "kind"],
        )
        for name, report in reports.items():
            for kind in ("used", "total"):
                if isinstance(size := report.info.get(f"memory_{kind}"), int):
                    memory.add_metric([name, kind], size)
        yield memory

    def _count(self, table: str, column: str) -> dict[str, int]:
        rows = self._database.rows(
            f"SELECT {column} AS name, COUNT(*) AS number FROM {table} GROUP BY 1"
        )
        return {row["name"]: row["number"] for row in rows}


def _free(places: dict[str, Path]) -> dict[str, int]:
    """Without a place that cannot be looked at; a rule on its absence says so."""
    found = {}
    for name, folder in places.items():
        with contextlib.suppress(OSError):
            found[name] = shutil.disk_usage(folder).free
    return found


def _wal(folder: Path) -> int:
    """0 for another database, and while nobody has written."""
    size = 0
    for path in folder.glob("*.sqlite-wal"):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size


def _single(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", words, value=value)


def _gauge(name: str, words: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
