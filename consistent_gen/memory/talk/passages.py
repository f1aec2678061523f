"""Remembered lines cut into passages, and how well each answers a question.

A passage is one record, or one sentence of what the user once said, with the sentence before it.
Sentences that ask, suppose, quote or play are no passages: nobody meant them as true. The score of
a passage weighs meaning (where there is an embedder), the rare words of the question, the names in
it, and whether it holds the kind of thing that is asked for.
"""

from __future__ import annotations

import calendar
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from consistent_gen.language.embedders import TextEmbedder, Vectors
from consistent_gen.language.words import STOP_WORDS, word_set
from consistent_gen.memory.listening.clauses import own_words, sentences
from consistent_gen.memory.talk.questions import (
    AskedFor,
    Wanted,
    also_said,
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
_SUPPOSED = re.compile(
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

    ``place`` and ``size`` are its first sentence in the turn and how many it has.
    """

    line: RememberedLine
    text: str
    whole: str
    place: int = 0
    size: int = 1

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


def passages_of(lines: Iterable[RememberedLine], question: str) -> list[SaidPassage]:
    """What of the lines may answer: nothing that the assistant said, nobody's questions."""
    asked = " ".join(question.casefold().split())
    found = []
    for line in lines:
        if line.who.startswith("assistant") or line.text.casefold() == asked:
            continue  # quoting oneself turns one mistake into many
        if line.kind == "episode" and _EXCERPT.match(line.text):
            continue  # the turn itself says it better
        if line.kind != "turn":
            found.append(SaidPassage(line, line.text, line.text))
        else:
            found += _windows(line)
    return found


_EXCERPT = re.compile(r"(?:[^:]*: )?The \w+ (?:said|asked): ")


def _windows(line: RememberedLine) -> Iterator[SaidPassage]:
    """Runs of one to three sentences of a turn that state something."""
    said = list(sentences(own_words(line.text)))
    for first, (sentence, asked) in enumerate(said):
        if asked or _SUPPOSED.search(sentence):
            continue
        text = sentence
        yield SaidPassage(line, text, line.text, first)
        for last in range(first + 1, min(first + 3, len(said))):
            following, asked = said[last]
            if asked or len(text) + len(following) > _LONGEST:
                break
            text = f"{text} {following}"
            yield SaidPassage(line, text, line.text, first, last - first + 1)


_LONGEST = 280


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


# --- how well a passage answers -------------------------------------------------------------------

# Shares of the score: meaning, the question's rare words, the kind of thing asked for.
_MEANING, _WORDS, _KIND = 0.5, 0.5, 0.2
# Without an embedder the words must say it alone.
_WORDS_ALONE = 0.85
# What counts against a passage: each further sentence, that it holds no longer, whose word it is,
# that nobody whom the question names is in it, that it says what the question leaves out.
_LONGER, _ENDED, _OTHERS, _NAMELESS, _LEFT_OUT = 0.03, 0.25, 0.1, 0.25, 0.4
# What speaks for it: that it is new, and that it tells of a change.
_NEWER, _CHANGING = 0.1, 0.06
# The newer of two passages that fit about as well is meant, more so where "now" is asked.
_NEAR, _NEAR_NOW, _NEAR_WHETHER = 0.25, 0.35, 0.1
# In how many turns a word is rare, how long the stem of a word that tells something is at least,
# and the share of a fact's words that make a sentence its source.
_RARE, _TELLING, _SAME = 4, 5, 0.6
# What a topic word counts however frequent it is, and the share that one counts which only helps.
_EVEN, _LIGHT = 0.5, 0.1
_AROUND = 0.5  # what a word counts that only the rest of the turn has
# Without any word of the question besides its names only this much meaning will do.
_ALIKE = 0.75
_CHANGED = re.compile(
    r"\b(?:now|from (?:next|now|today)|moved?|moving|chang\w+|instead|no longer|any ?more|new|"
    r"switch\w*|swapp?\w*|increased|reduced|put (?:me|him|her) (?:up|down|on)|taking over|actually|"
    r"turns? out|put back|brought forward|advanced|after all|not \w+ but)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?:he|she|they|him|her|them|his|their|it|its)\b", re.IGNORECASE)


@dataclass(frozen=True)
class ScoredPassage:
    """A passage with its score, whether it holds what is asked for, and what that rests on.

    ``rarest`` is the rarest topic word of the question that the passage has, itself or another way.
    """

    passage: SaidPassage
    score: float
    holds: bool
    meaning: float
    words: float
    rarest: str


class PassageScorer:
    """Scores passages for questions; sentences that were embedded before are not embedded again."""

    def __init__(self, embedder: TextEmbedder | None) -> None:
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}

    @property
    def by_meaning(self) -> bool:
        """Whether meaning is compared, not words alone."""
        return self._embedder is not None

    def score(self, question: AskedFor, passages: Sequence[SaidPassage]) -> list[ScoredPassage]:
        """All passages, best first."""
        whole = {p.line.id: stems_of(p.whole) for p in passages}
        frequent = Counter(w for words in whole.values() for w in words)
        weights = {w: math.log((len(whole) + 1.5) / (frequent[w] + 0.5)) + _EVEN
                   for w in question.topics}  # fmt: skip
        # Words that only help count what their topic lets them, however rare they are.
        helping = _LIGHT * max(weights.values(), default=1.0)
        weights |= dict.fromkeys(question.light - question.topics, helping)
        meanings = self._meanings(question, passages)
        names = _names_in(passages)
        times = sorted({p.line.date for p in passages})
        place = {at: n / max(1, len(times) - 1) for n, at in enumerate(times)}
        scored = []
        for passage, meaning in zip(passages, meanings, strict=True):
            words = _covered(question, weights, stems_of(passage.text), whole[passage.line.id])
            fits = holds(question, passage, names) and _speaks_of_it(
                question, weights, passage, whole[passage.line.id], meaning
            )
            score = _MEANING * meaning + _WORDS * words if self.by_meaning else _WORDS_ALONE * words
            score += _KIND * fits + _NEWER * place[passage.line.date] - _against(question, passage)
            rarest = _rarest(question, weights, passage)
            scored.append(ScoredPassage(passage, score, fits, meaning, words, rarest))
        return sorted(scored, key=lambda s: (-s.score, s.passage.line.id, s.passage.place))

    def _meanings(self, question: AskedFor, passages: Sequence[SaidPassage]) -> list[float]:
        if self._embedder is None:
            return [0.0] * len(passages)
        if len(self._vectors) > 5_000:
            self._vectors.clear()
        texts = dict.fromkeys([question.text, *(p.text for p in passages)])
        new = [text for text in texts if text not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, self._embedder.text(new), strict=True))
        asked = self._vectors[question.text]
        return [float(self._vectors[p.text] @ asked) for p in passages]


