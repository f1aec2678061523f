"""Which remembered passage answers a question, by a few learnt weights, and how sure that is.

Each passage has features (columns of `passage_features`): meaning, shared words, the kind of thing
that is asked for, who is meant, how new it is, whether something later overtook it. Their weighted
sums and one constant for "none of them" go through a softmax, so that a passage's share says how
likely it answers and a weak match is no answer. The weights were learnt on 270 questions of 18
conversations of 40 turns by 18 voices (`docs/log.md`, 2026-11-30.4), with as few columns as did not
lose there when whole conversations were held out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consistent_gen.language.embedders import TextEmbedder, Vectors
from consistent_gen.memory.talk.passages import SUPPOSED, SaidPassage, holds, names_in
from consistent_gen.memory.talk.questions import AskedFor, also_said, denies, stem, stems_of

Column = NDArray[np.float64]

_CHANGED = re.compile(
    r"\b(?:now|from (?:next|now|today)|moved?|moving|chang\w+|instead|no longer|any ?more|new|"
    r"switch\w*|swapp?\w*|increased|reduced|put (?:me|him|her) (?:up|down|on)|taking over|actually|"
    r"turns? out|put back|brought forward|advanced|after all|not \w+ but)\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:I|me|my|mine|we|us|our|i|im|ive)\b")
# What leans on the sentence before it: few words, or a pronoun at its start.
_LEANS = re.compile(
    r"^\W*(?:(?:and|but|so|well|oh) )?(?:he|she|they|it|that|this|him|her|his|its|their|there)\b",
    re.IGNORECASE,
)
_SHORT = 5
_DATED = ("when", "day", "date", "year", "long", "clock", "often")
_COUNTED = ("number", "age", "money")
# How much the topic of a question counts in a word however frequent it is.
_EVEN = 0.5
# What was learnt: mean and deviation of a column, and its weight; then the constant of "none of
# them". Without an embedder three columns are empty.
_LEARNT = {
    "alone": (0.1433, 0.1202, 0.1473),
    "led": (0.1569, 0.1255, 0.4093),
    "whole": (0.2035, 0.1235, 0.7220),
    "shared": (0.0385, 0.1613, -0.0316),
    "around": (0.1142, 0.2712, 0.1237),
    "holds": (0.5075, 0.4999, 1.4451),
    "nameless": (0.3214, 0.4670, -0.2285),
    "astray": (0.2745, 0.4463, -0.4958),
    "new": (0.5354, 0.2910, 0.6690),
    "new_now": (0.1060, 0.2495, 0.2013),
    "changed": (0.1038, 0.3051, 0.3533),
    "denies": (0.1953, 0.3964, 0.1389),
    "ended": (0.0461, 0.2097, -0.4894),
    "of_user": (0.1493, 0.3564, -0.1870),
    "supposed": (0.0048, 0.0692, -0.1694),
    "words_and_kind": (0.0224, 0.1244, 0.1132),
    "later_change": (0.6240, 0.2842, 0.0537),
    "later_answer": (0.3556, 0.3802, -0.3367),
    "update": (0.0133, 0.0952, 0.0482),
    "asks_whether": (0.1226, 0.3279, -0.6947),
    "asks_name": (0.1845, 0.3879, 0.0579),
    "asks_time": (0.3012, 0.4588, -0.0214),
    "asks_number": (0.1135, 0.3172, 0.2037),
    "asks_of_somebody": (0.4005, 0.4900, -0.2331),
}
_NONE = 5.3131
_BY_WORDS = {
    "shared": (0.0385, 0.1613, 0.0829),
    "around": (0.1142, 0.2712, 0.5636),
    "holds": (0.5075, 0.4999, 1.6611),
    "nameless": (0.3214, 0.4670, -0.5734),
    "astray": (0.2745, 0.4463, -0.4945),
    "new": (0.5354, 0.2910, 0.3771),
    "new_now": (0.1060, 0.2495, 0.1637),
    "changed": (0.1038, 0.3051, 0.3393),
    "denies": (0.1953, 0.3964, 0.1746),
    "ended": (0.0461, 0.2097, -0.5427),
    "of_user": (0.1493, 0.3564, -0.2830),
    "supposed": (0.0048, 0.0692, -0.1862),
    "words_and_kind": (0.0224, 0.1244, 0.1277),
    "later_change": (0.6240, 0.2842, -0.2542),
    "later_answer": (0.3556, 0.3802, -0.2244),
    "update": (0.0133, 0.0952, 0.0468),
    "asks_whether": (0.1226, 0.3279, -0.5468),
    "asks_name": (0.1845, 0.3879, 0.2053),
    "asks_time": (0.3012, 0.4588, 0.3121),
    "asks_number": (0.1135, 0.3172, 0.2176),
    "asks_of_somebody": (0.4005, 0.4900, 0.1695),
}
_NONE_BY_WORDS = 4.9278


@dataclass(frozen=True)
class ScoredPassage:
    """A passage and how it answers a question.

    score: the share (0 to 1) of it among all passages and "none of them".
    sure: the share of all passages of the same turn or record.
    holds: whether it has the kind of thing that is asked for, and its turn the word for it.
    """

    passage: SaidPassage
    score: float
    sure: float
    holds: bool


class PassageScorer:
    """Scores passages for questions; sentences that were embedded before are not embedded again."""

    def __init__(self, embedder: TextEmbedder | None) -> None:
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}

    @property
    def by_meaning(self) -> bool:
        """Whether meaning is compared, not words alone."""
        return self._embedder is not None

    def score(
        self,
        question: AskedFor,
        passages: Sequence[SaidPassage],
        known: Mapping[str, Vectors] | None = None,
    ) -> list[ScoredPassage]:
        """All passages, best first. known: vectors of whole turns and records, by id."""
        if not passages:
            return []
        meaning = self._meaning(question, passages, known or {})
        columns = passage_features(question, passages, meaning)
        weights, none = (_BY_WORDS, _NONE_BY_WORDS) if meaning is None else (_LEARNT, _NONE)
        odds = np.full(len(passages), -none)
        for name, (mean, deviation, weight) in weights.items():
            odds += weight * (columns[name] - mean) / deviation
        parts = np.exp(np.append(odds, 0.0) - max(0.0, float(odds.max())))
        shares = parts[:-1] / parts.sum()
        sure: Counter[str] = Counter()
        for passage, share in zip(passages, shares.tolist(), strict=True):
            sure[passage.line.id] += share
        holding = (columns["holds"] > 0) & (columns["astray"] == 0)
        scored = [
            ScoredPassage(p, share, sure[p.line.id], held)
            for p, share, held in zip(passages, shares.tolist(), holding.tolist(), strict=True)
        ]
        return sorted(scored, key=lambda s: (-s.score, s.passage.line.id, s.passage.place))

    def _meaning(
        self, question: AskedFor, passages: Sequence[SaidPassage], known: Mapping[str, Vectors]
    ) -> tuple[Column, Column, Column] | None:
        """Cosines of the question to sentences, to them with what they lean on, to whole turns."""
        if self._embedder is None:
            return None
        if len(self._vectors) > 5_000:
            self._vectors.clear()
        own = self._vectors
        # What is a record or a turn by itself was embedded when it was kept.
        whole = [known.get(p.line.id) for p in passages]
        alone = [v if p.text == p.whole else None for p, v in zip(passages, whole, strict=True)]
        texts = [question.text]
        for p, turn, vector in zip(passages, whole, alone, strict=True):
            texts += [p.whole] if turn is None else []
            texts += [p.text] if vector is None else []
            texts += [_with_before(p)] if _with_before(p) != p.text else []
        new = [text for text in dict.fromkeys(texts) if text not in own]
        if new:
            own |= dict(zip(new, self._embedder.text(new), strict=True))
        asked = own[question.text]
        sentences = [own[p.text] if v is None else v for p, v in zip(passages, alone, strict=True)]
        led = [
            own[text] if (text := _with_before(p)) != p.text else vector
            for p, vector in zip(passages, sentences, strict=True)
        ]
        turns = [own[p.whole] if v is None else v for p, v in zip(passages, whole, strict=True)]
        rows = (np.stack(each) @ asked for each in (sentences, led, turns))
        first, second, third = (row.astype(np.float64) for row in rows)
        return first, second, third


def _with_before(passage: SaidPassage) -> str:
    leans = len(passage.text.split()) <= _SHORT or _LEANS.match(passage.text)
    return f"{passage.before} {passage.text}".strip() if leans else passage.text


def passage_features(
    question: AskedFor,
    passages: Sequence[SaidPassage],
    meaning: tuple[Column, Column, Column] | None,
) -> dict[str, Column]:
    """What speaks for and against each of n passages: columns of length n."""
    n = len(passages)
    alone, led, whole = meaning or (np.zeros(n), np.zeros(n), np.zeros(n))
    found = {"alone": alone, "led": led, "whole": whole}
    found |= _shared_words(question, passages)
    known = names_in(passages)
    names = {stem(name) for name in question.names}
    of_user = _FIRST_PERSON.search(question.text) is not None
    times = sorted({p.line.date for p in passages})
    rank = {at: (place + 1) / len(times) for place, at in enumerate(times)}

    def column(values: Sequence[float | bool]) -> Column:
        return np.array(values, np.float64)

    around = [p.about | stems_of(f"{p.label} {p.before} {p.whole}") for p in passages]
    needed = {question.essential} | also_said(question.essential) if question.essential else set()
    found["holds"] = column([holds(question, p, known) for p in passages])
    found["nameless"] = column([bool(names) and not names & words for words in around])
    found["astray"] = column([bool(needed) and not needed & words for words in around])
    found["new"] = column([rank[p.line.date] for p in passages])
    found["new_now"] = found["new"] * question.now
    found["changed"] = column([bool(_CHANGED.search(p.text)) for p in passages])
    found["denies"] = column([denies(p.text) for p in passages])
    found["ended"] = column([p.ended for p in passages])
    found["of_user"] = column(
        [not of_user and bool(_FIRST_PERSON.search(p.text)) for p in passages]
    )
    found["supposed"] = column([bool(SUPPOSED.search(p.text)) for p in passages])
    found["words_and_kind"] = found["shared"] * found["holds"]
    found |= _overtaken(passages, found)
    for name, told in (
        ("asks_whether", question.wants == "whether"),
        ("asks_name", question.wants in ("person", "name")),
        ("asks_time", question.wants in _DATED),
        ("asks_number", question.wants in _COUNTED),
        ("asks_of_somebody", bool(question.names)),
    ):
        found[name] = np.full(n, float(told))
    return found


def _shared_words(question: AskedFor, passages: Sequence[SaidPassage]) -> dict[str, Column]:
    """The share of the question's words, the rare ones more, in a passage and around it."""
    around = {p.line.id: stems_of(f"{p.whole} {p.before}") for p in passages}
    frequent = Counter(word for words in around.values() for word in words)
    weights = {
        word: math.log((len(around) + 1.5) / (frequent[word] + 0.5)) + _EVEN
        for word in question.topics
    }
    total = sum(weights.values()) or 1.0

    def share(words: Collection[str]) -> float:
        own = frozenset(words)
        had = (w for w in weights if w in own or (also_said(w) | question.also(w)) & own)
        return sum(weights[w] for w in had) / total

    own = [p.about | stems_of(f"{p.label} {p.text}") for p in passages]
    wide = [words | around[p.line.id] for words, p in zip(own, passages, strict=True)]
    return {
        "shared": np.array([share(words) for words in own]),
        "around": np.array([share(words) for words in wide]),
    }


def _overtaken(passages: Sequence[SaidPassage], found: Mapping[str, Column]) -> dict[str, Column]:
    """What later passages tell of the same, and what a passage changes of earlier ones."""
    n = len(passages)
    base = 0.5 * np.maximum(found["alone"], found["led"]) + 0.5 * found["shared"]
    tells = np.maximum(found["changed"], found["denies"])
    answers = found["around"] * found["holds"]
    dates = np.array([p.line.date for p in passages])
    change, later_answer, update = np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        later, earlier = dates > dates[i], dates < dates[i]
        told = later & (tells > 0)
        if told.any():
            change[i] = np.clip(base[told].max() - base[i], -0.5, 0.5) + 0.5
        if later.any():
            later_answer[i] = (answers * (0.5 + 0.5 * tells))[later].max()
        if earlier.any():
            update[i] = (found["shared"] * found["holds"])[earlier].max()
    update *= found["around"] * tells
    return {"later_change": change, "later_answer": later_answer, "update": update}
