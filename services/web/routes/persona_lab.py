"""/v1/persona-lab: character cards, mended and validated, talked with, audited and drawn.

A card is somebody else's text: it is data, nothing of it is run or fetched, and its own
instructions never reach a language model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic import AfterValidator

from consistent_gen.client.persona_lab import (
    AuditIn,
    AuditOut,
    CardCharacterIn,
    CardIssue,
    CardList,
    CardMendIn,
    CardOut,
    TalkIn,
    TalkOut,
)
from consistent_gen.client.types import LibraryCharacter, LibraryCharacterIn, StoryIn
from consistent_gen.persona.cards import charx
from services.errors import Refusal
from services.web.intake import CleanPicture, readable
from services.web.problems import problem_responses
from services.web.routes.access import FILE_BODY, File, ItemId, State, Who, links
from services.web.state import ServerState
from services.web.talk_pictures import draw_in_talk

# The report has its style sheet in itself and pictures as data; it runs and loads nothing.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
)


async def _turn(state: State) -> AsyncIterator[None]:
    async with state.persona_turns:
        yield


router = APIRouter(prefix="/v1/persona-lab", tags=["personas"], dependencies=[Depends(_turn)])
_FILE = {"schema": {"type": "string", "format": "binary"}}
_CARD = "/cards/{card}"


@router.post(
    "/cards",
    status_code=201,
    operation_id="create_card",
    openapi_extra=FILE_BODY,
    responses={
        201: {
            "links": links(
                {
                    "card": ("get_card", "card", "id"),
                    "mend": ("mend_card", "card", "id"),
                    "talk": ("talk_with_card", "card", "id"),
                    "audit": ("audit_card", "card", "id"),
                    "delete": ("delete_card", "card", "id"),
                }
            )
        },
        **problem_responses(507),
    },
)
def create_card(file: File, state: State, who: Who) -> CardOut:
    """Import a character card (versions 1 to 3; PNG, JSON or .charx) or a persona of ours (JSON):
    the persona, and what the validator says.
    """
    state.check_persona_room(who.owner, more=len(file))
    picture, notes = _picture(state, file)
    return state.persona_lab.shelf.create(who.owner, file, picture, notes)


def _picture(state: ServerState, file: bytes) -> tuple[bytes | None, list[CardIssue]]:
    """The pixels of a card's picture; a damaged picture does not lose the card in it. Of an archive
    nothing but the card is kept, which is said.
    """
    if file.startswith(charx.SIGNATURE) and (others := charx.card_text(file)[1]):
        told = "1 file" if others == 1 else f"{others:,} files"
        message = f"{told} beside the card in the archive are not kept here; keep the archive"
        return None, [CardIssue(place="card", message=message, severity="warning")]
    if not file.startswith(b"\x89PNG"):
        return None, []
    try:
        clean: CleanPicture = state.intake.read(file)
    except Refusal as refusal:
        message = f"the picture is not kept: {refusal.message}"
        note = CardIssue(place="picture", message=message, severity="warning")
        return None, [note]
    return clean.data, []


@router.get("/cards", operation_id="list_cards")
def list_cards(state: State, who: Who) -> CardList:
    """The caller's cards, oldest first."""
    return state.persona_lab.shelf.all(who.owner)


@router.get(_CARD, operation_id="get_card", responses=problem_responses(404))
def get_card(card: ItemId, state: State, who: Who) -> CardOut:
    """One card with its persona and what the validator says."""
    return state.persona_lab.shelf.get(who.owner, card).shown()


