"""Does a persona keep to what is true of it? APC, statement by statement (arXiv 2405.07726).

A statement that a question touches must be entailed by the answer (active), every other one must
not be contradicted (passive). With g the probability that the question touches statement s:

    APC  = sum_s  g P(entailed) + (1 - g)(1 - P(contradicted))                         (Eq. 4)
    dAPC = APC - sum_s (1 - g)  =  sum_s g P(entailed)  -  sum_s (1 - g) P(contradicted)

so an answer that says nothing has a dAPC of 0, and the two sums are told apart. Divided by the
number of statements it compares personas of different size (ours). An answer that denies what it is
asked about has a dAPC of 0 as well, no less than silence: so the statements that an answer
contradicts, asked about or not, are counted beside it (ours).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.cards.prose import sentences
from consistent_gen.persona.evaluate.pair_scorer import asked_and_said, tools
from consistent_gen.persona.judging import Nli, PairScorer
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.persona import Persona, Statement
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.statistics import measured
from consistent_gen.rewards.statements import Judged, active_passive

MAX_CLAUSES = 40  # of an answer
SHOWN = 0.5  # a statement is explained as touched, kept or broken from this probability on


@dataclass(frozen=True)
class StatementScore:
    """What one answer does to one statement. active, passive: its two parts of dAPC."""

    statement: Statement
    judged: Judged

    @property
    def active(self) -> float:
        return self.statement.weight * self.judged.relevant * self.judged.entailed

    @property
    def passive(self) -> float:
        """The penalty, as a positive number."""
        return self.statement.weight * (1.0 - self.judged.relevant) * self.judged.contradicted

    @property
    def why(self) -> str:
        """In a sentence."""
        touched = "is asked about" if self.judged.relevant >= SHOWN else "is not asked about"
        if self.judged.contradicted >= SHOWN:
            done = "is contradicted"
        elif self.judged.entailed >= SHOWN:
            done = "is kept"
        else:
            done = "is left alone"
        return f"{touched} and {done} ({self.judged.contradicted:.2f} contradicted, " \
               f"{self.judged.entailed:.2f} entailed)"  # fmt: skip


@dataclass(frozen=True)
class Faithfulness:
    """APC of one answer. apc in [0, n] with n statements of weight 1; dapc may be negative."""

    question: str
    reply: str
    scores: tuple[StatementScore, ...]

    @property
    def apc(self) -> float:
        if all(s.statement.weight == 1.0 for s in self.scores):
            return active_passive([s.judged for s in self.scores])
        return self.dapc + sum(s.statement.weight * (1.0 - s.judged.relevant) for s in self.scores)

    @property
    def active(self) -> float:
        return sum(s.active for s in self.scores)

    @property
    def passive(self) -> float:
        return sum(s.passive for s in self.scores)

    @property
    def broken(self) -> tuple[StatementScore, ...]:
        """The statements that the answer contradicts, the surest first."""
        found = [s for s in self.scores if s.judged.contradicted >= SHOWN]
        return tuple(sorted(found, key=lambda s: -s.judged.contradicted))

    @property
    def dapc(self) -> float:
        return self.active - self.passive


def apc(
    statements: Sequence[Statement], question: str, reply: str, scorer: PairScorer
) -> Faithfulness:
    """Hold one answer against every statement.

    Raises:
        InputError: there is nothing to be faithful to.
    """
    if not statements:
        raise InputError("the persona has no statements; nothing to be faithful to")
    g = scorer.relevance([(s.text, question) for s in statements])
    said = _clauses(reply)
    pairs = [(s.text, asked_and_said(question, clause)) for s in statements for clause in said]
    each = scorer.nli(pairs)
    # What one clause says clearest is what the answer does to a statement.
    h = [
        max(each[start : start + len(said)], key=lambda n: max(n.entailed, n.contradicted))
        for start in range(0, len(each), len(said))
    ]
    judged = [Judged(r, n.entailed, n.contradicted) for r, n in zip(g, h, strict=True)]
    scores = tuple(StatementScore(s, j) for s, j in zip(statements, judged, strict=True))
    return Faithfulness(question, reply, scores)


# Where a sentence goes on to something else that is said of somebody.
_GOES_ON = re.compile(
    r",? (?:and|but) (?=(?:i|i'm|he|she|they|we|my|his|her|am|is|are|was|have|has|had|do|does|can|"
    r"never|lives?|wears?|likes?|loves?|hates?|keeps?|works?|owns?|wants?)\b)",
    re.IGNORECASE,
)


def _clauses(reply: str) -> list[str]:
    """An answer in pieces that each say one thing: a small scorer reads a long answer as a denial
    of most of what it says (ours; the paper scores answers whole).
    """
    found = [c.strip() for sentence in sentences(reply) for c in _GOES_ON.split(sentence)]
    return [clause for clause in found if clause][:MAX_CLAUSES] or [reply]


def questions_about(persona: Persona, count: int = 8) -> tuple[str, ...]:
    """Open questions for a persona whose author wrote none: one for every statement, in order,
    then general ones; of more statements than `count`, so many that lie equally far apart. Ours;
    the paper has a language model write three for each statement.
    """
    n = len(persona.statements)
    chosen = range(n) if n <= count else [i * n // max(count, 1) for i in range(max(count, 1))]
    asked = [
        f"Is it true what they say of you: {_of_you(persona.statements[i].text)}" for i in chosen
    ]
    general = ("Who are you?", "What do you do all day?", "What matters to you?",
               "What can't you stand?", "Tell me about your family.")  # fmt: skip
    return tuple([*asked, *general][: max(count, 1)])


def _of_you(text: str) -> str:
    """A statement in the first person, as said to that person."""
    swap = {"i": "you", "my": "your", "am": "are", "i'm": "you're", "me": "you", "mine": "yours",
            "i've": "you've"}  # fmt: skip
    words = [swap.get(word.casefold(), word) for word in text.rstrip(".! ").split()]
    return " ".join(words) + "?"


def faithfulness(
    persona: Persona, model: LanguageModel, scorer: PairScorer, questions: Sequence[str] = ()
) -> tuple[list[Measurement], list[Faithfulness]]:
    """Ask the model in the persona's place and hold every answer against every statement.

    Returns four measurements (statements that an answer contradicts; dAPC a statement, its active
    and its passive part; the interval is over questions) and what they are made of. An empty
    answer counts as failed.
    """
    asked = list(questions) or list(questions_about(persona))
    found: list[Faithfulness] = []
    failed = 0
    for question in asked:
        messages = (Message("system", persona.prompt()), Message("user", question))
        reply = model.chat(messages, max_tokens=160).strip()
        if reply:
            found.append(apc(persona.statements, question, reply, scorer))
        else:
            failed += 1
    n = len(persona.statements)
    told = tools(scorer)
    contradicted = [float(len(one.broken)) for one in found]
    return [
        measured("contradicted statements", contradicted, direction="lower", failed=failed,
                 tools=told, items=_items(found, contradicted), null=0.0, unit="an answer"),
        measured("dAPC per statement", [f.dapc / n for f in found], failed=failed, tools=told,
                 null=0.0),
        measured("active part", [f.active / n for f in found], failed=failed, tools=told),
        measured("passive penalty", [f.passive / n for f in found], direction="lower",
                 failed=failed, tools=told, null=0.0),
    ], found  # fmt: skip


def _items(found: Sequence[Faithfulness], values: Sequence[float]) -> tuple[MeasuredItem, ...]:
    """An answer each; `why` names the statement that it treats worst."""
    items = []
    for number, (one, value) in enumerate(zip(found, values, strict=True), 1):
        worst = max(one.scores, key=lambda s: s.judged.contradicted)
        why = f"{worst.statement.text!r} {worst.why}"
        items.append(MeasuredItem(f"question {number}", value, one.question, one.reply, why))
    return tuple(items)


# The truth that the measure is held to ---------------------------------------------------------


DENIAL = "It is false that "


class KeepsStatements:
    """A behaviour that answers by its statements: contradicts one with probability `breaks`.

    It reads the persona's statements ("- ...") from its system message and which one is asked from
    the question, as `questions_about` writes it.
    """

    def __init__(self, breaks: float) -> None:
        self.breaks = breaks

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        asked = messages[-1].content
        for line in messages[0].content.splitlines():
            text = line.removeprefix("- ")
            if line.startswith("- ") and _of_you(text) in asked:
                return said_or_denied(text, draw.random() < self.breaks)
        return "That has nothing to do with it."


class TruthTable:
    """A scorer that is right about scripted speakers, who say a statement ("Yes: ...") or deny it
    ("It is false that ..."): what is found is then the measure's own doing, and no scorer's.
    """

    name, accuracy = "table", "right by construction, about scripted answers only"

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """1 where the question is about the statement."""
        return [float(_of_you(statement) in question) for statement, question in pairs]

    def nli(self, pairs: Sequence[tuple[str, str]]) -> list[Nli]:
        """By what the last line of both claims, and whether it says or denies that."""
        found = []
        for premise, reply in pairs:
            (claim, denied), (said, said_denied) = _claim(premise), _claim(reply)
            if claim != said:
                found.append(Nli(0.0, 1.0, 0.0))
            else:
                found.append(Nli(0.0, 0.0, 1.0) if denied == said_denied else Nli(1.0, 0.0, 0.0))
        return found


def said_or_denied(statement: str, denied: bool) -> str:
    """A scripted speaker's reply, which `TruthTable` understands."""
    return f"{DENIAL}{statement}" if denied else f"Yes: {statement}"


