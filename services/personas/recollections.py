"""What an assistant remembers, for people: listed, searched, added to, mended and erased."""

from __future__ import annotations

from datetime import UTC, datetime

from consistent_gen.client.types import MemoryOut
from consistent_gen.errors import InputError
from consistent_gen.memory.data.operations import Add, Batch, Op, Update
from consistent_gen.memory.data.records import Concept, Kind, Media, Record
from consistent_gen.memory.data.store import Scope
from consistent_gen.memory.recall.indexing import index_text
from consistent_gen.memory.recall.pictures import read_picture
from consistent_gen.memory.recall.retriever import CAPS
from consistent_gen.memory.talk.assistant import Assistant
from services.errors import NotFound

REMEMBERED: tuple[Kind, ...] = ("core", "fact", "habit", "concept", "episode")
MOST = 1000
_WHY = 4  # turns shown with a memory
_NEVER = datetime.fromtimestamp(0, UTC)


class Recollections:
    """The memories of one assistant; use it on the thread that holds the persona."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self._store = assistant.store

    def all(self) -> list[MemoryOut]:
        """Everything that is remembered, newest first."""
        records = [r for kind in REMEMBERED for r in self._store.list(kind, limit=MOST)]
        records.sort(key=lambda r: (r.recorded_at or _NEVER, r.id), reverse=True)
        return [self._shown(record) for record in records[:MOST]]

    def search(self, text: str | None, picture: bytes | None, k: int) -> list[MemoryOut]:
        """What fits words, a picture, or both; best first. Raises ``InputError`` for neither."""
        words = (text or "").strip()
        if not words and picture is None:
            raise InputError("give words or a picture to search for")
        caps: dict[Kind, int] = {kind: k for kind in CAPS if kind != "turn"}
        if picture is None:
            caps.pop("media", None)
        found = self._assistant.retriever.search(
            words, picture=None if picture is None else read_picture(picture), caps=caps
        )
        shown: dict[str, MemoryOut] = {}
        for hit in found:
            record = self._concept_of(hit.record)
            if record is not None and record.id not in shown:
                shown[record.id] = self._shown(record, score=round(hit.score, 6))
        return list(shown.values())[:k]

    def add(self, text: str) -> MemoryOut:
        """A fact in the user's own words. Raises ``InputError`` when it is refused."""
        record = self._edit(Add(kind="fact", value=text))
        return self._shown(record)

    def correct(self, memory: str, text: str) -> MemoryOut:
        """Replace what was never right. Raises ``NotFound``; ``InputError`` when it is refused."""
        record = self._find(memory)
        target = record.label if record.kind == "core" else record.id
        return self._shown(
            self._edit(Update(kind=record.kind, target=target, value=text, correction=True))
        )

    def forget(self, memory: str) -> None:
        """Erase a memory with what it was learnt from. Raises ``NotFound``."""
        record = self._find(memory)
        if isinstance(record, Concept):
            self._assistant.book.forget(record)
        else:
            self._store.purge(Scope(ids=(record.id,)))
        self._index()

    def _find(self, memory: str) -> Record:
        found = self._store.get([memory])
        if not found or found[0].kind not in REMEMBERED:
            raise NotFound("there is no such memory")
        return found[0]

    def _edit(self, op: Op) -> Record:
        (outcome,) = self._store.apply(Batch(ops=(op,), author="user")).outcomes
        records = self._store.get([outcome.record]) if outcome.record else ()
        if outcome.status not in ("applied", "normalised", "duplicate", "noop") or not records:
            raise InputError(f"this was not kept: {outcome.reason or outcome.status}")
        self._index()
        return records[0]

    def _index(self) -> None:
        if self._assistant.text_embedder is not None:
            index_text(self._store, self._assistant.text_embedder)

    def _concept_of(self, record: Record) -> Record | None:
        """A picture stands for the concept that it shows."""
        if not isinstance(record, Media):
            return record
        found = self._store.get([record.subject]) if record.subject else ()
        return found[0] if found else None

    def _shown(self, record: Record, score: float | None = None) -> MemoryOut:
        sources = self._store.get(list(record.evidence[:_WHY]))
        return MemoryOut(
            id=record.id,
            kind=record.kind,
            text=_text(record),
            since=record.valid_from or record.recorded_at,
            why=[" ".join(turn.text.split())[:300] for turn in sources],
            score=score,
        )


def _text(record: Record) -> str:
    text = " ".join(record.text.split())
    if record.kind == "core":
        leaf = record.label.rpartition(".")[2].replace("_", " ")
        return f"{leaf}: {text}"
    named = isinstance(record, Concept) and not text.lower().startswith(record.label.lower())
    return f"{record.label}: {text}" if named else text
