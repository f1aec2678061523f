"""/v1/images/generations in the shape of OpenAI's images API: a thin layer over our jobs.

Departures: pictures come in the sizes that the model draws; `user` shares fairly within a key; the
fields `seed`, `steps`, `guidance`, `negative` and `character_ids` are ours, and names of library
characters in the prompt stand for them. Errors are problems, as everywhere else.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import AfterValidator, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from consistent_gen.client.base import Input, Prompt, Seed
from consistent_gen.client.types import Event, EventType, ImageIn, Job, JobFrame, StoryIn
from services.errors import NotFound
from services.events_stream import EventStream, job_events, until
from services.intake import readable
from services.ordering import address, image_story, order_story
from services.problems import Refusal, problem_responses
from services.routes.access import FILE_BODY, State, Who
from services.security import Caller
from services.state import ServerState

router = APIRouter(prefix="/v1/images", tags=["openai"])
MAX_PICTURES = 10
MAX_PARTIAL = 3
WAIT_S = 600.0
_Short = Annotated[str, StringConstraints(max_length=64)]


class GenerationsIn(Input):
    """What OpenAI's clients send, and our additions."""

    prompt: Prompt
    n: int = Field(default=1, ge=1, le=MAX_PICTURES)
    size: Annotated[str, StringConstraints(pattern=r"^(auto|\d{1,5}x\d{1,5})$")] = "auto"
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Literal["png"] = "png"
    stream: bool = False
    partial_images: int = Field(default=0, ge=0, le=MAX_PARTIAL)
    model: _Short | None = None
    quality: _Short | None = None
    style: _Short | None = None
    background: _Short | None = None
    moderation: _Short | None = None
    user: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,64}$")] | None = None
    seed: Seed | None = None
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0.0, le=100.0)
    negative: Annotated[str, StringConstraints(max_length=800)] = ""
    character_ids: list[_Short] = Field(default_factory=list, max_length=8)


class GeneratedImage(Input):
    """One picture, by value or by address."""

    b64_json: str | None = None
    url: str | None = None


class GenerationsOut(Input):
    """The pictures; `job` and `story` are ours."""

    created: int
    data: list[GeneratedImage]
    output_format: str = "png"
    job: str
    story: str


@router.post(
    "/generations",
    operation_id="openai_generations",
    response_model=GenerationsOut,
    responses={
        200: {"content": {"text/event-stream": {}}},
        **problem_responses(502, 503, 504, 507),
    },
)
async def generations(
    body: Annotated[GenerationsIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
    request: Request,
) -> Response:
    """Draw pictures and answer when they are done; a client that leaves cancels them."""
    caller = Caller(who.owner, who.user or body.user or "")

    def order() -> Job:
        if body.model is not None and body.model not in ("", state.planner.model.name):
            raise Refusal(404, "model_not_found", "this server has one model; see GET /v1/models")
        return order_story(state, caller, _story(state, caller, body), kind="image")

    job = await run_in_threadpool(order)
    if body.stream:
        return EventStream(_streamed(state, caller, job, body))

    def finished() -> bool:
        return state.jobs.get(caller.owner, job.id).state.finished

    if not await until(state.feed, job.id, finished, WAIT_S, request.is_disconnected):
        await run_in_threadpool(state.jobs.cancel, caller.owner, job.id)
        raise Refusal(504, "deadline", f"not finished within {WAIT_S:.0f} s, so it was cancelled")
    content = await run_in_threadpool(_answer, state, caller, job.id, body)
    return JSONResponse(content.model_dump(mode="json", exclude_none=True))


@router.post(
    "/edits",
    operation_id="openai_edits",
    status_code=501,
    openapi_extra=FILE_BODY,
    response_class=Response,
    responses=problem_responses(501),
)
async def edits() -> Response:
    """Not there: no model of this server fills in a part of a picture."""
    detail = "editing a part of a picture is not offered; re-roll a frame of a story instead"
    raise Refusal(501, "not_implemented", detail)


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
    image = ImageIn(
        prompt=prompt[:800],
        negative=body.negative,
        seed=body.seed,
        steps=body.steps,
        guidance=body.guidance,
        size=None if body.size == "auto" else body.size,
    )
    story = image_story(image, frames=body.n)
    steps = body.steps or state.planner.model_info().steps
    partial = body.partial_images if body.stream else 0
    return story.model_copy(
        update={
            "characters": StoryIn.model_validate(
                {"title": "x", "frames": story.frames, "characters": characters}
            ).characters,
            "preview_every": max(1, steps // (partial + 1)) if partial else 0,
        }
    )


def _answer(state: ServerState, caller: Caller, job: str, body: GenerationsIn) -> GenerationsOut:
    done = state.jobs.get(caller.owner, job)
    drawn = [frame for frame in done.frames if frame.artifact is not None]
    if not drawn:
        raise _failed(done.frames)
    return GenerationsOut(
        created=int(done.created_at.timestamp()),
        data=[_image(state, caller, str(frame.artifact), body) for frame in drawn],
        job=done.id,
        story=done.story,
    )


def _image(
    state: ServerState, caller: Caller, artifact: str, body: GenerationsIn
) -> GeneratedImage:
    if body.response_format == "url" and not body.stream:
        return GeneratedImage(url=address(state, f"/v1/artifacts/{artifact}"))
    return GeneratedImage(b64_json=_base64(state, caller, artifact))


def _base64(state: ServerState, caller: Caller, artifact: str) -> str:
    return base64.b64encode(state.artifacts.read(caller.owner, artifact)).decode()


def _failed(frames: list[JobFrame]) -> Refusal:
    problem = next((frame.error for frame in frames if frame.error is not None), None)
    if problem is None:
        return Refusal(504, "cancelled", "the drawing was cancelled")
    status = problem.status if problem.status in (422, 503, 504, 507) else 502
    return Refusal(status, problem.code, problem.detail)


async def _streamed(
    state: ServerState, caller: Caller, job: Job, body: GenerationsIn
) -> AsyncGenerator[bytes]:
    """Partial and complete pictures as they come. A reader who leaves cancels the job."""
    partial: dict[int, int] = {}

    def page(after: int) -> list[Event]:
        return state.jobs.events(caller.owner, job.id, after=after)

    done = False
    try:
        async for event in job_events(state.feed, job.id, page, 0):
            if event is None:
                yield b": still here\n\n"
                continue
            done = event.type is EventType.done
            index = partial.get(event.frame or 0, 0)
            if event.type is EventType.preview and index < body.partial_images:
                partial[event.frame or 0] = index + 1
            elif event.type is EventType.preview:
                continue
            made = await run_in_threadpool(_chunk, state, caller, event, index)
            if made is not None:
                yield made
    finally:
        if not done:
            state.jobs.cancel(caller.owner, job.id)


def _chunk(state: ServerState, caller: Caller, event: Event, index: int) -> bytes | None:
    kinds = {
        EventType.preview: "image_generation.partial_image",
        EventType.frame: "image_generation.completed",
    }
    data: dict[str, Any] = {"created_at": int(event.at.timestamp())}
    if event.type is EventType.error:
        kind = "error"
        problem = event.data
        data["error"] = {"message": problem.get("detail", ""), "code": problem.get("code", "")}
    elif event.type in kinds:
        kind = kinds[event.type]
        try:
            data["b64_json"] = _base64(state, caller, str(event.data.get("artifact")))
        except NotFound:  # a preview that a newer one has replaced
            return None
        data["output_format"] = "png"
        if event.type is EventType.preview:
            data["partial_image_index"] = index
    else:
        return None
    return _event(kind, data)


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
