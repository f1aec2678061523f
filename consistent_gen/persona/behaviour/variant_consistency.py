"""Does one persona answer alike, however it is worded? Stability beside information and accuracy.

One persona in several wordings answers the same questions; agreement over wordings is the measure
(our own definition, after information-consistent answers, arXiv 2512.12858, whose formulas are not
public). Agreement alone rewards who always says the same: so the report has how much the answers
tell the questions apart, too, and refusals are never counted as agreement.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import ask, asked, refused, words
from consistent_gen.persona.measurement import MeasuredItem, Measurement, PersonaReport
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.statistics import mean

_EMPTY = {
    "a", "an", "the", "and", "or", "but", "i", "you", "he", "she", "it", "we", "they", "is", "are",
    "was", "be", "to", "of", "in", "on", "at", "for", "with", "my", "your", "that", "this", "do",
    "does", "have", "has", "as", "so", "not",
}  # fmt: skip


def content_words(text: str) -> list[str]:
    """The lower-case words of a text that carry content, in their order."""
    return [word for word in words(text) if word not in _EMPTY]


def content(answer: str) -> frozenset[str]:
    """The different content words of an answer; none where it declines."""
    return frozenset() if refused(answer) else frozenset(content_words(answer))


def jaccard(x: frozenset[str], y: frozenset[str]) -> float:
    """How much two sets share, 0..1; 0 where one is empty."""
    return len(x & y) / len(x | y) if x and y else 0.0


def overlap(a: str, b: str) -> float:
    """Jaccard of the content words of two answers, 0..1; 0 where one has none or declines."""
    return jaccard(content(a), content(b))


def of_answers(subject: str, answers: Mapping[str, Sequence[str]]) -> PersonaReport:
    """The report on answers by question, one for each wording of the persona.

    "stability": mean overlap of two wordings' answers to one question. "distinctness": one less the
    mean overlap of answers to different questions in one wording; a constant answer has 0.
    "declined": the share of refusals.
    """
    counts = {len(some) for some in answers.values()}
    if len(answers) < 2 or len(counts) != 1 or min(counts) < 2:
        raise InputError("expected two questions or more, with an answer from each of two wordings "
                         "or more")  # fmt: skip
    items = []
    for question, some in answers.items():
        agree = np.mean([overlap(a, b) for a, b in itertools.combinations(some, 2)])
        items.append(MeasuredItem(question, float(agree), question, " | ".join(some)))
    stable = mean([item.value for item in items])
    apart = [
        1.0 - overlap(x, y)
        for first, second in itertools.combinations(answers.values(), 2)
        for x, y in zip(first, second, strict=True)
    ]
    told = float(np.mean(apart))
    flat = [text for some in answers.values() for text in some]
    silent = sum(refused(text) for text in flat) / len(flat)
    return PersonaReport(subject, (
        Measurement("stability", stable.value, stable.low, stable.high, stable.n,
                    items=tuple(items)),
        Measurement("distinctness", told, n=len(apart), note="0 for one constant answer"),
        Measurement("declined", silent, n=len(flat), direction="lower"),
    ))  # fmt: skip


def variant_consistency(
    model: LanguageModel, wordings: Sequence[Persona], questions: Sequence[str]
) -> PersonaReport:
    """Every wording of one persona answers every question, once."""
    answers = {q: [ask(model, wording, q) for wording in wordings] for q in questions}
    return of_answers(model.name, answers)


# What is planted.


@dataclass(frozen=True)
class Steady:
    """Names three things that belong to the question, and three of its own with a probability of
    1 - `steady`.
    """

    steady: float

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        if not asked(messages).startswith("What about "):
            return None
        number = asked(messages).removeprefix("What about ").rstrip("?")
        own = "" if draw.random() < self.steady else f"own{draw.randrange(10**9)}"
        return " ".join(f"thing{k}of{number}{own}" for k in range(3))


def scripted_wordings(count: int) -> list[Persona]:
    """One person, said in different ways."""
    return [Persona(f"w{i}", "Wren", f"Wording number {i}.") for i in range(count)]


def recover(seed: int, parameter: float) -> Measurement:
    """The stability of answers that are the common ones so often; two agree when both are, so the
    parameter is the square root of what is planted as agreement.
    """
    model = Scripted(Steady(math.sqrt(parameter)), seed=seed)
    questions = [f"What about {i}?" for i in range(40)]
    return variant_consistency(model, scripted_wordings(4), questions)["stability"]
