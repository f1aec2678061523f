"""The worker's side of its leases: who is held, how far they are, what is still to be handed in.

A courier has no thread of its own and belongs to one. When the gateway cannot be reached nothing
is lost here: progress waits for the next turn, and drawings are handed in again until the gateway
answers.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from consistent_gen.checkpoints import atomic_file
from consistent_gen.client.types import Problem
from consistent_gen.engine import write_png
from consistent_gen.errors import CheckpointError, ConsistentGenError, InputError
from consistent_gen.story.best_of import ScoresFrames
from services.errors import NotFound, StorageFull
from services.jobs import Lease
from services.painting.reports import Drawn, Failed, Report, Stepped
from services.telemetry.logs import fields
from services.telemetry.traces import Traces, TraceSpan
from services.worker.leases import Advance, LeaseSource

# Reference pictures are somebody's own: they stay here no longer than a story takes.
REFERENCES_KEPT_S = 600.0
_log = logging.getLogger("services.worker")


@dataclass
class _Held:
    lease: Lease
    step: int = 0
    preview: bytes | None = None
    renewed_at: float = 0.0
    span: TraceSpan = field(default_factory=TraceSpan)  # of the lease
    frame: TraceSpan = field(default_factory=TraceSpan)

    def drop(self, what: str) -> None:
        """Nobody draws it here any more."""
        self.frame.end(cancelled=True)
        self.span.end(cancelled=True)
        _tell(what, self.lease)


@dataclass
class Tally:
    """What a worker has done since it started, in frames."""

    drawn: int = 0
    dropped: int = 0
    failed: int = 0
    released: int = 0


@dataclass(frozen=True)
class _Delivery:
    lease: Lease
    png: bytes | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    problem: Problem | None = None
    retryable: bool = False
    alone: bool = True
    span: TraceSpan = field(default_factory=TraceSpan)


class Courier:
    """Takes leases, keeps them, and hands in what was drawn.

    Args:
        keep_s: longest time between two reports of a lease, well below the lease's own.
        folder: for reference pictures; emptied now and then.
        scorer: of what is handed in; None for no scores.
        traces: where spans of leases and frames go.
    """

    def __init__(
        self,
        source: LeaseSource,
        folder: Path,
        *,
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
        scorer: ScoresFrames | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._source = source
        self._traces = traces or Traces()
        self._folder = folder
        self._keep_s = min(keep_s, source.renew_every_s)
        self._clock = clock
        self._scorer = scorer
        self._held: dict[str, _Held] = {}
        self._deliveries: list[_Delivery] = []
        self.tally = Tally()

    @property
    def busy(self) -> bool:
        """Whether leases are held or drawings not yet handed in."""
        return bool(self._held or self._deliveries)

    def take(
        self,
        count: int,
        *,
        newcomers: int = 0,
        stories: Collection[str] = (),
        wait_s: float = 0.0,
    ) -> list[Lease]:
        """New leases with their reference pictures in the folder. Raises Unreachable."""
        leases = self._source.lease(
            count, newcomers=newcomers, prefer_stories=stories, wait_s=wait_s
        )
        now = self._clock()
        for lease in leases:
            about = {"job": lease.job, "frame": lease.frame, "attempt": lease.attempt}
            span = self._traces.of_order("lease", lease.order, lease=lease.id, **about)
            frame = self._traces.begin("frame", span.parent, version=lease.version, **about)
            self._held[lease.id] = _Held(lease, renewed_at=now, span=span, frame=frame)
            _tell("takes", lease)
        return [lease for lease in leases if self._fetch(lease)]

    def note(self, reports: Iterable[Report]) -> None:
        """Remember what the painter reported."""
        for report in reports:
            held = self._held.get(report.lease)
            if held is None:
                continue  # lost or cancelled meanwhile
            if isinstance(report, Stepped):
                held.step = report.step
                if report.preview is not None:
                    held.preview = png_bytes(report.preview)
            elif isinstance(report, Drawn):
                del self._held[report.lease]
                png = png_bytes(report.image, report.metadata)
                scores = {**self._scores(report), **report.scores}
                held.frame.end(steps=held.step)
                self._deliveries.append(
                    _Delivery(held.lease, png=png, scores=scores, span=held.span)
                )
            elif isinstance(report, Failed):
                self.refuse(held.lease, report.error, retryable=report.retryable)

    def _scores(self, drawn: Drawn) -> dict[str, float]:
        """Of a drawing; none where nobody can tell. A drawing is worth more than its scores."""
        if self._scorer is None or drawn.frame is None:
            return {}
        try:
            return self._scorer([drawn.image], drawn.frame, drawn.others)[0]
        except CheckpointError as error:
            _log.warning("drawings have no scores: %s", error.message)
            self._scorer = None
            return {}

    def refuse(
        self, lease: Lease, error: Exception, *, retryable: bool, alone: bool = True
    ) -> None:
        """Fail a lease; not `alone`: one of several, of which one is at fault."""
        held = self._held.pop(lease.id, None) or _Held(lease)
        held.frame.end(failed=True, error=type(error).__name__)
        problem = problem_of(error).model_copy(update={"request_id": request_of(lease) or None})
        self._deliveries.append(
            _Delivery(lease, problem=problem, retryable=retryable, alone=alone, span=held.span)
        )

    def refuse_all(self, error: Exception) -> None:
        """Fail all held leases so that they are tried again."""
        together = list(self._held.values())
        for held in together:
            self.refuse(held.lease, error, retryable=True, alone=len(together) == 1)

    def turn(self, *, renew: bool = True) -> set[str]:
        """Hand in what is done and keep what is held; returns leases to stop drawing for.

        renew: False lets the leases lapse, when the painter hangs. Raises Unreachable.
        """
        self._deliver()
        return self._renew() if renew else set()

    def give_back(self) -> None:
        """Hand in what is done and release the rest. Raises Unreachable."""
        self._deliver()
        for key, held in list(self._held.items()):
            self._source.release(held.lease)
            del self._held[key]
            held.drop("gives back")
            self.tally.released += 1

    def sweep(self) -> None:
        """Delete reference pictures that nobody used for a while."""
        before = time.time() - REFERENCES_KEPT_S
        for path in [] if self._held else list(self._folder.iterdir()):
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def _deliver(self) -> None:
        while self._deliveries:
            self._hand_in(self._deliveries[0])
            done = self._deliveries.pop(0)
            done.span.end(failed=done.png is None)

    def _hand_in(self, delivery: _Delivery) -> None:
        lease = delivery.lease
        try:
            if delivery.png is None:
                assert delivery.problem is not None
                self._source.fail(
                    lease,
                    delivery.problem,
                    retryable=delivery.retryable,
                    alone=delivery.alone,
                )
                self.tally.failed += 1
                _tell(f"failed ({delivery.problem.code}) with", lease)
            elif self._source.finish(lease, delivery.png, delivery.scores):
                self.tally.drawn += 1
                _tell("has drawn", lease)
            else:
                self.tally.dropped += 1
                _tell("need not have drawn", lease)
        except StorageFull as error:
            self._no_room(lease, error)
        except (InputError, NotFound) as error:
            self.tally.dropped += 1
            told = f"{lease.frame} of {lease.job} was not taken: {error.message}"
            _log.warning("frame %s, request %s", told, request_of(lease), extra=_about(lease))

    def _no_room(self, lease: Lease, error: StorageFull) -> None:
        """The drawing cannot be kept: tell the user, if at least that can be written."""
        told = f"{lease.frame} of {lease.job}"
        _log.error("no room to keep frame %s", told, extra=_about(lease))
        self.tally.failed += 1
        # Otherwise the lease lapses, and the frame is tried again when there may be room.
        with contextlib.suppress(StorageFull):
            self._source.fail(lease, problem_of(error), retryable=False)

    def _renew(self) -> set[str]:
        now = self._clock()
        urgent = self._source.urgent()
        due = [
            held
            for held in self._held.values()
            if urgent or held.preview is not None or now - held.renewed_at >= self._keep_s
        ]
        if not due:
            return set()
        try:
            answers = self._source.renew([Advance(h.lease, h.step, h.preview) for h in due])
        except StorageFull:
            return set()  # progress cannot be written; the drawing may still find room
        lost = set()
        for held, goes_on in zip(due, answers, strict=True):
            held.preview = None
            held.renewed_at = now
            if not goes_on:
                del self._held[held.lease.id]
                held.drop("stops")
                lost.add(held.lease.id)
        return lost

    def _fetch(self, lease: Lease) -> bool:
        """Put the pictures that a lease names into the folder; fails it when one is gone."""
        try:
            for artifact in reference_ids(lease.order):
                path = self._folder / artifact
                if path.exists():
                    path.touch()
                    continue
                with atomic_file(path) as temporary:
                    temporary.write_bytes(self._source.artifact(lease, artifact))
        except (NotFound, InputError):
            gone = InputError("a picture that it is drawn from was deleted; give another one")
            self.refuse(lease, gone, retryable=False)
            return False
        except ConsistentGenError as error:
            self.refuse(lease, error, retryable=True)
            return False
        return True


def request_of(lease: Lease) -> str:
    """The id of the request that asked for a frame, empty for a frame of an older server."""
    said = lease.order.get("request")
    return said if isinstance(said, str) else ""


def _about(lease: Lease) -> dict[str, Any]:
    return fields(
        request_id=request_of(lease) or None,
        job=lease.job,
        frame=lease.frame,
        attempt=lease.attempt,
    )


def _tell(what: str, lease: Lease) -> None:
    place = f"{what} frame {lease.frame} of {lease.job}"
    _log.info("worker %s, request %s", place, request_of(lease) or "-", extra=_about(lease))


def reference_ids(order: Mapping[str, Any]) -> list[str]:
    """The pictures that an order names, references first; only what can be a file name of ours."""
    references = order.get("references") or {}
    found = [id_ for ids in references.values() for id_ in ids]
    part = order.get("part") or {}
    found += [part[name] for name in ("picture", "mask") if part.get(name) is not None]
    for id_ in found:
        if not isinstance(id_, str) or not id_.replace("_", "").isalnum() or not id_.isascii():
            raise InputError("an order names a reference that is no artifact")
    return found


def problem_of(error: Exception) -> Problem:
    """What a client is told."""
    if isinstance(error, StorageFull):
        return Problem(
            title="No room",
            status=507,
            code="storage_full",
            detail="the server has no room left to keep the picture; delete some and retry",
        )
    if isinstance(error, InputError):
        return Problem(
            title="Cannot be drawn", status=422, code="cannot_be_drawn", detail=str(error)
        )
    detail = str(error) if isinstance(error, ConsistentGenError) else "the frame could not be drawn"
    return Problem(title="Drawing failed", status=500, code="drawing_failed", detail=detail)


def png_bytes(image: np.ndarray, metadata: Mapping[str, Any] | None = None) -> bytes:
    """A PNG file of a picture, uint8 [h w 3], with its metadata if given. Equal in, equal out."""
    if metadata is None:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=6)
        return buffer.getvalue()
    # The engine's own writer, so that a frame of the server and one of the command line are equal.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.png"
        write_png(path, image, metadata)
        return path.read_bytes()
