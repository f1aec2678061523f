"""From "forget X" to what exactly will be erased, shown before it happens.

Erasure follows the links of records by itself (`Store.purge`); what only links cannot tell is
which other sentences speak of X. Those are found by its words and listed with the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from consistent_gen.language.words import content_words
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Concept, CoreLeaf, Fact, Kind, Record
from consistent_gen.memory.data.store import ErasureReceipt, Scope, Store
from consistent_gen.memory.recall.concepts import ConceptBook
from consistent_gen.memory.talk.replies import describe

_STATES: tuple[Kind, ...] = ("core", "fact", "habit")
_SPOKEN: tuple[Kind, ...] = ("core", "fact", "habit", "episode", "turn")
_MOST = 1_000


@dataclass(frozen=True)
class ForgetPlan:
    """What would go. ``concepts`` take their pictures, crops, vectors and facts with them.

    ``kept`` writes back what would go without being meant: the other entries of list-like leaves,
    and states that rest on an erased turn but do not speak of what is forgotten.
    """

    what: str
    concepts: tuple[Concept, ...] = ()
    records: tuple[Record, ...] = ()
    kept: tuple[Add, ...] = ()
    everything: bool = False

    @property
    def empty(self) -> bool:
        return not (self.concepts or self.records or self.everything)

    def lines(self, limit: int = 12) -> tuple[str, ...]:
        """What would go, for the user to read."""
        if self.everything:
            return ("everything that is remembered",)
        named = [f"concept {c.name} with its pictures" for c in self.concepts]
        shown = [*named, *(describe(record)[:160] for record in self.records)]
        more = len(shown) - limit
        return tuple(shown[:limit]) + ((f"and {more} more",) if more > 0 else ())


def plan_forgetting(
    store: Store, what: str, book: ConceptBook | None = None, *, everything: bool = False
) -> ForgetPlan:
    """What "forget ``what``" means here. Reads only.

    A named concept means it and every record that names it. Anything else means the states that
    hold at least half of its content words, and their sources.
    """
    if everything:
        return ForgetPlan(what, everything=True)
    concepts = (
        []
        if book is None
        else [c for m in book.mentions(what) if m.how == "alias" for c in m.candidates]
    )
    if concepts:
        names = [name for c in concepts for name in (c.name, *c.aliases)]
        records = tuple(r for r in _speaking_of(store, names))
        kept = [Add(target=r.path, value=rest) for r in records if isinstance(r, CoreLeaf)
                if (rest := _without(r.text, names))]  # fmt: skip
        kept += _bystanders(store, records, {c.id for c in concepts})
        return ForgetPlan(what, tuple(concepts), records, tuple(kept))
    words = content_words(what)
    states = [r for kind in _STATES for r in store.list(kind) if _fits(r, words)]
    return ForgetPlan(what, records=tuple(states))


def carry_out(
    store: Store,
    plan: ForgetPlan,
    book: ConceptBook | None = None,
    *,
    generated: Literal["erase", "keep"] = "erase",
) -> tuple[ErasureReceipt, ...]:
    """Erase what the plan says, then write back what its list-like leaves still held."""
    ids = tuple(record.id for record in plan.records)
    receipts: list[ErasureReceipt] = []
    if plan.everything:
        receipts.append(store.purge(Scope(everything=True)))
    elif plan.concepts:
        assert book is not None
        for number, concept in enumerate(plan.concepts):
            also = ids if number == 0 else ()
            receipts.append(book.forget(concept, also=also, generated=generated))
    elif ids:
        receipts.append(store.purge(Scope(ids=ids, generated=generated)))
    if plan.kept:
        store.apply(Batch(ops=plan.kept, author="user"))
    return tuple(receipts)


def _speaking_of(store: Store, names: list[str]) -> list[Record]:
    patterns = [re.compile(rf"(?<!\w){re.escape(n)}(?!\w)", re.IGNORECASE) for n in names]
    hits = {h.id for name in names for h in store.full_text(name, kinds=_SPOKEN, limit=_MOST)}
    found = []
    for record in store.get(sorted(hits)):
        text = " ".join((record.text, record.label, *record.keywords))
        if any(pattern.search(text) for pattern in patterns):
            found.append(record)
    return found


def _bystanders(store: Store, records: Sequence[Record], concepts: set[str]) -> list[Add]:
    turns = {r.id for r in records if r.kind == "turn"}
    meant = {r.id for r in records}
    kept = []
    for state in (r for kind in _STATES for r in store.list(kind)):
        about = isinstance(state, Fact) and state.subject in concepts
        if state.id in meant or about or not turns & set(state.evidence):
            continue
        fields = state.body() if isinstance(state, Fact) else {}
        target = "" if isinstance(state, Fact) else state.label
        kept.append(
            Add(
                kind=state.kind, target=target, value=state.text, fields=fields, at=state.valid_from
            )
        )
    return kept


def _without(text: str, names: list[str]) -> str:
    parts = [part.strip() for part in text.split(";")]
    named = re.compile("|".join(rf"(?<!\w){re.escape(n)}(?!\w)" for n in names), re.IGNORECASE)
    return "; ".join(part for part in parts if not named.search(part)) if len(parts) > 1 else ""


def _fits(record: Record, words: tuple[str, ...]) -> bool:
    label = record.label.replace(".", " ").replace("_", " ")
    own = {_stem(w) for w in content_words(f"{label} {record.text}")}
    shared = sum(_stem(word) in own or _SAME.get(word, "") in own for word in words)
    return bool(words) and 2 * shared >= len(words) and shared > 0


# What people call a leaf that is named otherwise in the tree.
_SAME = {
    "address": "hom", "live": "hom", "work": "job", "occupation": "job", "allergy": "allergic",
    "allergies": "allergic", "dog": "pet", "cat": "pet", "hometown": "root",
}  # fmt: skip


def _stem(word: str) -> str:
    for ending in ("ing", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
