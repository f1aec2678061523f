"""Library characters, personas and scores, as they travel over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from consistent_gen.client.base import Input, Name, Output


# Characters ---------------------------------------------------------------------------------------
class LibraryCharacterIn(Input):
    """A character for the library."""

    name: Name
    description: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    strength: float | None = Field(default=None, ge=0.0, le=1.0)


class LibraryCharacterPatch(Input):
    """Changes to a library character; None leaves a field."""

    name: Name | None = None
    description: Annotated[str, StringConstraints(min_length=1, max_length=400)] | None = None
    strength: float | None = Field(default=None, ge=0.0, le=1.0)


class Quality(Output):
    """What we think of a reference picture. `verdict` is good, usable or poor; `advice` says how to
    mend it. sharpness: variance of the Laplacian over that of a sharp picture, in [0, 1].
    """

    width: int
    height: int
    sharpness: float
    brightness: float
    verdict: Literal["good", "usable", "poor"]
    advice: list[str]


class Reference(Output):
    """A reference picture of a library character."""

    id: str
    artifact: str
    quality: Quality
    created_at: datetime


class LibraryCharacter(Output):
    """A character of the library."""

    id: str
    name: str
    description: str
    strength: float | None = None
    references: list[Reference] = Field(default_factory=list)
    created_at: datetime
    updated_at: datetime


class LibraryCharacterList(Output):
    """All characters of the library, by name."""

    characters: list[LibraryCharacter]


# Personas (the memory half) -----------------------------------------------------------------------
class PersonaIn(Input):
    """A persona: one person's memory."""

    name: Name


class Persona(Output):
    """A persona and how much it remembers."""

    id: str
    name: str
    memories: int
    assistant: str = Field(description="what answers, in one line")
    created_at: datetime


class PersonaList(Output):
    """All personas of the caller."""

    personas: list[Persona]


class SayIn(Input):
    """Something said to the assistant; `picture` is an artifact of the caller."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    picture: str | None = None


class SaidOut(Output):
    """The answer. `changes` are lines of what the memory gained or lost; `asks` awaits yes or no.

    `reasons` are the memories behind the answer. `picture` is an artifact, with `similarity` to the
    character it should show, and `verdict` in words.
    """

    text: str
    changes: list[str] = Field(default_factory=list)
    asks: bool = False
    reasons: list[str] = Field(default_factory=list)
    picture: str | None = None
    similarity: float | None = None
    verdict: str | None = None
    problems: list[str] = Field(default_factory=list)


class MemoryOut(Output):
    """A memory, as text for people. `why` are the words it was learnt from."""

    id: str
    kind: str
    text: str
    since: datetime | None = None
    why: list[str] = Field(default_factory=list)
    score: float | None = None


class MemoryList(Output):
    """Memories, newest or best first."""

    memories: list[MemoryOut]


class MemoryIn(Input):
    """A memory to add (POST) or its new text (PUT)."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=600)]


class MemorySearchIn(Input):
    """What to look for: words, a picture (an artifact), or both."""

    text: Annotated[str, StringConstraints(max_length=600)] | None = None
    picture: str | None = None
    k: int = Field(default=8, ge=1, le=50)