@router.put(_CARD, operation_id="mend_card", responses=problem_responses(404, 507))
def mend_card(
    card: ItemId,
    body: Annotated[CardMendIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> CardOut:
    """Mend fields and validate again; all other bytes of the card stay as they were."""
    changes = body.model_dump(exclude_none=True)
    state.check_persona_room(who.owner, more=sum(map(len, changes.values())))
    return state.persona_lab.shelf.mend(who.owner, card, changes)


@router.delete(_CARD, status_code=204, operation_id="delete_card", responses=problem_responses(404))
def delete_card(card: ItemId, state: State, who: Who) -> None:
    """Erase a card with its talk, what was remembered of it, and its audit."""
    state.persona_lab.audits.cancel(state.persona_lab.shelf.place(who.owner, card))
    state.persona_lab.shelf.delete(who.owner, card)


@router.get(
    _CARD + "/export",
    operation_id="export_card",
    response_class=Response,
    responses={
        200: {
            "description": "The card as a file",
            "content": {"application/json": {}, "image/png": _FILE},
        },
        **problem_responses(404),
    },
)
def export_card(
    card: ItemId,
    state: State,
    who: Who,
    format: Annotated[Literal["json", "png"], Query()] = "json",
    picture: Annotated[
        str | None, Query(max_length=64, description="an artifact to put the card into, for png")
    ] = None,
) -> Response:
    """The card for other programs, as JSON or in a PNG picture."""
    shelf = state.persona_lab.shelf
    if format == "json":
        data, kind = shelf.as_json(who.owner, card), "application/json"
    else:
        given = None if picture is None else state.picture(who.owner, picture)
        data, kind = shelf.as_png(who.owner, card, given), "image/png"
    return _attachment(data, f"{card}.{format}", kind)


@router.post(
    _CARD + "/talk",
    operation_id="talk_with_card",
    responses=problem_responses(404, 409, 501, 503, 507),
)
def talk_with_card(
    card: ItemId,
    body: Annotated[TalkIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> TalkOut:
    """Say one line to the persona: its reply, and how far each of its turns is from its card.
    "Draw yourself in the forest" has a scene drawn, in the story of this talk.
    """
    state.check_persona_room(who.owner)

    def draw(scene: str, before: str | None) -> tuple[str, int]:
        return draw_in_talk(state, who, card, scene, body.looks, before)

    return state.persona_lab.say(who.owner, card, body.text, draw)


@router.get(_CARD + "/talk", operation_id="get_talk", responses=problem_responses(404))
def get_talk(card: ItemId, state: State, who: Who) -> TalkOut:
    """The talk so far."""
    return state.persona_lab.talk(who.owner, card)


@router.delete(
    _CARD + "/talk",
    status_code=204,
    operation_id="forget_talk",
    responses=problem_responses(404, 503),
)
def forget_talk(card: ItemId, state: State, who: Who) -> None:
    """Begin the talk anew; the persona forgets what it was told in it."""
    state.persona_lab.forget_talk(who.owner, card)


@router.post(
    _CARD + "/audit",
    status_code=202,
    operation_id="audit_card",
    responses=problem_responses(404, 409, 501, 503, 507),
)
def audit_card(card: ItemId, body: AuditIn, state: State, who: Who, response: Response) -> AuditOut:
    """Start an audit: the model is interviewed in the persona's place and its answers are held
    against the card. One that runs already is meant.
    """
    state.check_persona_room(who.owner)
    begun = state.persona_lab.audit(who.owner, card, body.questions)
    response.headers["Location"] = f"/v1/persona-lab/cards/{card}/audit"  # an id of ours by now
    return begun


@router.get(_CARD + "/audit", operation_id="get_audit", responses=problem_responses(404))
def get_audit(card: ItemId, state: State, who: Who) -> AuditOut:
    """The card's newest audit as it stands."""
    return state.persona_lab.audits.get(state.persona_lab.shelf.place(who.owner, card))


@router.delete(
    _CARD + "/audit",
    status_code=204,
    operation_id="cancel_audit",
    responses=problem_responses(404),
)
def cancel_audit(card: ItemId, state: State, who: Who) -> None:
    """Stop the card's audit, and take its report away."""
    state.persona_lab.audits.cancel(state.persona_lab.shelf.place(who.owner, card))


@router.get(
    _CARD + "/audit/report",
    operation_id="get_audit_report",
    response_class=Response,
    responses={
        200: {"description": "An HTML page that stands alone", "content": {"text/html": _FILE}},
        **problem_responses(404),
    },
)
def get_audit_report(card: ItemId, state: State, who: Who) -> Response:
    """The report of the newest audit that succeeded."""
    data = state.persona_lab.audits.report(state.persona_lab.shelf.place(who.owner, card))
    found = _attachment(data, f"{card}-audit.html", "text/html; charset=utf-8")
    found.headers["Content-Security-Policy"] = REPORT_POLICY
    return found


@router.post(
    _CARD + "/character",
    status_code=201,
    operation_id="draw_card",
    responses=problem_responses(404, 409),
)
def draw_card(
    card: ItemId,
    body: Annotated[CardCharacterIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> LibraryCharacter | StoryIn:
    """The persona's appearance as a character of the library, or a story with it to edit and draw
    (`POST /v1/stories`).
    """
    story = state.persona_lab.drawable(who.owner, card, body.name, body.looks)
    if body.into == "story":
        return story
    ((name, character),) = story.characters.items()
    made = LibraryCharacterIn(name=name, description=character.description)
    return state.library.create(who.owner, made)


def _attachment(data: bytes, name: str, kind: str) -> Response:
    disposition = f'attachment; filename="{name}"'
    return Response(data, media_type=kind, headers={"Content-Disposition": disposition})
