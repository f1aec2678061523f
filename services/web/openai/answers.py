"""From a job to an answer in OpenAI's shape: waited for, or streamed while it is drawn."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from consistent_gen.client.types import Event, EventType, ImageIn, Job, JobFrame
from services.errors import NotFound, Refusal
from services.web.events import EventStream, WaitEnd, job_events, until
from services.web.openai.shapes import GeneratedImage, PicturesIn, PicturesOut
from services.web.ordering import address
from services.web.security import Caller
from services.web.state import ServerState

WAIT_S = 600.0
MAX_PROMPT = 800
Kind = Literal["image_generation", "image_edit"]


async def deliver(
    state: ServerState,
    caller: Caller,
    job: Job,
    body: PicturesIn,
    request: Request,
    kind: Kind,
    *,
    shared: bool,
) -> Response:
    """The pictures of `job` when they are done, or as they come.

    kind: what the events of a stream are called by. shared: others may wait for the same job, or
    its client come back for it, since it has an idempotency key; otherwise a client that leaves
    cancels it, since nobody would ever see the pictures.

    Raises ``Refusal`` when nothing was drawn, or not yet.
    """
    if body.stream:
        return EventStream(_streamed(state, caller, job, body, kind, shared))

    def finished() -> bool:
        return state.jobs.get(caller.owner, job.id).state.finished

    end = await until(state.feed, job.id, finished, WAIT_S, request.is_disconnected)
    if end is WaitEnd.stopping:
        raise _stopping(state, job, shared)
    if end is not WaitEnd.done:
        said = f"not finished within {WAIT_S:.0f} s"
        if shared:
            raise Refusal(504, "deadline", f"{said}; job {job.id} goes on: send the request again")
        await run_in_threadpool(state.jobs.cancel, caller.owner, job.id)
        raise Refusal(504, "deadline", f"{said}, so job {job.id} was cancelled")
    content = await run_in_threadpool(_answer, state, caller, job.id, body)
    return JSONResponse(content.model_dump(mode="json", exclude_none=True))


def check_model(state: ServerState, body: PicturesIn) -> None:
    """Raise ``Refusal`` when another model is asked for than the one that is here."""
    if body.model is not None and body.model not in ("", state.planner.model.name):
        raise Refusal(404, "model_not_found", "this server has one model; see GET /v1/models")


def image_of(body: PicturesIn, prompt: str) -> ImageIn:
    """What is asked for, with `prompt` instead of its own. Raises ``Refusal`` for one too long."""
    if len(prompt) > MAX_PROMPT:
        detail = f"prompt: with its names written out it has more than {MAX_PROMPT} characters"
        raise Refusal(422, "invalid", detail)
    return ImageIn(
        prompt=prompt,
        negative=body.negative,
        seed=body.seed,
        steps=body.steps,
        guidance=body.guidance,
        size=None if body.size == "auto" else body.size,
    )


def preview_every(state: ServerState, body: PicturesIn) -> int:
    """Steps between the previews that give `partial_images`; 0 for none."""
    partial = body.partial_images if body.stream else 0
    steps = body.steps or state.planner.model_info().steps
    return max(1, steps // (partial + 1)) if partial else 0


def _answer(state: ServerState, caller: Caller, job: str, body: PicturesIn) -> PicturesOut:
    done = state.jobs.get(caller.owner, job)
    drawn = [frame for frame in done.frames if frame.artifact is not None]
    if not drawn:
        raise _failed(done.frames)
    return PicturesOut(
        created=int(done.created_at.timestamp()),
        data=[_image(state, caller, str(frame.artifact), body) for frame in drawn],
        job=done.id,
        story=done.story,
    )


def _image(state: ServerState, caller: Caller, artifact: str, body: PicturesIn) -> GeneratedImage:
    if body.response_format == "url" and not body.stream:
        return GeneratedImage(url=address(state, f"/v1/artifacts/{artifact}"))
    return GeneratedImage(b64_json=_base64(state, caller, artifact))


def _base64(state: ServerState, caller: Caller, artifact: str) -> str:
    return base64.b64encode(state.artifacts.read(caller.owner, artifact)).decode()


def _stopping(state: ServerState, job: Job, shared: bool) -> Refusal:
    again = "send the same request with the same Idempotency-Key" if shared else ""
    look = f"see GET /v1/jobs/{job.id}"
    detail = (
        f"the server is stopping; job {job.id} is kept and goes on when it is back: "
        f"{f'{again}, or {look}' if again else look}"
    )
    where = {"Location": address(state, f"/v1/jobs/{job.id}")}
    return Refusal(503, "stopping", detail, retry_after=5.0, headers=where)


def _failed(frames: list[JobFrame]) -> Refusal:
    problem = next((frame.error for frame in frames if frame.error is not None), None)
    if problem is None:
        return Refusal(504, "cancelled", "the drawing was cancelled")
    status = problem.status if problem.status in (422, 503, 504, 507) else 502
    return Refusal(status, problem.code, problem.detail)


async def _streamed(
    state: ServerState, caller: Caller, job: Job, body: PicturesIn, kind: str, shared: bool
) -> AsyncGenerator[bytes]:
    """Partial and complete pictures as they come. A reader who leaves cancels a job that is not
    shared; a server that stops says so in the last event.
    """
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
            made = await run_in_threadpool(_chunk, state, caller, event, index, kind)
            if made is not None:
                yield made
        if not done:
            problem = _stopping(state, job, shared)
            told = {"message": problem.message, "code": problem.code}
            yield _event("error", {"created_at": int(time.time()), "error": told})
    finally:
        if not (done or shared or state.feed.closed):
            state.jobs.cancel(caller.owner, job.id)


def _chunk(
    state: ServerState, caller: Caller, event: Event, index: int, prefix: str
) -> bytes | None:
    kinds = {
        EventType.preview: f"{prefix}.partial_image",
        EventType.frame: f"{prefix}.completed",
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
