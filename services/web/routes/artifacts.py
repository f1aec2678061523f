"""/v1/artifacts: stored files, only for whoever they belong to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from consistent_gen.client.types import Artifact
from services.web.problems import problem_responses
from services.web.routes.access import FILE_BODY, File, ItemId, State, Who, links

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_FILE = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "",
    status_code=201,
    operation_id="upload",
    openapi_extra=FILE_BODY,
    responses={
        201: {
            "links": links(
                {
                    "bytes": ("get_artifact", "artifact", "id"),
                    "delete": ("delete_artifact", "artifact", "id"),
                }
            )
        },
        **problem_responses(507),
    },
)
def upload(file: File, state: State, who: Who) -> Artifact:
    """Store a PNG, JPEG or WebP picture. It is drawn anew: upright, without metadata."""
    picture = state.clean(who.owner, file)
    return state.artifacts.put(who.owner, picture.data, picture.media_type)


@router.get(
    "/{artifact}",
    operation_id="get_artifact",
    response_class=Response,
    responses={
        200: {"description": "The file", "content": dict.fromkeys(_SUFFIXES, _FILE)},
        304: {"description": "Not modified"},
        **problem_responses(404),
    },
)
def get_artifact(
    artifact: ItemId,
    state: State,
    who: Who,
    known: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """The bytes of a file."""
    found, _ = state.artifacts.open(who.owner, artifact)
    headers = {
        "ETag": f'"{found.sha256}"',
        # What an id names never changes, but it is for its owner alone.
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'inline; filename="{found.id}.{_SUFFIXES[found.media_type]}"',
    }
    if known is not None and found.sha256 in known:
        return Response(status_code=304, headers=headers)
    data = state.artifacts.read(who.owner, artifact)
    return Response(data, media_type=found.media_type, headers=headers)


@router.delete(
    "/{artifact}",
    status_code=204,
    operation_id="delete_artifact",
    responses=problem_responses(404, 409),
)
def delete_artifact(artifact: ItemId, state: State, who: Who) -> None:
    """Delete a file that no story and no character shows."""
    state.artifacts.delete(who.owner, artifact)
