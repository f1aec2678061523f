"""What was said, from nobody's point of view, and how each speaker sees it.

A dialogue is kept as a neutral list of who said what. The view of an agent is made from it when the
agent is to speak: its own turns are `assistant`, everybody else's are `user` (egocentric context
projection of SPASM, arXiv 2604.09212). A model that is given its partner's turns as its own slowly
becomes the partner; the projection makes that impossible by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.inputs import check_text
from consistent_gen.language.models import MAX_CHARACTERS, Message

MAX_TURNS = 10_000
OPENING = "(The conversation begins. Say your first line.)"


@dataclass(frozen=True)
class Utterance:
    """One contribution. speaker: an id out of `Transcript.speakers`."""

    speaker: str
    text: str

    def __post_init__(self) -> None:
        check_text(self.speaker, "speaker of a turn", 200)
        check_text(self.text, "text of a turn", MAX_CHARACTERS)


@dataclass(frozen=True)
class Transcript:
    """A dialogue of named speakers. stop_reason: why it ended; "" while it goes on."""

    speakers: tuple[str, ...]
    turns: tuple[Utterance, ...] = ()
    stop_reason: str = ""

    def __post_init__(self) -> None:
        if len(set(self.speakers)) != len(self.speakers) or not self.speakers:
            raise InputError(f"speakers are {self.speakers!r}; expected different names")
        if len(self.turns) > MAX_TURNS:
            raise InputError(f"a transcript has {len(self.turns):,} turns; at most {MAX_TURNS:,}")
        strangers = {turn.speaker for turn in self.turns} - set(self.speakers)
        if strangers:
            raise UnknownNameError(
                f"turns of {', '.join(sorted(strangers))}, who are not among the speakers "
                f"({', '.join(self.speakers)})"
            )

    def said(self, speaker: str, text: str) -> Self:
        """The transcript with one turn more."""
        return type(self)(self.speakers, (*self.turns, Utterance(speaker, text)), self.stop_reason)

    def ended(self, reason: str) -> Self:
        """The transcript, closed for a reason."""
        return type(self)(self.speakers, self.turns, reason)

    def of(self, speaker: str) -> tuple[str, ...]:
        """What one of them said, in order."""
        return tuple(turn.text for turn in self.turns if turn.speaker == speaker)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads back as an equal transcript."""
        turns = [{"speaker": turn.speaker, "text": turn.text} for turn in self.turns]
        return {"speakers": list(self.speakers), "turns": turns, "stop_reason": self.stop_reason}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Raises ``InputError`` for anything that `as_json` does not give."""
        try:
            turns = tuple(Utterance(str(t["speaker"]), str(t["text"])) for t in told["turns"])
            return cls(tuple(map(str, told["speakers"])), turns, str(told.get("stop_reason", "")))
        except (KeyError, TypeError) as error:
            message = f"not a transcript ({error}); expected speakers and turns"
            raise InputError(message) from None


def project(transcript: Transcript, agent: str, system: str = "") -> tuple[Message, ...]:
    """The dialogue as one agent sees it: what a language model is given for its next turn.

    system: what the agent is (`Persona.prompt()`); none where it is empty. Of several partners each
    line says who speaks; of one, nothing is put into the text. Consecutive turns of one side become
    one message, since chat templates want sides to alternate; the view always ends with `user`.

    Raises:
        UnknownNameError: the agent is not among the speakers.
    """
    if agent not in transcript.speakers:
        speakers = ", ".join(transcript.speakers)
        raise UnknownNameError(f"{agent!r} is not among the speakers ({speakers})")
    several = len(transcript.speakers) > 2
    sides: list[tuple[str, str]] = []
    for turn in transcript.turns:
        own = turn.speaker == agent
        text = turn.text if own or not several else f"{turn.speaker}: {turn.text}"
        if sides and sides[-1][0] == ("assistant" if own else "user"):
            sides[-1] = sides[-1][0], f"{sides[-1][1]}\n{text}"
        else:
            sides.append(("assistant" if own else "user", text))
    if not sides or sides[0][0] == "assistant":
        sides.insert(0, ("user", OPENING))
    if sides[-1][0] == "assistant":
        sides.append(("user", "(Go on.)"))
    view = [Message("user" if side == "user" else "assistant", text) for side, text in sides]
    return (Message("system", system), *view) if system else tuple(view)


def concatenated(transcript: Transcript, agent: str, system: str = "") -> tuple[Message, ...]:
    """The baseline that `project` is measured against: the whole script in one user message."""
    lines: Sequence[str] = [f"{turn.speaker}: {turn.text}" for turn in transcript.turns]
    script = "\n".join([*lines, f"{agent}:"])
    view = (Message("user", script),)
    return (Message("system", system), *view) if system else view
