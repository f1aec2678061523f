"""What a listener is, how a conversation is cut for it, and the one driven by a language model.

A listener reads a chunk of turns and a view of the memory and proposes operations. It never
touches the store; the executor judges what it proposes. The one that needs no model is in
`consistent_gen.memory.listening.rule_listener`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Literal, Protocol

import numpy as np

from consistent_gen.errors import ConsistentGenError
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.memory.data.operations import Op, decode_json, salvage_lines
from consistent_gen.memory.data.records import BIG_FIVE, Concept, CoreLeaf, Fact, Habit, Turn
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.data.tree_schema import COMPACT, TreeSchema
from consistent_gen.memory.recall.prompts import (
    LISTENER_JSON_SYSTEM,
    LISTENER_SYSTEM,
    TRAITS_SYSTEM,
    data_block,
    transcript,
)

PAIRS_PER_CHUNK = 3
CHUNK_CHARACTERS = 8_000
CANDIDATE_PATHS = 30
_TRAIT_LINE = re.compile(r"^\W*([a-z]+)\W*[:=]\s*\**\s*([1-5])\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class KnownState:
    """What a listener may know of the memory: the live states, by value."""

    tree_schema: TreeSchema = COMPACT
    core: tuple[CoreLeaf, ...] = ()
    facts: tuple[Fact, ...] = ()
    habits: tuple[Habit, ...] = ()
    concepts: tuple[Concept, ...] = ()

    def leaf(self, path: str) -> CoreLeaf | None:
        """The live leaf at ``path``."""
        return next((leaf for leaf in self.core if leaf.path == path), None)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a listener proposes for one chunk.

    ``traits`` are scores 1..5 by turn id; a turn without any reading is absent, which is not the
    same as neutral. ``problems`` say in words what of a model's reply could not be used.
    """

    ops: tuple[Op, ...] = ()
    traits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Listener(Protocol):
    """Turns and a view in, proposals out; the same answer for the same input."""

    @property
    def description(self) -> str: ...

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        """What this chunk changes. Never raises for what stands in the turns."""


def view_of(store: Store, tree_schema: TreeSchema = COMPACT, *, facts: int = 500) -> KnownState:
    """The view of a store as it is now, with the newest ``facts`` facts."""
    found = store.list("fact", limit=facts, newest_first=True)
    return KnownState(
        tree_schema=tree_schema,
        core=tuple(r for r in store.list("core") if isinstance(r, CoreLeaf)),
        facts=tuple(r for r in found if isinstance(r, Fact)),
        habits=tuple(r for r in store.list("habit") if isinstance(r, Habit)),
        concepts=tuple(r for r in store.list("concept") if isinstance(r, Concept)),
    )


def chunks(
    turns: Sequence[Turn], *, pairs: int = PAIRS_PER_CHUNK, characters: int = CHUNK_CHARACTERS
) -> Iterator[tuple[Turn, ...]]:
    """Cut turns as Inside Out does (arXiv 2601.05171): at system turns, and after ``pairs`` user
    turns with what follows them, or before ``characters`` are exceeded. System turns begin a
    chunk, as context.
    """
    chunk: list[Turn] = []
    for turn in turns:
        users = sum(t.role == "user" for t in chunk)
        full = turn.role == "user" and users >= pairs
        large = chunk and sum(len(t.text) for t in chunk) + len(turn.text) > characters
        if chunk and (full or large or turn.role == "system"):
            yield tuple(chunk)
            chunk = []
        chunk.append(turn)
    if chunk:
        yield tuple(chunk)


