"""/v1/images/edits in the shape of OpenAI's images API: somebody in a picture, drawn anew.

The picture stands in for a portrait of the character: with noise put back it is an anchor of the
attention sharing, which the new pictures read, as the pictures of a story's characters are. Nothing
of the picture but who is in it is kept, so there is no mask to fill in.

Departures: `character` says which words of the prompt are who is in the picture (found by
themselves where the model has the words of the story world), `method` how it is kept and `strength`
how closely; the other fields are those of /v1/images/generations. The picture is forgotten when
nothing waits to be drawn from it any more.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from consistent_gen.client.types import CharacterIn, Job, StoryIn
from consistent_gen.methods import METHODS
from consistent_gen.registry import resolve
from consistent_gen.world.naming import character_phrase
from services.errors import Refusal
from services.web.intake import MAX_FIELD_BYTES, readable
from services.web.openai.answers import check_model, deliver, image_of, preview_every
from services.web.openai.shapes import PicturesIn, PicturesOut, Short
from services.web.ordering import fingerprint, image_story, order_story, planned
from services.web.problems import openai_responses
from services.web.routes.access import Key, State, Who
from services.web.security import Caller
from services.web.state import ServerState

router = APIRouter(prefix="/v1/images", tags=["openai"])
EDIT_METHOD = "consistory"
NAME = "Subject"  # of the character in the story that is drawn
PICTURE_FIELDS = ("image", "image[]")
MAX_FIELDS = 32


class EditsIn(PicturesIn):
    """The fields beside the picture. `input_fidelity` is taken and changes nothing."""

    character: Annotated[str, StringConstraints(min_length=1, max_length=400)] | None = None
    strength: float | None = Field(default=None, ge=0.0, le=1.0)
    method: Short = EDIT_METHOD
    input_fidelity: Short | None = None


_FIELDS: TypeAdapter[EditsIn] = TypeAdapter(Annotated[EditsIn, AfterValidator(readable)])


def _form_schema() -> dict[str, Any]:
    """The form as OpenAPI has it: a file, and fields of which none is null."""
    schema = EditsIn.model_json_schema()
    for name, field in schema["properties"].items():
        choices = [choice for choice in field.pop("anyOf", ()) if choice.get("type") != "null"]
        schema["properties"][name] = {**field, **(choices[0] if choices else {})}
        if field.get("default", "") is None:
            del schema["properties"][name]["default"]
    schema["properties"]["image"] = {"type": "string", "format": "binary"}
    schema["required"] = ["image", *schema["required"]]
    body = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    return {"requestBody": body}


@router.post(
    "/edits",
    operation_id="openai_edits",
    response_model=PicturesOut,
    openapi_extra=_form_schema(),
    responses={
        200: {"content": {"text/event-stream": {}}},
        **openai_responses(409, 502, 503, 504, 507),
    },
)
async def edits(state: State, who: Who, request: Request, key: Key = None) -> Response:
    """Draw who is in the picture as the prompt says, and answer when it is done; a client that
    leaves cancels it, unless the request had an `Idempotency-Key`.
    """
    data, body = await _form(request)
    caller = replace(who, user=who.user or body.user or "")
    job = await run_in_threadpool(_order, state, caller, data, body, key)
    shared = key is not None
    return await deliver(state, caller, job, body, request, "image_edit", shared=shared)


async def _form(request: Request) -> tuple[bytes, EditsIn]:
    """The picture and the fields. Raises ``Refusal`` or ``RequestValidationError``."""
    async with request.form(
        max_files=2, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    ) as form:
        if "mask" in form:
            detail = "nothing here fills in a part of a picture; leave the mask out"
            raise Refusal(422, "mask_not_supported", detail)
        pictures = [value for name in PICTURE_FIELDS for value in form.getlist(name)]
        files = [value for value in pictures if isinstance(value, UploadFile)]
        if len(files) != 1 or len(pictures) != 1:
            said = "addresses and paths are not read" if pictures and not files else "send one"
            raise Refusal(422, "no_file", f"the form needs one file in the field 'image'; {said}")
        texts = {name: value for name, value in form.items() if name not in PICTURE_FIELDS}
        data = await files[0].read()
    try:
        return data, _FIELDS.validate_python(texts)
    except ValidationError as error:
        found = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        raise RequestValidationError(found) from None


def _order(state: ServerState, caller: Caller, data: bytes, body: EditsIn, key: str | None) -> Job:
    """Put the picture into the store and the drawing into the queue."""
    check_model(state, body)
    idempotency = fingerprint(key, f"edits {hashlib.sha256(data).hexdigest()}", body)
    if idempotency and (known := state.jobs.replay(caller.owner, caller.user, idempotency)):
        return known  # before the picture is kept once more
    if not resolve(METHODS, body.method, kind="method").rules:
        detail = f"`method` looks at no pictures; one that does is {EDIT_METHOD}"
        raise Refusal(422, "method_reads_no_pictures", detail)
    story = _story(state, body)
    # Whether it can be drawn at all, before anything is kept.
    planned(state, state.planner.word(story, {NAME}).request)
    picture = state.admitted(caller.owner, data)
    held = state.artifacts.put(caller.owner, picture.data, picture.media_type, temporary=True)
    shown = {NAME: [held.id]}
    return order_story(
        state, caller, story, kind="image", references=shown, idempotency=idempotency
    )


def _story(state: ServerState, body: EditsIn) -> StoryIn:
    """The prompt as a story of one character."""
    words = body.character
    if words is None and state.planner.model.vocabulary() is not None:
        words = character_phrase(body.prompt)
    if words is None:
        detail = "say in `character` which words of the prompt are who is in the picture"
        raise Refusal(422, "character_not_named", detail)
    mention = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", re.IGNORECASE)
    prompt, count = mention.subn(f"{{{NAME}}}", body.prompt, count=1)
    if not count:
        detail = "the words of `character` do not stand in the prompt"
        raise Refusal(422, "character_not_named", detail)
    story = image_story(image_of(body, prompt), frames=body.n)
    subject = CharacterIn(description=words, strength=body.strength)
    return story.model_copy(
        update={
            "characters": {NAME: subject},
            "method": body.method,
            "preview_every": preview_every(state, body),
        }
    )
