"""Remembered lines cut into passages, and whether each has the kind of thing that is asked for.

A passage is one record, or one sentence of what the user once said, with what was said before it.
Sentences that ask, quote or play are no passages: nobody meant them as true. How well passages
answer is weighed by `ranking`.
"""

from __future__ import annotations

import calendar
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from consistent_gen.language.words import STOP_WORDS, word_set
from consistent_gen.memory.data.store import ReadStatement
from consistent_gen.memory.listening.clauses import own_words, sentences
from consistent_gen.memory.talk.questions import (
    AskedFor,
    Wanted,
    denies,
    stem,
    stems_of,
    words_of,
)

_LINE = re.compile(
    r"^\[(?P<id>[^|\]]+) \| (?P<kind>\w+) from (?P<who>[^|]*) \| (?P<date>[^\]]*)\] (?P<text>.*)$"
)
_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december|jan|"
    r"feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
)
_WEEKDAY = r"(?:mon|tues?|wed(?:nes|s)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?s?"
_COUNT = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|half|couple|dozen)"
)
_NUMBER = rf"(?:\d[\d.,/]*|{_COUNT})"
_CLOCK = (
    rf"\b\d{{1,2}}(?:[.:]\d\d)? ?[ap]\.?m\b|\b\d{{1,2}}[.:]\d\d\b|o'clock|\bhalf (?:past )?\w+|"
    rf"\bquarter (?:past|to) \w+|\b(?:noon|midnight)\b|\b(?:at|till?|until|by|to) {_NUMBER}\b|"
    rf"\b{_NUMBER} (?:past|to|till?) {_NUMBER}\b|\b\d{{1,2}}-\d{{1,2}}\b"
)
_DATE = (
    rf"\b{_MONTH}\b|\b{_WEEKDAY}\b|\b\d{{4}}-\d\d|\b(?:19|20)\d\d\b|\bthe [\w-]+(?:th|rst|nd|rd)\b|"
    r"\b\d{1,2}(?:st|nd|rd|th)\b|\b\d{1,2}/\d{1,2}\b"
)
_RELATIVE = (
    rf"\b(?:today|tomorrow|yesterday|tonight|christmas|easter|new year\w*|weekends?|ago|spring|"
    rf"summer|autumn|winter)\b|\b{_NUMBER} (?:day|week|month|year)s\b|"
    rf"\b(?:last|next|this|every) (?:week|month|year|night|{_WEEKDAY}|{_MONTH})\b"
)
# What shows that a passage holds the kind of thing that is asked for.
_HOLDS: dict[Wanted, re.Pattern[str]] = {
    kind: re.compile(pattern, re.IGNORECASE)  # type: ignore[misc]
    for kind, pattern in {
        "clock": _CLOCK,
        "date": rf"\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b|\b{_MONTH} \d|"
                rf"\d{{4}}-\d\d-\d\d(?! to)|\bthe [\w-]+(?:th|rst|nd|rd)\b|"
                r"\b\d{1,2}(?:st|nd|rd|th)\b",
        "day": rf"{_DATE}|{_RELATIVE}",
        "when": rf"{_CLOCK}|{_DATE}|{_RELATIVE}",
        "year": r"\b(?:19|20)\d\d\b|\byears? ago\b",
        "often": rf"\b(?:every|daily|weekly|fortnightly|monthly|once|twice|alternate|each|per|"
                 rf"times|{_WEEKDAY}s)\b|\b(?:a|an|per) (?:day|week|month|year|hour)\b",
        "long": rf"\b(?:since|until|till|from)\b|{_NUMBER}(?: or so)? (?:hour|day|week|month|year|"
                rf"minute)s?|\b(?:19|20)\d\d\b|\banniversary\b",
        "age": rf"\b{_NUMBER}[- ]years?\b(?! ago)|\b(?:is|am|'s|'m|s|turn\w*|aged?) (?:now )?"
               rf"{_NUMBER}\b(?= now|[,.;!]|$| and| in)|"
               r"\b[A-Z]\w+,? \(?\d{1,2}\b(?!:|\.\d| ?[ap]m)"
               r"|\bborn\b",
        "money": r"[\u00a3$\u20ac]\s?\d|"
                 r"\b\d[\d.,]* ?(?:k|grand|quid|pounds?|euros?|dollars?|bucks?|"
                 rf"p|pcm|pm|a (?:week|month|year))\b|\b{_COUNT} (?:grand|quid|pounds?|thousand|"
                 r"hundred|euros?|dollars?)\b|"
                 rf"(?<!:)\b\d{{2,}}\b(?! ?{_MONTH}|[:.]\d|(?:st|nd|rd|th))",
        "number": rf"\b{_NUMBER}\b|\d",
        "place": r"\b(?:in|at|to|near|up|on|from|for|by|round|into|with|outside|behind|under|over) "
                 r"(?:the |my |our |a |an |his |her )?[\w']+",
        "reason": r"\b(?:because|since|cos|cause|as|so|for|due to|after|too|to)\b",
    }.items()
}  # fmt: skip
_NAME = re.compile(
    r"(?<![.!?\u2026] )(?<!^)\b[A-Z][\w\u00c0-\u017f]+|^[A-Z]\w+(?= \()|(?<=: )[A-Z]\w+"
)
_NAMING = re.compile(
    r"\b(?:called|named|name(?:'s| is)?|known as|goes by|mr|mrs|ms|miss|dr)\b\.?,? "
    r"[\w\u00c0-\u017f]|^[A-Z]\w+ \(|\w+: \w+$",
    re.IGNORECASE,
)
# Sentences that suppose are not meant as true, though the listener may have kept half of them.
SUPPOSED = re.compile(
    r"^\W*(?:if|unless|what if|suppose|imagine|say)\b.*\b(?:would|'d|could|might|should)\b|"
    r"\bi (?:wish|wonder|dreamt|dreamed)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RememberedLine:
    """One line of the data block: what `render_record` wrote."""

    id: str
    kind: str
    who: str
    date: str
    text: str


@dataclass(frozen=True)
class SaidPassage:
    """``text`` is what may be quoted; ``whole`` all that was said in that turn, which explains it.

    place: the sentence in the turn; before: what was said just before it, maybe a turn earlier.
    about: stems of names that the listener took its pronouns for.
    ended: what it tells was ended by something later.
    """

    line: RememberedLine
    text: str
    whole: str
    place: int = 0
    before: str = ""
    about: frozenset[str] = frozenset()
    ended: bool = False

    @property
    def label(self) -> str:
        """The words of a leaf's path."""
        return (
            self.line.text.partition(":")[0].replace(".", " ") if self.line.kind == "core" else ""
        )


def read_lines(text: str) -> list[RememberedLine]:
    """The remembered lines in a prompt, each id once."""
    found: dict[str, RememberedLine] = {}
    for row in text.splitlines():
        if match := _LINE.match(row):
            values = {name: value.strip() for name, value in match.groupdict().items()}
            found.setdefault(values["id"], RememberedLine(**values))
    return list(found.values())


def passages_of(
    lines: Iterable[RememberedLine],
    question: str,
    read: Mapping[str, Sequence[ReadStatement]] | None = None,
) -> list[SaidPassage]:
    """What of the lines may answer: nothing that the assistant said, nobody's questions.

    read: what was read from turns, by their id; endings and subjects go with the sentences.
    """
    asked = " ".join(question.casefold().split())
    found = []
    lines = list(lines)
    earlier = _turns_before(lines)
    for line in lines:
        if line.who.startswith("assistant") or line.text.casefold() == asked:
            continue  # quoting oneself turns one mistake into many
        if line.kind == "episode" and _EXCERPT.match(line.text):
            continue  # the turn itself says it better
        if line.kind != "turn":
            found.append(SaidPassage(line, line.text, line.text))
        else:
            found += _sentences(line, earlier.get(line.id, ""), (read or {}).get(line.id, ()))
    return found


_EXCERPT = re.compile(r"(?:[^:]*: )?The \w+ (?:said|asked): ")
# What was said at most so long before a turn belongs to it, so many characters of its end.
_SOON, _END = timedelta(minutes=30), 200
# The share of the words of what was read from a turn that makes a sentence its source.
_SAME = 0.6


def _turns_before(lines: Sequence[RememberedLine]) -> dict[str, str]:
    """The end of the user's turn just before each, where it was said shortly before."""
    said = sorted(
        (line for line in lines if line.kind == "turn" and line.who.startswith("user")),
        key=lambda line: (line.date, line.id),
    )
    found = {}
    for one, other in itertools.pairwise(said):
        try:
            soon = datetime.fromisoformat(other.date) - datetime.fromisoformat(one.date) <= _SOON
        except ValueError:
            continue
        if soon:
            found[other.id] = one.text[-_END:]
    return found


def _sentences(
    line: RememberedLine, earlier: str, read: Sequence[ReadStatement]
) -> Iterator[SaidPassage]:
    """The sentences of a turn that state something."""
    said = list(sentences(own_words(line.text)))
    for place, (sentence, asked) in enumerate(said):
        if asked:
            continue
        before = said[place - 1][0] if place else earlier
        words = stems_of(sentence)
        own = [(r, stems_of(r.text)) for r in read]
        mine = [r for r, w in own if w and len(w & words) >= _SAME * min(len(w), len(words) or 1)]
        yield SaidPassage(
            line, sentence, line.text, place, before,
            frozenset(stem(r.about) for r in mine if r.about[:1].isupper()),
            bool(mine) and not any(r.holds for r in mine),
        )  # fmt: skip


def holds(question: AskedFor, passage: SaidPassage, names: frozenset[str] = frozenset()) -> bool:
    """Whether a passage has the kind of thing that is asked for, besides the question's words.

    names: words known as names, which count at the start of a sentence, too.
    """
    own = {w.casefold() for w in words_of(question.text)}
    text = passage.text
    if question.choice:
        return len(question.choice & stems_of(text)) == 1 and not denies(text)
    if question.wants in ("person", "name"):
        named = any(m[0].casefold() not in own for m in _NAME.finditer(text))
        named = named or any(w in names and w.casefold() not in own for w in words_of(text))
        # Who types no capitals types none in names.
        small = passage.whole == passage.whole.casefold()
        if question.wants == "person":
            return named or small
        naming = _NAMING.search(text) or _apposed(question, text)
        return (named and bool(naming)) or (small and bool(naming or _called(question, text)))
    pattern = _HOLDS.get(question.wants)
    if pattern is None:
        return True
    found = (m[0] for m in pattern.finditer(text))
    return any(not ({w.casefold() for w in words_of(m)} <= own) for m in found)


def _apposed(question: AskedFor, text: str) -> bool:
    """ "My sister Ida", "She's got a lad, Jude": a name beside the word for its bearer."""
    own = {stem(n) for n in question.names}
    for match in re.finditer(r"[^\W_]+", text):
        if stem(match[0]) in question.topics - own:
            after = re.match(r"(,? (?:is |was |called |named )*)([A-Z][a-z]+)", text[match.end() :])
            if after is None or after[2].casefold() in _CALENDAR | {w.casefold() for w in own}:
                continue
            # "Taught French" names nobody, "my sister Ida" does.
            if after[1] != " " or match[0].casefold() in _BEARERS:
                return stem(after[2]) not in question.topics
    return False


def _called(question: AskedFor, text: str) -> bool:
    """ "my hamster is meatloaf", of who types no capitals."""
    heads = re.finditer(r"([^\W_]+)(?: is|'s| was|,) [^\W_]+\W*$", text)
    return any(stem(match[1]) in question.topics for match in heads)


_BEARERS = word_set(
    "mum mother mom dad father sister brother son daughter wife husband partner boyfriend "
    "girlfriend aunt uncle cousin nan gran grandad niece nephew friend mate boss manager teacher "
    "neighbour dog cat rabbit horse puppy kitten baby lad girl boy tutor coach"
)
_CALENDAR = frozenset(
    name.casefold() for name in (*calendar.day_name, *calendar.month_name) if name
)
_CALENDAR_STEMS = frozenset(map(stem, _CALENDAR))


def names_in(passages: Sequence[SaidPassage]) -> frozenset[str]:
    """Words that are names: with a capital inside a sentence, or never without one anywhere."""
    spelt = {w for p in passages for w in words_of(p.whole)}
    inside = {m[0] for p in passages for m in _NAME.finditer(p.text)}
    first = {w for p in passages for w in words_of(p.text)[:1] if w[:1].isupper()}
    common = STOP_WORDS | _CALENDAR
    return frozenset(inside | {w for w in first if w.lower() not in spelt | common and len(w) > 2})


def in_context(passage: SaidPassage, longest: int = 220, *, before: bool = False) -> str:
    """The words of a passage with what was stated just after it in the same turn.

    before: with the sentence before it, too, which often says what held until then.
    """
    if passage.line.kind != "turn":
        return passage.text
    said = list(sentences(own_words(passage.line.text)))
    first, last = passage.place, passage.place + 1
    if before and first > 0 and not said[first - 1][1]:
        first -= len(passage.text) + len(said[first - 1][0]) <= longest - 60
    text = " ".join(sentence for sentence, _ in said[first:last])
    while last < len(said) and not said[last][1] and len(text) + len(said[last][0]) < longest:
        text = f"{text} {said[last][0]}"
        last += 1
    return text
