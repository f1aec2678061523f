"""/v1/personas: talking to an assistant that remembers, and looking into what it remembers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Depends
from pydantic import AfterValidator

from consistent_gen.client.types import (
    FrameIn,
    Job,
    JobState,
    MemoryIn,
    MemoryList,
    MemoryOut,
    MemorySearchIn,
    PersonaIn,
    PersonaList,
    PersonaOut,
    SaidOut,
    SayIn,
    StoryIn,
)
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.memory.recall.pictures import Picture, read_picture
from consistent_gen.memory.talk.assistant import DrawJob
from consistent_gen.runtime import frame_seed
from consistent_gen.story.cast import remembered_story
from consistent_gen.story.types import Story
from services.personas.open_personas import said_out
from services.web.intake import readable
from services.web.ordering import order_story
from services.web.problems import problem_responses
from services.web.routes.access import ItemId, State, Who, links
from services.web.security import Caller
from services.web.state import ServerState

# Below the time after which temporary artifacts without a holder are swept.
DEADLINE_S = 240.0
WAIT_S = DEADLINE_S + 10.0


class NotDrawn(ConsistentGenError):
    """The picture did not come about; the text says why, for the person who asked."""


class ChatDrawer:
    """Draws for one turn of one caller, by jobs in the same queue as every other; `artifacts` are
    the pictures in the order of attempts.

    The pictures by which the concept is known go along as references. They are temporary artifacts,
    so that nothing of a concept is left behind once it is forgotten.
    """

    def __init__(self, state: ServerState, caller: Caller) -> None:
        self._state, self._caller = state, caller
        self.artifacts: list[str] = []

    def __call__(self, job: DrawJob) -> Picture:
        """The picture of one attempt. Raises ``NotDrawn``."""
        if not self._state.chat_drawings.acquire(blocking=False):
            raise NotDrawn("I cannot draw now: many others are waiting for drawings in their talks")
        try:
            return self._draw(job)
        finally:
            self._state.chat_drawings.release()

    def _draw(self, job: DrawJob) -> Picture:
        artifacts = self._state.artifacts
        try:
            story = remembered_story(job, self._state.planner.model)
            request = _request(story, job)
            held = {
                character.name: [
                    artifacts.put(self._caller.owner, data, "image/png", temporary=True).id
                    for data in character.references
                    if isinstance(data, bytes)
                ]
                for character in story.characters.values()
            }
            ordered = order_story(self._state, self._caller, request, references=held)
        except InputError as error:
            raise NotDrawn(f"I cannot draw that: {error.message}") from error
        except ConsistentGenError as error:
            raise NotDrawn(f"I cannot draw now: {error.message}") from error
        done = self._wait(ordered)
        artifact = done.frames[0].artifact
        if done.state is not JobState.succeeded or artifact is None:
            problem = done.frames[0].error
            raise NotDrawn(
                f"The drawing was not finished: {problem.detail if problem else done.state.value}"
            )
        self.artifacts.append(artifact)
        return read_picture(artifacts.read(self._caller.owner, artifact))

    def _wait(self, job: Job) -> Job:
        jobs, end = self._state.jobs, time.monotonic() + WAIT_S
        seq = jobs.changed()
        while True:
            now = jobs.get(self._caller.owner, job.id)
            if now.state.finished:
                return now
            left_s = end - time.monotonic()
            if self._state.feed.closed:
                raise NotDrawn(
                    "The server is stopping; the drawing goes on when it is back: see "
                    f"GET /v1/jobs/{job.id}."
                )
            if left_s <= 0:
                jobs.cancel(self._caller.owner, job.id)
                raise NotDrawn("The drawing took too long; ask again when less is waiting.")
            seq = jobs.wait(seq, min(left_s, 1.0), job=job.id)


def _request(story: Story, job: DrawJob) -> StoryIn:
    seed = int.from_bytes(hashlib.sha256(job.prompt.encode()).digest()[:7], "big")
    (frame,) = story.frames
    try:
        return StoryIn.model_validate(
            {
                "title": story.title,
                "characters": {
                    c.name: {"description": c.description[:400]} for c in story.characters.values()
                },
                "frames": [FrameIn(prompt=frame.prompt, negative=frame.negative)],
                "seed": frame_seed(seed, job.attempt),
                "deadline_s": DEADLINE_S,
            }
        )
    except ValueError as error:
        raise NotDrawn("I cannot draw that: the description is too long") from error


async def _turn(state: State) -> AsyncIterator[None]:
    async with state.persona_turns:
        yield


router = APIRouter(prefix="/v1/personas", tags=["personas"], dependencies=[Depends(_turn)])
_BUSY = problem_responses(404, 503)
_LEARNS = problem_responses(404, 503, 507)


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
) -> PersonaOut:
    """A new persona with an empty memory."""
    state.check_persona_room(who.owner)
    return state.personas.create(who.owner, body.name)


@router.get("", operation_id="list_personas", responses=problem_responses(503))
def list_personas(state: State, who: Who) -> PersonaList:
    """The caller's personas, oldest first."""
    return state.personas.all(who.owner)


@router.get("/{persona}", operation_id="get_persona", responses=_BUSY)
def get_persona(persona: ItemId, state: State, who: Who) -> PersonaOut:
    """One persona."""
    return state.personas.get(who.owner, persona)


@router.delete("/{persona}", status_code=204, operation_id="delete_persona", responses=_BUSY)
def delete_persona(persona: ItemId, state: State, who: Who) -> None:
    """Erase a persona with everything it remembers."""
    state.personas.delete(who.owner, persona)


@router.post("/{persona}/say", operation_id="say", responses=_LEARNS)
def say(
    persona: ItemId,
    body: Annotated[SayIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> SaidOut:
    """Say something, perhaps with a picture. "Draw ..." draws before it answers."""
    state.check_persona_room(who.owner)
    drawer = ChatDrawer(state, who)
    picture = None if body.picture is None else state.picture(who.owner, body.picture)
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
    responses=_LEARNS,
)
def add_memory(
    persona: ItemId,
    body: Annotated[MemoryIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> MemoryOut:
    """Tell the memory a fact."""
    state.check_persona_room(who.owner)
    with state.personas.recollections(who.owner, persona) as memory:
        return memory.add(body.text)


@router.put("/{persona}/memories/{memory}", operation_id="correct_memory", responses=_LEARNS)
def correct_memory(
    persona: ItemId,
    memory: ItemId,
    body: Annotated[MemoryIn, Body(), AfterValidator(readable)],
    state: State,
    who: Who,
) -> MemoryOut:
    """Replace a memory that was never right."""
    state.check_persona_room(who.owner)
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
    picture = None if body.picture is None else state.picture(who.owner, body.picture)
    with state.personas.recollections(who.owner, persona) as found:
        return MemoryList(memories=found.search(body.text, picture, body.k))
