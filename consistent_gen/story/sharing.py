"""A story's frames with shared attention: who is cast, and from which anchors.

With most methods a character's anchors are a neutral portrait, drawn but not shown, and the first
frames that show the character and nobody else. With others they are frames of the story alone: one
that shows two who meet is the anchor of both, and portraits are for who has no such frame.
Reference pictures of the writer's own are anchors before all others. With some methods, the first
frame that shows several characters who have anchors of their own is read by later frames of the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from PIL import ImageOps

from consistent_gen.engine.request import FrameRequest, Subject
from consistent_gen.engine.sharing import SharedStory, group_name
from consistent_gen.methods.tuning import tuned
from consistent_gen.runtime import frame_seed
from consistent_gen.story.casting import Identity, open_reference
from consistent_gen.story.plan import FramePlan, StoryPlan
from consistent_gen.story.prompts import render, subject_spans

if TYPE_CHECKING:
    from consistent_gen.engine.loop import Engine
    from consistent_gen.models.backbone import Backbone

# Neutral poses for portraits; of a closed vocabulary those are taken that it knows.
POSES = ("standing", "walking", "sitting", "waving", "reading")
# Models of a closed vocabulary have seen few prompts without a place, and then miss half of the
# clothes that the words name (docs/log.md, 2026-11-27).
PLACE = "in a meadow"
_PORTRAITS = 1 << 32  # frame numbers that no story reaches


def submit_frames(plan: StoryPlan, engine: Engine, requests: Sequence[FrameRequest]) -> None:
    """Submit all frames of `plan` to `engine`, tied together as the plan's method wants.

    requests: one per frame, in order.

    Raises:
        InputError: as `SharedStory.cast` and `SharedStory.submit`.
    """
    recipe = tuned(plan.method, engine.backbone)
    if not recipe.rules:
        for request in requests:
            engine.submit(request)
        return
    story = SharedStory(engine, recipe, seed=plan.seed)
    ready = [
        with_nouns(request, frame) for request, frame in zip(requests, plan.frames, strict=True)
    ]
    used = set[int]()
    castings = cast_story(plan, anchors=recipe.anchors, portrait=recipe.portrait)
    for casting in castings:
        count = recipe.anchors - len(casting.frames)
        portraits = anchor_portraits(plan, casting, count, engine.backbone, ready[0])
        story.cast_all(casting.strengths, [*portraits, *(ready[i] for i in casting.frames)])
        used.update(casting.frames)
    if recipe.together:
        for index in first_together(plan, castings).values():
            story.cast_together(ready[index])
            used.add(index)
    for index, request in enumerate(ready):
        if index not in used:
            story.submit(request)


def with_nouns(request: FrameRequest, frame: FramePlan) -> FrameRequest:
    """The request with the head nouns of the frame's mentions as its subjects: where a model looks
    when it looks for a character.
    """
    nouns = tuple(Subject(name=s.name, tokens=tuple(range(*s.noun))) for s in frame.subjects)
    return replace(request, subjects=nouns)


@dataclass(frozen=True)
class Casting:
    """Characters that have the same anchors.

    frames: indices of the story's own frames among these; portraits come before them, and then the
    character is one.
    """

    identities: tuple[Identity, ...]
    frames: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the characters."""
        return tuple(identity.name for identity in self.identities)

    @property
    def strengths(self) -> dict[str, float]:
        """By character."""
        return {i.name: 1.0 if i.strength is None else i.strength for i in self.identities}


