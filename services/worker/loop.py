"""A worker: a painter and a courier, each on a thread of its own, until told to stop.

The engine never waits for a database or a network, and a lease is kept while one slow step runs.
A cancel is acted upon before the next denoiser call: the painting thread asks the source whether
anything is urgent, and if so lets the courier report first.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import re
import socket
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from consistent_gen.errors import ConsistentGenError
from consistent_gen.story.best_of import ScoresFrames
from services.jobs import Lease
from services.painting.painter import Painter
from services.painting.reports import Failed, Report
from services.telemetry.traces import Traces
from services.worker.courier import Courier, Tally
from services.worker.leases import LeaseSource

# A step may take this many times the median, and at least so many seconds.
PATIENCE, PATIENCE_S, FIRST_PATIENCE_S = 10.0, 30.0, 300.0


class Watchdog:
    """Tells from the time of earlier steps whether the present one hangs. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=64)
        self._began: float | None = None

    def begin(self) -> None:
        """A step begins."""
        self._began = self._clock()

    def end(self) -> None:
        """It is over."""
        if self._began is not None:
            self._seconds.append(self._clock() - self._began)
        self._began = None

    @property
    def hangs(self) -> bool:
        """Whether a step takes far longer than the others did."""
        began = self._began
        if began is None:
            return False
        known = list(self._seconds)
        patience_s = max(PATIENCE * statistics.median(known), PATIENCE_S) if known else None
        return self._clock() - began > (patience_s or FIRST_PATIENCE_S)


TICK_S = 0.03
URGENT_WAIT_S = 1.0  # longest pause of the painter for news that it asked for
IDLE_WAIT_S = 1.0
BACK_OFF_S = (0.2, 5.0)  # first and longest pause while the gateway does not answer
SWEEP_EVERY_S = 60.0
_RESTARTS_PER_HOUR = 5
_log = logging.getLogger("services.worker")


