"""Which remembered concepts does a sentence mean? By alias, by spelling and class, by meaning.

The stages go from certain to vague and stop at the first that finds something. Several equally
good candidates are a tie, and a tie is asked about, never guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.memory.data.records import Concept
from consistent_gen.memory.recall.indexing import embedding_text

How: TypeAlias = Literal["alias", "class", "fuzzy", "meaning"]
FUZZY_RATIO = 0.8
MEANING_COSINE = 0.45
MEANING_MARGIN = 0.05
_WORD = re.compile(r"[^\W_][\w'\u2019-]*")


@dataclass(frozen=True, kw_only=True)
class ConceptMention:
    """``words`` of the sentence and the concepts they may mean; more than one is a tie."""

    words: str
    candidates: tuple[Concept, ...]
    how: How

    @property
    def tie(self) -> bool:
        return len(self.candidates) > 1

    @property
    def question(self) -> str:
        """What to ask the user on a tie."""
        names = " or ".join(_introduced(concept) for concept in self.candidates)
        return f"Which one do you mean by {self.words!r}: {names}?"


def find_mentions(
    text: str, concepts: Sequence[Concept], embedder: TextEmbedder | None = None
) -> tuple[ConceptMention, ...]:
    """The concepts that ``text`` mentions, in the order of the sentence; empty when none."""
    return (
        _by_alias(text, concepts)
        or _by_class(text, concepts)
        or _by_spelling(text, concepts)
        or (_by_meaning(text, concepts, embedder) if embedder is not None and concepts else ())
    )


def _by_alias(text: str, concepts: Sequence[Concept]) -> tuple[ConceptMention, ...]:
    owners: dict[str, list[Concept]] = {}
    for concept in concepts:
        for alias in {concept.name.casefold(), *(a.casefold() for a in concept.aliases)}:
            if alias.strip():
                owners.setdefault(alias, []).append(concept)
    if not owners:
        return ()
    # Longer names first, so that "Bo Junior" is not read as "Bo".
    names = sorted(owners, key=lambda name: (-len(name), name))
    pattern = r"(?<!\w)(" + "|".join(re.escape(name) for name in names) + r")(?!\w)"
    found: dict[str, ConceptMention] = {}
    for match in re.finditer(pattern, text.casefold()):
        name = match[1]
        found.setdefault(
            name, ConceptMention(words=name, candidates=tuple(owners[name]), how="alias")
        )
    return tuple(found.values())


def _by_class(text: str, concepts: Sequence[Concept]) -> tuple[ConceptMention, ...]:
    """ "my dog", "the dog": every concept of that class."""
    found = []
    for match in re.finditer(r"\b(?:my|our|the)\s+([^\W_][\w-]*)", text.casefold()):
        same = tuple(c for c in concepts if c.class_name and c.class_name.casefold() == match[1])
        if same:
            found.append(ConceptMention(words=match[0], candidates=same, how="class"))
    return tuple(found)


def _by_spelling(text: str, concepts: Sequence[Concept]) -> tuple[ConceptMention, ...]:
    best: list[tuple[float, str, Concept]] = []
    for word in _WORD.findall(text):
        # Only words that look like names: common words are near too many names.
        if not word[0].isupper() or len(word) < 3:
            continue
        for concept in concepts:
            ratio = max(
                difflib.SequenceMatcher(None, word.casefold(), name.casefold()).ratio()
                for name in (concept.name, *concept.aliases)
            )
            if ratio >= FUZZY_RATIO:
                agrees = (
                    bool(concept.class_name) and concept.class_name.casefold() in text.casefold()
                )
                best.append((ratio + 0.1 * agrees, word, concept))
    if not best:
        return ()
    top = max(score for score, _, _ in best)
    winners = [(word, concept) for score, word, concept in best if score == top]
    candidates = tuple({concept.id: concept for _, concept in winners}.values())
    return (ConceptMention(words=winners[0][0], candidates=candidates, how="fuzzy"),)


def _by_meaning(
    text: str, concepts: Sequence[Concept], embedder: TextEmbedder
) -> tuple[ConceptMention, ...]:
    described = embedder.text([f"{c.class_name} {embedding_text(c)}" for c in concepts])
    cosines = described @ embedder.text([text])[0]
    top = float(np.max(cosines))
    if top < MEANING_COSINE:
        return ()
    near = tuple(
        concept
        for concept, cosine in zip(concepts, cosines, strict=True)
        if cosine >= top - MEANING_MARGIN
    )
    return (ConceptMention(words=text.strip()[:60], candidates=near, how="meaning"),)


def _introduced(concept: Concept) -> str:
    return f"{concept.name} the {concept.class_name}" if concept.class_name else concept.name
