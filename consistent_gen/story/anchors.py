"""Which frames of a story are whose anchors: what others read of a character.

It follows from the plan and the method alone (see `cast`), so a frame that is drawn alone reads
what the same frame reads in its story.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consistent_gen.attention.settings import Recipe
    from consistent_gen.story.cast import CastMember
    from consistent_gen.story.plan import FramePlan, StoryPlan


@dataclass(frozen=True)
class Anchors:
    """What frames read of one character, or of several who are shown together.

    frames: indices of the story's own frames among these; portraits come before them, and then the
    character is one. together: the first frame of several who have anchors of their own, which it
    reads itself.
    """

    members: tuple[CastMember, ...]
    frames: tuple[int, ...]
    together: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the characters."""
        return tuple(member.name for member in self.members)

    @property
    def key(self) -> str:
        """Names them among the anchors of a story."""
        return " & ".join(sorted(self.names))

    @property
    def strengths(self) -> dict[str, float]:
        """By character."""
        return {m.name: 1.0 if m.strength is None else m.strength for m in self.members}


def plan_anchors(plan: StoryPlan, recipe: Recipe) -> list[Anchors]:
    """Which frames of a story are whose anchors, for all of its characters.

    A recipe says how many a character has, and whether the first one is a portrait. Without,
    whoever has no reference pictures has the first frames of a group that shows it: of two,
    otherwise of it alone, otherwise of more; of several such groups that which most frames show.
    What is left has portraits, one at least and one for each reference picture, and then the first
    frames that show nobody else.
    """
    left = {m.name: m for frame in plan.frames for m in frame.members}
    shown = [frozenset(m.name for m in frame.members) for frame in plan.frames]
    found = []
    for group in [] if recipe.portrait else _by_preference(shown):
        frames = [index for index, names in enumerate(shown) if names == group][: recipe.anchors]
        free = all(name in left and not left[name].references for name in group)
        if free and len(frames) == recipe.anchors:
            found.append(Anchors(tuple(left.pop(name) for name in sorted(group)), tuple(frames)))
    for name, member in left.items():
        portraits = min(max(1, len(member.references)), recipe.anchors)
        alone = [index for index, names in enumerate(shown) if names == {name}]
        found.append(Anchors((member,), tuple(alone[: recipe.anchors - portraits])))
    return found + (_first_together(plan, shown, found) if recipe.together else [])


def _by_preference(shown: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Groups of characters, those first whose frames are the best anchors.

    Two are better than one, since frames of both and of each alone have what they need there. More
    than two are drawn small, and are hard to tell apart.
    """
    groups = [group for group in dict.fromkeys(shown) if group]
    return sorted(groups, key=lambda group: (len(group) != 2, len(group), -shown.count(group)))


def _first_together(
    plan: StoryPlan, shown: Sequence[frozenset[str]], own: Sequence[Anchors]
) -> list[Anchors]:
    """The first frames of all groups of several characters that two frames or more show and that
    do not have their anchors in common.
    """
    common = {frozenset(anchors.names) for anchors in own}
    return [
        Anchors(plan.frames[shown.index(group)].members, (shown.index(group),), together=True)
        for group in dict.fromkeys(shown)
        if len(group) > 1 and group not in common and shown.count(group) > 1
    ]


def first_shown(plan: StoryPlan, anchored: Sequence[Anchors]) -> list[Anchors]:
    """The frames with which all others are compared when the best of several candidates is
    chosen: a method's anchors that are frames of the story; where it has none, for each character
    the first one that would be an anchor of it.
    """
    from consistent_gen.methods.head_start import RECIPE

    if not anchored:
        anchored = [one for one in plan_anchors(plan, RECIPE) if not one.together]
    return [one for one in anchored if one.frames]


def compared(frame: FramePlan, firsts: Sequence[Anchors]) -> list[Anchors]:
    """Of the frames that are chosen first those that show whom `frame` shows; of several together
    those of the same, last.
    """
    names = {member.name for member in frame.members}
    return [
        first
        for first in firsts
        if (names == set(first.names) if first.together else names & set(first.names))
    ]
