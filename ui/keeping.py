"""Characters of the library: kept from a drawn picture, and whether their references agree.

The reader's opinion is only a reason to ask: where there is no reader, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

from consistent_gen.client.types import (
    FrameVersion,
    LibraryCharacter,
    LibraryCharacterIn,
    StoryFrame,
    StoryOut,
)
from consistent_gen.errors import ConsistentGenError, InputError
from ui.board import current_version
from ui.client import StudioClient
from ui.state import spoken_of

MAX_NAME = 40
# Of pictures of the story world: one character in two scenes agrees by 0.86 and more, two of them
# by 0.59 at most.
ONE_SUBJECT = 0.72


def keep_character(
    client: StudioClient, story: StoryOut, index: int, name: str
) -> tuple[LibraryCharacter, str]:
    """Put a character of a story into the library, with the picture `index` as its reference.

    A picture of several is no reference of one, so then it is the nearest that shows the character
    alone, or the words alone. Returns the character and a sentence on what became of it.

    Raises:
        InputError: the story has nobody of that name. ConsistentGenError: the server refuses.
    """
    asked = story.request.characters.get(name)
    if asked is None:
        raise InputError(f"Nobody in this story is called {name[:MAX_NAME]!r}.")
    known = {one.name.casefold(): one for one in client.characters().characters}
    numbered = re.compile(rf"{re.escape(name.casefold())}( \d+)?")
    same = (one for called, one in known.items() if numbered.fullmatch(called))
    home = next((one for one in same if one.description == asked.description), None)
    if home is None:
        free = _free_name(name, known)
        wish = LibraryCharacterIn(name=free, description=asked.description, strength=asked.strength)
        home = client.create_character(wish)
    alone = _alone(story, index, name)
    if alone is None:
        return home, f"{home.name} is in the library, in words: no picture shows {name} alone."
    frame, version = alone
    client.add_reference(home.id, client.artifact(version.artifact))
    home = client.character(home.id)
    where = f", as in scene {frame.index + 1}, where nobody else is" if frame.index != index else ""
    return home, f"{home.name} is in the library{where}. {question(client, home)}".strip()


def question(client: StudioClient, one: LibraryCharacter) -> str:
    """A question where two reference pictures of a character show different subjects; else ""."""
    pair = unlike(client, [reference.artifact for reference in one.references])
    if pair is None:
        return ""
    first, second = (number + 1 for number in pair)
    return (
        f"Pictures {first} and {second} seem to show two different subjects. "
        f"Which of them is {one.name}? Remove the other one."
    )


def unlike(client: StudioClient, pictures: Sequence[str]) -> tuple[int, int] | None:
    """The two pictures (from 0) that agree least, if they can hardly show one subject."""
    if len(pictures) < 2:
        return None
    try:
        agreement = client.score(list(pictures)).identity
    except ConsistentGenError:
        return None  # there is no reader here
    told = [
        (value, pair)
        for pair in combinations(range(len(pictures)), 2)
        if (value := agreement[pair[0]][pair[1]]) is not None
    ]
    value, pair = min(told, default=(1.0, (0, 0)))
    return pair if value < ONE_SUBJECT else None


def _alone(story: StoryOut, index: int, name: str) -> tuple[StoryFrame, FrameVersion] | None:
    """The drawn frame nearest to `index` that shows this character and nobody else."""
    names = list(story.request.characters)
    found = [
        (frame, version)
        for frame in story.frames
        if spoken_of(frame.prompt, names) == [name] and (version := current_version(frame))
    ]
    return min(found, key=lambda one: abs(one[0].index - index), default=None)


def _free_name(name: str, known: dict[str, LibraryCharacter]) -> str:
    free, number = name, 1
    while free.casefold() in known:
        number += 1
        free = f"{name[: MAX_NAME - 4].rstrip()} {number}"
    return free