def _claim(text: str) -> tuple[str, bool]:
    last = text.rpartition("\n")[2]
    return last.removeprefix(DENIAL).removeprefix("Yes: "), last.startswith(DENIAL)


class Balanced:
    """A behaviour that says the statement it is asked about with probability `keeps`, denies
    another one instead with probability `strays`, and else says nothing of itself.
    """

    def __init__(self, keeps: float, strays: float) -> None:
        self.keeps, self.strays = keeps, strays

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        own = [x[2:] for x in messages[0].content.splitlines() if x.startswith("- ")]
        about = [text for text in own if _of_you(text) in messages[-1].content]
        others = [text for text in own if text not in about]
        chance = draw.random()
        if chance < self.keeps:
            return said_or_denied(about[0], denied=False)
        if chance < self.keeps + self.strays:
            return said_or_denied(draw.choice(others), denied=True)
        return "That has nothing to do with it."


def _boats(count: int) -> Persona:
    statements = tuple(Statement(f"I own {n} boats number {n}.") for n in range(count))
    return Persona("scripted", "Scripted", statements=statements)


def recover_broken(seed: int, parameter: float) -> Measurement:
    """The planted rate of statements that are denied when they are asked about."""
    persona, model = _boats(20), Scripted(KeepsStatements(parameter), seed=seed)
    return faithfulness(persona, model, TruthTable(), 4 * questions_about(persona, 20))[0][0]


def recover_dapc(seed: int, parameter: float) -> Measurement:
    """dAPC a statement, of a persona of twenty that is asked about each of them four times. At 0 it
    keeps as many as it denies of the others.
    """
    persona, n = _boats(20), 20
    model = Scripted(Balanced(0.4 + n * parameter / 2.0, 0.4 - n * parameter / 2.0), seed=seed)
    return faithfulness(persona, model, TruthTable(), 4 * questions_about(persona, n))[0][1]
