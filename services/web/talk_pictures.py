"""Pictures that a persona draws of itself in a talk: frames of one story, which is the talk's own.

One story means one cast: every further picture reads the anchors of the first ones, and the frames
that are there already are not drawn again. The character is the one of the library that has the
persona's name, so it is the same one that stories show.
"""

from __future__ import annotations

from consistent_gen.client.types import (
    MAX_FRAMES,
    CharacterIn,
    LibraryCharacterIn,
    StoryChange,
    StoryOut,
)
from services.errors import NotFound
from services.persona_lab.lab import story_name
from services.web.changing import order_change
from services.web.ordering import order_story
from services.web.security import Caller
from services.web.state import ServerState


def draw_in_talk(
    state: ServerState, caller: Caller, card: str, scene: str, looks: str | None, before: str | None
) -> tuple[str, int]:
    """Put a picture of the persona of a card in a scene into the queue; the story that it belongs
    to and the number of its frame.

    looks: what a character that is not in the library yet is drawn from, instead of what the card
    says. before: the story in which the talk drew so far; one that was deleted, or is full, is
    followed by a new one.

    Raises:
        InputError: nothing says how the persona looks, or it cannot be drawn. Conflict: the picture
            before is not drawn yet. NotFound, QuotaError, BusyError, StorageFull: as the stores.
    """
    owner, lab = caller.owner, state.persona_lab
    called = story_name(lab.shelf.get(owner, card).persona.name)
    known = [one for one in state.library.list(owner).characters
             if one.name.casefold() == called.casefold()]  # fmt: skip
    words = known[0].description if known else None
    made = lab.drawable(owner, card, None, words or looks, (scene,))
    ((name, character),) = made.characters.items()
    stored = _story(state, caller, before)
    if stored is not None and len(stored.frames) < MAX_FRAMES and name in stored.request.characters:
        count = len(stored.frames)
        frames = [*stored.request.frames, *made.frames]
        longer = stored.request.model_copy(update={"frames": frames})
        origins = [*range(count), None]
        change = StoryChange(revision=stored.revision, story=longer, origins=origins)
        order_change(state, caller, stored.id, change)
        return stored.id, count
    new = LibraryCharacterIn(name=name, description=character.description)
    one = known[0] if known else state.library.create(owner, new)
    cast = {name: CharacterIn(description=character.description, library=one.id)}
    request = made.model_copy(update={"title": f"Talk with {name}"[:120], "characters": cast})
    return order_story(state, caller, request).story, 0


def _story(state: ServerState, caller: Caller, story: str | None) -> StoryOut | None:
    if story is None:
        return None
    try:
        return state.stories.get(caller.owner, story)
    except NotFound:
        return None
