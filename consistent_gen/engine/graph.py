"""Who waits for whom, and who shares the next denoiser call: the frames in the engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass

from consistent_gen.engine.request import FrameRequest
from consistent_gen.engine.state import FrameState
from consistent_gen.errors import InputError


@dataclass(frozen=True)
class Group:
    """Frames that only ever step together: one frame, or a gang."""

    frames: tuple[FrameState, ...]

    @property
    def rows(self) -> int:
        """Rows of a call that the group takes."""
        return sum(frame.rows for frame in self.frames)

    @property
    def alone(self) -> bool:
        """Whether it goes alone, in a call of as many rows as it has."""
        return any(frame.alone for frame in self.frames)

    @property
    def key(self) -> Hashable:
        """Groups of equal keys may share a call. See `FrameState.key`; all frames of a group have
        the same.
        """
        key = self.frames[0].key
        return (key, self.frames[0].id) if self.alone else key

    @property
    def follows(self) -> bool:
        """Whether it stays behind other frames."""
        return any(frame.request.behind for frame in self.frames)


# Given the groups that may step now, in order of submission, and the rows of a call, returns the
# groups of the next call: at least one, all with one key, whose rows fit. A group that is larger
# than a call goes alone.
Choose = Callable[[Sequence[Group], int], Sequence[Group]]


def leaders_first(ready: Sequence[Group], rows: int) -> list[Group]:
    """Groups of the oldest one's kind: those that others may follow, then the oldest that follow.

    Who goes alone goes first, since others wait for it. Leaders draw ahead, and calls are half
    empty once they are through if their followers are not equally far. So of the oldest followers
    that would fill a call those go first that have made the fewest steps. Where nobody leads, the
    oldest go first.
    """
    first = next((group for group in ready if group.alone), ready[0])
    same = [group for group in ready if group.key == first.key]
    leaders = [group for group in same if not group.follows]
    followers = [group for group in same if group.follows]
    count = len(_fitting(followers, rows))
    level = sorted(followers[:count], key=lambda group: group.frames[0].index)
    order = [*leaders, *level, *followers[count:]]
    return _fitting(order, rows) or order[:1]


def _fitting(groups: Sequence[Group], rows: int) -> list[Group]:
    chosen = []
    for group in groups:
        if group.rows <= rows:
            chosen.append(group)
            rows -= group.rows
    return chosen


def call_rows(chosen: Sequence[Group], bucket: int, exact: bool) -> int:
    """Rows of the call: the bucket (or as many buckets as one large gang needs) if exact and nobody
    goes alone.
    """
    live = sum(group.rows for group in chosen)
    exact = exact and not chosen[0].alone
    return -(-live // bucket) * bucket if exact else live


def check_choice(chosen: Sequence[Group], ready: Sequence[Group], rows: int) -> None:
    """Hold a `Choose` function to its contract."""
    assert chosen, "a choose function returned no group"
    assert all(group in ready for group in chosen), "a chosen group is not ready"
    assert len(set(map(id, chosen))) == len(chosen), "a group was chosen twice"
    assert len({group.key for group in chosen}) == 1, "groups of different keys in one call"
    fits = sum(group.rows for group in chosen) <= rows
    assert fits or len(chosen) == 1, "the chosen groups do not fit in one call"


# Outcomes of frames that left, so that later frames can name them; the oldest are forgotten.
REMEMBERED_FRAMES = 10_000


class FrameGraph:
    """Frames that were submitted and have not left yet.

    A frame can only name frames that were submitted before it, so the graph has no cycle and the
    oldest frame that is left can always step.
    """

    def __init__(self) -> None:
        self._groups: list[Group] = []
        self._frames: dict[str, FrameState] = {}
        self._succeeded: OrderedDict[str, bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, frame_id: str) -> bool:
        return frame_id in self._frames or frame_id in self._succeeded

    def __iter__(self) -> Iterator[FrameState]:
        return iter(self._frames.values())

    def get(self, frame_id: str) -> FrameState | None:
        """The frame of that id if it has not left."""
        return self._frames.get(frame_id)

    def check(self, request: FrameRequest) -> None:
        """Accept a request's dependencies.

        Raises:
            InputError: a frame that was never submitted, or one ahead with other steps.
        """
        for other_id in (*request.after, *request.behind):
            if other_id not in self:
                raise InputError(f"frame {other_id!r} is not known; submit it before its readers")
        for other_id in request.behind:
            other = self._frames.get(other_id)
            if other is None:
                continue
            ahead, own = other.request.settings, request.settings
            if (ahead.steps, ahead.scheduler) != (own.steps, own.scheduler):
                raise InputError(
                    f"a frame behind {other_id!r} must share its steps and scheduler: "
                    f"{ahead.steps} {ahead.scheduler}, not {own.steps} {own.scheduler}"
                )

    def add(self, frames: Sequence[FrameState]) -> None:
        """Admit one group."""
        self._groups.append(Group(tuple(frames)))
        self._frames.update((frame.id, frame) for frame in frames)

    def remove(self, group: Group, *, failed: Collection[str] = ()) -> None:
        """Let a whole group leave, and remember which of its frames failed."""
        self._groups.remove(group)
        for frame in group.frames:
            del self._frames[frame.id]
            self._succeeded[frame.id] = frame.id not in failed
        while len(self._succeeded) > REMEMBERED_FRAMES:
            self._succeeded.popitem(last=False)

    def ready(self) -> list[Group]:
        """Groups that may take their next step, oldest first."""
        return [g for g in self._groups if all(self._may_step(frame) for frame in g.frames)]

    def cancelled(self) -> list[Group]:
        """Groups with a cancelled member."""
        return [g for g in self._groups if any(frame.cancelled for frame in g.frames)]

    def orphaned(self) -> list[tuple[Group, str]]:
        """Groups that wait for a frame which will never be drawn, and that frame's id."""
        found = []
        for group in self._groups:
            lost = [
                other_id
                for frame in group.frames
                for other_id in (*frame.request.after, *frame.request.behind)
                if self._succeeded.get(other_id) is False
            ]
            if lost:
                found.append((group, lost[0]))
        return found

    def _may_step(self, frame: FrameState) -> bool:
        if any(other_id in self._frames for other_id in frame.request.after):
            return False
        ahead = (self._frames.get(other_id) for other_id in frame.request.behind)
        wanted = frame.index + frame.request.behind_by
        return all(other is None or other.index >= wanted for other in ahead)