class Worker:
    """Draws what a source leases.

    Args:
        make_painter: loads the model and draws something small, so that it is ready to draw.
        source: see `LeaseSource`. lease_s: of the server.
        on_hang: called once when a step hangs; a process of its own should end itself then.
        scorer: of what was drawn; None for no scores. traces: of leases and frames.
    """

    def __init__(
        self,
        make_painter: Callable[[], Painter],
        source: LeaseSource,
        *,
        lease_s: float = 30.0,
        on_hang: Callable[[], None] | None = None,
        scorer: ScoresFrames | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._make_painter = make_painter
        self._source = source
        self._lease_s = lease_s
        self._on_hang = on_hang
        self._painter: Painter | None = None
        self._watchdog = Watchdog()
        self._inbox: queue.SimpleQueue[Lease | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Sequence[Report] | ConsistentGenError]
        self._outbox = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._painted = threading.Event()  # the painting thread is over
        self._turned = threading.Event()  # the courier has reported
        self._folder = tempfile.TemporaryDirectory(prefix="consistent-gen-worker-")
        self._courier = Courier(
            source, Path(self._folder.name), keep_s=lease_s / 4, scorer=scorer, traces=traces
        )
        self._crashes: deque[float] = deque(maxlen=_RESTARTS_PER_HOUR)
        self._failure: BaseException | None = None
        self._given = self._taken = 0  # leases handed to the painting thread, and taken up by it
        self._asked = self._looked = self._announced = -math.inf
        self._said_ready: bool | None = None
        self._hung = False
        self._give_up_at = math.inf
        self._threads = [
            threading.Thread(target=self._paint, name="painter", daemon=True),
            threading.Thread(target=self._carry, name="courier", daemon=True),
        ]

    @property
    def ready(self) -> bool:
        """Whether a frame would be drawn now."""
        return self._painter is not None and self.healthy and not self._stopping.is_set()

    @property
    def healthy(self) -> bool:
        """Whether the worker is alive: neither hanging nor given up."""
        return self._failure is None and not self._watchdog.hangs

    @property
    def failure(self) -> BaseException | None:
        """Why the worker gave up, None while it has not."""
        return self._failure

    @property
    def tally(self) -> Tally:
        """What it has done so far."""
        return self._courier.tally

    @property
    def painter(self) -> Painter | None:
        """The painter once it is loaded; its thread-safe parts may be used."""
        return self._painter

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 20.0) -> bool:
        """Drain: take no more leases, end the present step, hand in what is done, release the
        rest. Returns whether that took no longer than `timeout_s`; leases left then lapse.
        """
        end = time.monotonic() + timeout_s
        self._give_up_at = end
        self._stopping.set()
        self._inbox.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        stopped = not any(thread.is_alive() for thread in self._threads)
        if stopped:
            with contextlib.suppress(OSError):
                self._folder.cleanup()
        return stopped

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the worker has ended; returns whether it has."""
        self._threads[1].join(timeout_s)
        return not self._threads[1].is_alive()

    # The painting thread --------------------------------------------------------------------------

    def _paint(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._painter = self._make_painter()
                    self._draw(self._painter)
                except Exception as error:
                    self._crashed(error)
        finally:
            self._painted.set()

    def _draw(self, painter: Painter) -> None:
        folder = Path(self._folder.name)
        while not self._stopping.is_set():
            for lease in self._arrivals(painter.idle):
                try:
                    painter.submit(lease, folder)
                except ConsistentGenError as error:
                    self._outbox.put([Failed(lease.id, error, retryable=False)])
                self._taken += 1
            if painter.idle:
                continue
            if self._source.urgent():
                self._turned.clear()
                self._outbox.put([])
                self._turned.wait(min(URGENT_WAIT_S, self._lease_s / 4))
            self._watchdog.begin()
            try:
                reports = painter.step()
            finally:
                self._watchdog.end()
            self._outbox.put(reports)

    def _arrivals(self, idle: bool) -> list[Lease]:
        """New leases; waits for one when there is nothing else to do."""
        found: list[Lease | None] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._inbox.get(timeout=IDLE_WAIT_S) if idle else self._inbox.get_nowait())
            while True:
                found.append(self._inbox.get_nowait())
        return [lease for lease in found if lease is not None]

    def _crashed(self, error: Exception) -> None:
        """Something that must not happen: fail what was being drawn and load the model anew."""
        # Messages of foreign errors may quote a prompt, so only their kind and place are logged.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}"
        _log.error("painter failed: %s in %s", type(error).__name__, where)
        loaded, self._painter = self._painter is not None, None
        now = time.monotonic()
        often = len(self._crashes) == self._crashes.maxlen and now - self._crashes[0] < 3600.0
        self._crashes.append(now)
        if often or not loaded:
            self._failure = error
            self._stopping.set()
        self._outbox.put(ConsistentGenError("the worker failed; the frame will be tried again"))

    # The courier's thread -------------------------------------------------------------------------

    def _carry(self) -> None:
        swept, pause_s = time.monotonic(), BACK_OFF_S[0]
        while not (self._stopping.is_set() and self._painted.is_set()):
            try:
                self._note(TICK_S)
                self._announce()
                self._turn()
                self._ask()
                pause_s = BACK_OFF_S[0]
            except ConsistentGenError as error:
                _log.warning("%s; trying again", error.message)
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, BACK_OFF_S[1])
            self._watch()
            if time.monotonic() - swept > SWEEP_EVERY_S:
                self._courier.sweep()
                swept = time.monotonic()
        self._end()

    def _note(self, timeout_s: float) -> None:
        """Take in what the painting thread said, waiting for it up to `timeout_s`."""
        with contextlib.suppress(queue.Empty):
            said = self._outbox.get(timeout=timeout_s) if timeout_s else self._outbox.get_nowait()
            while True:
                if isinstance(said, ConsistentGenError):
                    self._courier.refuse_all(said)
                else:
                    self._courier.note(said)
                said = self._outbox.get_nowait()

    def _turn(self) -> None:
        lost = self._courier.turn(renew=not self._watchdog.hangs)
        painter = self._painter
        for lease in lost if painter is not None else ():
            assert painter is not None
            painter.cancel(lease)
        self._turned.set()

    def _ask(self) -> None:
        painter = self._painter
        if painter is None or not self.ready:
            return
        on_the_way = self._given - self._taken
        room = max(0, painter.room - on_the_way)
        newcomers = max(0, painter.newcomers - on_the_way)
        now, busy = time.monotonic(), self._courier.busy
        # Having looked for newcomers must not delay the question for a free row.
        asked = self._asked if room else self._looked
        if not (room or newcomers) or (busy and now - asked < self._source.ask_every_s):
            return
        self._asked, self._looked = (now if room else self._asked), now
        wait_s = 0.0 if busy else IDLE_WAIT_S
        leases = self._courier.take(
            room, newcomers=newcomers, stories=painter.stories, wait_s=wait_s
        )
        for lease in leases:
            self._given += 1
            self._inbox.put(lease)

    def _announce(self) -> None:
        ready, now = self.ready, time.monotonic()
        # Who says nothing for a whole lease does not count: some reports may be late.
        if ready != self._said_ready or now - self._announced >= self._lease_s / 4:
            self._source.announce(ready, self.info())
            self._said_ready, self._announced = ready, now

    def _watch(self) -> None:
        if self._watchdog.hangs and not self._hung:
            self._hung = True
            _log.error("a step hangs; this worker is no longer ready")
            if self._on_hang is not None:
                self._on_hang()

    def _end(self) -> None:
        """Hand in and give back what can be, as long as there is time."""
        while True:
            try:
                self._note(0.0)
                self._courier.give_back()
                self._source.leave()
                return
            except ConsistentGenError as error:
                if time.monotonic() > self._give_up_at:
                    _log.warning("%s; leases are left to lapse", error.message)
                    return
            time.sleep(TICK_S)

    def info(self) -> dict[str, Any]:
        """What it draws with, for people and for the metrics."""
        painter = self._painter
        if painter is None:
            return {}
        backbone, engine = painter.backbone, painter.engine
        return {
            "model": backbone.name,
            "sha256": backbone.sha256,
            "device": str(backbone.device),
            # Of several workers on a machine each calls its own card cuda:0.
            "cards": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "bucket": engine.bucket,
            "mode": "exact" if engine.exact else "throughput",
            "max_frames": painter.max_frames,
            **dict(zip(("memory_used", "memory_total"), memory_of(backbone.device), strict=True)),
        }


def memory_of(device: torch.device) -> tuple[int, int]:
    """(used, all) bytes of a card, whoever uses them; for a processor of this process, and of the
    machine.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    return psutil.Process().memory_info().rss, psutil.virtual_memory().total


def worker_name() -> str:
    """A name for this process that no other has while it lives. One that is started again in a
    container has the name that it had, and so tells that it died.
    """
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())[:60]
    return f"{host}:{os.getpid()}"
