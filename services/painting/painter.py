"""The painter: leases in, pictures out, over one engine.

Frames of many stories and users are rows of the same denoiser calls. They join whenever there is
room, leave as soon as they are done or cancelled, and in exact mode their bytes depend on nothing
but themselves. One thread owns a painter; `cancel`, `room` and `newcomers` may be used from others.

When a call with several frames fails, nobody knows whose fault it was: its frames start again in
two halves that no longer share calls, until the one at fault is alone and fails alone. That is
also how a call that was too large for the memory gets smaller.
"""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from consistent_gen.engine import DEFAULT_BUCKET, Engine, FrameDone, FrameError, Step
from consistent_gen.engine.request import Preview
from consistent_gen.errors import Cancelled, ConsistentGenError
from consistent_gen.methods.tuning import tuned
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.cast import Cast
from services.jobs import Lease
from services.painting.anchor_cache import DEFAULT_ANCHOR_BYTES, AnchorCache
from services.painting.capacity import Capacity
from services.painting.lease_table import LeasedFrame, LeaseTable, standing_of
from services.painting.ordering_rules import CallChoice, cause, halves, out_of_memory
from services.painting.reports import Drawn, Failed, Report, Stepped
from services.plans import FrameOrder, PlanBook


class Painter:
    """Draws leased frames with one model.

    Args:
        bucket: rows of a denoiser call (see `engine.Engine`); a frame takes two with guidance.
        exact: see `engine.Engine`.
        max_frames: most leases at once, but for newcomers (see `capacity.Capacity`).
        anchor_bytes: most memory for the anchors of all stories; a story that needs more fails,
            one that has to wait for others waits.
        preview: how previews are made: "linear" or "decode".
        late_join: whether leases may join between two steps; without it a batch is drawn to its
            end before the next one, which is what step batching is measured against.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        bucket: int = DEFAULT_BUCKET,
        exact: bool | None = None,
        max_frames: int = 8,
        anchor_bytes: int = DEFAULT_ANCHOR_BYTES,
        preview: Preview = "linear",
        late_join: bool = True,
    ) -> None:
        self.backbone = backbone
        self._choice = CallChoice(lambda group: standing_of(group, self._table, self._cache))
        self.engine = Engine(backbone, bucket=bucket, exact=exact, choose=self._choice)
        self.preview: Preview = preview
        self._capacity = Capacity(bucket, max_frames, late_join)
        self._table = LeaseTable()
        self._deferred: list[LeasedFrame] = []
        self._early: list[Report] = []
        self._cache = AnchorCache(
            self.engine, anchor_bytes, lambda story: bool(self._table.of_story(story))
        )
        self._plans = PlanBook(backbone)
        self._cancels: set[str] = set()
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._cohorts = itertools.count(1)

    @property
    def active(self) -> frozenset[str]:
        """Ids of the leases that are being drawn."""
        return frozenset(lease.id for lease in self._table.leases)

    @property
    def idle(self) -> bool:
        """Whether `step` has nothing to do."""
        return not self._table and self.engine.idle and not self._early

    @property
    def room(self) -> int:
        """How many more leases the next calls have rows for."""
        return self._capacity.leases

    @property
    def newcomers(self) -> int:
        """How many leases on top of that would be drawn at once, if of users who have none."""
        return self._capacity.newcomers

    @property
    def max_frames(self) -> int:
        """See the class."""
        return self._capacity.max_frames

    @property
    def calls(self) -> int:
        """Denoiser calls made so far."""
        return self._capacity.calls

    @property
    def stories(self) -> tuple[str, ...]:
        """Ids of the stories whose anchors are at hand, longest unused first."""
        return tuple(dict.fromkeys(story for story, _ in self._cache.keys))

    def submit(self, lease: Lease, folder: Path | None = None) -> None:
        """Take on a lease. `folder` has the files that its references name.

        Raises:
            InputError: the order cannot be read, or the model cannot draw it.
        """
        order = FrameOrder.from_json(lease.order)
        base, plan = self._plans.plans(order, folder)
        tied = tuned(plan.method, self.backbone).anchors > 0
        work = LeasedFrame(
            lease=lease,
            plan=plan,
            frame=plan.frames[order.frame],
            seed=order.seed,
            preview_every=order.preview_every,
            story=(lease.story, order.digest) if tied else None,
            base=base,
        )
        self._table.add(work)
        try:
            self._start(work)
        except BaseException as error:
            self._table.pop(lease.id)
            if isinstance(error, OSError):
                raise _unreadable(error) from None
            raise
        self._capacity.joined(1 if plan.settings.guidance == 1.0 else 2, self._table.leases)

    def cancel(self, lease: str) -> None:
        """Stop drawing for a lease: from the next call on it has no rows. Callable anywhere."""
        with self._lock:
            self._cancels.add(lease)

    def step(self) -> list[Report]:
        """Make one denoiser call, and report what happened to whom."""
        self._apply_cancels()
        self._retry_deferred()
        reports, self._early = self._early, []
        if self.engine.idle:
            self._capacity.emptied()
            self._capacity.hold(self._table.leases)
            return reports
        self._choice.forget_call()
        failures = []
        for event in self.engine.step():
            if isinstance(event, Step):
                reports += self._stepped(event)
            elif isinstance(event, FrameDone):
                reports += self._drawn(event)
            elif isinstance(event, FrameError) and not isinstance(event.error, Cancelled):
                failures.append(event)
        reports += self._twins_stepped()
        self._capacity.called(self._choice, self.engine.frames)
        reports += self._failed(failures)
        self._capacity.hold(self._table.leases)
        self._cache.settle()
        return reports

    def _stepped(self, event: Step) -> list[Report]:
        return [
            Stepped(
                work.lease.id,
                (event.steps + event.step) // 2 if self._has_twin(work) else event.step,
                event.preview,
            )
            for work in self._table.of_frame(event.id)
        ]

    def _twins_stepped(self) -> list[Report]:
        """A frame with a twin is halfway when that is drawn; the engine is silent about twins."""
        twins = [f for g in self._choice.called for f in g.frames if f.request.twin_of]
        return [
            Stepped(work.lease.id, twin.index // 2)
            for twin in twins
            for work in self._table.of_frame(twin.drawing)
        ]

    def _has_twin(self, work: LeasedFrame) -> bool:
        cast = self._cache.get(work.story)
        return cast is not None and cast.has_twins and bool(work.frame.members)

    def _drawn(self, event: FrameDone) -> list[Report]:
        self._cache.drawn(event)
        works = self._table.drawn(event.id)
        return [Drawn(work.lease.id, event.image, event.metadata) for work in works]

    # Starting -----------------------------------------------------------------------------------

    def _start(self, work: LeasedFrame) -> None:
        number, cast = next(self._ids), None
        if work.story is None:
            cast = Cast(work.base, self.engine, prefix=f"f{number}/")
        else:
            cast = self._cache.take(work.story, work.base, work.frame, number=number)
        if cast is None:
            self._deferred.append(work)
            return
        seen: dict[str, Any] = {}
        if work.preview_every:
            seen = {"preview": self.preview, "preview_every": work.preview_every}
        found = cast.draw(work.frame, seed=work.seed, **seen)
        if isinstance(found, str):
            self._table.wait(work, found)
        else:
            self._early.append(Drawn(work.lease.id, found.image, found.metadata))
            self._table.pop(work.lease.id)

    def _retry_deferred(self) -> None:
        waiting, self._deferred = self._deferred, []
        for work in waiting:
            self._restart(work)

    def _restart(self, work: LeasedFrame) -> None:
        if work not in self._table:
            return
        self._untrack(work)
        try:
            self._start(work)
        except (ConsistentGenError, OSError) as error:
            self._table.pop(work.lease.id)
            ours = _unreadable(error) if isinstance(error, OSError) else error
            self._early.append(Failed(work.lease.id, ours, retryable=False))

    # Leaving ------------------------------------------------------------------------------------

    def _untrack(self, work: LeasedFrame) -> None:
        """Take a work off its frame, and the frame off the engine when nobody else wants it."""
        left = self._table.unwait(work)
        if left is not None and self._cache.anchor_of(left) is None:
            self.engine.cancel(left)

    def _apply_cancels(self) -> None:
        with self._lock:
            cancels, self._cancels = self._cancels, set()
        for lease in cancels:
            work = self._table.pop(lease)
            if work is None:
                continue
            self._untrack(work)
            self._deferred = [other for other in self._deferred if other is not work]
            cast = self._cache.get(work.story)
            if cast is not None and not self._table.of_story(work.story):
                cast.stop()  # nobody waits for anchors that are half drawn

    # Failing ------------------------------------------------------------------------------------

    def _failed(self, failures: Sequence[FrameError]) -> list[Report]:
        if not failures:
            return []
        scarce = any(out_of_memory(cause(failure)) for failure in failures)
        if scarce:
            self._free_memory()
        together = self._choice.failed_together(failures)
        if scarce and self.engine.exact:
            together = []  # calls have one size, so halves would fail too
        again: dict[str, LeasedFrame] = {}
        for half in halves(together):
            cohort = next(self._cohorts)
            for group in half:
                for frame in group.frames:
                    again |= {w.lease.id: w for w in self._set_apart(frame.drawing, cohort)}
        shared = {frame.id for group in together for frame in group.frames}
        reports: list[Report] = []
        for failure in failures:
            drawing = failure.twin_of or failure.id
            for work in [] if failure.id in shared else self._set_apart(drawing, 0):
                self._untrack(work)
                again.pop(work.lease.id, None)
                if self._table.pop(work.lease.id) is not None:
                    reports.append(self._verdict(work, failure))
        for work in again.values():
            self._restart(work)
        return reports

    def _set_apart(self, engine_id: str, cohort: int) -> list[LeasedFrame]:
        """Put a frame that failed, and who must start again with it, into a cohort."""
        anchor = self._cache.anchor_of(engine_id)
        if anchor is None:
            works = self._table.of_frame(engine_id)
            for work in works:
                work.cohort = cohort
            return works
        anchor.cached.cohorts[anchor.key] = cohort
        anchor.cached.cast.forget(anchor.key)
        waiting = self._table.of_story(anchor.story)
        return [w for w in waiting if anchor.cached.cast.reads(w.frame, anchor.key)]

    def _verdict(self, work: LeasedFrame, failure: FrameError) -> Failed:
        error = failure.error
        if out_of_memory(cause(failure)):
            width, height = work.plan.size
            error = ConsistentGenError(
                f"there is not enough memory to draw {width}x{height} pixels; draw smaller "
                "pictures, or start the server with a smaller engine.bucket"
            )
        # What the engine wraps may pass; what it says itself follows from the frame.
        return Failed(work.lease.id, error, retryable=failure.error.__cause__ is not None)

    def _free_memory(self) -> None:
        self._cache.evict(0)
        gc.collect()
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
        if not self.engine.exact:
            self._choice.lower_cap()


def _unreadable(error: OSError) -> ConsistentGenError:
    return ConsistentGenError(f"a reference picture cannot be read: {error.strerror}")
