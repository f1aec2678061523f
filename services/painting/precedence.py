"""Which frames come first when more of them may step than a denoiser call has rows for.

Every user's first frame goes before anybody's second one: a user who has no row yet gets one at
once, from who has most, and a frame that sits out loses nothing, since all of its state is its own.
Owners come before their users, as in `services.jobs.fairness`: many users do not make a larger
share. Bulk frames go last.

Of what is equal by that, frames go first that have sat out `PATIENCE` calls, then those that have
begun, so that they finish and make room. These keep level, like followers in
`engine.packing.leaders_first`: those go first that have made the fewest steps. Nobody's frame
stands still then while another one of the same user is drawn, and frames of equal steps that share
calls end together, so that the last calls of a story are full.

So nobody waits for ever: a frame that has sat out long is the first of its user, a user's turn
comes when those before have finished or it has sat out as long, and pictures that cannot share a
call take turns (`calls.CallChoice`). Bulk frames alone may wait for as long as others ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from consistent_gen.engine import Group

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
