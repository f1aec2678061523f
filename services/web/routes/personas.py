"""/v1/personas: talking to an assistant that remembers, and looking into what it remembers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import AfterValidator

from consistent_gen.client.types import (
    MemoryIn,
    MemoryList,
    MemoryOut,
    MemorySearchIn,
    Persona,
    PersonaIn,
    PersonaList,
    SaidOut,
    SayIn,
)
from services.personas.open_personas import said_out
from services.web.chat_drawing import ChatDrawer, NotDrawn
from services.web.intake import readable
from services.web.pictured import picture_bytes
from services.web.problems import problem_responses
from services.web.routes.access import ItemId, State, Who, links

router = APIRouter(prefix="/v1/personas", tags=["personas"])
_BUSY = problem_responses(404, 503)


@router.post(
    "",
    status_code=201,
    operation_id="create_persona",
    responses={
        201: {
            "links": links(
                {
                    "say": ("say", "persona", "id"),
                    "memories": ("list_memories", "persona", "id"),
                    "add": ("add_memory", "persona", "id"),
                    "delete": ("delete_persona", "persona", "id"),
                }
            )
        },
        **problem_responses(503, 507),
    },
)
def create_persona(
    body: Annotated[PersonaIn, Body(), AfterValidator(readable)], state: State, who: Who
) -> Persona:
    """A new persona with an empty memory."""
    return state.personas.create(who.owner, body.name)


@router.get("", operation_id="list_personas", responses=problem_responses(503))
def list_personas(state: State, who: Who) -> PersonaList:
    """The caller's personas, oldest first."""
    return state.personas.all(who.owner)


@router.get("/{persona}", operation_id="get_persona", responses=_BUSY)
def get_persona(persona: ItemId, state: State, who: Who) -> Persona:
    """One persona."""
    return state.personas.get(who.owner, persona)


@router.delete("/{persona}", status_code=204, operation_id="delete_persona", responses=_BUSY)
def delete_persona(persona: ItemId, state: State, who: Who) -> None:
    """Erase a persona with everything it remembers."""
    state.personas.delete(who.owner, persona)


@router.post("/{persona}/say", operation_id="say", responses=_BUSY)
def say(
    persona: ItemId,
    body: Annotated[SayIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> SaidOut:
    """Say something, perhaps with a picture. "Draw ..." draws before it answers."""
    drawer = ChatDrawer(state, who)
    picture = None if body.picture is None else picture_bytes(state, who.owner, body.picture)
    try:
        said = state.personas.say(who.owner, persona, body.text, picture=picture, drawer=drawer)
    except NotDrawn as reason:
        return SaidOut(text=reason.message, problems=[reason.message])
    drawn = None if said.drawn is None else drawer.artifacts[said.drawn.attempt]
    return said_out(said, drawn)


@router.get("/{persona}/memories", operation_id="list_memories", responses=_BUSY)
def list_memories(persona: ItemId, state: State, who: Who) -> MemoryList:
    """What the persona remembers, newest first, and from which words it learnt it."""
    return MemoryList(memories=state.personas.memories(who.owner, persona))


@router.post(
    "/{persona}/memories",
    status_code=201,
    operation_id="add_memory",
    responses=_BUSY,
)
def add_memory(
    persona: ItemId,
    body: Annotated[MemoryIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> MemoryOut:
    """Tell the memory a fact."""
    with state.personas.recollections(who.owner, persona) as memory:
        return memory.add(body.text)


@router.put("/{persona}/memories/{memory}", operation_id="correct_memory", responses=_BUSY)
def correct_memory(
    persona: ItemId,
    memory: ItemId,
    body: Annotated[MemoryIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> MemoryOut:
    """Replace a memory that was never right."""
    with state.personas.recollections(who.owner, persona) as found:
        return found.correct(memory, body.text)


@router.delete(
    "/{persona}/memories/{memory}",
    status_code=204,
    operation_id="forget_memory",
    responses=_BUSY,
)
def forget_memory(persona: ItemId, memory: ItemId, state: State, who: Who) -> None:
    """Erase a memory with what it was learnt from."""
    with state.personas.recollections(who.owner, persona) as found:
        found.forget(memory)


@router.post("/{persona}/search", operation_id="search_memories", responses=_BUSY)
def search_memories(
    persona: ItemId,
    body: Annotated[MemorySearchIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> MemoryList:
    """Memories that fit words, a picture, or both; best first."""
    picture = None if body.picture is None else picture_bytes(state, who.owner, body.picture)
    with state.personas.recollections(who.owner, persona) as found:
        return MemoryList(memories=found.search(body.text, picture, body.k))
