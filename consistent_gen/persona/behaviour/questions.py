"""Multiple-choice questions put to personas: what was answered, declined or not understood.

Four audits are made of the same table of answers (`playing_pretend`, `persona_paradox`,
`bias_runs_deep`, `variant_consistency`). Questions are the user's; none ship with the package.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import (
    ask,
    asked,
    chosen_letter,
    last_integer,
    refused,
    speaking_as,
)
from consistent_gen.persona.persona import Persona

Outcome: TypeAlias = Literal["right", "wrong", "abstained", "unparsable"]
NOBODY = ""  # the id under which answers without a persona stand


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with its options, the number of the right one, and where it belongs.

    context: the setting or the set that it is from. levels: the options are ordered, such as
    degrees of urgency, so that a wrong answer is too high or too low.
    """

    id: str
    text: str
    options: tuple[str, ...]
    right: int
    context: str = ""
    levels: bool = False

    def __post_init__(self) -> None:
        if not 2 <= len(self.options) <= 26 or not 0 <= self.right < len(self.options):
            raise InputError(
                f"question {self.id!r} has {len(self.options)} options and {self.right} as the "
                "right one; expected 2 to 26 options, counted from 0"
            )

    @property
    def prompt(self) -> str:
        """What is asked, with lettered options."""
        lines = [f"{chr(65 + i)}. {option}" for i, option in enumerate(self.options)]
        return "\n".join([self.text, *lines, 'End with: "The answer is" and the letter.'])


CONFIDENCE = " Then say how sure you are, as a whole number from 0 to 100."


@dataclass(frozen=True)
class Answer:
    """One trial. chosen: number of the option, None where there is none; confidence in 0..1."""

    outcome: Outcome
    chosen: int | None = None
    confidence: float | None = None
    reply: str = ""


@dataclass(frozen=True)
class Answers:
    """All trials: of persona id, question number and trial. `NOBODY` answers without a persona."""

    questions: tuple[ChoiceQuestion, ...]
    of: Mapping[str, tuple[tuple[Answer, ...], ...]] = field(default_factory=dict)

    def accuracy(self, persona: str) -> list[float]:
        """Share of right answers for each question; what was declined or unclear is not right."""
        return [sum(a.outcome == "right" for a in row) / len(row) for row in self.of[persona]]

    def count(self, persona: str, outcome: Outcome) -> int:
        """Trials that came out so."""
        return sum(a.outcome == outcome for row in self.of[persona] for a in row)

    def trials(self, persona: str) -> int:
        """All of them."""
        return sum(len(row) for row in self.of[persona])


def answer_all(
    model: LanguageModel, personas: Sequence[Persona | None], questions: Sequence[ChoiceQuestion],
    *, trials: int = 1, confidence: bool = False, duties: str = "",
) -> Answers:  # fmt: skip
    """Every persona (None: nobody) answers every question so often, each in a new conversation."""
    if not questions or trials < 1:
        raise InputError(f"{len(questions)} questions, {trials} trials; expected 1 or more of both")
    ids = [NOBODY if persona is None else persona.id for persona in personas]
    if len(set(ids)) < len(ids):
        raise InputError("two personas share an id")
    of = {}
    for id, persona in zip(ids, personas, strict=True):
        rows = []
        for question in questions:
            prompt = question.prompt + (CONFIDENCE if confidence else "")
            replies = [ask(model, persona, prompt, duties=duties) for _ in range(trials)]
            rows.append(tuple(read_answer(question, reply, confidence) for reply in replies))
        of[id] = tuple(rows)
    return Answers(tuple(questions), of)


def read_answer(question: ChoiceQuestion, reply: str, confidence: bool = False) -> Answer:
    """What a reply says: a letter wins over a refusal, since models apologise and answer."""
    letter = chosen_letter(reply, len(question.options))
    percent = last_integer(reply, 0, 100) if confidence else None
    sure = None if percent is None else percent / 100.0
    if letter is None:
        return Answer("abstained" if refused(reply) else "unparsable", None, sure, reply)
    chosen = ord(letter) - ord("A")
    return Answer("right" if chosen == question.right else "wrong", chosen, sure, reply)


# What is planted.


@dataclass(frozen=True)
class ScriptedSolver:
    """Knows a share of the questions, by the name of who it is ("" is nobody) and the context.

    knows: (name, context) -> probability of the right answer; (name, "") for all contexts.
    declines: how often by name; babbles: how often a reply says nothing. stubborn: the probability
    that a question's fate is settled once for all trials; 1 makes them all alike. It is as sure as
    it is likely to be right, and by `overshoot` more. upward: how often a wrong answer is a higher
    level.
    """

    knows: Mapping[tuple[str, str], float]
    questions: Mapping[str, ChoiceQuestion]
    declines: Mapping[str, float] = field(default_factory=dict)
    babbles: float = 0.0
    stubborn: float = 0.0
    overshoot: float = 0.0
    upward: float | None = None
    seed: int = 0

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        question = self.questions.get(asked(messages).partition("\n")[0])
        if question is None:
            return None
        name = speaking_as(messages)
        if draw.random() < self.declines.get(name, 0.0):
            return "I'm sorry, but I would rather not answer that."
        if draw.random() < self.babbles:
            return "It depends."
        p = self.knows.get((name, question.context), self.knows.get((name, ""), 0.5))
        settled = random.Random(f"{self.seed} {question.id} {name}")
        source = settled if settled.random() < self.stubborn else draw
        chosen = question.right if source.random() < p else self._wrong(question, source)
        percent = round(100 * min(max(p + self.overshoot, 0.0), 1.0))
        sure = f" I am {percent} sure." if asked(messages).endswith(CONFIDENCE) else ""
        return f"The answer is {chr(65 + chosen)}.{sure}"

    def _wrong(self, question: ChoiceQuestion, source: random.Random) -> int:
        others = [i for i in range(len(question.options)) if i != question.right]
        if self.upward is not None:
            higher = source.random() < self.upward
            side = [i for i in others if (i > question.right) == higher]
            return source.choice(side or others)
        return source.choice(others)


def scripted_questions(
    count: int, contexts: Sequence[str] = ("",), options: int = 4, levels: bool = False
) -> list[ChoiceQuestion]:
    """Numbered questions whose right answers go round; contexts in turn."""
    return [
        ChoiceQuestion(f"q{i}", f"Question number {i}?",
                       tuple(f"choice {k}" for k in range(options)),
                 (i * 7 + i // 5) % options, contexts[i % len(contexts)], levels)
        for i in range(count)
    ]  # fmt: skip


def by_text(questions: Sequence[ChoiceQuestion]) -> dict[str, ChoiceQuestion]:
    """For `ScriptedSolver`."""
    return {question.text: question for question in questions}
