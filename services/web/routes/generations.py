"""/v1/images/generations in the shape of OpenAI's images API: a thin layer over our jobs.

Departures: pictures come in the sizes that the model draws; `user` shares fairly within a key; the
fields `seed`, `steps`, `guidance`, `negative` and `character_ids` are ours, and names of library
characters in the prompt stand for them. Errors are problems with a member `error` of OpenAI's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from pydantic import AfterValidator, Field
from starlette.concurrency import run_in_threadpool

from consistent_gen.client.types import Job, StoryIn
from services.errors import NotFound, Refusal
from services.web.intake import readable
from services.web.openai.answers import check_model, deliver, image_of, preview_every
from services.web.openai.shapes import PicturesIn, PicturesOut, Short
from services.web.ordering import fingerprint, image_story, order_story
from services.web.problems import openai_responses
from services.web.routes.access import Key, State, Who
from services.web.security import Caller
from services.web.state import ServerState

router = APIRouter(prefix="/v1/images", tags=["openai"])


class GenerationsIn(PicturesIn):
    """New pictures. `character_ids` are characters of the library that the prompt names."""

    character_ids: list[Short] = Field(default_factory=list, max_length=8)


@router.post(
    "/generations",
    operation_id="openai_generations",
    response_model=PicturesOut,
    responses={
        200: {"content": {"text/event-stream": {}}},
        **openai_responses(409, 502, 503, 504, 507),
    },
)
async def generations(
    body: Annotated[GenerationsIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
    request: Request,
    key: Key = None,
) -> Response:
    """Draw pictures and answer when they are done; a client that leaves cancels them, unless the
    request had an `Idempotency-Key`.
    """
    caller = replace(who, user=who.user or body.user or "")

    def order() -> Job:
        check_model(state, body)
        # The seed that a request without one is given must not count as part of the request.
        idempotency = fingerprint(key, "generations", body)
        story = _story(state, caller, body)
        return order_story(state, caller, story, kind="image", idempotency=idempotency)

    job = await run_in_threadpool(order)
    shared = key is not None
    return await deliver(state, caller, job, body, request, "image_generation", shared=shared)


def _story(state: ServerState, caller: Caller, body: GenerationsIn) -> StoryIn:
    prompt, characters = body.prompt, {}
    for character in dict.fromkeys(body.character_ids):
        try:
            entry = state.library.get(caller.owner, character)
        except NotFound:
            detail = "one of character_ids is not in your library"
            raise Refusal(422, "unknown_character", detail) from None
        mention = re.compile(rf"(?<!\w)\{{?{re.escape(entry.name)}\}}?(?!\w)", re.IGNORECASE)
        prompt, count = mention.subn(f"{{{entry.name}}}", prompt)
        if not count:
            detail = "the prompt names none of one of the characters; write the character's name"
            raise Refusal(422, "character_not_named", detail)
        characters[entry.name] = {
            "description": entry.description,
            "strength": entry.strength,
            "library": entry.id,
        }
    story = image_story(image_of(body, prompt), frames=body.n)
    return story.model_copy(
        update={
            "characters": StoryIn.model_validate(
                {"title": "x", "frames": story.frames, "characters": characters}
            ).characters,
            "preview_every": preview_every(state, body),
        }
    )
