"""A drawn story becomes another one: only the frames that look different then are drawn again.

Which these are follows from the plans of both stories (see `story.changes`), so a frame that reads
an anchor changes with it. Frames that stay keep their drawings and re-rolls; those that change keep
their seed, also that of a re-roll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consistent_gen.client.types import Changed, FrameIn, StoryChange, StoryFrame, StoryIn, StoryOut
from consistent_gen.errors import InputError
from consistent_gen.runtime import frame_seed
from consistent_gen.story.plan import DEFAULT_SEED, StoryPlan
from consistent_gen.story.script import placeholders
from services.jobs import OrderedFrame
from services.web.ordering import (
    References,
    library_references,
    ordered,
    pictured,
    planned,
)
from services.web.security import Caller
from services.web.state import ServerState


@dataclass(frozen=True)
class _Drawn:
    """A story as it is asked for, the same in the model's words, and its plan. prompts: of
    re-rolls, by frame, in the model's words.
    """

    request: StoryIn
    drawn: StoryIn
    plan: StoryPlan
    prompts: dict[int, str]


def order_change(state: ServerState, caller: Caller, story: str, change: StoryChange) -> Changed:
    """Let a story become what `change` says, and put what has to be drawn into the queue.

    Raises:
        InputError, LimitError: what cannot be drawn, with its place in the request.
        NotFound, Conflict, QuotaError, BusyError, StorageFull: as the stores.
    """
    stored = state.stories.get(caller.owner, story)
    origins = change.origins
    if len(origins) != len(change.story.frames) or any(
        o is not None and o >= len(stored.frames) for o in origins
    ):
        raise InputError("origins needs an entry for each frame: a frame of the story, or null")
    request = settled(change.story, stored, origins)
    frames = zip(change.story.frames, request.frames, strict=True)
    rerolled = {i: a.prompt for i, (a, b) in enumerate(frames) if a.prompt != b.prompt}
    shown = library_references(state, caller.owner, request)
    told = _told(state, request, rerolled, shown)
    places = _to_draw(state, stored, told, origins, shown)
    with state.database.transaction():
        state.stories.change(caller.owner, story, change.revision, told.request, origins)
        orders = [
            _ordered(state, caller, stored, told, index, origins[index], shown) for index in places
        ]
        job = None
        if orders:
            job, _ = state.jobs.create(
                owner=caller.owner, user=caller.user, kind="changes", story=story, frames=orders,
                bulk=told.request.bulk, deadline_s=told.request.deadline_s,
            )  # fmt: skip
    return Changed(
        story=story,
        revision=change.revision + 1,
        drawn=places,
        job=None if job is None else job.id,
        wording=state.planner.word(change.story, pictured(shown)).wording,
    )


def settled(request: StoryIn, stored: StoryOut, origins: Sequence[int | None]) -> StoryIn:
    """The request with the seeds that its frames were drawn with, wherever they stand now, and
    with the prompts of the story where the new ones are those of a re-roll.
    """
    seed = stored.request.seed if request.seed is None else request.seed
    seed = DEFAULT_SEED if seed is None else seed
    frames: list[FrameIn] = []
    for index, (frame, origin) in enumerate(zip(request.frames, origins, strict=True)):
        update: dict[str, object] = {}
        if origin is not None:
            was = stored.request.frames[origin]
            named = {found.name for found in placeholders(was.prompt, stored.request.characters)}
            if frame.prompt == stored.frames[origin].prompt and named <= request.characters.keys():
                update["prompt"] = was.prompt
            if frame.seed is None and (was.seed is not None or origin != index):
                update["seed"] = frame_seed(seed, origin) if was.seed is None else was.seed
        frames.append(frame.model_copy(update=update))
    used = {frame_seed(seed, i) if f.seed is None else f.seed for i, f in enumerate(frames)
            if origins[i] is not None}  # fmt: skip
    number = len(frames)
    for index, frame in enumerate(frames):
        if origins[index] is None and frame.seed is None and frame_seed(seed, index) in used:
            # Its place had another frame, which took the seed along.
            while frame_seed(seed, number) in used:
                number += 1
            frames[index] = frame.model_copy(update={"seed": frame_seed(seed, number)})
            number += 1
    mend = stored.request.mend if request.mend is None else request.mend
    return request.model_copy(update={"seed": seed, "mend": mend, "frames": frames})


def _told(
    state: ServerState, request: StoryIn, rerolled: dict[int, str], shown: References
) -> _Drawn:
    given = pictured(shown)
    drawn = state.planner.word(request, given).request
    plan = planned(state, drawn)
    prompts = {
        i: state.planner.word_reroll(request, i, text, given) for i, text in rerolled.items()
    }
    return _Drawn(request, drawn, plan, prompts)


def _to_draw(
    state: ServerState,
    stored: StoryOut,
    told: _Drawn,
    origins: Sequence[int | None],
    shown: References,
) -> list[int]:
    """The frames that look different in the new story, have no drawing or wait for one in vain."""
    rerolled = {
        frame.index: frame.prompt
        for frame in stored.frames
        if frame.prompt != stored.request.frames[frame.index].prompt
    }
    pictures = state.jobs.references(stored.id)
    were = _told(state, stored.request, rerolled, shown if pictures is None else pictures)
    before = state.planner.drawn_from(
        were.drawn, were.prompts, shown if pictures is None else pictures
    )
    after = state.planner.drawn_from(told.drawn, told.prompts, shown)
    undrawn = state.jobs.undrawn(stored.id)
    return [
        index
        for index, origin in enumerate(origins)
        if origin is None
        or stored.frames[origin].current is None
        or origin in undrawn
        or before[origin] != after[index]
    ]


def _ordered(
    state: ServerState,
    caller: Caller,
    stored: StoryOut,
    told: _Drawn,
    index: int,
    origin: int | None,
    shown: References,
) -> OrderedFrame:
    planned_seed = told.plan.frames[index].seed
    kept = None
    if origin is not None and told.request.frames[index].prompt == (
        stored.request.frames[origin].prompt
    ):
        kept = _rerolled_seed(stored, stored.frames[origin])
    return ordered(
        state,
        told.drawn,
        told.plan,
        index,
        version=state.stories.next_version(caller.owner, stored.id, index),
        seed=planned_seed if kept is None else kept,
        prompt=told.prompts.get(index),
        references=shown,
        caller=caller,
    )


def _rerolled_seed(stored: StoryOut, frame: StoryFrame) -> int | None:
    """The seed of the drawing that counts if it is not the story's own for that frame."""
    asked = stored.request.frames[frame.index].seed
    own = frame_seed(stored.request.seed or DEFAULT_SEED, frame.index) if asked is None else asked
    seed = next((v.seed for v in frame.versions if v.version == frame.current), own)
    return None if seed == own else seed
