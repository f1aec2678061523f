"""/v1/stories: drawing stories, changing what needs no drawing, exports, re-rolls."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import AfterValidator

from consistent_gen.client.types import (
    Accepted,
    Changed,
    IdeaIn,
    IdeaOut,
    MissingOut,
    RedrawIn,
    RerollIn,
    StoryChange,
    StoryIn,
    StoryList,
    StoryOut,
    StoryPatch,
    WordingOut,
)
from consistent_gen.story.layouts import layout_named
from services.errors import Refusal
from services.plans.ideas import tell_idea
from services.web.changing import order_change
from services.web.intake import readable
from services.web.missing import missing_in
from services.web.ordering import (
    accepted,
    address,
    checked,
    fingerprint,
    library_references,
    order_reroll,
    order_story,
    pictured,
    reroll_wording,
)
from services.web.problems import problem_responses
from services.web.publishing import publish
from services.web.redrawing import order_redraw
from services.web.routes.access import After, ItemId, Key, Limit, State, Who, links

router = APIRouter(prefix="/v1/stories", tags=["stories"])
EXPORT_PATIENCE_S = 20.0
MOST_NOTICES = 20
_CREATED = {
    "links": links(
        {
            "job": ("get_job", "job", "job"),
            "cancel": ("cancel_job", "job", "job"),
            "retry": ("retry_job", "job", "job"),
            "story": ("get_story", "story", "story"),
            "delete": ("delete_story", "story", "story"),
        }
    )
}
_QUEUE = problem_responses(409, 503, 507)


@router.post("", status_code=202, operation_id="create_story", responses={202: _CREATED, **_QUEUE})
def create_story(
    body: Annotated[StoryIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
    response: Response,
    key: Key = None,
) -> Accepted:
    """Draw a story."""
    job = order_story(state, who, body, idempotency=fingerprint(key, "story", body))
    response.headers["Location"] = address(state, f"/v1/jobs/{job.id}")
    given = pictured(library_references(state, who.owner, body, missing_ok=True))
    return accepted(state, job, state.planner.word(body, given).wording)


@router.post("/check", operation_id="check_story")
def check_story(
    body: Annotated[StoryIn, Body(), AfterValidator(readable)], state: State, who: Who
) -> WordingOut:
    """What would be drawn of a story: nothing is ordered. What keeps it from being drawn stands in
    `problems`.
    """
    return checked(state, who.owner, body)


@router.post("/ideas", operation_id="write_story")
def write_story(
    body: Annotated[IdeaIn, Body(), AfterValidator(readable)], state: State, who: Who
) -> IdeaOut:
    """A story from an idea, in words that this server's model can draw: nothing is ordered."""
    return tell_idea(body, state.planner.model)


@router.get("", operation_id="list_stories")
def list_stories(state: State, who: Who, after: After = None, limit: Limit = 50) -> StoryList:
    """Stories of the caller, newest first."""
    return state.stories.list(who.owner, after=after, limit=limit)


@router.get("/{story}", operation_id="get_story", responses=problem_responses(404))
def get_story(story: ItemId, state: State, who: Who) -> StoryOut:
    """A story with all drawings of its frames."""
    return state.stories.get(who.owner, story)


