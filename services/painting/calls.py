"""Which frames go into the next denoiser call of a server, and who failed in the last one.

Interactive frames go before bulk ones, which are passed over between two steps at no cost; frames
that have begun go before new ones, so that they finish and make room. Frames that were in a failed
call carry a cohort number: they share calls with their own cohort only (0 is everybody's).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch

from consistent_gen.engine import FrameError, Group

MIN_ROWS = 2


class CallChoice:
    """A `packing.Choose` that remembers its last choice.

    Args:
        is_bulk, cohort_of: what is known of a frame, by its id in the engine.
    """

    def __init__(self, is_bulk: Callable[[str], bool], cohort_of: Callable[[str], int]) -> None:
        self._is_bulk = is_bulk
        self._cohort_of = cohort_of
        self._row_caps: dict[Hashable, int] = {}
        self.called: tuple[Group, ...] = ()
        self.ready_rows = 0

    def __call__(self, ready: Sequence[Group], rows: int) -> list[Group]:
        """See `packing.Choose`."""
        ranked = sorted(ready, key=self._rank)
        first = ranked[0]
        cohort = self._cohort(first)
        free = min(rows, self._row_caps.get(first.key, rows)) - first.rows
        chosen = [first]
        for group in ranked[1:]:
            if group.key == first.key and group.rows <= free and self._cohort(group) == cohort:
                chosen.append(group)
                free -= group.rows
        self.called = tuple(chosen)
        self.ready_rows = sum(group.rows for group in ready)
        return chosen

    def forget_call(self) -> None:
        """Before a step: it may end without a call."""
        self.called = ()

    def failed_together(self, failures: Sequence[FrameError]) -> list[Group]:
        """The groups of the last call if the call failed and several were in it."""
        if not failures:
            return []
        number_of = {f.id: n for n, group in enumerate(self.called) for f in group.frames}
        by_cause: dict[int, set[int]] = {}
        for failure in failures:
            if failure.id in number_of:
                found = by_cause.setdefault(id(cause(failure)), set())
                found.add(number_of[failure.id])
        shared = max(by_cause.values(), key=len, default=set())
        return [self.called[n] for n in sorted(shared)] if len(shared) > 1 else []

    def lower_cap(self) -> None:
        """The last call did not fit into memory: let later ones of its kind have half its rows."""
        if self.called:
            rows = sum(group.rows for group in self.called)
            self._row_caps[self.called[0].key] = max(MIN_ROWS, rows // 2)

    def _rank(self, group: Group) -> tuple[bool, bool]:
        bulk = all(self._is_bulk(frame.id) for frame in group.frames)
        return bulk, not any(frame.started for frame in group.frames)

    def _cohort(self, group: Group) -> int:
        return max(self._cohort_of(frame.id) for frame in group.frames)


def cause(failure: FrameError) -> BaseException:
    """What went wrong: the engine wraps one exception anew for every frame of a call."""
    return failure.error.__cause__ or failure.error


def halves(groups: Sequence[Group]) -> tuple[Sequence[Group], Sequence[Group]]:
    """Two parts of about equal size."""
    middle = len(groups) // 2
    return groups[:middle], groups[middle:]


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory was short; on a CPU torch raises a plain RuntimeError."""
    scarce = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return scarce or "DefaultCPUAllocator: can't allocate memory" in str(error)
