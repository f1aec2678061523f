"""Talking with a persona, which may have a memory of its own.

The dialogue is kept from nobody's point of view (`transcript`), and the model gets the persona's
view of it. A card is a document to the memory, not the word of a user: its statements become facts
about the persona that rest on a document, pass the memory's screen, and wait aside where they look
like orders. What the user says is remembered as in any chat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC

from consistent_gen.errors import InputError, LimitError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Fact
from consistent_gen.memory.data.records import Turn as StoredTurn
from consistent_gen.memory.data.store import Outcome, Store
from consistent_gen.memory.listening.listener import Listener, view_of
from consistent_gen.memory.listening.parsed_listener import default_listener
from consistent_gen.memory.recall.prompts import data_block
from consistent_gen.memory.recall.retriever import Retriever
from consistent_gen.persona.cards.conversion import USER, in_play
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.transcript import Transcript, project

RECENT = 24  # turns that a model sees word for word
LISTENED = 6  # turns in which lorebook keys are looked for
BESIDES = 6  # statements that come up with the memory, where not all speak
TOPIC = "persona"
MAX_TOKENS = 300


def teach(store: Store, persona: Persona) -> tuple[Outcome, ...]:
    """The persona's statements as facts in its memory; those that are there are left alone.

    Outcomes that are "quarantined" looked like orders or secrets, and wait for the user.
    """
    known = {f.text for f in store.list("fact") if isinstance(f, Fact) and f.topic == TOPIC}
    waiting = {
        outcome.op.value
        for outcome in store.outcomes(status="quarantined", limit=10_000)
        if isinstance(outcome.op, Add)
    }
    texts = (" ".join(s.text.split()) for s in persona.statements)
    limits = store.limits
    taken = known | waiting
    new = [
        t for t in dict.fromkeys(texts) if t not in taken and 0 < len(t) <= limits.text_characters
    ]
    parts: list[list[str]] = []
    for text in new:  # as many as one turn and one batch hold
        last = parts[-1] if parts else []
        size = sum(map(len, last)) + len(last) + len(text)
        if not last or len(last) == limits.ops_per_batch or size > limits.turn_characters:
            parts.append([text])
        else:
            last.append(text)
    if not parts:
        return ()
    outcomes: list[Outcome] = []
    with store.together():  # a card is known whole or not at all, and the disk is waited for once
        for part in parts:
            (turn,) = store.record([StoredTurn(text="\n".join(part), role="document")]).ids
            ops = tuple(
                Add(kind="fact", value=text, evidence=(turn,), fields={"topic": TOPIC})
                for text in part
            )
            outcomes += store.apply(Batch(ops=ops, turns=(turn,))).outcomes
    return tuple(outcomes)


@dataclass
class Conversation:
    """One persona, one user, one model. user: what the user is called.

    store: the persona's memory, None where nothing is to be remembered. instructions: text for the
    model beside the persona (a card's own system prompt, where its reader allowed it). statements:
    how many of the persona's go into every turn, the first ones, for a model that reads little; the
    others come up with the memory when they fit what is said.
    """

    persona: Persona
    model: LanguageModel
    user: str = USER
    store: Store | None = None
    instructions: str = ""
    listener: Listener = field(default_factory=default_listener)
    statements: int | None = None

    def __post_init__(self) -> None:
        if self.user.casefold() == self.persona.name.casefold():
            self.user = f"{self.user} (you)"
        self.transcript = Transcript((self.persona.name, self.user))
        if self.store is not None:
            teach(self.store, self.persona)
        greetings = self.persona.fields.get("greetings") or []
        self.greeting = str(greetings[0]) if greetings else ""
        if self.greeting:
            self.transcript = self.transcript.said(self.persona.name, self.greeting)

    def say(self, text: str) -> str:
        """One line of the user's, and the persona's reply.

        Raises:
            InputError: an empty line, or a reply without a word.
            LimitError: the model cannot read so much of the card.
        """
        if not text.strip():
            raise InputError("an empty line says nothing; write something")
        heard = self.transcript.said(self.user, text)
        remembered = self._remembered(text)
        view = list(project(_newest(heard), self.persona.name, self._system(heard)))
        if remembered:
            last = view[-1]
            view[-1] = Message(last.role, f"{remembered}\n\n{last.content}")
        try:
            reply = self.model.chat(view, max_tokens=MAX_TOKENS).strip()
        except LimitError as error:
            raise LimitError(
                f"{error.message}; {len(view[0].content):,} characters of it are the card: let "
                "fewer of its statements speak (statements)"
            ) from None
        reply = reply.removeprefix(f"{self.persona.name}:").strip()
        if not reply:
            raise InputError(f"{self.model.name} gave an empty reply; say it in other words")
        self.transcript = heard.said(self.persona.name, reply)
        if self.store is not None:
            self.store.record([StoredTurn(text=reply, role="assistant")])
        return reply

    def drawn(self, text: str, scene: str) -> str:
        """The user asked for a picture of the persona in a `scene`, and gets it: what was said is
        part of the talk and of the memory; no model is asked. Returns the persona's line.
        """
        reply = f"Here I am: {scene}."
        self.transcript = self.transcript.said(self.user, text).said(self.persona.name, reply)
        if self.store is not None:
            said = (StoredTurn(text=text, role="user"), StoredTurn(text=reply, role="assistant"))
            self.store.record(said)
        return reply

    def _system(self, heard: Transcript) -> str:
        lately = "\n".join(turn.text for turn in heard.turns[-LISTENED:])
        playing = in_play(self.persona, lately)
        told = replace(playing, statements=playing.statements[: self.statements]).prompt()
        return "\n\n".join(part for part in (told, self.instructions) if part.strip())

    def _remembered(self, text: str) -> str:
        """The user's line goes into the memory; what fits it comes back, as data."""
        if self.store is None:
            return ""
        ids = self.store.record([StoredTurn(text=text, role="user")]).ids
        turns = [t for t in self.store.get(ids) if isinstance(t, StoredTurn)]
        ops = self.listener.listen(turns, view_of(self.store)).ops
        if ops:
            self.store.apply(Batch(ops=ops, turns=ids))
        profile = self.store.list("core")
        # What the card says is left out before the best are taken, or it would crowd out the user.
        shown = {*ids, *self._card_records(), *(leaf.id for leaf in profile)}
        search = Retriever(self.store).search
        found = [match.record for match in search(text, exclude=shown)]
        sections = {"profile": profile, f"notes about {self.user}": found}
        if self.statements is not None:
            besides = search(text, exclude=set(ids), caps={"fact": BESIDES})
            sections[f"what else holds of {self.persona.name}"] = [
                match.record for match in besides if match.record.id in shown
            ]
        if not any(sections.values()):
            return ""
        return data_block(sections, UTC, {"profile": 300})

    def _card_records(self) -> Iterator[str]:
        """The ids of what the memory has from the card: facts, and the document they rest on."""
        assert self.store is not None
        for fact in self.store.list("fact"):
            if isinstance(fact, Fact) and fact.topic == TOPIC:
                yield fact.id
        for turn in self.store.list("turn"):
            if isinstance(turn, StoredTurn) and turn.role == "document":
                yield turn.id


def _newest(transcript: Transcript) -> Transcript:
    return replace(transcript, turns=transcript.turns[-RECENT:])
