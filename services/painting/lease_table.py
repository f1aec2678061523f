"""The leases of a painter on their way, and which frames of its engine they wait for."""

from __future__ import annotations

from dataclasses import dataclass

from consistent_gen.engine import Group
from consistent_gen.story.plan import FramePlan, StoryPlan
from services.jobs import Lease
from services.painting.anchor_cache import AnchorCache, StoryKey
from services.painting.ordering_rules import Standing


@dataclass(eq=False)
class LeasedFrame:
    """A lease on its way. `engine_id` is None until its anchors have room in memory."""

    lease: Lease
    plan: StoryPlan
    frame: FramePlan
    seed: int
    preview_every: int
    story: StoryKey | None  # its key in the anchor cache; None for methods that tie nothing
    base: StoryPlan  # the story as first asked for: what anchors are drawn from
    engine_id: str | None = None
    cohort: int = 0


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

    def wait(self, work: LeasedFrame, engine_id: str) -> None:
        """From now on it waits for a frame of the engine."""
        work.engine_id = engine_id
        self._by_frame.setdefault(engine_id, []).append(work)

    def unwait(self, work: LeasedFrame) -> str | None:
        """It waits no more; returns the frame if nobody else waits for it."""
        engine_id, work.engine_id = work.engine_id, None
        if engine_id is None:
            return None
        others = [other for other in self._by_frame.pop(engine_id, ()) if other is not work]
        if others:
            self._by_frame[engine_id] = others
        return None if others else engine_id

    def drawn(self, engine_id: str) -> list[LeasedFrame]:
        """A frame is drawn: forget and return those who waited for it."""
        works = self._by_frame.pop(engine_id, [])
        for work in works:
            del self._by_lease[work.lease.id]
        return works

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
