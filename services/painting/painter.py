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
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from consistent_gen.engine import DEFAULT_BUCKET, Engine, FrameDone, FrameError, Group, Step
from consistent_gen.engine.redrawing import Redrawing
from consistent_gen.engine.request import Preview
from consistent_gen.engine.state import FrameState
from consistent_gen.errors import Cancelled, ConsistentGenError
from consistent_gen.methods.tuning import tuned
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.best_of import ScoresFrames
from consistent_gen.story.cast import Cast
from consistent_gen.story.mending import KEY as MENDED
from consistent_gen.story.plan import FramePlan, StoryPlan
from services.jobs import Lease
from services.painting.anchor_cache import DEFAULT_ANCHOR_BYTES, AnchorCache, StoryKey
from services.painting.ordering_rules import CallChoice, Standing, cause, halves, out_of_memory
from services.painting.redraws import redrawing_of
from services.painting.reports import Drawn, Failed, Report, Stepped
from services.plans import FrameOrder, PlanBook


class Capacity:
    """Rows of the calls to come, and who has them.

    Args:
        rows: of a denoiser call; most frames take two.
        max_frames: most leases at once, but for newcomers.
        late_join: whether leases may join before all others are drawn.
    """

    def __init__(self, rows: int, max_frames: int, late_join: bool) -> None:
        self.max_frames = max_frames
        self.calls = 0
        self._late_join = late_join
        self._rows = rows
        self._frames = min(max_frames, rows // 2)  # of a call
        self._first_call = 0  # calls made before the present batch
        self._busy_rows = 0
        self._leases = 0
        self._users = 0

    @property
    def leases(self) -> int:
        """How many more leases the next calls have rows for."""
        if not self._late_join and self.calls > self._first_call and self._leases > 0:
            return 0
        free = self.max_frames - self._leases
        return max(0, min(free, -(-(self._rows - self._busy_rows) // 2)))

    @property
    def newcomers(self) -> int:
        """How many users of whom nothing is drawn would get a row in the next call from users who
        have several, when `leases` more have come. Their leases may exceed `max_frames`, at most
        by as many again.
        """
        if not self._late_join:
            return 0
        return max(0, self._frames - self._users - self.leases)

    def joined(self, rows: int, leases: Iterable[Lease]) -> None:
        """A lease was taken on that needs so many rows; `leases` are all that are held now."""
        if self._leases == 0:
            self._first_call = self.calls
        self._busy_rows += rows
        self.hold(leases)

    def hold(self, leases: Iterable[Lease]) -> None:
        """Take note of the leases that are held now."""
        held = list(leases)
        self._leases = len(held)
        # Bulk frames are passed over by whoever comes.
        self._users = len({(lease.owner, lease.user) for lease in held if not lease.bulk})

    def emptied(self) -> None:
        """The engine has nothing to do."""
        self._busy_rows = 0

    def called(self, choice: CallChoice, left: Iterable[FrameState]) -> None:
        """A step is over: how many rows will be taken once the next call is over too, as far as can
        be told? `left` are the frames that have not left the engine.

        A lease takes about as long to come as a call takes. One that comes before there is room
        waits in the engine, where those that have begun go first; one that comes late leaves a
        hole in a call.
        """
        self.calls += bool(choice.called)
        states = {state.id: state for state in left}
        staying = [g.rows for g in choice.ready if g.frames[0].id in states]
        ending = [s.rows for s in states.values() if s.started and _ends_with_next_call(s)]
        self._busy_rows = max(0, sum(staying) - sum(ending))


def _ends_with_next_call(state: FrameState) -> bool:
    return not state.request.hidden and state.index == state.request.settings.steps - 1


@dataclass(eq=False)
class LeasedFrame:
    """A lease on its way.

    candidates: how many drawings are made of the frame, of which the best is kept. ids: the
    engine's of those, none until its anchors have room in memory and what comes before it is
    drawn. steps, drawn: of these ids.
    """

    lease: Lease
    plan: StoryPlan
    frame: FramePlan
    seed: int
    preview_every: int
    story: StoryKey | None  # its key in the anchor cache; None for methods that tie nothing
    base: StoryPlan  # the story as first asked for: what anchors are drawn from
    candidates: int = 1
    redrawing: Redrawing | None = None
    cohort: int = 0
    ids: list[str] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    drawn: dict[str, FrameDone] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all that is drawn of it is there."""
        return bool(self.ids) and all(one in self.drawn for one in self.ids)

    def stepped(self, engine_id: str, step: int) -> int:
        """Note a step of one of its drawings; how many steps of all candidates that makes. What
        was drawn before, to choose by, counts as done.
        """
        self.steps[engine_id] = step
        before = self.candidates - len(self.ids)
        return before * self.plan.settings.steps + sum(self.steps.values())


class LeaseTable:
    """All leases on their way, by lease and by frame. Several may wait for one frame."""

    def __init__(self) -> None:
        self._by_lease: dict[str, LeasedFrame] = {}
        self._by_frame: dict[str, list[LeasedFrame]] = {}

    def __len__(self) -> int:
        return len(self._by_lease)

    def __contains__(self, work: LeasedFrame) -> bool:
        return self._by_lease.get(work.lease.id) is work

    @property
    def leases(self) -> list[Lease]:
        """Of all frames on their way."""
        return [work.lease for work in self._by_lease.values()]

    def add(self, work: LeasedFrame) -> None:
        """Begin."""
        self._by_lease[work.lease.id] = work

    def pop(self, lease: str) -> LeasedFrame | None:
        """Forget a lease and return what it was if there was one. Its frame is not touched."""
        return self._by_lease.pop(lease, None)

    def wait(self, work: LeasedFrame, found: Sequence[str | FrameDone]) -> None:
        """From now on it waits for frames of the engine, of which some may be there."""
        for one in found:
            if isinstance(one, str):
                self._by_frame.setdefault(one, []).append(work)
            else:
                work.drawn[one.id] = one
        work.ids = [one if isinstance(one, str) else one.id for one in found]

    def unwait(self, work: LeasedFrame) -> list[str]:
        """It waits no more; returns the frames that nobody else waits for."""
        ids, work.ids = work.ids, []
        work.steps, work.drawn = {}, {}
        left = []
        for engine_id in ids:
            waiting = self._by_frame.pop(engine_id, [])
            others = [other for other in waiting if other is not work]
            if others:
                self._by_frame[engine_id] = others
            elif waiting:
                left.append(engine_id)
        return left

    def drawn(self, done: FrameDone) -> list[LeasedFrame]:
        """A frame is drawn: forget and return those who wait for no other."""
        works = self._by_frame.pop(done.id, [])
        for work in works:
            work.drawn[done.id] = done
        complete = [work for work in works if work.complete]
        for work in complete:
            del self._by_lease[work.lease.id]
        return complete

    def of_frame(self, engine_id: str) -> list[LeasedFrame]:
        """Who waits for a frame."""
        return list(self._by_frame.get(engine_id, ()))

    def of_story(self, story: StoryKey | None) -> list[LeasedFrame]:
        """Who draws frames of a story (its key)."""
        return [work for work in self._by_lease.values() if work.story == story]


def standing_of(group: Group, table: LeaseTable, cache: AnchorCache) -> Standing:
    """For whom the frames of a group are drawn; an anchor for whoever waits for its story."""
    waiting: list[LeasedFrame] = []
    cohorts = [0]
    for frame in group.frames:
        anchor = cache.anchor_of(frame.drawing)
        if anchor is None:
            own = table.of_frame(frame.drawing)
            cohorts += [work.cohort for work in own]
        else:
            own = table.of_story(anchor.story)
            cohorts.append(anchor.cached.cohorts.get(anchor.key, 0))
        waiting += own
    bulk = all(work.lease.bulk for work in waiting)
    # A story is its owner's, but several of the owner's users may wait for an anchor.
    lease = next((work.lease for work in waiting if work.lease.bulk == bulk), None)
    owner, user = ("", "") if lease is None else (lease.owner, lease.user)
    return Standing(owner, user, bulk, max(cohorts))


class Painter:
    """Draws leased frames with one model.

    Args:
        bucket: rows of a denoiser call (see `engine.Engine`); a frame takes two with guidance.
        exact: see `engine.Engine`.
        max_frames: most leases at once, but for newcomers (see `Capacity`).
        anchor_bytes: most memory for the anchors of all stories; a story that needs more fails,
            one that has to wait for others waits.
        preview: how previews are made: "linear" or "decode".
        late_join: whether leases may join between two steps; without it a batch is drawn to its
            end before the next one, which is what step batching is measured against.
        scorer: by which the best of several candidates is chosen (see `story.cast.Cast`).
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
        scorer: ScoresFrames | None = None,
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
            self.engine, anchor_bytes, lambda story: bool(self._table.of_story(story)), scorer
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
        tied = tuned(plan.method, self.backbone).anchors > 0 or plan.best_of > 1
        work = LeasedFrame(
            lease=lease,
            plan=plan,
            frame=plan.frames[order.frame],
            seed=order.seed,
            preview_every=order.preview_every,
            story=(lease.story, order.digest) if tied else None,
            base=base,
            candidates=order.candidates(base),
            redrawing=None if order.part is None else redrawing_of(order.part, folder),
        )
        self._table.add(work)
        try:
            self._start(work)
        except BaseException as error:
            self._table.pop(lease.id)
            if isinstance(error, OSError):
                raise _unreadable(error) from None
            raise
        rows = work.candidates * (1 if plan.settings.guidance == 1.0 else 2)
        self._capacity.joined(rows, self._table.leases)

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
        failures, done = [], []
        for event in self.engine.step():
            if isinstance(event, Step):
                reports += self._stepped(event)
            elif isinstance(event, FrameDone):
                done.append(event)
            elif isinstance(event, FrameError) and not isinstance(event.error, Cancelled):
                failures.append(event)
        reports += self._drawn(done)
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
                work.stepped(
                    event.id,
                    (event.steps + event.step) // 2 if self._has_twin(work) else event.step,
                ),
                event.preview,
            )
            for work in self._table.of_frame(event.id)
        ]

    def _twins_stepped(self) -> list[Report]:
        """A frame with a twin is halfway when that is drawn; the engine is silent about twins."""
        twins = [f for g in self._choice.called for f in g.frames if f.request.twin_of]
        return [
            Stepped(work.lease.id, work.stepped(twin.drawing, twin.index // 2))
            for twin in twins
            for work in self._table.of_frame(twin.drawing)
        ]

    def _has_twin(self, work: LeasedFrame) -> bool:
        cast = self._cache.get(work.story)
        return cast is not None and cast.has_twins and bool(work.frame.members)

    def _drawn(self, done: Sequence[FrameDone]) -> list[Report]:
        for event in done:
            self._cache.drawn(event)
        again = [work for event in done for work in self._amended(event)]
        reports = [self._finished(work) for event in done for work in self._table.drawn(event)]
        for work in again:
            self._restart(work)
        return reports

    def _amended(self, event: FrameDone) -> list[LeasedFrame]:
        """Who begins anew because a first frame that they read is drawn again."""
        anchor = self._cache.anchor_of(event.id)
        cast = None if anchor is None else anchor.cached.cast
        key = None if cast is None else cast.amend(event)
        if anchor is None or cast is None or key is None:
            return []
        again = [w for w in self._table.of_story(anchor.story) if cast.reads(w.frame, key)]
        for work in again:
            self._untrack(work)
        return again

    def _finished(self, work: LeasedFrame) -> Report:
        """What came of a work all of whose drawings are there: the best of them."""
        drawn = [work.drawn[one] for one in work.ids]
        cast, scores = self._cache.get(work.story), dict[str, float]()
        done = drawn[0]
        if work.candidates > 1:
            assert cast is not None, "a story with candidates has a cast of its own"
            try:
                choice = cast.choose(work.frame, drawn)
            except ConsistentGenError as error:
                return Failed(work.lease.id, error, retryable=False)
            done = choice.done
            scores = {**choice.scores[choice.number], "candidate": choice.number + 1.0}
        if MENDED in done.metadata["story"]:
            scores["drawing"] = float(done.metadata["story"][MENDED]["drawing"])
        known = self.backbone.vocabulary() is not None
        others = () if cast is None else tuple(cast.others(work.frame))
        return Drawn(
            work.lease.id, done.image, done.metadata, work.frame if known else None, others, scores
        )

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
        if cast.before(work.frame, **seen):
            self._deferred.append(work)
            return
        if work.candidates > 1:
            found = cast.candidates(work.frame, **seen)
        else:
            seen["redrawing"] = work.redrawing
            found = [cast.draw(work.frame, seed=work.seed, **seen)]
        self._table.wait(work, found)
        if work.complete:
            self._early.append(self._finished(work))
            self._table.pop(work.lease.id)

    def _retry_deferred(self) -> None:
        waiting, self._deferred = self._deferred, []
        for work in waiting:
            self._restart(work)

    def _restart(self, work: LeasedFrame) -> None:
        if work not in self._table:
            return
        self._deferred = [other for other in self._deferred if other is not work]
        self._untrack(work)
        try:
            self._start(work)
        except (ConsistentGenError, OSError) as error:
            self._table.pop(work.lease.id)
            ours = _unreadable(error) if isinstance(error, OSError) else error
            self._early.append(Failed(work.lease.id, ours, retryable=False))

    # Leaving ------------------------------------------------------------------------------------

    def _untrack(self, work: LeasedFrame) -> None:
        """Take a work off its frames, and those off the engine that nobody else wants."""
        for left in self._table.unwait(work):
            if self._cache.anchor_of(left) is None:
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
        if not scarce and len({self._for_whom(group) for group in together}) == 1:
            together = []  # candidates of one frame: they stay together, and so is the fault
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

    def _for_whom(self, group: Group) -> Hashable:
        """What is set apart as a whole: groups that are equal by this share a cohort."""
        drawing = group.frames[0].drawing
        anchor = self._cache.anchor_of(drawing)
        if anchor is not None:
            return anchor.story, anchor.key
        return frozenset(work.lease.id for work in self._table.of_frame(drawing))

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
