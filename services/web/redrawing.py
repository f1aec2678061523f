"""A part of a drawing again: what is marked is checked here, so that a worker is not asked in vain.

Who is where in a picture is seen by the worker that draws, since a gateway has no eyes; all else
that can be wrong is told at once.
"""

from __future__ import annotations

import io

from PIL import Image

from consistent_gen.client.types import Job, RedrawIn, RerollIn, StoryFrame, StoryOut
from consistent_gen.errors import InputError
from consistent_gen.story.marking import box_mask, painted_mask
from consistent_gen.story.types import PictureBox
from services.errors import NotFound, Refusal
from services.plans.orders import DrawnPart
from services.web.ordering import library_references, order_reroll, pictured
from services.web.security import Caller
from services.web.state import ServerState


def order_redraw(
    state: ServerState,
    caller: Caller,
    story: str,
    index: int,
    request: RedrawIn,
    *,
    idempotency: tuple[str, str] | None = None,
) -> Job:
    """Draw what is marked of a drawing again, as a new version of its frame.

    Raises:
        InputError: nothing or too much is marked, or it is not in the picture.
        NotFound, Conflict, QuotaError, BusyError, StorageFull: as the stores.
        Refusal: the frame has no drawing (409).
    """
    if idempotency and (known := state.jobs.replay(caller.owner, caller.user, idempotency)):
        return known
    stored = state.stories.get(caller.owner, story)
    if not 0 <= index < len(stored.frames):
        raise NotFound(f"the story has {len(stored.frames)} frames, counted from 0")
    part = _marked(state, caller, stored, stored.frames[index], request)
    again = RerollIn(seed=request.seed, prompt=request.prompt)
    return order_reroll(state, caller, story, index, again, part=part, idempotency=idempotency)


def _marked(
    state: ServerState, caller: Caller, stored: StoryOut, frame: StoryFrame, request: RedrawIn
) -> DrawnPart:
    given = [name for name in ("box", "mask", "character") if getattr(request, name) is not None]
    if len(given) != 1:
        raise InputError(
            f"{len(given)} of box, mask and character are given; mark the part by one of them"
        )
    if request.only is not None and request.character is None:
        raise InputError("it is a part of a character; name one", source="only")
    number = frame.current if request.version is None else request.version
    version = next((one for one in frame.versions if one.version == number), None)
    if version is None and request.version is None:
        raise Refusal(409, "not_drawn", "the frame has no drawing yet; draw it first")
    if version is None:
        raise NotFound("the frame has no such version; see its `versions`")
    picture = state.artifacts.read(caller.owner, version.artifact)
    with Image.open(io.BytesIO(picture), formats=("PNG",)) as opened:
        size = opened.size
    part = DrawnPart(picture=version.artifact)
    try:
        if request.mask is not None:
            painted_mask(size, state.artifacts.read(caller.owner, request.mask))
            part = DrawnPart(picture=version.artifact, mask=request.mask)
        if request.box is not None:
            box_mask(size, PictureBox(*request.box))
            part = DrawnPart(picture=version.artifact, box=tuple(request.box))
    except InputError as error:
        raise error.at(given[0]) from None
    if request.character is not None:
        names = _from_left(state, caller, stored, frame.index, version.prompt)
        if request.character not in names:
            message = "the frame's prompt names no such character"
            raise InputError(message, source="character")
        who = names.index(request.character) + 1, len(names)
        part = DrawnPart(picture=version.artifact, character=who, only=request.only)
    return part


def _from_left(
    state: ServerState, caller: Caller, stored: StoryOut, index: int, prompt: str
) -> list[str]:
    """The characters of a drawing from left to right, as the model draws them."""
    asked = stored.request
    given = pictured(library_references(state, caller.owner, asked, missing_ok=True))
    drawn = state.planner.word(asked, given).request
    own = prompt == asked.frames[index].prompt
    words = None if own else state.planner.word_reroll(asked, index, prompt, given)
    frame = state.planner.plan_reroll(drawn, index, words).frames[index]
    return list(dict.fromkeys(subject.name for subject in frame.subjects))