@router.put("/{story}", operation_id="patch_story", responses=problem_responses(404, 409))
def patch_story(
    story: ItemId,
    body: Annotated[StoryPatch, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> StoryOut:
    """Change what needs no drawing. `revision` says which state of the story is meant."""
    if body.layout is not None:
        layout_named(body.layout)
    return state.stories.patch(who.owner, story, body)


@router.delete(
    "/{story}", status_code=204, operation_id="delete_story", responses=problem_responses(404)
)
def delete_story(story: ItemId, state: State, who: Who) -> None:
    """Delete a story with its jobs and drawings."""
    state.stories.delete(who.owner, story)


@router.post(
    "/{story}/frames/{index}/reroll",
    status_code=202,
    operation_id="reroll_frame",
    responses={202: _CREATED, **problem_responses(404), **_QUEUE},
)
def reroll_frame(
    story: ItemId,
    index: Annotated[int, Path(ge=0, le=100_000, description="counted from 0")],
    body: Annotated[RerollIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
    response: Response,
    key: Key = None,
) -> Accepted:
    """Draw one frame again, as a new version; all other drawings keep their bytes."""
    idempotency = fingerprint(key, f"reroll/{story}/{index}", body)
    job = order_reroll(state, who, story, index, body, idempotency=idempotency)
    response.headers["Location"] = address(state, f"/v1/jobs/{job.id}")
    return accepted(state, job, reroll_wording(state, who, story, index, body.prompt))


@router.post(
    "/{story}/frames/{index}/redraw",
    status_code=202,
    operation_id="redraw_frame",
    responses={202: _CREATED, **problem_responses(404, 409), **_QUEUE},
)
def redraw_frame(
    story: ItemId,
    index: Annotated[int, Path(ge=0, le=100_000, description="counted from 0")],
    body: Annotated[RedrawIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
    response: Response,
    key: Key = None,
) -> Accepted:
    """Draw a part of one frame's drawing again, as a new version; the rest keeps its pixels."""
    idempotency = fingerprint(key, f"redraw/{story}/{index}", body)
    job = order_redraw(state, who, story, index, body, idempotency=idempotency)
    response.headers["Location"] = address(state, f"/v1/jobs/{job.id}")
    return accepted(state, job, reroll_wording(state, who, story, index, body.prompt))


@router.get(
    "/{story}/missing",
    operation_id="missing_in_story",
    responses=problem_responses(404, 503),
)
def missing_in_story(story: ItemId, state: State, who: Who) -> MissingOut:
    """Who is missing from the drawings that count, as far as the story-world reader can tell."""
    return missing_in(state, who.owner, story)


@router.post(
    "/{story}/changes",
    status_code=202,
    operation_id="change_story",
    responses={**problem_responses(404), **_QUEUE},
)
def change_story(
    story: ItemId,
    body: Annotated[StoryChange, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> Changed:
    """Let a drawn story become another one; only frames that look different then are drawn again.
    409 while the story is being drawn.
    """
    return order_change(state, who, story, body)


@router.get(
    "/{story}/export",
    operation_id="export_story",
    response_class=Response,
    responses={
        200: {
            "description": "The file",
            "content": {
                name: {"schema": {"type": "string", "format": "binary"}}
                for name in (
                    "application/pdf",
                    "application/vnd.comicbook+zip",
                    "application/zip",
                    "image/gif",
                    "image/png",
                )
            },
        },
        **problem_responses(404, 409, 501, 503),
    },
)
def export_story(
    story: ItemId,
    state: State,
    who: Who,
    format: Annotated[Literal["pdf", "cbz", "zip", "gif", "png"], Query()] = "pdf",
    layout: Annotated[str | None, Query(max_length=40)] = None,
    enlarge: Annotated[int | None, Query(ge=2, le=4, multiple_of=2)] = None,
) -> Response:
    """The story as one file, with the drawings that count; `enlarge` for printing, where the server
    has what it takes. What no font can write is told in the header `X-Notices`, a JSON list of
    sentences.
    """
    if layout is not None:
        layout_named(layout)
    if not state.exports.acquire(timeout=EXPORT_PATIENCE_S):
        raise Refusal(503, "busy", "many exports are being made; try again", retry_after=5.0)
    try:
        made = publish(state, who.owner, story, format, layout, enlarge)
    finally:
        state.exports.release()
    headers = {"Content-Disposition": f'attachment; filename="{made.filename}"'}
    if made.notices:  # in ASCII, as headers are
        headers["X-Notices"] = json.dumps(made.notices[:MOST_NOTICES])
    return Response(made.data, media_type=made.media_type, headers=headers)
