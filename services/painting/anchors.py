"""What the frames of a story have in common, kept so that each of them can be drawn alone.

Methods that keep a character read its anchors: hidden portraits and frames of the story, and where
several meet the first frame of them together (`consistent_gen.story.sharing`). They are drawn once
per story and engine, when a frame first needs them, and kept. A frame that is an anchor itself is
drawn with them and its picture kept too, since the others need it whoever asked first. Drawing
anchors again gives the same bytes, so they may be forgotten at any time that nobody reads them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from consistent_gen.engine import Engine, FrameRequest
from consistent_gen.engine.request import Preview
from consistent_gen.engine.sharing import SharedStory, group_name
from consistent_gen.methods import METHODS
from consistent_gen.methods.tuning import tuned
from consistent_gen.registry import resolve
from consistent_gen.story.draw import frame_requests
from consistent_gen.story.plan import FramePlan, StoryPlan
from consistent_gen.story.sharing import (
    Casting,
    anchor_portraits,
    cast_story,
    first_together,
    with_nouns,
)


def couples_frames(method: str) -> bool:
    """Whether a method ties frames together; otherwise each is drawn from its own seed alone."""
    return bool(resolve(METHODS, method, kind="method").rules)


@dataclass(frozen=True)
class Picture:
    """A drawn frame: uint8 [h w 3] and its metadata."""

    image: np.ndarray
    metadata: Mapping[str, Any]


@dataclass
class _Cast:
    """Anchors of a character, or of several in common, in the engine: ids of their frames, those
    of the story's own by index. Or the first frame of several together. Under the name of the
    character or of the group.

    left: anchors that are not drawn yet.
    """

    frames: tuple[str, ...]
    own: dict[int, str]
    left: set[str] = field(default_factory=set)


class AnchoredStory:
    """One story in one engine.

    Args:
        plan: what the anchors are drawn from: the story as it was first asked for.
        prefix: of the ids of its frames, unlike that of every other story; without a slash.
        born: when it was begun, in frames of the engine.
        limit_bytes: most memory for what anchors leave.
        preview, preview_every: of the anchors that are frames of the story; every 0 for none.

    `cohorts` is the painter's: character or group -> whom its anchors may share calls with.
    """

    def __init__(
        self,
        engine: Engine,
        plan: StoryPlan,
        prefix: str,
        *,
        born: int,
        limit_bytes: int,
        preview: Preview = "linear",
        preview_every: int = 0,
    ) -> None:
        self.plan = plan
        self.prefix = prefix
        self.born = born
        self.cohorts: dict[str, int] = {}
        self._engine = engine
        recipe = tuned(plan.method, engine.backbone)
        self._shared = SharedStory(engine, recipe, seed=plan.seed, limit_bytes=limit_bytes)
        self._requests = [
            with_preview(self._named(request, frame, str(frame.index)), preview, preview_every)
            for request, frame in zip(frame_requests(plan), plan.frames, strict=True)
        ]
        castings = cast_story(plan, anchors=recipe.anchors, portrait=recipe.portrait)
        self._castings = {group_name(casting.names): casting for casting in castings}
        self._casting_of = {n: key for key, found in self._castings.items() for n in found.names}
        self._anchor_of = {i: key for key, found in self._castings.items() for i in found.frames}
        self._groups = first_together(plan, castings) if recipe.together else {}
        self._anchor_of |= {index: group for group, index in self._groups.items()}
        self._cast: dict[str, _Cast] = {}
        self._pictures: dict[int, Picture] = {}
        self._numbers = itertools.count()
        self._character_bytes = self._shared.predicted_bytes(self._requests[0])

    @property
    def bytes(self) -> int:
        """Memory of what the anchors left; while they are drawn, of what they will leave."""
        bank = self._shared.run.bank.bytes
        if self.drawing:
            parts = sum(map(self._parts, self._cast))
            bank = max(bank, parts * self._character_bytes)
        return bank + sum(p.image.nbytes for p in self._pictures.values())

    @property
    def has_twins(self) -> bool:
        """Whether a frame with characters is drawn twice, first on its own."""
        return self._shared.run.recipe.twin

    @property
    def drawing(self) -> bool:
        """Whether anchors are being drawn."""
        return any(cast.left for cast in self._cast.values())

    def predicted_bytes(self, frame: FramePlan) -> int:
        """What casting the characters of `frame` will add."""
        return (
            sum(map(self._parts, self._wanted(frame) - self._cast.keys())) * self._character_bytes
        )

    def is_anchor(self, frame: FramePlan, seed: int) -> bool:
        """Whether this drawing of a frame is one that the other frames read."""
        index = frame.index
        return index in self._anchor_of and frame == self.plan.frames[index] and seed == frame.seed

    def draw_anchor(self, index: int) -> Picture | str:
        """The picture of an anchor if it is there, otherwise the id of the frame that draws it."""
        name = self._anchor_of[index]
        if index not in self._pictures:
            self._ensure_all(self.plan.frames[index])
        found = self._pictures.get(index)
        return self._cast[name].own[index] if found is None else found

    def draw_reader(self, request: FrameRequest, frame: FramePlan) -> str:
        """Submit a frame that reads the anchors of its characters; returns the frame's id.

        Raises:
            InputError: as `SharedStory.cast` and `SharedStory.submit`.
        """
        self._ensure_all(frame)
        return self._shared.submit(self._named(request, frame, f"r{next(self._numbers)}"))

    def reads(self, frame: FramePlan, name: str) -> bool:
        """Whether a frame needs the anchors of a character or group, or a group's first frame."""
        return name in self._wanted(frame)

    def character_of(self, frame_id: str) -> str | None:
        """Whose anchor a frame of the engine is: a character or a group."""
        return next((name for name, cast in self._cast.items() if frame_id in cast.frames), None)

    def anchor_drawn(self, frame_id: str, picture: Picture) -> int | None:
        """Keep an anchor's picture; returns the frame's index if it is one of the story's own."""
        for cast in self._cast.values():
            for index, own in cast.own.items():
                if own == frame_id:
                    self._pictures[index] = picture
                    # Anchors of a character finish in one call, hidden ones without an event.
                    cast.left.clear()
                    return index
        return None

    def forget(self, name: str) -> None:
        """Drop a character or group whose anchors failed or are not wanted, and stop drawing them,
        and what reads them.
        """
        cast = self._cast.pop(name, None)
        if cast is None:
            return
        for group, index in self._groups.items():
            if group != name and name in self._wanted(self.plan.frames[index]):
                self.forget(group)
        for frame_id in cast.frames:
            self._engine.cancel(frame_id)
        for index in cast.own:
            self._pictures.pop(index, None)
        if name in self._groups:
            self._shared.drop_together(name)
        else:
            self._shared.drop(self._castings[name].names[0])

    def stop(self) -> None:
        """Drop the characters whose anchors are being drawn; finished ones stay."""
        self.settle()
        for name in [name for name, cast in self._cast.items() if cast.left]:
            self.forget(name)

    def settle(self) -> None:
        """Note which anchors have left the engine."""
        live = {state.id for state in self._engine.frames} if self.drawing else set()
        for cast in self._cast.values():
            cast.left &= live

    def _ensure_all(self, frame: FramePlan) -> None:
        """Cast everybody whom a frame shows, together if they have a first frame together."""
        for identity in frame.identities:
            if identity.name not in self._casting_of:  # not in the story as first asked for
                self._casting_of[identity.name] = identity.name
                self._castings[identity.name] = Casting((identity,), ())
            self._ensure(self._casting_of[identity.name], frame)
        group = self._group_of(frame)
        if group is not None and group not in self._cast:
            index = self._groups[group]
            frame_id = f"{self.prefix}/{next(self._numbers)} frame {index}"
            self._shared.cast_together(replace(self._requests[index], id=frame_id))
            self._cast[group] = _Cast((frame_id,), {index: frame_id}, {frame_id})

    def _ensure(self, name: str, frame: FramePlan) -> None:
        """Cast a character or group from the story as first asked for, whatever `frame` says."""
        if name in self._cast:
            return
        casting, own = self._castings[name], self._castings[name].frames
        plan = replace(self.plan, frames=(*self.plan.frames, frame))  # it may show somebody new
        count = self._shared.run.recipe.anchors - len(own)
        backbone = self._engine.backbone
        portraits = anchor_portraits(plan, casting, count, backbone, self._requests[0])
        number = next(self._numbers)
        anchors = [
            *(
                replace(p, id=f"{self.prefix}/{number} portrait {i} of {name}")
                for i, p in enumerate(portraits)
            ),
            *(replace(self._requests[i], id=f"{self.prefix}/{number} frame {i}") for i in own),
        ]
        ids = self._shared.cast_all(casting.strengths, anchors)
        by_index = dict(zip(own, ids[len(portraits) :], strict=True))
        self._cast[name] = _Cast(tuple(ids), by_index, set(ids))

    def _group_of(self, frame: FramePlan) -> str | None:
        """The group that a frame shows, if it has a first frame that is read."""
        group = group_name(identity.name for identity in frame.identities)
        return group if group in self._groups else None

    def _wanted(self, frame: FramePlan) -> set[str]:
        """The characters and groups whose anchors a frame reads, and its group's first frame."""
        names = {self._casting_of.get(i.name, i.name) for i in frame.identities}
        group = self._group_of(frame)
        return names if group is None else names | {group}

    def _parts(self, name: str) -> int:
        """How many characters' exports a character or a group leaves."""
        if name in self._groups:
            return len(self.plan.frames[self._groups[name]].identities)
        return len(self._castings[name].names) if name in self._castings else 1

    def _named(self, request: FrameRequest, frame: FramePlan, name: str) -> FrameRequest:
        return replace(with_nouns(request, frame), id=f"{self.prefix}/{name}")


def with_preview(request: FrameRequest, preview: Preview, every: int) -> FrameRequest:
    """The request with previews on every `every`-th step, 0 for none."""
    if every == 0:
        return replace(request, preview="none")
    return replace(request, preview=preview, preview_every=every)
