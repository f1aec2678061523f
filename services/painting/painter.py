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
from dataclasses import replace
from pathlib import Path

import torch

from consistent_gen.engine import DEFAULT_BUCKET, Engine, FrameDone, FrameError, Step
from consistent_gen.engine.request import FrameRequest, Preview
from consistent_gen.errors import Cancelled, ConsistentGenError
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.draw import frame_requests
from services.jobs import Lease
from services.painting.anchors import Picture, couples_frames, with_preview
from services.painting.calls import CallChoice, cause, halves, out_of_memory
from services.painting.reports import Drawn, Failed, Report, Stepped
from services.painting.room import Room
from services.painting.shelf import StoryShelf
from services.painting.works import Work, Works, standing_of
from services.plans import FrameOrder, PlanBook

DEFAULT_ANCHOR_BYTES = 2 << 30


class Painter:
    """Draws leased frames with one model.

    Args:
        bucket: rows of a denoiser call (see `engine.Engine`); a frame takes two with guidance.
        exact: see `engine.Engine`.
        max_frames: most leases at once, but for newcomers (see `room.Room`).
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
        self._choice = CallChoice(lambda group: standing_of(group, self._works, self._shelf))
        self.engine = Engine(backbone, bucket=bucket, exact=exact, choose=self._choice)
        self.preview: Preview = preview
        self._room = Room(bucket, max_frames, late_join)
        self._works = Works()
        self._deferred: list[Work] = []
        self._early: list[Report] = []
        self._shelf = StoryShelf(
            self.engine, anchor_bytes, preview, lambda key: bool(self._works.of_story(key))
        )
        self._plans = PlanBook(backbone)
        self._cancels: set[str] = set()
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._cohorts = itertools.count(1)

    @property
    def active(self) -> frozenset[str]:
        """Ids of the leases that are being drawn."""
        return frozenset(lease.id for lease in self._works.leases)

    @property
    def idle(self) -> bool:
        """Whether `step` has nothing to do."""
        return not self._works and self.engine.idle and not self._early

    @property
    def room(self) -> int:
        """How many more leases the next calls have rows for."""
        return self._room.leases

    @property
    def newcomers(self) -> int:
        """How many leases on top of that would be drawn at once, if of users who have none."""
        return self._room.newcomers

    @property
    def max_frames(self) -> int:
        """See the class."""
        return self._room.max_frames

    @property
    def calls(self) -> int:
        """Denoiser calls made so far."""
        return self._room.calls

    @property
    def stories(self) -> tuple[str, ...]:
        """Ids of the stories whose anchors are at hand, longest unused first."""
        return tuple(dict.fromkeys(key.partition(" ")[0] for key in self._shelf.keys))

    def submit(self, lease: Lease, folder: Path | None = None) -> None:
        """Take on a lease. `folder` has the files that its references name.

        Raises:
            InputError: the task cannot be read, or the model cannot draw it.
        """
        order = FrameOrder.from_json(lease.task)
        base, plan = self._plans.plans(order, folder)
        work = Work(
            lease=lease,
            plan=plan,
            frame=plan.frames[order.frame],
            seed=order.seed,
            preview_every=order.preview_every,
            story=f"{lease.story} {order.digest}" if couples_frames(plan.method) else None,
            base=base,
        )
        self._works.add(work)
        try:
            self._start(work)
        except BaseException as error:
            self._works.pop(lease.id)
            if isinstance(error, OSError):
                raise _unreadable(error) from None
            raise
        self._room.joined(1 if plan.guidance == 1.0 else 2, self._works.leases)

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
            self._room.emptied()
            self._room.hold(self._works.leases)
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
        self._room.called(self._choice, self.engine.frames)
        reports += self._failed(failures)
        self._room.hold(self._works.leases)
        self._shelf.settle()
        self._shelf.tidy()
        return reports

    def _stepped(self, event: Step) -> list[Report]:
        return [
            Stepped(
                work.lease.id,
                (event.steps + event.step) // 2 if self._has_twin(work) else event.step,
                event.preview,
            )
            for work in self._works.of_frame(event.id)
        ]

    def _twins_stepped(self) -> list[Report]:
        """A frame with a twin is halfway when that is drawn; the engine is silent about twins."""
        twins = [f for g in self._choice.called for f in g.frames if f.request.twin_of]
        return [
            Stepped(work.lease.id, twin.index // 2)
            for twin in twins
            for work in self._works.of_frame(twin.drawing)
        ]

    def _has_twin(self, work: Work) -> bool:
        story = self._shelf.get(work.story)
        return story is not None and story.has_twins and bool(work.frame.identities)

    def _drawn(self, event: FrameDone) -> list[Report]:
        story = self._shelf.get(self._shelf.key_of(event.id))
        if story is not None:
            story.anchor_drawn(event.id, Picture(event.image, event.metadata))
        works = self._works.drawn(event.id)
        return [Drawn(work.lease.id, event.image, event.metadata) for work in works]

    # Starting -----------------------------------------------------------------------------------

    def _start(self, work: Work) -> None:
        request = self._request(work)
        if work.story is None:
            self._works.wait(work, self.engine.submit(replace(request, id=f"f{next(self._ids)}")))
            return
        story = self._shelf.take(
            work.story,
            work.base,
            work.frame,
            number=next(self._ids),
            preview_every=work.preview_every,
        )
        if story is None:
            self._deferred.append(work)
        elif story.is_anchor(work.frame, work.seed):
            found = story.draw_anchor(work.frame.index)
            if isinstance(found, Picture):
                self._early.append(Drawn(work.lease.id, found.image, found.metadata))
                self._works.pop(work.lease.id)
            else:
                self._works.wait(work, found)
        else:
            self._works.wait(work, story.draw_reader(request, work.frame))

    def _request(self, work: Work) -> FrameRequest:
        request = frame_requests(work.plan)[work.frame.index]
        return with_preview(replace(request, seed=work.seed), self.preview, work.preview_every)

    def _retry_deferred(self) -> None:
        waiting, self._deferred = self._deferred, []
        for work in waiting:
            self._restart(work)

    def _restart(self, work: Work) -> None:
        if work not in self._works:
            return
        self._untrack(work)
        try:
            self._start(work)
        except (ConsistentGenError, OSError) as error:
            self._works.pop(work.lease.id)
            ours = _unreadable(error) if isinstance(error, OSError) else error
            self._early.append(Failed(work.lease.id, ours, retryable=False))

    # Leaving ------------------------------------------------------------------------------------

    def _untrack(self, work: Work) -> None:
        """Take a work off its frame, and the frame off the engine when nobody else wants it."""
        left = self._works.unwait(work)
        if left is not None and self._shelf.anchor_of(left) is None:
            self.engine.cancel(left)

    def _apply_cancels(self) -> None:
        with self._lock:
            cancels, self._cancels = self._cancels, set()
        for lease in cancels:
            work = self._works.pop(lease)
            if work is None:
                continue
            self._untrack(work)
            self._deferred = [other for other in self._deferred if other is not work]
            story = self._shelf.get(work.story)
            if story is not None and not self._works.of_story(work.story):
                story.stop()  # nobody waits for anchors that are half drawn

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
        again: dict[str, Work] = {}
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
                if self._works.pop(work.lease.id) is not None:
                    reports.append(self._verdict(work, failure))
        for work in again.values():
            self._restart(work)
        return reports

    def _set_apart(self, engine_id: str, cohort: int) -> list[Work]:
        """Put a frame that failed, and who must start again with it, into a cohort."""
        anchor = self._shelf.anchor_of(engine_id)
        if anchor is None:
            works = self._works.of_frame(engine_id)
            for work in works:
                work.cohort = cohort
            return works
        anchor.story.cohorts[anchor.name] = cohort
        anchor.story.forget(anchor.name)
        waiting = self._works.of_story(anchor.key)
        return [w for w in waiting if anchor.story.reads(w.frame, anchor.name)]

    def _verdict(self, work: Work, failure: FrameError) -> Failed:
        error = failure.error
        if out_of_memory(cause(failure)):
            width, height = work.plan.width, work.plan.height
            error = ConsistentGenError(
                f"there is not enough memory to draw {width}x{height} pixels; draw smaller "
                "pictures, or start the server with a smaller engine.bucket"
            )
        # What the engine wraps may pass; what it says itself follows from the frame.
        return Failed(work.lease.id, error, retryable=failure.error.__cause__ is not None)

    def _free_memory(self) -> None:
        self._shelf.evict(0)
        gc.collect()
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
        if not self.engine.exact:
            self._choice.lower_cap()


def _unreadable(error: OSError) -> ConsistentGenError:
    return ConsistentGenError(f"a reference picture cannot be read: {error.strerror}")
