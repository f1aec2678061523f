"""A listener that parses: what people say in their own words about themselves and theirs.

spaCy's dependency parser cuts each sentence into clauses (`clauses`); those that are meant as true
become operations. Slots of the tree (name, home, work, diet, ...) are filled by the patterns of
`rule_listener`, read on clauses about the user alone; everything else becomes a fact in the user's
words, with its subject and its dates resolved. What repeats, replaces or ends an older fact is
found by `known_facts`.

It reads English. Where the packages of the extra ``language`` are missing, `default_listener` gives
the listener of patterns and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from consistent_gen.errors import CheckpointError, MissingExtraError
from consistent_gen.language.dates import spoken_dates
from consistent_gen.language.detection import ENGLISH_ONLY, language_of
from consistent_gen.language.parser import load_parser
from consistent_gen.language.words import NOT_NAMES, STOP_WORDS, word_set
from consistent_gen.memory.data.operations import Add, Delete, NoOp, Op, Update
from consistent_gen.memory.data.records import Fact, Turn
from consistent_gen.memory.listening.clauses import (
    LISTED,
    Clause,
    StatedClause,
    as_typed,
    clauses_of,
    own_words,
    sentences,
    statement_of,
)
from consistent_gen.memory.listening.known_facts import (
    Entry,
    KnownFacts,
    tells_of_change,
    timetable,
    topic_words,
)
from consistent_gen.memory.listening.listener import Heard, KnownState, Listener
from consistent_gen.memory.listening.rule_listener import (
    RuleListener,
    address,
    gathered,
    statements,
    traits_of,
)

MAX_CHARACTERS = 6_000
MAX_SENTENCES = 60
MAX_FACTS = 40
_FORGET = re.compile(r"^\s*(?:please |now |can you |could you )*(?:forget|delete|erase)\b", re.I)
_CORRECTED = re.compile(
    r"^\s*(?:no[, ]+wait|wait[, ]|no[, ]|sorry[, ]|scratch that|correction|i meant?|i misspoke|"
    r"my mistake|actually[, ])|\b(?:i meant|a (?:small )?correction)\b|\bactually\s*$|\bactualy\b",
    re.IGNORECASE,
)
_NOT_DATE = re.compile(
    r"\b(?:not|instead of|rather than|from) (?:on )?(?:the )?([\w' ]{2,24}?)"
    r"(?=[,.;]|$| any| but| now)",
    re.IGNORECASE,
)
# The dates in digits that stand behind a statement.
_DATES = re.compile(r"\s*\(\d{4}[\d, to-]*\)")
_PLACES = ("Identity.Home", "Identity.Roots", "Work.Job")  # leaves that are no dates
_TO_DATE = re.compile(r" (?:in|on|since|from|by|until|back)$")
_FROM_NOW = re.compile(r"\bfrom now on(?:wards)?\b", re.IGNORECASE)
_FEMALE = word_set(
    "wife girlfriend mother mom mum mam sister daughter aunt auntie grandmother grandma nan nana "
    "gran granny niece granddaughter fiancee woman girl lady mrs ms miss midwife hen cow mare"
)
_MALE = word_set(
    "husband boyfriend father dad brother son uncle grandfather grandpa grandad nephew grandson "
    "fiance man boy mr sir"
)
_OTHERS = word_set(
    "partner friend cousin colleague boss manager neighbour neighbor roommate flatmate housemate "
    "baby child kid twin parent landlord landlady teacher doctor vet dentist tutor supervisor "
    "coach dog cat puppy kitten rabbit parrot hamster horse pony tortoise bird lurcher terrier "
    "spaniel labrador collie niece stepson stepdaughter godson goddaughter mate"
)
_PEOPLE = _FEMALE | _MALE | _OTHERS
_RELATED = re.compile(
    rf"\b(?:my|our) (?:(?:[a-z-]+) ){{0,2}}?({'|'.join(sorted(_PEOPLE))})"
    r"(?:,| is called| is named| called| named|'s name is|'s called)? ([A-Z][\w'\u2019-]+)"
)
_RELATED_AFTER = re.compile(
    rf"\b([A-Z][\w'\u2019-]+)(?:,| is| \(|'s)(?: that is| who is)? ?(?:my|our) "
    rf"(?:(?:[a-z-]+) ){{0,2}}?({'|'.join(sorted(_PEOPLE))})\b"
)
_STATED = re.compile(r"^(?:we|We)('re| are|'ve| have|)\b")
# States in ordinary words that the patterns of the rules do not know: path, value, pattern.
_STATES = (
    ("Identity.Home", "lives in {0}", re.compile(
        r"^I(?:'m| am) (?:now |still )?(?:in|living in|up in|over in|down in) "
        r"([A-Z][\w'-]+(?: [A-Z][\w'-]+){0,2})(?: now| these days)?$")),
    ("Identity.Name", "{0}", re.compile(
        r"^(?:Name's|name's|The name's|the name's) ([A-Z][\w'-]+(?: (?:van|von|de|der|den|la|"
        r"[A-Z][\w'-]+\.?)){0,3})")),
    ("Work.Job", "{0}", re.compile(
        r"^I ((?:teach|lecture|nurse|drive|translate|paint|farm|tutor) [^,.;]{2,60})$")),
    ("Work.Job", "{0}", re.compile(r"^I am an? ([a-z ]{3,30}) by trade")),
    ("Identity.Birthday", "{0}", re.compile(
        r"^(?:my )?birthday(?:'s| is) (?:on )?(?:the )?(.{3,40})$", re.IGNORECASE)),
)  # fmt: skip


def default_listener() -> Listener:
    """The parser-backed listener where its packages are installed and whole, else the rules.

    The rules' description then says what is missing.
    """
    try:
        return ParsedListener()
    except (MissingExtraError, CheckpointError) as error:
        rules = RuleListener()
        rules.description = f"{rules.description} ({error})"
        return rules


@dataclass
class _Cast:
    """Who was spoken of, the last one last, with the pronoun where it is known."""

    people: dict[str, str] = field(default_factory=dict)
    thing: str = ""

    def meet(self, name: str, relation: str = "") -> None:
        """Somebody is spoken of (again)."""
        word = relation.lower()
        known = self.people.pop(name, "")
        self.people[name] = "she" if word in _FEMALE else "he" if word in _MALE else known

    def meant(self, pronoun: str) -> str:
        """The name that ``she`` or ``he`` stands for, or nothing."""
        for name, said in reversed(self.people.items()):
            if said in ("", pronoun):
                self.people[name] = pronoun
                return name
        return ""


class ParsedListener:
    """Clauses by a dependency parser; see the module for what becomes of them."""

    description = "parsed listener: English clauses by spaCy; reads no other language"

    def __init__(self) -> None:
        """Raises ``MissingExtraError`` or ``CheckpointError``, as `load_parser` does."""
        load_parser()

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        """Operations, trait scores and, for another language than English, a word on that."""
        ops: dict[tuple[str, str], Op] = {}
        traits, problems = {}, []
        facts: list[Op] = []
        for turn in turns:
            if turn.role != "user":
                continue
            traits[turn.id] = traits_of(turn.text)
            text = own_words(turn.text[:MAX_CHARACTERS])
            language = language_of(text)
            if language != "en":
                problems.append(ENGLISH_ONLY.get(language, ENGLISH_ONLY["en"]))
                continue
            hearing = _Hearing(turn, view)
            hearing.hear(text)
            for op in hearing.leaves:
                key = address(op)
                if isinstance(op, Delete) and key in ops:
                    continue
                ops[key] = gathered(ops[key], op) if key in ops else op
            facts += hearing.known.ops()[:MAX_FACTS]
        return Heard(
            ops=(*ops.values(), *_distinct(facts)), traits=traits, problems=tuple(problems)
        )


def _distinct(ops: Iterable[Op]) -> Iterator[Op]:
    """One operation per fact, since several turns of a chunk may touch the same one."""
    known: set[tuple[str, str]] = set()
    for op in ops:
        key = address(op)
        if key not in known:
            known.add(key)
            yield op


class _Hearing:
    """One turn on its way from words to operations."""

    def __init__(self, turn: Turn, view: KnownState) -> None:
        self._turn, self._view = turn, view
        self._today = (turn.valid_from or datetime.now(UTC)).date()
        self.leaves: list[Op] = []
        self.known = KnownFacts.of(view.facts, (turn.id,))
        self._cast = _cast_of(view.facts)
        self._last: Entry | None = None

    def hear(self, text: str) -> None:
        """Read the whole turn, sentence by sentence."""
        said = [s for s in sentences(text) if not _FORGET.match(s[0])][:MAX_SENTENCES]
        typed = [as_typed(sentence) for sentence, _ in said]
        docs = load_parser().pipe(typed)
        for number, (doc, sentence, (_, asked)) in enumerate(zip(docs, typed, said, strict=True)):
            self._relations(sentence)
            if LISTED in sentence and not asked:
                # A list says what its heading names; it has no clauses to judge.
                self._add(" ".join(sentence.split(LISTED)), "user")
                continue
            found = clauses_of(doc, number, asked)
            corrected = bool(_CORRECTED.search(sentence))
            if found:
                self._statement(statement_of(found), corrected)

    def _relations(self, sentence: str) -> None:
        pairs = [(m[2], m[1]) for m in _RELATED.finditer(sentence)]
        told = re.search(r"\b(?:called|named|name's|name is)\b", sentence) is not None
        pairs += [(m[1], m[2]) for m in _RELATED_AFTER.finditer(sentence)]
        for name, relation in pairs:
            if name.lower() in NOT_NAMES | STOP_WORDS or name.startswith("I'"):
                continue
            self._cast.meet(name, relation)
            if not told:  # else the patterns of the slots read it
                self.known.add(f"{name} ({relation})", name, "relation", (name, relation))

    def _statement(self, said: StatedClause, corrected: bool) -> None:
        first = said.clauses[0]
        if first.subject in ("that", "it") and self._last is not None:
            if len(self._last.text) + len(said.text) <= 400:
                self._continued(said, self._last)
                return
        elif first.subject == "that" and not corrected:
            return
        who, text = self._resolved(first, said.text)
        dates = [d for d in spoken_dates(said.text, self._today) if not d.repeats]
        changed = tells_of_change(said.text) or corrected
        told: list[str] = []
        for clause in said.clauses:
            if clause.subject == "user" or clause.own:
                told += self._slots(clause, corrected and not tells_of_change(clause.text))
        slots = frozenset().union(*map(topic_words, told))
        if told and not dates and topic_words(said.text) <= slots:
            return  # the slots say all of it
        if not topic_words(said.text) and not dates:
            return
        isos = tuple(dict.fromkeys(d.iso for d in dates))
        # "From now on" reads like an order in what is replayed to a model later.
        text = _FROM_NOW.sub("now", text)
        full = f"{text} ({', '.join(isos)})" if isos else text
        keywords = (who, *isos)
        topic = "event" if dates else "statement"
        if changed and self._changes(said, who, full, keywords, corrected):
            return
        if (isos or timetable(full)) and self._moves(said, who, full, keywords):
            return
        self._last = self.known.add(full[:600], who, topic, keywords)

    def _add(self, text: str, who: str) -> None:
        isos = [d.iso for d in spoken_dates(text, self._today) if not d.repeats]
        keywords = (who, *dict.fromkeys(isos))
        self._last = self.known.add(text[:600], who, "event" if isos else "statement", keywords)

    def _continued(self, said: StatedClause, last: Entry) -> None:
        """ "Same place." belongs to what was said just before."""
        dates = [d for d in spoken_dates(said.text, self._today) if not d.repeats]
        told = _FROM_NOW.sub("now", said.text)
        changes = tells_of_change(f"{last.text} {told}")
        isos = tuple(dict.fromkeys(d.iso for d in dates))
        added = f"{told} ({', '.join(isos)})" if isos else told
        if dates and changes:
            text = _swapped(last.text, added, self._today)
        else:
            text = f"{last.text}; {added}"
        keywords = (*last.keywords[:1], *(isos or last.keywords[1:]))
        self.known.replace(last, text[:600], keywords=keywords)
        if isos:
            last.topic = "event"

    def _resolved(self, clause: Clause, text: str) -> tuple[str, str]:
        """The subject of a statement's first clause by name, and the words with it."""
        subject = clause.subject
        for name in clause.names:
            if name in self._cast.people and name != subject:
                self._cast.meet(name)
        if subject in ("he", "she"):
            name = self._cast.meant(subject)
            return (name, f"{name}: {text}") if name else (subject, text)
        if subject == "it":
            thing = self._cast.thing
            return (thing, f"{thing}: {text}") if thing else ("it", text)
        if subject not in ("user", "they"):
            if subject[:1].isupper() or subject.lower() in _PEOPLE:
                self._cast.meet(subject, subject)
            else:
                self._cast.thing = subject
        elif clause.nouns and subject == "user":
            self._cast.thing = clause.nouns[-1] if not clause.names else self._cast.thing
        return subject, text

    def _slots(self, clause: Clause, correction: bool) -> list[str]:
        """Take leaves and preferences that the patterns read in a clause; what they now say."""
        told: list[str] = []
        said = _STATED.sub(r"I\1", clause.text).replace("I are", "I am").replace("I're", "I'm")
        for path, value, pattern in _STATES:
            match = pattern.search(said)
            if match and not spoken_dates(match[1], self._today):
                self._leaf(path, value.format(match[1].strip()), correction)
                told.append(value.format(match[1].strip()))
        if clause.negated and not re.search(r"\b(?:any ?more|no longer|like|eat)\b", said, re.I):
            return told
        for op in statements(said, self._turn, self._view, correction):
            op = self._without_date(op)
            told.append(_said_by(op, self.known, self._view))
            if isinstance(op, Add) and op.kind == "fact":
                self.known.add(op.value, "user", str(op.fields.get("topic", "")), ("user",))
            elif isinstance(op, Add | Update | Delete) and op.kind == "fact":
                entry = next((e for e in self.known.entries if e.id == op.target), None)
                if entry is not None and isinstance(op, Update):
                    self.known.replace(entry, op.value or entry.text)
                elif entry is not None:
                    self.known.end(entry)
            elif not isinstance(op, Add) or op.kind != "habit":
                self.leaves.append(op)
            else:
                told.pop()  # a habit is told by the statement itself
        return told

    def _without_date(self, op: Op) -> Op:
        """A home or a job without the day on which it began: the fact beside it has that."""
        if not isinstance(op, Add | Update) or not (op.target or "").startswith(_PLACES):
            return op
        said = (op.value or "").rstrip()
        dates = spoken_dates(said, self._today)
        if not dates or dates[-1].end < len(said):
            return op
        value = _TO_DATE.sub("", said[: dates[-1].start].rstrip(" ,"))
        return replace(op, value=value) if len(value.split()) > 2 else op

    def _leaf(self, path: str, value: str, correction: bool) -> None:
        old = self._view.leaf(path)
        made: Op = Add(target=path, value=value, evidence=(self._turn.id,))
        if old is not None:
            made = Update(
                target=path, value=value, evidence=(self._turn.id,), correction=correction
            )
        self.leaves.append(made)

    def _changes(
        self, said: StatedClause, who: str, full: str, keywords: tuple[str, ...], corrected: bool
    ) -> bool:
        """Whether the clause took the place of an older statement."""
        marks = [m[1].strip() for m in _NOT_DATE.finditer(said.text)]
        names = frozenset().union(*(topic_words(name) for name in self._cast.people))
        found = self.known.meant(
            full,
            who,
            besides=[m for m in marks if len(m) > 2],
            names=names,
            subject=said.clauses[0].subject,
        )
        found = [e for e in found if e.topic != "relation"]
        if not found:
            return False
        best = found[0]
        vague = any(c.subject in ("it", "they", "that") for c in said.clauses) or who in ("it", "")
        vague = vague or len(full.split()) <= 5
        text = _swapped(best.text, full, self._today) if vague else full
        self.known.replace(best, text[:600], keywords=keywords, correction=corrected)
        self._last = best
        for other in found[1:4]:
            if len(topic_words(other.text) & topic_words(full)) >= 3 and other.id:
                self.known.end(other)
        return True

    def _moves(self, said: StatedClause, who: str, full: str, keywords: tuple[str, ...]) -> bool:
        """Whether a statement gives another time to what an older one tells a time of."""
        names = frozenset().union(*(topic_words(name) for name in self._cast.people))
        subject, times = said.clauses[0].subject, timetable(full)
        found = self.known.meant(full, who, least=0.6, names=names, subject=subject)
        for entry in found[:3]:
            old = timetable(entry.text)
            if entry.id and times and old and not times <= old and entry.who == who:
                self.known.replace(entry, full[:600], keywords=keywords)
                return True
            if len(entry.keywords) > 1 and entry.topic == "event" and entry.who == who:
                if set(entry.keywords[1:]) & set(keywords[1:]):
                    continue
                self.known.replace(entry, full[:600], keywords=keywords)
                return True
        return False


