"""What is known while a turn is heard: live facts, and what the turn adds, changes and ends.

A new statement may repeat, replace or end an older one. Which one it means is decided by the words
that they share, each weighed by how rare it is among all live facts, so that "the jabs moved to the
19th" finds the jabs and not the other thing that has a date.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from consistent_gen.language.words import STOP_WORDS, word_set
from consistent_gen.memory.data.operations import Add, Delete, Op, Update
from consistent_gen.memory.data.records import Fact

_WORD = re.compile(r"[^\W_]+(?:['\u2019]t\b)?")
_NEGATIVE = re.compile(
    r"\b(?:not|never|no|none|neither|dislikes?|hates?|can'?t|cannot|stopped|quit)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_CHANGED = re.compile(
    r"\bnow\b|\bfrom now on\b|\bno longer\b|\bany ?more\b|\binstead\b|\bmoved?\b|\bchang\w+|"
    r"\bthese days\b|\bafter all\b|\bactually\b|\bswitch\w*|\bswapp?\w*|\bcancel\w*|\bcalled off\b|"
    r"\bgave up\b|\bgiven up\b|\bstopp\w*|\bquit\b|\bretire\w*|\bsold\b|\bdied\b|\bpassed away\b|"
    r"\bsacked off\b|\bpostpone\w*|\bresched\w*|\bput back\b|\bbrought forward\b|\bpushed\b|"
    r"\bdropped\b|\bended\b|\bis over\b|\bfinished\b|\bbroke up\b|\bsplit\b|\bdivorced\b|"
    r"\b(?:i|we|he|she|they)(?:'ve|'s)? (?:have |has )?left\b|\bdeleted\b|\bgone up\b|\bshifted\b|"
    r"\baltered\b|\bscrap\b|\bpassed on\b|\bdecided against\b|"
    r"\bnot .{2,40} but\b|\brather than\b|\bnot going\b|\bup to\b|"
    r"\bdown to\b|\bwent (?:home|back)\b|\bis back\b|\bhas .{2,40} back\b|\bscrub\b|\bturned out\b",
    re.IGNORECASE,
)
# Words of change and time say that something changed, not what.
_LISTED = """
now instead anymore more longer moved changed change still again actually really just today
tomorrow yesterday week month year day monday tuesday wednesday thursday friday saturday sunday mon
tue tues wed weds thu thur thurs fri sat sun january february march april june july august september
october november december jan feb mar apr jun jul aug sept oct nov dec morning afternoon evening
night time new old got get go going went come came make made take took have had has do did say said
sorry wait mean meant no not never any mr mrs ms dr called named don't doesn't didn't isn't won't
can't live lives living one two three first last next off back only also though think like love
"""
_NO_TOPIC = frozenset(_LISTED.split())
# Shares of weight: the same statement again, the same in the opposite sense, another value of it.
_SAME, _OPPOSITE, _MEANT = 0.85, 0.6, 0.34


@functools.lru_cache(maxsize=20_000)
def topic_words(text: str) -> frozenset[str]:
    """The words of a text that say what it is about, cut to five letters."""
    words = (w for w in _WORD.findall(text.casefold()) if w not in STOP_WORDS)
    return frozenset(
        w[:5].rstrip("s") for w in words if w not in _NO_TOPIC and len(w) > 1 and not w[0].isdigit()
    )


@functools.lru_cache(maxsize=20_000)
def _all_words(text: str) -> frozenset[str]:
    return frozenset(w[:6] for w in _WORD.findall(text.casefold()) if w not in STOP_WORDS)


@functools.lru_cache(maxsize=20_000)
def _pairs(text: str) -> frozenset[tuple[str, str]]:
    """Neighbouring words of which the second says what it is about."""
    words = [w[:5].rstrip("s") for w in _WORD.findall(text.casefold())]
    topics = topic_words(text)
    return frozenset(
        (a, b) for a, b in itertools.pairwise(words) if b in topics and a not in _LOOSE
    )


_LOOSE = word_set("my our a an in of to and on at for with from his her their it i is")


_TIMETABLE = re.compile(
    r"\b(?:mon|tue|wed|thu|fri|sat|sun)(?:r?s|days?|nes(?:days?)?|rs(?:days?)?|ur(?:days?)?)?s?\b"
    r"|\b\d{1,2}(?:[.:]\d\d)? ?(?:am|pm)\b|\b\d{1,2}[.:]\d\d\b"
    r"|\b(?:once|twice|daily|weekly|every(?: other)? \w+|half past \w+|o'clock)\b"
    r"|\b\d+(?:\.\d+)? ?(?:mg|g|ml|kg|milligrams?|hours?|hrs?)\b",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=20_000)
def timetable(text: str) -> frozenset[str]:
    """The weekdays, hours, intervals and doses that a text names."""
    return frozenset(m[0].casefold()[:3] for m in _TIMETABLE.finditer(text))


def negative(text: str) -> bool:
    """Whether a statement denies something."""
    return _NEGATIVE.search(text) is not None


def tells_of_change(text: str) -> bool:
    """Whether a text tells that something is otherwise than before."""
    return _CHANGED.search(text) is not None


@dataclass
class Entry:
    """A live fact or one that this turn adds; ``op`` is what happens to it, if anything."""

    text: str
    who: str
    topic: str
    keywords: tuple[str, ...] = ()
    id: str = ""
    op: Op | None = None
    gone: bool = False


@dataclass
class KnownFacts:
    """The entries, oldest first, and how often each topic word occurs in them."""

    entries: list[Entry]
    evidence: tuple[str, ...]
    frequent: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, facts: Sequence[Fact], evidence: tuple[str, ...]) -> KnownFacts:
        """A known over live facts, given newest first."""
        entries = [
            Entry(f.text, f.keywords[0] if f.keywords else "user", f.topic, f.keywords, f.id)
            for f in reversed(facts)
        ]
        frequent = Counter(w for e in entries for w in topic_words(e.text))
        return cls(entries, evidence, frequent)

    def ops(self) -> list[Op]:
        """What is to be done, in the order of the entries."""
        return [entry.op for entry in self.entries if entry.op is not None]

    def add(self, text: str, who: str, topic: str, keywords: tuple[str, ...]) -> Entry:
        """The entry of a statement: a new one, the one that it repeats or that it contradicts."""
        words = _all_words(text)
        for entry in self.live():
            other = _all_words(entry.text)
            alike = len(words & other) / max(1, len(words | other))
            if negative(entry.text) == negative(text):
                if words and (alike >= _SAME or words <= other):
                    return entry
            elif alike >= _OPPOSITE and entry.who == who:
                self.replace(entry, text, keywords=keywords)
                return entry
        op = Add(
            kind="fact",
            value=text,
            evidence=self.evidence,
            fields={"topic": topic, "keywords": keywords},
        )
        self.entries.append(Entry(text, who, topic, keywords, op=op))
        return self.entries[-1]

    def replace(
        self,
        entry: Entry,
        text: str,
        *,
        keywords: tuple[str, ...] = (),
        correction: bool = False,
    ) -> None:
        """Put ``text`` in the place of what ``entry`` says."""
        entry.text, keywords = text, keywords or entry.keywords
        entry.keywords = keywords
        if isinstance(entry.op, Add):
            entry.op = replace(
                entry.op, value=text, fields={**entry.op.fields, "keywords": keywords}
            )
        else:
            entry.op = Update(
                kind="fact",
                target=entry.id,
                value=text,
                evidence=self.evidence,
                correction=correction,
                fields={"keywords": keywords},
            )

    def end(self, entry: Entry) -> None:
        """What ``entry`` says holds no longer."""
        entry.gone = True
        entry.op = (
            Delete(kind="fact", target=entry.id, evidence=self.evidence) if entry.id else None
        )

    def live(self) -> list[Entry]:
        """Entries that hold, the newest first."""
        return [entry for entry in reversed(self.entries) if not entry.gone]

    def meant(
        self,
        text: str,
        who: str,
        *,
        besides: Sequence[str] = (),
        least: float = _MEANT,
        names: frozenset[str] = frozenset(),
        subject: str = "",
    ) -> list[Entry]:
        """Entries that ``text`` speaks of, the likeliest first.

        ``besides`` are words that tell of an entry though they are no topic, such as the date that
        holds no longer ("not Thursday"). One shared word is enough only with its neighbour ("the
        teas") or as the ``subject`` of the text, and ``names`` (topic words) alone never are.
        """
        words, times = topic_words(text), timetable(text)
        found = []
        for place, entry in enumerate(self.live()):
            theirs = topic_words(entry.text)
            shared = (words & theirs) - names
            close = len(shared) >= 2 or bool(_pairs(text) & _pairs(entry.text))
            led = bool(shared & topic_words(subject))
            # "Metacam every other day now": one rare word is enough between two timetables.
            timed = bool(times and timetable(entry.text) and times != timetable(entry.text))
            rare = timed and any(self.frequent[w] <= 1 for w in shared)
            close = close or led or rare
            marked = any(mark.casefold() in entry.text.casefold() for mark in besides)
            if not (shared and close) and not (marked and place < 12):
                continue
            smaller = min(self._weight(words), self._weight(theirs)) or 1.0
            score = self._weight(words & theirs) / smaller + 0.5 * marked + 0.2 * led + 0.1 * rare
            score -= 0.2 * (entry.who != who and entry.who[:1].isupper() and who[:1].isupper())
            if score >= least:
                found.append((-score, place, entry))
        found.sort(key=lambda f: f[:2])
        return [entry for _, _, entry in found]

    def _weight(self, words: frozenset[str]) -> float:
        count = len(self.entries) + 2
        return sum(math.log(count / (1 + self.frequent[w])) + 0.1 for w in words)