def cast_story(plan: StoryPlan, *, anchors: int, portrait: bool) -> list[Casting]:
    """Which frames of a story are whose anchors, for all of its characters.

    anchors: of each. portrait: whether the first one is a portrait. Without, whoever has no
    reference pictures has the first frames of a group that shows it: of two, otherwise of it alone,
    otherwise of more; of several such groups that which most frames show. What is left has
    portraits, one at least and one for each reference picture, and then the first frames that show
    nobody else.
    """
    left = {i.name: i for frame in plan.frames for i in frame.identities}
    shown = [frozenset(i.name for i in frame.identities) for frame in plan.frames]
    found = []
    for group in [] if portrait else _by_preference(shown):
        frames = [index for index, names in enumerate(shown) if names == group][:anchors]
        free = all(name in left and not left[name].references for name in group)
        if free and len(frames) == anchors:
            members = tuple(left.pop(name) for name in sorted(group))
            found.append(Casting(members, tuple(frames)))
    for name, identity in left.items():
        portraits = min(max(1, len(identity.references)), anchors)
        alone = [index for index, names in enumerate(shown) if names == {name}]
        found.append(Casting((identity,), tuple(alone[: anchors - portraits])))
    return found


def _by_preference(shown: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Groups of characters, those first whose frames are the best anchors.

    Two are better than one, since frames of both and of each alone have what they need there. More
    than two are drawn small, and are hard to tell apart.
    """
    groups = [group for group in dict.fromkeys(shown) if group]
    return sorted(groups, key=lambda group: (len(group) != 2, len(group), -shown.count(group)))


def first_together(plan: StoryPlan, castings: Sequence[Casting]) -> dict[str, int]:
    """Group -> index of the first frame that shows its characters and nobody else, for all groups
    of several characters (`roles.group_name`) that two frames or more show and that do not have
    their anchors in common.
    """
    own = {group_name(casting.names) for casting in castings}
    groups = [group_name(i.name for i in f.identities) for f in plan.frames]
    several = [len(frame.identities) > 1 for frame in plan.frames]
    return {
        group: groups.index(group)
        for group, many in zip(groups, several, strict=True)
        if many and group not in own and groups.count(group) > 1
    }


def anchor_portraits(
    plan: StoryPlan,
    casting: Casting,
    count: int,
    backbone: Backbone,
    like: FrameRequest,
) -> list[FrameRequest]:
    """`count` hidden anchors for what the story's own frames leave open; reference pictures come
    first.

    like: a frame of the story, whose size, steps and guidance they take.

    Raises:
        InputError: a reference picture can no longer be read.
    """
    identity = casting.identities[0]
    first = next(f for f in plan.frames if identity.name in (i.name for i in f.identities))
    story_world = backbone.vocabulary() is not None
    found = []
    for number in range(count):
        doing = portrait_words(backbone, number, drawn=number >= len(identity.references))
        template = f"{{{identity.name}}} {doing}".strip()
        prompt = render(template, {identity.name: identity}, first.style, story_world=story_world)
        spans = subject_spans(prompt, backbone.tokenizer)
        nouns = tuple(Subject(name=s.name, tokens=tuple(range(*s.noun))) for s in spans)
        own: dict[str, Any] = {}
        if number < len(identity.references):
            own["reference"] = _picture(identity, number, *like.size(backbone))
        found.append(
            replace(
                like,
                prompt=prompt.text,
                negative="",
                seed=frame_seed(plan.seed, _PORTRAITS + crc32(identity.name.encode()), number),
                id=f"portrait {number + 1} of {identity.name}",
                subjects=nouns,
                hidden=True,
                preview="none",
                **own,
            )
        )
    return found


def portrait_words(backbone: Backbone, number: int, *, drawn: bool) -> str:
    """What a character does in a portrait, and where.

    drawn: whether the model draws it from words, and not from a picture that has its own place.
    """
    poses = [pose for pose in POSES if not backbone.unknown_words(pose)] or [""]
    placed = drawn and backbone.vocabulary() is not None and not backbone.unknown_words(PLACE)
    return f"{poses[number % len(poses)]} {PLACE if placed else ''}".strip()


def _picture(identity: Identity, number: int, width: int, height: int) -> np.ndarray:
    """A reference picture, uint8 [h w 3], cut to the frame's shape around its middle."""
    picture = open_reference(identity.references[number])
    return np.asarray(ImageOps.fit(picture, (width, height)))
