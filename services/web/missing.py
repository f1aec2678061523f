"""Who of a story is not in its pictures: what its prompts name against what the reader sees."""

from __future__ import annotations

from consistent_gen.client.types import Missing, MissingOut, StoryFrame, StoryOut
from consistent_gen.story.plan import FramePlan
from consistent_gen.story.scoring import missing
from services.web.ordering import library_references, pictured
from services.web.state import ServerState


def missing_in(state: ServerState, owner: str, story: str) -> MissingOut:
    """Who is missing from the drawings that count. Of models that are not of the story world, which
    the reader does not know, nobody is.

    Raises:
        NotFound: no such story. InputError: the model can no longer draw it. Refusal: no reader.
    """
    stored = state.stories.get(owner, story)
    if state.planner.model.vocabulary() is None:
        return MissingOut(frames=[])
    looked_at = [
        (frame, version, plan)
        for frame, plan in zip(stored.frames, _plans(state, owner, stored), strict=True)
        for version in frame.versions
        if version.version == frame.current and plan.members
    ]
    if not looked_at:
        return MissingOut(frames=[])
    seen = state.scorer.look([state.picture(owner, v.artifact) for _, v, _ in looked_at])
    found = [
        Missing(index=frame.index, version=version.version, names=missing(sights, plan))
        for (frame, version, plan), sights in zip(looked_at, seen, strict=True)
    ]
    return MissingOut(frames=[one for one in found if one.names])


def _plans(state: ServerState, owner: str, stored: StoryOut) -> list[FramePlan]:
    """The plan of each frame, with the words of its re-roll."""
    asked = stored.request
    given = pictured(library_references(state, owner, asked, missing_ok=True))
    drawn = state.planner.word(asked, given).request
    plan = state.planner.plan(drawn)

    def of(frame: StoryFrame) -> FramePlan:
        if frame.prompt == asked.frames[frame.index].prompt:
            return plan.frames[frame.index]
        words = state.planner.word_reroll(asked, frame.index, frame.prompt, given)
        return state.planner.plan_reroll(drawn, frame.index, words).frames[frame.index]

    return [of(frame) for frame in stored.frames]
