"""/v1/jobs: how far a drawing is, what happens to it, stopping it, trying again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from consistent_gen.client.types import Event, Job, JobPage, JobState
from services.errors import Refusal
from services.web.events import PAGE, EventStream, as_lines, job_events
from services.web.problems import problem_responses
from services.web.routes.access import After, ItemId, Limit, State, Who

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
STREAMS = 1024


@router.get("", operation_id="list_jobs")
def list_jobs(
    state: State,
    who: Who,
    of_state: Annotated[JobState | None, Query(alias="state")] = None,
    after: After = None,
    limit: Limit = 50,
) -> JobPage:
    """Jobs of the caller, newest first."""
    return state.jobs.page(who.owner, state=of_state, after=after, limit=limit)


@router.get("/{job}", operation_id="get_job", responses=problem_responses(404))
def get_job(job: ItemId, state: State, who: Who) -> Job:
    """A job with its frames."""
    return state.jobs.get(who.owner, job)


@router.delete(
    "/{job}", status_code=202, operation_id="cancel_job", responses=problem_responses(404)
)
def cancel_job(job: ItemId, state: State, who: Who) -> Job:
    """Stop what is not drawn yet, within one step; what is drawn stays. May be repeated."""
    return state.jobs.cancel(who.owner, job)


@router.post(
    "/{job}/retry",
    status_code=202,
    operation_id="retry_job",
    responses=problem_responses(404, 503),
)
def retry_job(job: ItemId, state: State, who: Who) -> Job:
    """Draw again what failed or was cancelled. May be repeated."""
    return state.jobs.retry(who.owner, job)


@router.get(
    "/{job}/events",
    operation_id="job_events",
    response_class=Response,
    responses={
        200: {"description": "Events", "content": {"text/event-stream": {}}},
        204: {"description": "Nothing will follow"},
        **problem_responses(404, 503),
    },
)
async def stream_events(
    job: ItemId,
    state: State,
    who: Who,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="goes before `after`")
    ] = None,
) -> Response:
    """What happens to a job, as server-sent events, from the event after `Last-Event-ID` on."""
    start = _event_number(last_event_id, after)
    if len(state.feed) >= STREAMS:
        raise Refusal(503, "busy", "too many event streams are open", retry_after=2.0)

    def page(number: int) -> list[Event]:
        return state.jobs.events(who.owner, job, after=number, limit=PAGE)

    current = await run_in_threadpool(state.jobs.get, who.owner, job)
    if current.state.finished and not await run_in_threadpool(page, start):
        return Response(status_code=204)
    return EventStream(as_lines(job_events(state.feed, job, page, start)))


def _event_number(header: str | None, after: int) -> int:
    if header is None or not header.strip():
        return after
    if not (header.isascii() and header.isdigit() and len(header) < 19):
        raise Refusal(400, "malformed", "Last-Event-ID is the id of an event: a whole number")
    return int(header)
