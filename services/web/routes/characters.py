"""/v1/characters: the library of characters with reference pictures, portable as archives."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import AfterValidator

from consistent_gen.client.types import (
    LibraryCharacter,
    LibraryCharacterIn,
    LibraryCharacterList,
    LibraryCharacterPatch,
    Reference,
)
from services.web.intake import readable
from services.web.problems import problem_responses
from services.web.routes.access import FILE_BODY, File, ItemId, State, Who, links

router = APIRouter(prefix="/v1/characters", tags=["characters"])
_LINKS = {
    "links": links(
        {
            "character": ("get_character", "character", "id"),
            "change": ("patch_character", "character", "id"),
            "export": ("export_character", "character", "id"),
            "delete": ("delete_character", "character", "id"),
        }
    )
}


@router.post(
    "",
    status_code=201,
    operation_id="create_character",
    responses={201: _LINKS, **problem_responses(409)},
)
def create_character(
    body: Annotated[LibraryCharacterIn, Body(), AfterValidator(readable)], state: State, who: Who
) -> LibraryCharacter:
    """Add a character."""
    return state.library.create(who.owner, body)


@router.get("", operation_id="list_characters")
def list_characters(state: State, who: Who) -> LibraryCharacterList:
    """The caller's characters, by name."""
    return state.library.list(who.owner)


@router.post(
    "/import",
    status_code=201,
    operation_id="import_character",
    openapi_extra=FILE_BODY,
    responses={201: _LINKS, **problem_responses(507)},
)
def import_character(file: File, state: State, who: Who) -> LibraryCharacter:
    """Add the character of an archive that `export` wrote, here or elsewhere."""
    return state.library.import_archive(who.owner, file)


@router.get("/{character}", operation_id="get_character", responses=problem_responses(404))
def get_character(character: ItemId, state: State, who: Who) -> LibraryCharacter:
    """One character with its references."""
    return state.library.get(who.owner, character)


@router.patch("/{character}", operation_id="patch_character", responses=problem_responses(404, 409))
def patch_character(
    character: ItemId,
    body: Annotated[LibraryCharacterPatch, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> LibraryCharacter:
    """Change what is given."""
    return state.library.patch(who.owner, character, body)


@router.delete(
    "/{character}",
    status_code=204,
    operation_id="delete_character",
    responses=problem_responses(404),
)
def delete_character(character: ItemId, state: State, who: Who) -> None:
    """Delete a character with its references and what was derived from them."""
    state.library.delete(who.owner, character)


@router.post(
    "/{character}/references",
    status_code=201,
    operation_id="add_reference",
    openapi_extra=FILE_BODY,
    responses=problem_responses(404, 409, 507),
)
def add_reference(character: ItemId, file: File, state: State, who: Who) -> Reference:
    """Add a reference picture. The answer says how good a reference it is, and how to mend it."""
    state.library.get(who.owner, character)
    picture = state.admitted(who.owner, file)
    artifact = state.artifacts.put(who.owner, picture.data, picture.media_type, temporary=True)
    return state.library.add_reference(who.owner, character, artifact.id, picture.quality)


@router.delete(
    "/{character}/references/{reference}",
    status_code=204,
    operation_id="delete_reference",
    responses=problem_responses(404),
)
def delete_reference(character: ItemId, reference: ItemId, state: State, who: Who) -> None:
    """Take a reference picture away."""
    state.library.remove_reference(who.owner, character, reference)


@router.get(
    "/{character}/export",
    operation_id="export_character",
    response_class=Response,
    responses={
        200: {
            "description": "A zip file",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problem_responses(404),
    },
)
def export_character(character: ItemId, state: State, who: Who) -> Response:
    """The character as a portable archive."""
    data = state.library.export(who.owner, character)
    disposition = f'attachment; filename="{character}.zip"'
    return Response(
        data, media_type="application/zip", headers={"Content-Disposition": disposition}
    )