def _names_in(passages: Sequence[SaidPassage]) -> frozenset[str]:
    """Words that are names: with a capital inside a sentence, or never without one anywhere."""
    spelt = {w for p in passages for w in words_of(p.whole)}
    inside = {m[0] for p in passages for m in _NAME.finditer(p.text)}
    first = {w for p in passages for w in words_of(p.text)[:1] if w[:1].isupper()}
    common = STOP_WORDS | _CALENDAR
    return frozenset(inside | {w for w in first if w.lower() not in spelt | common and len(w) > 2})


def _rarest(question: AskedFor, weights: dict[str, float], passage: SaidPassage) -> str:
    own = stems_of(passage.text) | stems_of(passage.label)
    had = [w for w in question.topics if w in own or also_said(w) & own]
    return max(had, key=lambda w: (weights[w], w), default="")


def _covered(
    question: AskedFor, weights: dict[str, float], own: frozenset[str], around: frozenset[str]
) -> float:
    """The weighed share of the question's words that a passage has, or its turn around it."""
    found = 0.0
    for word, weight in weights.items():
        also = also_said(word)
        if word in own:
            found += weight
        elif also & own:
            found += 0.8 * weight
        elif word in around or also & around:
            found += _AROUND * weight
    return found / (sum(weights.values()) or 1.0)


def _speaks_of_it(
    question: AskedFor,
    weights: dict[str, float],
    passage: SaidPassage,
    around: frozenset[str],
    meaning: float,
) -> bool:
    """Whether a passage is about more than the names in a question."""
    said = stems_of(passage.label) | around
    if question.essential and not ({question.essential} | also_said(question.essential)) & said:
        return meaning >= _ALIKE
    besides = question.topics - {stem(n) for n in question.names}
    if not besides:
        return True
    return meaning >= _ALIKE or any(({w} | also_said(w)) & said for w in besides)


