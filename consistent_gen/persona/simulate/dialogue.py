"""Agents that talk: who speaks next, what each of them sees, and when it ends.

Each agent is given the dialogue as it sees it (`transcript.project`), so that no agent ever meets
its partner's words as its own (SPASM, arXiv 2604.09212). The baseline that shows what this is good
for is `transcript.concatenated`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import words, yes_or_no
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.transcript import MAX_TURNS, Transcript, Utterance, project

View: TypeAlias = Callable[[Transcript, str, str], tuple[Message, ...]]
Order: TypeAlias = Callable[[Transcript], str]  # the name of who speaks next
Stop: TypeAlias = Callable[[Transcript], str | None]  # why it is over; None while it is not

CLOSING = ("goodbye", "good bye", "bye", "see you", "take care", "farewell")


@dataclass(frozen=True)
class Agent:
    """Somebody who takes part, by the persona's name.

    duties: what the system message says beside the persona. view: how the agent sees the dialogue.
    """

    persona: Persona
    model: LanguageModel
    duties: str = ""
    view: View = project
    max_tokens: int = 200

    @property
    def name(self) -> str:
        """How transcripts call the agent."""
        return self.persona.name

    def reply(self, transcript: Transcript) -> str:
        """What the agent says next."""
        system = "\n".join(text for text in (self.persona.prompt(), self.duties) if text)
        view = self.view(transcript, self.name, system)
        return self.model.chat(view, max_tokens=self.max_tokens).strip()


def in_turns(transcript: Transcript) -> str:
    """Everybody in the order of the speakers; after a turn, the next one."""
    if not transcript.turns:
        return transcript.speakers[0]
    last = transcript.speakers.index(transcript.turns[-1].speaker)
    return transcript.speakers[(last + 1) % len(transcript.speakers)]


@dataclass(frozen=True)
class Dialogue:
    """Agents, who of them speaks next, and the rules any of which ends it.

    Raises ``InputError`` for fewer than two agents, two of one name, or no rule that surely ends
    it (`MaxTurns`).
    """

    agents: Sequence[Agent]
    stop: Sequence[Stop]
    order: Order = in_turns

    def __post_init__(self) -> None:
        names = [agent.name for agent in self.agents]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"a dialogue is of two or more different speakers, not of {names}")
        if not any(isinstance(rule, MaxTurns) for rule in self.stop):
            raise InputError("a dialogue needs MaxTurns among its stop rules, or it may never end")

    def run(self, transcript: Transcript | None = None) -> Transcript:
        """The whole dialogue, from its beginning or from where a transcript stands."""
        now = self._opened(transcript)
        for grown in self.grow(now):
            now = grown
        return now

    def grow(self, transcript: Transcript | None = None) -> Iterator[Transcript]:
        """The transcript after each turn; the last one says why it ended.

        What was said before a model fails is thereby kept, and `grow` goes on from it.
        """
        agents = {agent.name: agent for agent in self.agents}
        now = self._opened(transcript)
        while not now.stop_reason:
            name = self.order(now)
            text = agents[name].reply(now)
            if not text:
                now = now.ended(f"{name} said nothing")
            else:
                now = now.said(name, text)
                reasons = [reason for rule in self.stop if (reason := rule(now)) is not None]
                now = now.ended(reasons[0]) if reasons else now
            yield now

    def _opened(self, transcript: Transcript | None) -> Transcript:
        names = tuple(agent.name for agent in self.agents)
        if transcript is not None and transcript.speakers != names:
            raise InputError(f"the transcript is of {transcript.speakers}, the agents are {names}")
        return transcript or Transcript(names)


@dataclass(frozen=True)
class MaxTurns:
    """Ends after so many turns of all together. The paper's cap is 25 of each agent."""

    turns: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.turns <= MAX_TURNS:
            raise InputError(f"at most {self.turns} turns; expected 1 to {MAX_TURNS:,}")

    def __call__(self, transcript: Transcript) -> str | None:
        return f"{self.turns} turns" if len(transcript.turns) >= self.turns else None


@dataclass(frozen=True)
class ClosingPhrase:
    """Ends when everybody has said a closing phrase in their last turn."""

    phrases: Sequence[str] = CLOSING

    def __call__(self, transcript: Transcript) -> str | None:
        last = transcript.turns[-len(transcript.speakers) :]
        said = {turn.speaker for turn in last if self._closes(turn.text)}
        return "everybody said goodbye" if said == set(transcript.speakers) else None

    def _closes(self, text: str) -> bool:
        spoken = f" {' '.join(words(text))} "
        return any(f" {phrase} " in spoken for phrase in self.phrases)


@dataclass(frozen=True)
class Repetition:
    """Ends when somebody says word for word what they said in one of their last turns."""

    within: int = 3

    def __call__(self, transcript: Transcript) -> str | None:
        if not transcript.turns:
            return None
        speaker = transcript.turns[-1].speaker
        *before, now = (words(text) for text in transcript.of(speaker)[-self.within - 1 :])
        return f"{speaker} repeats themselves" if now and now in before else None


@dataclass
class Detector:
    """Ends when a reader of the last `window` turns finds it over, from turn `after` on.

    reads: True when it is over, None where that cannot be told (counted in `unclear`).
    """

    reads: Callable[[Sequence[Utterance]], bool | None]
    after: int = 8
    window: int = 4
    unclear: int = field(default=0, init=False)

    def __call__(self, transcript: Transcript) -> str | None:
        if len(transcript.turns) < max(self.after, 1):
            return None
        over = self.reads(transcript.turns[-self.window :])
        self.unclear += over is None
        return "the detector finds it over" if over else None


def model_detector(model: LanguageModel) -> Callable[[Sequence[Utterance]], bool | None]:
    """A language model as the reader of a `Detector`."""

    def reads(turns: Sequence[Utterance]) -> bool | None:
        script = "\n".join(f"{turn.speaker}: {turn.text}" for turn in turns)
        question = (
            f"The last lines of a conversation:\n{script}\n\nHas this conversation come to its "
            "natural end, so that nobody has to say anything more? Answer yes or no."
        )
        return yes_or_no(model.chat([Message("user", question)], max_tokens=8))

    return reads