class ModelListener:
    """Asks a language model for operations, in either codec, and for trait scores.

    codec: ``"lines"`` for the published grammar (tree leaves; what MemListener models write),
        ``"json"`` for all kinds with evidence of their own.
    embedder: chooses the empty paths that are shown; without it all of a small schema are.
    traits: whether to ask for personality scores too (one more call per user turn).

    A reply that cannot be read proposes nothing and says so in `Heard.problems`.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        codec: Literal["lines", "json"] = "lines",
        embedder: TextEmbedder | None = None,
        traits: bool = True,
        max_tokens: int = 512,
    ) -> None:
        self._model, self._codec, self._embedder = model, codec, embedder
        self._traits, self._max_tokens = traits, max_tokens
        self.description = f"model listener: {model.name}, {codec}"

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        """One call for the chunk, and one per user turn for traits."""
        users = [turn for turn in turns if turn.role == "user"]
        if not users:
            return Heard()
        problems: list[str] = []
        ops: tuple[Op, ...] = ()
        try:
            reply = self._model.chat(self._prompt(turns, view), max_tokens=self._max_tokens)
            ops, found = self._decoded(reply, tuple(turn.id for turn in users))
            problems += found
        except ConsistentGenError as error:
            problems.append(f"no operations: {error}")
        traits: dict[str, Mapping[str, int]] = {}
        for turn in users if self._traits else ():
            scores = self._score(turn, problems)
            if scores is not None:
                traits[turn.id] = scores
        return Heard(ops=ops, traits=traits, problems=tuple(problems))

    def _prompt(self, turns: Sequence[Turn], view: KnownState) -> list[Message]:
        as_json = self._codec == "json"
        known = {"profile": view.core, **({"notes": view.facts} if as_json else {})}
        paths = "\n".join(
            f"{path}: {view.tree_schema.leaves[path]}" for path in self._paths(turns, view)
        )
        content = (
            f"{data_block(known, UTC, {'profile': 1500, 'notes': 1500})}\n\n"
            f"Paths:\n{paths}\n\nConversation:\n{transcript(turns, UTC, ids=as_json)}"
        )
        system = LISTENER_JSON_SYSTEM if as_json else LISTENER_SYSTEM
        return [Message("system", system), Message("user", content)]

    def _paths(self, turns: Sequence[Turn], view: KnownState) -> tuple[str, ...]:
        """Filled leaves, then the empty ones nearest in meaning to the chunk."""
        filled = tuple(leaf.path for leaf in view.core if leaf.path in view.tree_schema.leaves)
        empty = [path for path in view.tree_schema.leaves if path not in filled]
        if self._embedder is not None and len(empty) > CANDIDATE_PATHS:
            names = [p.replace(".", " ").replace("_", " ") for p in empty]
            names = [f"{n} {view.tree_schema.leaves[p]}" for n, p in zip(names, empty, strict=True)]
            said = " ".join(turn.text for turn in turns if turn.role == "user")
            near = self._embedder.text(names) @ self._embedder.text([said])[0]
            empty = [empty[i] for i in np.argsort(-near, kind="stable")[:CANDIDATE_PATHS]]
        return filled + tuple(empty)

    def _decoded(self, reply: str, users: tuple[str, ...]) -> tuple[tuple[Op, ...], list[str]]:
        if self._codec == "json":
            start, end = reply.find("{"), reply.rfind("}")
            return decode_json(reply[start : end + 1] if 0 <= start < end else reply), []
        salvaged = salvage_lines(reply, evidence=users)
        return salvaged.ops, list(salvaged.problems)

    def _score(self, turn: Turn, problems: list[str]) -> Mapping[str, int] | None:
        messages = [Message("system", TRAITS_SYSTEM), Message("user", json.dumps(turn.text))]
        try:
            reply = self._model.chat(messages, max_tokens=80)
        except ConsistentGenError as error:
            problems.append(f"no trait scores: {error}")
            return None
        scores = read_traits(reply)
        if scores is None:
            problems.append("no trait scores: the reply did not hold all five")
        return scores


def read_traits(reply: str) -> dict[str, int] | None:
    """Five scores from ``trait: number`` lines; ``None`` unless every trait stands there once.

    An unreadable reply is no observation at all: it must not count as neutral evidence.
    """
    found = [(m[1].lower(), int(m[2])) for m in _TRAIT_LINE.finditer(reply)]
    scores = {name: score for name, score in found if name in BIG_FIVE}
    repeated = len([name for name, _ in found if name in BIG_FIVE]) != len(scores)
    return None if repeated or set(scores) != set(BIG_FIVE) else scores