def _against(question: AskedFor, passage: SaidPassage) -> float:
    minus = _LONGER * (passage.size - 1)
    if "replaced" in passage.line.who and not question.before:
        minus += _ENDED
    if not passage.line.who.startswith("user"):
        minus += _OTHERS
    names = {stem(n) for n in question.names}
    if names and not names & stems_of(passage.whole) and not _PRONOUN.search(passage.text):
        minus += _NAMELESS
    minus -= _CHANGING * bool(_CHANGED.search(passage.text))
    if question.besides and question.besides & stems_of(passage.text):
        minus += _LEFT_OUT
    return minus


def newest_of_the_best(
    question: AskedFor, scored: Sequence[ScoredPassage], others: Sequence[ScoredPassage] = ()
) -> ScoredPassage:
    """Of the passages that speak of what the best one speaks of, the best of the newest turn.

    What a question is about is its rarest word that the best passage has; what was said of that
    last is what holds. ``others`` do not answer by themselves but may tell of a change.
    """
    best = scored[0]
    if question.before:
        return best
    near = best.score - (_NEAR_NOW if question.now else _NEAR)
    if question.wants == "whether":
        near = best.score - _NEAR_WHETHER
    close = [s for s in scored if s.score >= near and s.rarest == best.rarest]
    newest = max(s.passage.line.date for s in close)
    chosen = max((s for s in close if s.passage.line.date == newest), key=lambda s: s.score)
    return _as_said(overtaken(question, chosen, [*scored, *others]), scored)


def overtaken(
    question: AskedFor, chosen: ScoredPassage, scored: Sequence[ScoredPassage]
) -> ScoredPassage:
    """The newest passage that tells of a change of what ``chosen`` speaks of, else ``chosen``.

    "From today it is candesartan, the ramipril makes me cough" shares no word with a question for
    the medicine, but a rare one with its old answer.
    """
    frequent = Counter(w for words in {s.passage.line.id: stems_of(s.passage.whole)
                                       for s in scored}.values() for w in words)  # fmt: skip
    own = {
        w for w in stems_of(chosen.passage.text) - _CALENDAR_STEMS
        if frequent[w] <= _RARE and len(w) >= _TELLING
    }  # fmt: skip
    later = [
        (len(own & stems_of(s.passage.text)), s)
        for s in scored
        if s.passage.line.date > chosen.passage.line.date
        and (s.holds or holds(question, s.passage))
        and s.passage.line.who.startswith("user")
        and (_CHANGED.search(s.passage.text) or denies(s.passage.text))
    ]
    shared = max((n for n, _ in later), default=0)
    if not shared:
        return chosen
    meant = [s for n, s in later if n == shared]
    newest = max(s.passage.line.date for s in meant)
    return max((s for s in meant if s.passage.line.date == newest), key=lambda s: s.score)


def _as_said(chosen: ScoredPassage, scored: Sequence[ScoredPassage]) -> ScoredPassage:
    """The user's own sentence in the place of a fact that was read from it, unless the fact says
    whom its "she" means.
    """
    if chosen.passage.line.kind != "fact" or re.match(r"[\w.' -]{1,40}: ", chosen.passage.text):
        return chosen
    words = stems_of(chosen.passage.text)
    for s in scored:
        same = s.passage.line.kind == "turn" and s.passage.line.date == chosen.passage.line.date
        if same and len(words & stems_of(s.passage.text)) >= _SAME * len(words):
            return s
    return chosen


def in_context(passage: SaidPassage, longest: int = 260) -> str:
    """The words of a passage with what was stated just before and after it in the same turn."""
    if passage.line.kind != "turn":
        return passage.text
    said = list(sentences(own_words(passage.line.text)))
    first, last = passage.place, passage.place + passage.size
    if first > 0 and not said[first - 1][1]:
        first -= len(passage.text) + len(said[first - 1][0]) <= longest - 60
    text = " ".join(sentence for sentence, _ in said[first:last])
    while last < len(said) and not said[last][1] and len(text) + len(said[last][0]) < longest:
        text = f"{text} {said[last][0]}"
        last += 1
    return text
