"""Which frames go into the next denoiser call of a server, and who failed in the last one.

Who goes first is said in `precedence`; whoever is passed over between two steps loses nothing.
Frames that were in a failed call carry a cohort number: they share calls with their own cohort only
(0 is everybody's).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import torch

from consistent_gen.engine import FrameError, Group
from services.painting.precedence import Standing, firsts, in_turn

MIN_ROWS = 2


class CallChoice:
    """A `packing.Choose` that remembers its last choice.

    Args:
        standing_of: for whom a group is drawn.
    """

    def __init__(self, standing_of: Callable[[Group], Standing]) -> None:
        self._standing_of = standing_of
        self._row_caps: dict[Hashable, int] = {}
        self._passed: dict[Group, int] = {}  # calls that it sat out since it was last in one
        self.called: tuple[Group, ...] = ()
        self.ready: tuple[Group, ...] = ()

    def __call__(self, ready: Sequence[Group], rows: int) -> list[Group]:
        """See `packing.Choose`."""
        standing = {group: self._standing_of(group) for group in ready}
        ranked = in_turn(ready, standing, self._passed)
        first = self._leader(ranked, standing)
        free = min(rows, self._row_caps.get(first.key, rows)) - first.rows
        chosen = [first]
        for group in ranked:
            if group is first or _kind(group, standing) != _kind(first, standing):
                continue
            if group.rows <= free:
                chosen.append(group)
                free -= group.rows
        left = set(ready).difference(chosen)
        self._passed = {group: self._passed.get(group, 0) + 1 for group in left}
        self.called = tuple(chosen)
        self.ready = tuple(ready)
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

    def _leader(self, ranked: Sequence[Group], standing: Mapping[Group, Standing]) -> Group:
        """The group that decides what kind of call it is: kinds of several users alternate."""
        kind, waited = _kind(ranked[0], standing), self._passed.get(ranked[0], 0)
        found = ranked[0]
        for group in firsts(ranked, standing):
            if _kind(group, standing) != kind and self._passed.get(group, 0) > waited:
                found, waited = group, self._passed[group]
        return found


def _kind(group: Group, standing: Mapping[Group, Standing]) -> Hashable:
    """Groups of one kind may share a call."""
    return group.key, standing[group].cohort


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
