"""Who waits for whom: the frames in the engine, their groups and their dependencies."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from consistent_gen.engine.packing import Group
from consistent_gen.engine.request import FrameRequest
from consistent_gen.engine.state import FrameState
from consistent_gen.errors import InputError

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

    def group_of(self, frame: FrameState) -> Group:
        """The group that `frame` steps with."""
        return next(group for group in self._groups if frame in group.frames)

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
