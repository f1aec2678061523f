"""What the pictures of a planned story follow from, so that two plans can be told apart by frames.

A frame that is drawn from the same in two plans has the same pixels in both. What it is drawn from
is its own prompt, seed and settings, and all of that of every anchor that it reads; where it is the
best of several candidates, also of every frame that these were compared with.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from consistent_gen.attention.settings import Recipe
from consistent_gen.story.anchors import Anchors, compared, first_shown, plan_anchors
from consistent_gen.story.cast import CastMember
from consistent_gen.story.plan import FramePlan, StoryPlan


def drawn_from(
    plan: StoryPlan, recipe: Recipe, frames: Sequence[FramePlan] | None = None
) -> list[Hashable]:
    """What the picture of each frame follows from; equal values, equal pixels.

    recipe: of the plan's method. frames: the plan's own, or the same with other prompts, which read
    the anchors of the plan (see `cast.Cast.draw`). A frame's index counts only through its seed.
    """
    anchored = plan_anchors(plan, recipe) if recipe.anchors else []
    firsts = first_shown(plan, anchored) if plan.best_of > 1 else []
    return [
        (
            plan.method,
            plan.settings,
            plan.best_of,
            plan.mend,
            _own(frame),
            _seen(plan, frame, firsts),
            *_read(plan, recipe, frame, anchored),
        )
        for frame in (plan.frames if frames is None else frames)
    ]


def _own(frame: FramePlan) -> Hashable:
    return frame.prompt, frame.negative, frame.seed, frame.subjects, *sorted(frame.boxes.items())


def _seen(plan: StoryPlan, frame: FramePlan, firsts: Sequence[Anchors]) -> Hashable:
    """The frames with which a frame's candidates are compared."""
    indices = [index for first in compared(frame, firsts) for index in first.frames]
    return tuple(_own(plan.frames[index]) for index in indices)


def _read(
    plan: StoryPlan, recipe: Recipe, frame: FramePlan, anchored: Sequence[Anchors]
) -> Iterator[Hashable]:
    if not recipe.anchors:
        return
    names = {member.name for member in frame.members}
    known = {name for anchors in anchored for name in anchors.names}
    strangers = [Anchors((m,), ()) for m in frame.members if m.name not in known]
    for anchors in [*anchored, *strangers]:
        # The first frame of several reads the anchors of each, and so do the frames that read it:
        # what these are drawn from is named beside it.
        together = names == set(anchors.names) if anchors.together else names & set(anchors.names)
        if together:
            shown = tuple(_own(plan.frames[index]) for index in anchors.frames)
            hidden = 0 if anchors.together else recipe.anchors - len(shown)
            portrait = _portrayed(plan, anchors.members[0], frame) if hidden else None
            strengths = tuple(sorted(anchors.strengths.items()))
            yield plan.seed, strengths, anchors.together, shown, hidden, portrait


def _portrayed(plan: StoryPlan, member: CastMember, frame: FramePlan) -> Hashable:
    """What a portrait shows of a character: its words and pictures, in its first frame's style."""
    frames = (*plan.frames, frame)
    style = next(f.style for f in frames if member.name in (m.name for m in f.members))
    return member.name, member.words, member.noun, member.references, style