def _said_by(op: Op, known: KnownFacts, view: KnownState) -> str:
    """The words that an operation puts into the memory and those that it takes out of it."""
    assert not isinstance(op, NoOp)
    old = (
        ""
        if isinstance(op, Add)
        else next((e.text for e in known.entries if e.id == op.target), "")
    )
    leaf = view.leaf(op.target) if op.kind == "core" and not isinstance(op, Add) else None
    new = "" if isinstance(op, Delete) else op.value or ""
    return f"{new} {old} {leaf.text if leaf else ''}"


def _swapped(old: str, new: str, today: date) -> str:
    """What was said before, without its dates where ``new`` has others, and what is said now."""
    if not spoken_dates(new, today):
        return f"{old}; {new}"
    pieces = [_DATES.sub("", piece) for piece in old.split("; ")]
    kept = []
    for piece in pieces:
        dates = spoken_dates(piece, today)
        if dates and re.match(r"(?:it|that|this)\b", piece, re.IGNORECASE):
            continue
        for found in reversed(dates):
            piece = piece[: found.start] + piece[found.end :]
        kept.append(" ".join(piece.split()))
    return "; ".join([*kept, new])


def _cast_of(facts: Sequence[Fact]) -> _Cast:
    """Who the stored facts speak of, given newest first."""
    cast = _Cast()
    for fact in reversed(facts):
        who = fact.keywords[0] if fact.keywords else ""
        if fact.topic == "relation" and len(fact.keywords) > 1:
            cast.meet(who, fact.keywords[1])
        elif who[:1].isupper():
            cast.meet(who)
    return cast
