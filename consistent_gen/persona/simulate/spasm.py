"""How stable simulated speakers are: echoes, drift and whether they can be told apart.

SPASM (arXiv 2604.09212, ACL Findings 2026) keeps dialogues from nobody's point of view and shows
that the usual way, the whole script in one message, makes one speaker slowly become the other.
The paper's generation code is not public: what counts as an echo and the drift below are our own
definitions. Speakers of the two roles are measured apart, since the geometry of a dialogue follows
who responds in it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import HashedNgrams, TextEmbedder
from consistent_gen.language.models import Message
from consistent_gen.persona.asking import asked, speaking_as, words
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.persona import Persona, Statement
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.simulate.dialogue import Agent, Dialogue, MaxTurns, View
from consistent_gen.persona.statistics import line, mean, share
from consistent_gen.persona.transcript import Transcript, project

ECHO = 0.6  # share of a turn's word trigrams that a partner has just said
Trigram: TypeAlias = tuple[str, str, str]
WITHIN = 2  # turns of the others, back from a turn


@dataclass(frozen=True)
class SpokenRole:
    """One role of one dialogue: who spoke it as whom."""

    transcript: Transcript
    persona: Persona

    @property
    def turns(self) -> tuple[str, ...]:
        """What was said in the role."""
        return self.transcript.of(self.persona.name)


def echo_rate(spoken: Sequence[SpokenRole]) -> Measurement:
    """The share of turns that say again what a partner has just said [our definition].

    A turn echoes when at least `ECHO` of its word trigrams stand in one of the `WITHIN` turns of
    others before it, and others said them first: who is echoed does not echo by going on. Turns of
    fewer than three words are not counted, nor is what comes first.
    """
    items = []
    for number, role in enumerate(spoken):
        heard: list[set[Trigram]] = []
        first: dict[Trigram, str] = {}
        for i, turn in enumerate(role.transcript.turns):
            said = _trigrams(turn.text)
            if turn.speaker == role.persona.name and said and heard:
                theirs = {gram for gram in said if first.get(gram, turn.speaker) != turn.speaker}
                copied = max(len(theirs & other) / len(said) for other in heard[-WITHIN:])
                why = f"{copied:.0%} of its trigrams"
                items.append(
                    MeasuredItem(f"{number}.{i}", float(copied >= ECHO), "", turn.text, why)
                )
            elif turn.speaker != role.persona.name:
                heard.append(said)
            for gram in said:
                first.setdefault(gram, turn.speaker)
    found = share(sum(item.value == 1.0 for item in items), len(items))
    return Measurement(
        "echo_rate", found.value, found.low, found.high, found.n, direction="lower",
        null=0.0, items=tuple(items),
    )  # fmt: skip


def drift_curve(role: SpokenRole, embedder: TextEmbedder) -> tuple[float, ...]:
    """`distances` of each turn of a role, in order."""
    return distances(role.persona, role.turns, embedder)


def distances(persona: Persona, turns: Sequence[str], embedder: TextEmbedder) -> tuple[float, ...]:
    """1 - cos(e(turn), e(persona)) for each turn: 0 is all persona, 2 none [our definition]."""
    if not turns:
        return ()
    vectors = embedder.text([persona.prompt(), *turns])
    return tuple(float(1.0 - v @ vectors[0]) for v in vectors[1:])


def drift_slope(spoken: Sequence[SpokenRole], embedder: TextEmbedder) -> Measurement:
    """How much a role moves away from its persona with each of its turns: the mean over dialogues
    of the least-squares slope of `drift_curve`. Dialogues of fewer than three turns fail.
    """
    items = []
    for number, role in enumerate(spoken):
        curve = drift_curve(role, embedder)
        slope = line(range(len(curve)), curve).value
        why = f"from {curve[0]:.2f} to {curve[-1]:.2f}" if len(curve) > 2 else "too few turns"
        items.append(MeasuredItem(f"{number} {role.persona.name}", slope, why=why))
    found = mean([item.value for item in items])
    return Measurement(
        "drift_slope", found.value, found.low, found.high, found.n, len(spoken) - found.n,
        direction="lower", unit="1 - cos a turn", null=0.0,
        tools={"embedder": embedder.description}, items=tuple(items),
    )  # fmt: skip


def persona_retrieval(
    spoken: Sequence[SpokenRole], personas: Sequence[Persona], embedder: TextEmbedder
) -> Measurement:
    """How often what was said in a role finds its own persona first among all of them (top 1).

    null: what chance gets, one in `personas`. An item's value is the reciprocal rank.
    """
    if len(personas) < 2:
        raise InputError("retrieval needs at least two personas to tell apart")
    ids = [persona.id for persona in personas]
    texts = embedder.text([persona.prompt() for persona in personas])
    items, hits, failed = [], 0, 0
    for number, role in enumerate(spoken):
        if not role.turns or role.persona.id not in ids:
            failed += 1
            items.append(
                MeasuredItem(f"{number}", float("nan"), why="nothing was said, or by a stranger")
            )
            continue
        near = texts @ embedder.text(["\n".join(role.turns)])[0]
        own = near[ids.index(role.persona.id)]
        rank = int((near > own).sum()) + 1
        hits += rank == 1
        first = ids[int(near.argmax())]
        items.append(
            MeasuredItem(f"{number} {role.persona.id}", 1.0 / rank, why=f"nearest is {first}")
        )
    found = share(hits, len(spoken) - failed)
    return Measurement(
        "persona_retrieval", found.value, found.low, found.high, found.n, failed,
        null=1.0 / len(personas), tools={"embedder": embedder.description}, items=tuple(items),
    )  # fmt: skip


def by_role(
    transcripts: Sequence[Transcript], personas: Sequence[Persona]
) -> list[list[SpokenRole]]:
    """The roles of dialogues apart: everybody's first speakers, second speakers, and so on.

    Personas are found by name.
    """
    known = {persona.name: persona for persona in personas}
    strangers = sorted({s for t in transcripts for s in t.speakers} - set(known))
    if strangers:
        raise InputError(f"no persona is called {', '.join(strangers)}")
    most = max((len(t.speakers) for t in transcripts), default=0)
    return [
        [SpokenRole(t, known[t.speakers[i]]) for t in transcripts if i < len(t.speakers)]
        for i in range(most)
    ]


def _trigrams(text: str) -> set[Trigram]:
    said = words(text)
    return set(zip(said, said[1:], said[2:], strict=False))


# What is planted.


@dataclass(frozen=True)
class Talker:
    """Says one of its persona's statements; `echo` is how often it says its partner's last words
    instead, `drift` by how much more of its turns it speaks as somebody else with each turn.
    """

    echo: float = 0.0
    drift: float = 0.0
    stranger: Persona | None = None

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        own = [text[2:] for text in messages[0].content.splitlines() if text.startswith("- ")]
        heard = asked(messages).splitlines()[-1]
        turns = sum(message.role == "assistant" for message in messages)
        if draw.random() < self.echo and not heard.startswith("("):
            return heard
        if self.stranger is not None and draw.random() < self.drift * turns:
            own = [statement.text for statement in self.stranger.statements]
        return draw.choice(own) if own else None


@dataclass(frozen=True)
class Imitator:
    """Goes on as it has spoken before: says again a line that it takes for its own, with a
    probability of `habit`. Where its turns are not marked as its own, that may be any line.
    """

    habit: float = 0.7

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        own = [text[2:] for text in messages[0].content.splitlines() if text.startswith("- ")]
        marked = [m.content for m in messages if m.role == "assistant"]
        script = [text.partition(": ")[2] for text in asked(messages).splitlines()]
        before = marked or [text for text in script if text]
        if before and draw.random() < self.habit:
            return draw.choice(before)
        return draw.choice(own) if own and speaking_as(messages) else None


def scripted_dialogues(
    behaviour: Talker | Imitator, personas: Sequence[Persona], *, seed: int, turns: int,
    view: View = project,
) -> list[Transcript]:  # fmt: skip
    """Each persona with the next one; the first role speaks plainly, the second as `behaviour`."""
    found = []
    for i, persona in enumerate(personas):
        partner = personas[(i + 1) % len(personas)]
        plain = Talker() if isinstance(behaviour, Talker) else behaviour
        given = behaviour
        if isinstance(behaviour, Talker) and behaviour.drift:
            given = replace(behaviour, stranger=persona)
        first = Agent(persona, Scripted(plain, seed=2 * (seed * 1000 + i)), view=view)
        second = Agent(partner, Scripted(given, seed=2 * (seed * 1000 + i) + 1), view=view)
        found.append(Dialogue((first, second), [MaxTurns(turns)]).run())
    return found


_THINGS = (
    "sail boats", "keep bees", "bake rye bread", "mend clocks", "play the cello",
    "grow tomatoes", "climb mountains", "paint portraits", "study beetles", "drive a tram",
    "collect stamps", "build kites", "teach physics", "breed sheep", "restore churches",
)  # fmt: skip
_WHERE = ("at dawn", "with an uncle", "near the harbour", "every winter")


def scripted_personas(count: int) -> list[Persona]:
    """Different people of four statements each, for tests and the lab; at most fifteen."""
    people = []
    for i, thing in enumerate(_THINGS[:count]):
        said = tuple(Statement(f"I {thing} {where}.") for where in _WHERE)
        people.append(Persona(f"p{i}", f"Person {chr(65 + i)}", statements=said))
    return people


def recover_echo(seed: int, parameter: float) -> Measurement:
    """The echo rate of a speaker that echoes so often."""
    people = scripted_personas(10)
    talks = scripted_dialogues(Talker(echo=parameter), people, seed=seed, turns=60)
    return echo_rate(by_role(talks, people)[1])


def recover_drift(seed: int, parameter: float) -> Measurement:
    """The slope of drift: with each turn so much more of the way from what a persona says of
    itself to what its partner says of themselves, as the embedder sees both.
    """
    people, embedder = scripted_personas(12), HashedNgrams()

    def far(whose: Persona, spoken: Persona) -> float:
        return float(np.mean(distances(whose, [s.text for s in spoken.statements], embedder)))

    partners = zip([*people[1:], people[0]], people, strict=True)
    way = float(np.mean([far(own, stranger) - far(own, own) for own, stranger in partners]))
    talks = scripted_dialogues(Talker(drift=parameter / way), people, seed=seed, turns=24)
    return drift_slope(by_role(talks, people)[1], embedder)
