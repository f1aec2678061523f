"""Which older fact a turn ends, found by meaning where the words for it are new.

`known_facts` finds what a sentence replaces by the words that both share. People rarely repeat
themselves so: "Mama slipped in the bathroom, she is with us now" ends "she lives in Awka". Here the
turn is compared with every older fact by how near they are in meaning, by their rarest shared
words, by their dates and hours, and by whether the turn tells of a change. How much each of these
counts was learnt by logistic regression from conversations in which readers marked what ended and
when (``python -m benchmarks.replacement``).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consistent_gen.language.embedders import TextEmbedder, Vectors
from consistent_gen.language.words import COUNTED
from consistent_gen.memory.data.operations import Delete
from consistent_gen.memory.data.records import Fact, Turn
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.clauses import own_words, sentences
from consistent_gen.memory.listening.known_facts import negative, tells_of_change, topic_words

Columns = NDArray[np.float64]

# name of a feature: mean and standard deviation in what was learnt from, and its weight.
_LEARNT: dict[str, tuple[float, float, float]] = {
    "meaning": (0.1927, 0.0999, 0.1637),
    "turn": (0.1840, 0.1110, 0.7169),
    "shared": (0.1706, 0.4782, 0.2261),
    "rarest": (0.3523, 0.9992, 0.2210),
    "changes": (0.2591, 0.4381, 0.5698),
    "denies": (0.1590, 0.3656, 0.2232),
    "meaning_rank": (0.0760, 0.1501, 0.1218),
    "turn_rank": (0.0737, 0.1451, 0.0681),
    "shared_rank": (0.0745, 0.1496, 0.3336),
    "date": (0.0313, 0.1742, 0.1716),
    "weekday": (0.0126, 0.1116, 0.0974),
    "hour": (0.0063, 0.0789, 0.0022),
}
_BIAS = -7.8487
# From these log-odds on a fact is taken for ended, at most so many by one turn. Chosen on eight
# conversations that the weights were not learnt from; below zero, since readers marked one sentence
# of several that tell the same.
LEAST, _MOST = -1.0, 2
# What tells of no change and of no other time ends nothing, however near it is.
TOLD_BY = ("changes", "denies", "date", "weekday", "hour")
_SENTENCES = 8
_HOURS = "|".join(word for word in [*COUNTED][1:13])
_TIMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:\d{1,2}(?:st|nd|rd|th)|(?:twenty|thirty)-\w+|(?:jan|feb|aug|sept|oct|nov|dec)\w*|"
        r"march|april|may|june|july|christmas|easter)\b",
        r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b",
        rf"\b\d{{1,2}}(?:[.:]\d\d)? ?[ap]m\b|\b\d{{1,2}}[.:]\d\d\b|\b(?:half|quarter) (?:past|to) "
        rf"\w+|\b(?:at|till|until) (?:\d{{1,2}}|{_HOURS})\b",
    )
)


@dataclass(frozen=True)
class Statements:
    """Texts, their vectors and those of the turns that they are from, one row each."""

    texts: Sequence[str]
    vectors: Vectors
    turn_vectors: Vectors


class ReplacementFinder:
    """Compares a new turn with the facts of a store; needs an embedder that knows meaning."""

    def __init__(self, store: Store, embedder: TextEmbedder) -> None:
        self._store, self._embedder = store, embedder

    def ended_by(self, turn: Turn, facts: Sequence[Fact], besides: Collection[str]) -> list[Delete]:
        """The ends of those of ``facts`` that ``turn`` replaces, mostly none.

        facts: live ones, indexed together with their turns as ``turn`` is; others are passed over.
        besides: ids of facts that something else was decided on already.
        """
        said = [text for text, asked in sentences(own_words(turn.text)) if not asked]
        facts = [f for f in facts if f.topic != "relation" and f.evidence and f.text]
        ids = [turn.id, *(f.id for f in facts), *(f.evidence[-1] for f in facts)]
        known = self._store.vectors(self._embedder.space, list(dict.fromkeys(ids)))
        facts = [f for f in facts if f.id in known and f.evidence[-1] in known]
        if not said or not facts or turn.id not in known:
            return []
        older = Statements(
            [f.text for f in facts],
            np.stack([known[f.id] for f in facts]),
            np.stack([known[f.evidence[-1]] for f in facts]),
        )
        said = said[:_SENTENCES]
        repeated = np.repeat(known[turn.id][None], len(said), axis=0)
        found = pair_features(older, Statements(said, self._embedder.text(said), repeated))
        told = np.max([found[name] for name in TOLD_BY], axis=0) > 0
        scores = np.where(told, logits(found), -np.inf)
        ended = [facts[i] for i in np.argsort(-scores)[:_MOST] if scores[i] >= LEAST]
        return [
            Delete(kind="fact", target=fact.id, evidence=(turn.id,))
            for fact in ended
            if fact.id not in besides
        ]


def pair_features(older: Statements, said: Statements) -> dict[str, Columns]:
    """How each of n older statements stands to a turn of m sentences: columns of length n."""
    words = [topic_words(text) for text in older.texts]
    new = [topic_words(text) for text in said.texts]
    frequent = Counter(word for each in words for word in each)

    def rarity(shared: Collection[str]) -> list[float]:
        return [math.log((len(words) + 1.5) / (frequent[word] + 0.5)) for word in shared]

    near = older.vectors @ said.vectors.T
    together = frozenset().union(*new)
    shared = np.array([math.log1p(sum(rarity(own & together))) for own in words])
    rarest = np.array([max(rarity(own & together), default=0.0) for own in words])
    # The sentence that speaks of the older statement, by words first and then by meaning.
    leading = [
        max(range(len(new)), key=lambda j: sum(rarity(own & new[j])) + near[i, j])
        for i, own in enumerate(words)
    ]
    around = [" ".join(said.texts[max(0, j - 1) : j + 2]) for j in range(len(new))]
    changes = [float(tells_of_change(text)) for text in around]
    denials = [float(negative(text)) for text in said.texts]
    meaning = near.max(axis=1).astype(np.float64)
    turns = (older.turn_vectors @ said.turn_vectors[0]).astype(np.float64)
    found = {
        "meaning": meaning,
        "turn": turns,
        "shared": shared,
        "rarest": rarest,
        "changes": np.array([changes[j] for j in leading]),
        "denies": np.array([denials[j] for j in leading]),
        "meaning_rank": _reciprocal_rank(meaning),
        "turn_rank": _reciprocal_rank(turns),
        "shared_rank": _reciprocal_rank(shared),
    }
    times = [_times(text) for text in around]
    old_times = [_times(text) for text in older.texts]
    for place, name in enumerate(("date", "weekday", "hour")):
        pairs = [(own[place], times[j][place]) for own, j in zip(old_times, leading, strict=True)]
        found[name] = np.array([float(bool(a and b) and not a & b) for a, b in pairs])
    return found


def logits(features: dict[str, Columns]) -> Columns:
    """The learnt log-odds, (n,), that the turn ends each older statement."""
    total = np.full(len(features["meaning"]), _BIAS)
    for name, (mean, deviation, weight) in _LEARNT.items():
        total += weight * (features[name] - mean) / deviation
    return total


def _reciprocal_rank(values: Columns) -> Columns:
    ranks = np.empty(len(values))
    ranks[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return 1 / ranks


def _times(text: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(m[0].casefold() for m in p.finditer(text)) for p in _TIMES)
