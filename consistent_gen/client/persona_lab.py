"""The persona lab as it travels over HTTP: cards, what the validator says, talks, audits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from consistent_gen.client.base import Input, Name, Output

CardText = Annotated[str, StringConstraints(max_length=200_000)]
AuditState = Literal["none", "queued", "running", "succeeded", "failed"]


class CardIssue(Output):
    """One thing that the validator says. place: the card's field ("description", "first_mes",
    "character_book.entries[2]"); mend: what to do about it. With an error nobody talks yet.
    """

    place: str
    message: str
    severity: Literal["error", "warning", "note"]
    mend: str = ""


class CardFields(Output):
    """The card's texts as they stand in it, `{{char}}` and `{{user}}` included."""

    name: str
    description: str = ""
    personality: str = ""
    scenario: str = ""
    first_mes: str = ""
    mes_example: str = ""
    creator_notes: str = ""
    system_prompt: str = ""
    post_history_instructions: str = ""


class CardMendIn(Input):
    """New texts for some of the fields; None leaves a field as it is, byte for byte."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    description: CardText | None = None
    personality: CardText | None = None
    scenario: CardText | None = None
    first_mes: CardText | None = None
    mes_example: CardText | None = None
    creator_notes: CardText | None = None
    system_prompt: CardText | None = None
    post_history_instructions: CardText | None = None


class CardStatement(Output):
    """One thing that holds of the persona, and where in the card it was said."""

    text: str
    source: str


class CardOut(Output):
    """A card of the lab: its persona and what the validator says, errors first.

    spec: version of the card, "v1" to "v3". statements: at most the first 500 of `statement_count`.
    appearance: what a picture is drawn from, None where the card does not say.
    """

    id: str
    spec: str
    fields: CardFields
    issues: list[CardIssue]
    statements: list[CardStatement]
    statement_count: int
    greetings: list[str] = Field(default_factory=list)
    appearance: str | None = None
    picture: bool = Field(description="whether it came in a picture that is kept")
    created_at: datetime
    updated_at: datetime


class CardBrief(Output):
    """A card in a list."""

    id: str
    name: str
    errors: int
    warnings: int
    created_at: datetime


class CardList(Output):
    """The caller's cards, oldest first."""

    cards: list[CardBrief]


class TalkIn(Input):
    """One line said to the persona. "Draw yourself in the forest" has a picture drawn, by the
    character of the library that has its name, or from looks or what the card says.
    """

    text: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    looks: Annotated[str, StringConstraints(min_length=1, max_length=400)] | None = None


class TalkTurn(Output):
    """One turn. drift: of the persona's turns, 1 - cosine between the turn and the persona's text
    by the embedder; 0 is the persona's own words, about 1 has nothing to do with them. story,
    frame: the picture that belongs to the turn, which may still be being drawn.
    """

    own: bool = Field(description="whether the persona says it")
    speaker: str
    text: str
    drift: float | None = None
    story: str | None = None
    frame: int | None = None


class TalkOut(Output):
    """The talk so far. slope: how much the drift grows with each turn of the persona, by least
    squares; None for fewer than three turns. by: the language model; measured_by: the embedder.
    """

    turns: list[TalkTurn]
    slope: float | None = None
    by: str
    measured_by: str


class AuditIn(Input):
    """How much is asked; every question is asked twice, alone and in one conversation."""

    questions: int = Field(default=12, ge=1, le=60)


class AuditFigure(Output):
    """One measurement; None where it has no value. low, high: 95 % interval."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    failed: int
    unit: str = ""
    note: str = ""


class AuditOut(Output):
    """An audit as it stands. The report is there once it has succeeded. covers: what it is about,
    where it is not the whole card. problem: why it failed.
    """

    state: AuditState
    by: str = ""
    covers: str = ""
    problem: str = ""
    figures: list[AuditFigure] = Field(default_factory=list)
    created_at: datetime | None = None
    finished_at: datetime | None = None


class CardCharacterIn(Input):
    """Let the persona be drawn. into: "library" keeps it as a character of the library, "story"
    answers with a story to edit and draw. looks: instead of what the card says.
    """

    into: Literal["library", "story"] = "library"
    name: Name | None = None
    looks: Annotated[str, StringConstraints(min_length=1, max_length=400)] | None = None
