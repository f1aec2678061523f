"""Which frames come first when more of them may step than a denoiser call has rows for.

Every user's first frame goes before anybody's second one: a user who has no row yet gets one at
once, from who has most, and a frame that sits out loses nothing, since all of its state is its own.
Owners come before their users, as in `services.jobs.fairness`: many users do not make a larger
share. Bulk frames go last.

Of what is equal by that, frames go first that have sat out `PATIENCE` calls, then those that have
begun, so that they finish and make room. These keep level, like followers in
`engine.graph.leaders_first`: those go first that have made the fewest steps. Nobody's frame
stands still then while another one of the same user is drawn, and frames of equal steps that share
calls end together, so that the last calls of a story are full.

So nobody waits for ever: a frame that has sat out long is the first of its user, a user's turn
comes when those before have finished or it has sat out as long, and pictures that cannot share a
call take turns (`CallChoice`). Bulk frames alone may wait for as long as others ask.

Frames that were in a failed call carry a cohort number: they share calls with their own cohort only
(0 is everybody's).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch

from consistent_gen.engine import FrameError, Group

MIN_ROWS = 2  # of a call

# Level frames take turns anyway. This is for the others: what has not begun while older frames
# begin again and again, such as a picture of another size of the same user.
PATIENCE = 16  # calls


@dataclass(frozen=True)
class Standing:
    """For whom a group is drawn. `cohort` is whom it may share calls with (0 is everybody)."""

    owner: str = ""
    user: str = ""
    bulk: bool = False
    cohort: int = 0


def in_turn(
    groups: Sequence[Group], standing: Mapping[Group, Standing], passed: Mapping[Group, int]
) -> list[Group]:
    """The groups, the one that goes first in front.

    Args:
        groups: from old to young.
        standing: of each group.
        passed: calls that a group has sat out since it was last in one; 0 if it is missing.
    """

    def urgency(group: Group) -> tuple[bool, bool, bool, int]:
        begun = any(frame.started for frame in group.frames)
        return passed.get(group, 0) < PATIENCE, not begun, group.follows, group.frames[0].index

    order = sorted(groups, key=urgency)
    order = _by_turns(order, lambda g: (standing[g].bulk, standing[g].owner, standing[g].user))
    order = _by_turns(order, lambda g: (standing[g].bulk, standing[g].owner))
    return sorted(order, key=lambda group: standing[group].bulk)


def firsts(ranked: Sequence[Group], standing: Mapping[Group, Standing]) -> list[Group]:
    """The first group of each user; of bulk ones only where there is nothing else."""
    found: dict[tuple[str, str], Group] = {}
    for group in ranked:
        who = standing[group]
        if who.bulk == standing[ranked[0]].bulk:
            found.setdefault((who.owner, who.user), group)
    return list(found.values())


def _by_turns(groups: Sequence[Group], whose: Callable[[Group], Hashable]) -> list[Group]:
    """Everybody's first, everybody's second and so on; otherwise in the order given."""
    seen: Counter[Hashable] = Counter()
    places = []
    for group in groups:
        places.append(seen[whose(group)])
        seen[whose(group)] += 1
    return [group for _, group in sorted(zip(places, groups, strict=True), key=itemgetter(0))]


class CallChoice:
    """A `graph.Choose` that remembers its last choice.

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
        """See `graph.Choose`."""
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
