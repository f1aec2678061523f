"""From "forget X" to what exactly will be erased, shown before it happens.

Erasure follows the links of records by itself (`Store.purge`); what only links cannot tell is
which other sentences speak of X. They are looked for in everything that was said, in documents, in
questions, in episodes and in what was derived: by the words of X, by the names that X goes by ("the
cat" is Duchess), by meaning where there is an embedder, and in what follows at once and only points
back ("it's negative"). Of a list or a turn that also speaks of other things the rest is written
back.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.words import STOP_WORDS, word_set
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Concept, CoreLeaf, Fact, Kind, Record, Turn
from consistent_gen.memory.data.store import ErasureReceipt, Scope, Store, TimeWindow
from consistent_gen.memory.recall.concepts import ConceptBook
from consistent_gen.memory.talk.questions import also_said, stem, stems_of, words_of
from consistent_gen.memory.talk.replies import describe

_STATES: tuple[Kind, ...] = ("core", "fact", "habit")
_SPOKEN: tuple[Kind, ...] = ("core", "fact", "habit", "episode", "turn")
_MOST = 1_000
# Words of a request that do not say what shall be forgotten.
_ASKING = word_set(
    "forget everything anything all thing things stuff business bit part please say said tell told "
    "ask asked mention mentioned talk talked know note notes memory memories keep kept nothing it "
    "whole lot one of from with for about that this these those what whom my mine i me you she he "
    "they her his their wants want herself himself themselves anyway dead can u never not ready "
    "again ever more no too also mum's"
)
_ASIDE = re.compile(r"(?:[.!;]|, (?:she|he|it|they|i|we|and she|keep)\b|\bwants to\b).*$", re.S)
_PIECE = re.compile(r"(?<=[.!?;\u2026])\s+|\n+|;\s+")
# How a turn gives what is attached to it.
_GIVEN = re.compile(
    r"\b(?:that['\u2019]?s|this is|here(?:['\u2019]s| is| are)|attach\w*|enclosed|pasted?|look at|"
    r"read (?:it|this|that))\b",
    re.IGNORECASE,
)
_AND = re.compile(r",? and ")
_STANDS = re.compile(r"\b(?:i|we|my|our)\b", re.IGNORECASE)  # a clause with a subject of its own
_CLAUSE = re.compile(r"\s*(?:,\s+and\s+|,\s+|\s+and\s+)")
# What stands before the entries of a list.
_HEAD = re.compile(r"^(?:(?:dis)?likes|prefers|loves|hates) |^[^:,]{1,60}: ", re.IGNORECASE)
# What points back to what was said just before: a pronoun, or an answer without a subject.
_POINTER = re.compile(
    r"^\W*(?:and |but |so |oh )*(?:he|she|it|they|his|her|hers|its|their|theirs|that)\b"
    r"|^\W*(?:no|been|thought|\d)\b"
    r"|^\W*(?:planning|hoping|aiming|meaning|thinking|going) (?:to|of)\b"
    r"|^(?!.*\b(?:i|we|my|our)\b)\S+(?: \S+){0,2}\W*$",
    re.IGNORECASE,
)
# A turn about "he" or "she" that brings up nobody else.
_SOMEBODY = re.compile(r"\b(?:he|she|him|her|his|hers)\b", re.IGNORECASE)
_OTHERS = re.compile(r"(?<=\w )[A-Z][a-z]|\b(?:my|our) \w")
_PAPERS = frozenset(map(stem, word_set(
    "letter document file attachment pdf will contract report certificate statement form essay"
)))  # fmt: skip
# "The will" is a paper, though "will" says nothing elsewhere.
_AS_NOUN = re.compile(r"\b(?:the|my|our|his|her|their|a) (will)\b", re.IGNORECASE)
_FULL_NAME = re.compile(r"\b[A-Z][a-z\u00c0-\u017f]+(?: [A-Z][a-z\u00c0-\u017f]+)*")
_READ_FROM = 0.6  # share of a state's words in the sentence that it was read from
_NEAREST = 24  # neighbours in meaning that are looked at
_FRAGMENT = 3  # words of a sentence that does not stand alone
_SHARED = 0.5  # share of the request's words that a sentence has which speaks of it
# How like the request a turn must be in meaning. Where no word tells, less is enough, for the
# likeliest and for what is nearly as like.
_LIKE, _LIKE_ALONE, _NEARLY = 0.42, 0.36, 0.1
# What is less like the request goes where it is also like a turn that goes: (to the request, to the
# turn), first for turns that share a word with it, which may be about that word, then for others.
_LIKE_BOTH_SHARING, _LIKE_BOTH = (0.2, 0.55), (0.3, 0.4)


@dataclass(frozen=True)
class ForgetPlan:
    """What would go. ``concepts`` take their pictures, crops, vectors and facts with them.

    ``kept`` writes back what would go without being meant: the other entries of lists, and states
    that rest on an erased turn but do not speak of what is forgotten; ``said`` are the sentences of
    erased turns that speak of other things. ``words`` must not be found in any file afterwards.
    """

    what: str
    concepts: tuple[Concept, ...] = ()
    records: tuple[Record, ...] = ()
    kept: tuple[Add, ...] = ()
    said: tuple[Turn, ...] = ()
    words: tuple[str, ...] = ()
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
    store: Store,
    what: str,
    book: ConceptBook | None = None,
    *,
    everything: bool = False,
    embedder: TextEmbedder | None = None,
) -> ForgetPlan:
    """What "forget ``what``" means here. Reads only.

    embedder: compares turns with ``what`` by meaning; without it words and names decide.
    """
    if everything:
        return ForgetPlan(what, everything=True)
    mentions = [] if book is None else book.mentions(what)
    concepts = [c for m in mentions if m.how == "alias" for c in m.candidates]
    subject = Forgotten.of(what, [n for c in concepts for n in (c.name, *c.aliases)])
    records = _speaking_of(store, subject, None if concepts else embedder)
    rest = [_without(record, subject) for record in records]
    kept = [k for record, left in zip(records, rest, strict=True) if left
            for k in _written_back(record, left, subject)]  # fmt: skip
    said = [replace(_bare(record), text=left) for record, left in zip(records, rest, strict=True)
            if left and isinstance(record, Turn) and record.role == "user"]  # fmt: skip
    kept += _bystanders(store, records, {c.id for c in concepts}, subject)
    left_over = stems_of(" ".join([*(k.value for k in kept), *(t.text for t in said)]))
    words = [w for r in records for w in words_of(r.text)
             if len(w) > 4 and subject.names_word(w) and stem(w) not in left_over]  # fmt: skip
    return ForgetPlan(
        what, tuple(concepts), tuple(records), tuple(kept), tuple(said), tuple(dict.fromkeys(words))
    )


def carry_out(
    store: Store,
    plan: ForgetPlan,
    book: ConceptBook | None = None,
    *,
    generated: Literal["erase", "keep"] = "erase",
) -> tuple[ErasureReceipt, ...]:
    """Erase what the plan says, write back what did not speak of it, and look at every file."""
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
    if plan.said:
        store.record(plan.said)
    if plan.kept:
        store.apply(Batch(ops=plan.kept, author="user"))
    return tuple(receipts)


@dataclass
class Forgotten:
    """What shall be forgotten: the stems of its words, the names it goes by, its words as said."""

    topics: frozenset[str]
    names: set[str] = field(default_factory=set)
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, what: str, names: Iterable[str] = ()) -> Forgotten:
        """Read the object of a request."""
        told = list(names)
        if told:
            return cls(frozenset(), set(told))
        words = [w for w in words_of(_ASIDE.sub("", what)) if w.casefold() not in _ASKING]
        named = {m for m in _FULL_NAME.findall(what) if m.casefold() not in _ASKING}
        parts = {part for name in named for part in words_of(name)}
        topics = frozenset(stem(w) for w in words if w not in parts) - {""}
        known = stems_of(" ".join(words)) | _PAPERS
        return cls(topics & known, named, tuple(words))

    def names_word(self, word: str) -> bool:
        """Whether a word by itself speaks of it."""
        named = any(word in words_of(name) for name in self.names)
        return named or stem(word) in self.topics

    def meant_in(self, text: str) -> bool:
        """Whether a text speaks of it: by its name, or by half of the words that it has."""
        said = {w.casefold() for w in words_of(text)}
        named = [n for n in self.names if all(p.casefold() in said for p in words_of(n))]
        if named and not self.topics:
            return True
        own = stems_of(text) | {stem(m) for m in _AS_NOUN.findall(text)}
        found = sum(1.0 if t in own else 0.8 if also_said(t) & own else 0.0 for t in self.topics)
        needed = len(self.topics) + 0.0
        if self.names and self.topics:
            return bool(named) and (found > 0 or len(self.names) == len(named))
        return needed > 0 and found / needed >= _SHARED

    def alone_in(self, texts: Iterable[str]) -> set[str]:
        """Parts of its full names that nobody else is called by in these texts: "Frost" for Daniel
        Frost, where there is another Daniel.
        """
        full = [set(name.split()) for name in self.names if " " in name]
        told = {frozenset(n.split()) for text in texts for n in _FULL_NAME.findall(text)}
        others = [n for n in told if len(n) > 1 and n not in full]
        parts = {part for name in full for part in name if len(part) > 2}
        return {part for part in parts if not any(part in other for other in others)}

    def called(self, text: str) -> set[str]:
        """The names that a text gives to it: "Duchess is the cat", "my therapist is Dr Anand"."""
        found = set()
        for topic in self.topics:
            for word in set(words_of(text)):
                if stem(word) != topic and stem(word) not in also_said(topic):
                    continue
                w = re.escape(word)
                for pattern in (
                    rf"\b([A-Z][\w'-]+)(?:'s| is|,) (?:the|my|our) (?:\w+ )?{w}\b",
                    rf"\b([A-Z][\w'-]+) \((?:the |my |our |a )?{w}\b",
                    rf"(?i:\b{w}(?:'s called| is called| called| is|'s|,))"
                    r"(?: (?:Dr|Mr|Mrs|Ms)\.?)? ([A-Z][\w'-]+)",
                ):
                    found |= {m for m in re.findall(pattern, text) if len(m) > 1}
        return {name for name in found if name.casefold() not in STOP_WORDS}


def _speaking_of(store: Store, subject: Forgotten, embedder: TextEmbedder | None) -> list[Record]:
    """Every record that speaks of the subject, oldest first."""
    found: dict[str, Record] = {}
    for record in _candidates(store, subject):
        if any(subject.meant_in(piece) for piece in _pieces(record)):
            found[record.id] = record
            subject.names |= subject.called(record.text)
    subject.names |= subject.alone_in(record.text for record in _candidates(store, subject))
    for record in _candidates(store, subject):  # now with the names that it goes by
        if any(subject.meant_in(piece) for piece in _pieces(record)):
            found.setdefault(record.id, record)
    for document in _attached(store, subject, found):
        found.setdefault(document.id, document)
    for record in _alike(store, subject, found, embedder):
        found.setdefault(record.id, record)
    for turn in _pointing_back(store, found):
        found.setdefault(turn.id, turn)
    return sorted(found.values(), key=lambda r: r.id)


def _candidates(store: Store, subject: Forgotten) -> Iterator[Record]:
    """Records that may speak of it: those with one of its words, in any form that people use."""
    words = {*subject.names, *subject.words, *(w for t in subject.topics for w in also_said(t))}
    forms = {f"{word}{ending}" for word in {*words, *subject.topics}
             for ending in ("", "s", "es", "ed", "ing", "e", "d", "y", "ies")}  # fmt: skip
    found = {r.id for r in store.list("core")}  # "address" is in the name of no leaf
    if forms:
        query = " ".join(sorted(forms))
        # With a window, open at both ends, what has ended is searched, too.
        hits = store.full_text(
            query, kinds=_SPOKEN, window=TimeWindow(), limit=_MOST, each_kind=True
        )
        found |= {hit.id for hit in hits}
    for id in sorted(found):
        yield from store.get([id]) or store.history(id)[-1:]


def _attached(store: Store, subject: Forgotten, found: dict[str, Record]) -> list[Turn]:
    """Documents that were given with a turn that goes, where a paper is to be forgotten or the turn
    says that they are the thing.
    """
    paper = bool(subject.topics & _PAPERS)
    times = {
        r.valid_from
        for r in found.values()
        if isinstance(r, Turn)
        and (paper or any(subject.meant_in(p) and _GIVEN.search(p) for p in _pieces(r)))
    }
    return [t for t in store.list("turn") if isinstance(t, Turn) and t.role == "document"
            and t.valid_from in times]  # fmt: skip


def _alike(
    store: Store, subject: Forgotten, found: dict[str, Record], embedder: TextEmbedder | None
) -> list[Record]:
    """Turns and facts that say the same in other words."""
    if embedder is None or not subject.topics or embedder.space not in store.spaces():
        return []
    said = [w for w in subject.words if w.casefold() not in STOP_WORDS]
    asked = embedder.text([" ".join([*said, *sorted(subject.names)])])[0]
    near = store.nearest(embedder.space, asked, kinds=("turn", "fact"), limit=_NEAREST)
    best = near[0].score if near else 0.0
    alone = not found and best >= _LIKE_ALONE
    least = min(_LIKE, best - _NEARLY) if alone else _LIKE
    alike = {hit.id for hit in near if hit.score >= least}
    goes = sorted({*alike, *found})
    vectors = store.vectors(embedder.space, [*goes, *(hit.id for hit in near)])
    rows = [vectors[id] for id in goes if id in vectors]
    words = stems_of(" ".join(record.text for record in store.get(goes))) - subject.topics
    for hit in near if rows else ():
        to_request, to_turn = _LIKE_BOTH_SHARING if words & stems_of(hit.text) else _LIKE_BOTH
        near_turn = max(float(row @ vectors[hit.id]) for row in rows) if hit.id in vectors else 0.0
        if hit.score >= to_request and near_turn >= to_turn:
            alike.add(hit.id)
    return list(store.get(sorted(alike)))


def _pointing_back(store: Store, found: dict[str, Record]) -> list[Turn]:
    """Turns that follow at once and only point back to what goes."""
    turns = [t for t in store.list("turn") if isinstance(t, Turn) and t.role == "user"]
    after: list[Turn] = []
    for earlier, later in itertools.pairwise(turns):
        goes = earlier.id in found or any(t.id == earlier.id for t in after)
        somebody = _SOMEBODY.search(later.text) and not _OTHERS.search(later.text)
        if goes and later.id not in found and (somebody or _POINTER.match(later.text)):
            after.append(later)
    return after


def _pieces(record: Record) -> list[str]:
    label = record.label.replace(".", " ").replace("_", " ") if record.kind == "core" else ""
    return [f"{label} {piece}".strip() for piece in _PIECE.split(record.text) if piece.strip()]


def _without(record: Record, subject: Forgotten) -> str:
    """What a record says besides the subject, or nothing where all of it speaks of that."""
    if record.kind == "episode":
        return ""
    if isinstance(record, Turn) and record.role != "user":
        return ""
    pieces = [piece.strip() for piece in _PIECE.split(record.text) if piece.strip()]
    if not any(subject.meant_in(piece) for piece in pieces):
        return ""  # found by meaning, or because it points back: it goes as it is
    left, told = [], False
    for piece in pieces:
        # "I have a tattoo. Left hip.": a fragment belongs to the sentence before it.
        short = len(words_of(piece)) <= _FRAGMENT or _POINTER.match(piece)
        goes_on = told and short and isinstance(record, Turn)
        told = subject.meant_in(piece) or bool(goes_on)
        left.append(_rest_of_list(piece, subject) if told else piece)
    separator = "; " if isinstance(record, CoreLeaf) else " "
    return separator.join(piece for piece in left if piece).strip()


def _rest_of_list(piece: str, subject: Forgotten) -> str:
    """The other entries of a list ("likes olives and hiking", "buy: milk, bread"), else nothing."""
    head = _HEAD.match(piece)
    if head is None:
        return _before_it(piece, subject)
    entries = [e.strip() for e in _CLAUSE.split(piece[head.end() :]) if e.strip()]
    kept = [entry for entry in entries if not subject.meant_in(entry)]
    if not kept or len(kept) == len(entries) or subject.meant_in(head[0]):
        return ""
    return head[0] + (", " if ":" in head[0] else " and ").join(kept)


def _before_it(piece: str, subject: Forgotten) -> str:
    """What a sentence says before an "and" that brings up the subject ("we have a cat, and ..."),
    if it has a subject of its own.
    """
    ends = [match.start() for match in _AND.finditer(piece)]
    for end in reversed(ends):
        before = piece[:end]
        if not subject.meant_in(before):
            stands = _STANDS.search(before) and len(words_of(before)) > _FRAGMENT
            return f"{before}." if stands else ""
    return ""


def _bare(turn: Turn) -> Turn:
    """The turn as a new one."""
    return Turn(text="", role=turn.role, valid_from=turn.valid_from, session=turn.session)


def _written_back(record: Record, text: str, subject: Forgotten) -> list[Add]:
    if isinstance(record, CoreLeaf):
        return [Add(target=record.path, value=text)]
    if isinstance(record, Fact):
        fields = {"topic": record.topic, "keywords": _keywords(record, subject)}
        return [Add(kind="fact", value=text, fields=fields, at=record.valid_from)]
    return []


def _keywords(record: Record, subject: Forgotten) -> tuple[str, ...]:
    return tuple(word for word in record.keywords if not subject.meant_in(word))


def _bystanders(
    store: Store, records: Sequence[Record], concepts: set[str], subject: Forgotten
) -> list[Add]:
    turns = {r.id for r in records if r.kind == "turn"}
    meant = {r.id for r in records}
    kept = []
    for state in (r for kind in _STATES for r in store.list(kind)):
        about = isinstance(state, Fact) and state.subject in concepts
        if state.id in meant or about or not turns & set(state.evidence):
            continue
        if _goes_along(state, records, subject):
            continue
        fields = {}
        if isinstance(state, Fact):
            fields = {**state.body(), "keywords": _keywords(state, subject)}
        target = "" if isinstance(state, Fact) else state.label
        kept.append(
            Add(
                kind=state.kind, target=target, value=state.text, fields=fields, at=state.valid_from
            )
        )
    return kept


def _goes_along(state: Record, records: Sequence[Record], subject: Forgotten) -> bool:
    """Whether a state was read from words that go without naming the subject: a fragment after a
    sentence that does, or a turn that only points back.
    """
    words = stems_of(state.text)
    for turn in (r for r in records if r.kind == "turn" and r.id in state.evidence):
        rest = _without(turn, subject)
        fragments = (p for p in _pieces(turn) if not subject.meant_in(p) and p not in rest)
        if any(len(words & stems_of(p)) >= _READ_FROM * len(words) for p in fragments):
            return True
    return False
