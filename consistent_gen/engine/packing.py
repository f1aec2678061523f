"""Which frames share the next denoiser call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from consistent_gen.engine.state import FrameState


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
