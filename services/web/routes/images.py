"""/v1/images: one picture, with the chance to wait for it in the same request."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Body, Header, Request, Response
from pydantic import AfterValidator
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from consistent_gen.client.types import Accepted, ImageIn, Job
from services.web.events import WaitEnd, until
from services.web.intake import readable
from services.web.ordering import accepted, address, fingerprint, image_story, order_story
from services.web.problems import problem_responses
from services.web.routes.access import Key, State, Who, links

router = APIRouter(prefix="/v1/images", tags=["images"])
MAX_WAIT_S = 300.0
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


@router.post(
    "",
    status_code=202,
    operation_id="create_image",
    response_model=Accepted,
    responses={
        200: {"model": Job, "description": "Finished within the time that was waited for"},
        202: {"links": links({"job": ("get_job", "job", "job")})},
        **problem_responses(409, 503, 507),
    },
)
async def create_image(
    body: Annotated[ImageIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
    request: Request,
    key: Key = None,
    prefer: Annotated[str | None, Header(description="`wait=20`: seconds to wait")] = None,
) -> Response:
    """Draw one picture. With `Prefer: wait=n` a client that leaves while it waits cancels it,
    unless the request had an `Idempotency-Key`.
    """

    def order() -> Job:
        # The seed that a request without one is given must not count as part of the request.
        idempotency = fingerprint(key, "image", body)
        story = image_story(body)
        return order_story(state, who, story, kind="image", idempotency=idempotency)

    job = await run_in_threadpool(order)
    headers = {"Location": address(state, f"/v1/jobs/{job.id}")}
    wait_s = _seconds(prefer)
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s:g}"

        def finished() -> bool:
            return state.jobs.get(who.owner, job.id).state.finished

        end = await until(state.feed, job.id, finished, wait_s, request.is_disconnected)
        if end is WaitEnd.done:
            done = await run_in_threadpool(state.jobs.get, who.owner, job.id)
            return JSONResponse(done.model_dump(mode="json", exclude_none=True), 200, headers)
        # Under a key others may wait for it, or the client come back for it.
        if end is WaitEnd.gone and key is None:
            await run_in_threadpool(state.jobs.cancel, who.owner, job.id)
    content = accepted(state, job).model_dump(mode="json")
    return JSONResponse(content, 202, headers)


def _seconds(prefer: str | None) -> float:
    """The seconds of `wait=n` in a Prefer header (RFC 7240), at most `MAX_WAIT_S`."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), MAX_WAIT_S) if found else 0.0
