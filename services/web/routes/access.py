"""What routes ask for: the server's parts, the caller, bodies and files that were judged."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request

from services.web.intake import uploaded
from services.web.security import Caller
from services.web.state import ServerState


async def _state(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller


async def _file(request: Request) -> bytes:
    return await uploaded(request)


State = Annotated[ServerState, Depends(_state)]
Who = Annotated[Caller, Depends(_caller)]
# The file of a multipart form, read within the body limit.
File = Annotated[bytes, Depends(_file)]
# Ids are opaque and looked up as they are: what is no id is not found.
ItemId = Annotated[str, Path(max_length=64)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="the same key with the same body is the same job, however often it is sent",
    ),
]
After = Annotated[str | None, Query(max_length=120, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]

FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


def links(operations: dict[str, tuple[str, str, str]]) -> dict[str, Any]:
    """OpenAPI links of a response: name -> (operation, its parameter, where its value stands)."""
    return {
        name: {"operationId": operation, "parameters": {parameter: f"$response.body#/{place}"}}
        for name, (operation, parameter, place) in operations.items()
    }
