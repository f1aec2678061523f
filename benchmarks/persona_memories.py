"""The memories that are compared: none, full context, chunks, ADD-only, tree, tree + hybrid.

Each reads the lines of one context and then finds passages for questions. A passage names the
lines it rests on, so that evidence recall needs no judge. None of them sees options or gold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.persona_data import Line
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Update
from consistent_gen.memory.data.records import Kind, Turn
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.listener import KnownState, Listener, chunks, view_of
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.recall.indexing import index_text
from consistent_gen.memory.recall.retriever import Retriever

_START = datetime(2000, 1, 1, tzinfo=UTC)
_ROLES = ("user", "assistant", "document", "system")


@dataclass(frozen=True)
class Passage:
    """Text for a prompt and the ids of the lines it came from."""

    text: str
    lines: tuple[str, ...]


class Remembering:
    """An embedder that keeps what it has embedded: several memories read the same lines."""

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = embedder
        self.space, self.dimensions = embedder.space, embedder.dimensions
        self.description = embedder.description
        self._known: dict[str, np.ndarray] = {}

    def text(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, self._embedder.text(new), strict=True))
        rows = [self._known[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimensions), np.float32)


class BenchedMemory(Protocol):
    """Reads a context once, then answers look-ups. A context manager, for its files."""

    name: str

    def read(self, lines: Sequence[Line]) -> None: ...

    def find(self, question: str, limit: int) -> list[Passage]: ...


class NoMemory:
    name = "none"

    def read(self, lines: Sequence[Line]) -> None: ...

    def find(self, question: str, limit: int) -> list[Passage]:
        return []


class FullContext:
    """Everything, in order; ``limit`` does not apply (for recall it counts the newest)."""

    name = "full context"

    def read(self, lines: Sequence[Line]) -> None:
        self._passages = [Passage(f"{x.role}: {x.text}", (x.id,)) for x in lines]

    def find(self, question: str, limit: int) -> list[Passage]:
        return list(self._passages)


class Chunks:
    """The baseline of PERMA: two messages a chunk, nearest by vector."""

    name = "2-message chunks"

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = embedder

    def read(self, lines: Sequence[Line]) -> None:
        pairs = [lines[i : i + 2] for i in range(0, len(lines), 2)]
        self._passages = [
            Passage("\n".join(f"{x.role}: {x.text}" for x in pair), tuple(x.id for x in pair))
            for pair in pairs
        ]
        self._vectors = self._embedder.text([p.text for p in self._passages])

    def find(self, question: str, limit: int) -> list[Passage]:
        return _nearest(self._embedder, self._vectors, self._passages, question, limit)


class AddOnly:
    """What a listener extracts, appended and never changed, nearest by vector."""

    name = "ADD-only"

    def __init__(self, embedder: TextEmbedder, listener: Listener | None = None) -> None:
        self._embedder, self._listener = embedder, listener or RuleListener()

    def read(self, lines: Sequence[Line]) -> None:
        passages: list[Passage] = []
        for line in lines:
            heard = self._listener.listen([_turn(line, line.id)], KnownState())
            for op in heard.ops:
                if isinstance(op, Add | Update) and op.value is not None:
                    name = op.target.replace(".", " ").replace("_", " ")
                    passages.append(Passage(f"{name} {op.value}".strip(), (line.id,)))
        self._passages = passages
        self._vectors = self._embedder.text([p.text for p in passages])

    def find(self, question: str, limit: int) -> list[Passage]:
        return _nearest(self._embedder, self._vectors, self._passages, question, limit)


class StoreMemory:
    """Our store: turns recorded, a listener through the executor, then search.

    kinds: what is searched; ("core", "fact", "habit") is the tree alone.
    """

    def __init__(
        self,
        name: str,
        embedder: TextEmbedder | None,
        kinds: Sequence[Kind],
        listener: Listener | None = None,
    ) -> None:
        self.name = name
        self._embedder, self._kinds = embedder, tuple(kinds)
        self._listener = listener or RuleListener()
        self._folder = tempfile.TemporaryDirectory()
        self._store: Store | None = None
        self._lines: dict[str, str] = {}

    def read(self, lines: Sequence[Line]) -> None:
        self.close()
        self._folder = tempfile.TemporaryDirectory()
        self._store = open_memory(Path(self._folder.name), "benchmark")
        turns = [_turn(line, "", place) for place, line in enumerate(lines)]
        self._lines = {}
        stored: list[Turn] = []
        for start in range(0, len(turns), 200):
            ids = self._store.record(turns[start : start + 200]).ids
            self._lines |= {id: lines[start + i].id for i, id in enumerate(ids)}
            stored += [t for t in self._store.get(ids) if isinstance(t, Turn)]
        for chunk in chunks(stored):
            heard = self._listener.listen(chunk, view_of(self._store))
            if heard.ops:
                self._store.apply(Batch(ops=heard.ops, turns=tuple(t.id for t in chunk)))
        if self._embedder is not None:
            index_text(self._store, self._embedder)

    def find(self, question: str, limit: int) -> list[Passage]:
        assert self._store is not None
        retriever = Retriever(self._store, self._embedder)
        caps: dict[Kind, int] = dict.fromkeys(self._kinds, limit)
        found = retriever.search(question, caps=caps)
        passages = []
        for hit in found[:limit]:
            record = hit.record
            sources = (record.id,) if record.kind == "turn" else record.evidence
            label = f"{record.label}: " if record.kind in ("core", "habit") else ""
            lines = tuple(self._lines[s] for s in sources if s in self._lines)
            passages.append(Passage(f"{label}{record.text}", lines))
        return passages

    def close(self) -> None:
        """Remove the temporary files."""
        if self._store is not None:
            self._store.close()
            self._store = None
        self._folder.cleanup()


def memories(embedder: TextEmbedder) -> dict[str, Callable[[], BenchedMemory]]:
    """The compared memories by name, fresh at each call."""
    tree: tuple[Kind, ...] = ("core", "fact", "habit")
    return {
        "none": NoMemory,
        "full": FullContext,
        "chunks": lambda: Chunks(embedder),
        "add-only": lambda: AddOnly(embedder),
        "tree": lambda: StoreMemory("tree", embedder, tree),
        "tree+hybrid": lambda: StoreMemory("tree + hybrid", embedder, (*tree, "turn")),
    }


def _turn(line: Line, id: str, place: int = 0) -> Turn:
    role = line.role if line.role in _ROLES else "user"
    at = line.at or _START + timedelta(minutes=place)
    text = line.text[:20_000].replace("\x00", "")
    return Turn(text=text or "-", role=role, id=id, valid_from=at)  # type: ignore[arg-type]


def _nearest(
    embedder: TextEmbedder,
    vectors: np.ndarray,
    passages: Sequence[Passage],
    question: str,
    limit: int,
) -> list[Passage]:
    if not passages:
        return []
    cosines = vectors @ embedder.text([question])[0]
    return [passages[i] for i in np.argsort(-cosines, kind="stable")[:limit]]
