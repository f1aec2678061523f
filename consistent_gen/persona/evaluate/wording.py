"""Does it matter how a card is worded? "Are Personalized Stochastic Parrots More Dangerous?"
(arXiv 2310.05280) asked of one persona: how much pass rates vary over who the model is told to be.

Here the model is told to be the same person every time, in other wordings. An answer passes where
it contradicts none of the statements that its question is about. Which wordings, and this test, are
ours; the variance and what chance has of it are those of `behaviour.stochastic_parrots`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.behaviour.stochastic_parrots import HarmTest, sensitivity
from consistent_gen.persona.evaluate.faithfulness import (
    SHOWN,
    Faithfulness,
    KeepsStatements,
    apc,
)
from consistent_gen.persona.evaluate.pair_scorer import tools
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.measurement import Measurement
from consistent_gen.persona.persona import Persona

NAME = "sensitivity to wording"
QUESTIONS = 6  # each is asked in every wording
AS_WRITTEN, BACKWARDS, SHUFFLED, PARAGRAPH = (
    "as the card says", "from the end", "in another order", "as one paragraph",
)  # fmt: skip


def wordings(persona: Persona, seed: int = 0) -> tuple[Persona, ...]:
    """The persona in up to four wordings that say the same; ids name them, equal ones are left out.

    A paragraph has the statements in its summary, where `Persona.prompt` makes no list of them.
    """
    said = persona.statements
    shuffled = random.Random(seed).sample(said, len(said))
    told = " ".join([persona.summary, *(s.text for s in said)]).strip()
    found = (
        replace(persona, id=AS_WRITTEN),
        replace(persona, id=BACKWARDS, statements=said[::-1]),
        replace(persona, id=SHUFFLED, statements=tuple(shuffled)),
        replace(persona, id=PARAGRAPH, summary=told, statements=()),
    )
    return tuple({one.prompt(): one for one in reversed(found)}.values())[::-1]


def wording_sensitivity(
    persona: Persona,
    model: LanguageModel,
    answers: Sequence[Faithfulness],
    scorer: PairScorer,
    seed: int = 0,
) -> list[Measurement]:
    """The variance of pass rates over wordings (an item is a wording with its rate and interval),
    and the share of evasive answers, which are left out of it.

    answers: of the persona as it is; they say which statements each question is about.

    Raises:
        InputError: fewer than two questions are about a statement.
    """
    about = {
        one.question: [s.statement for s in one.scores if s.judged.relevant >= SHOWN]
        for one in answers
    }
    prompts = tuple(question for question, said in about.items() if said)[:QUESTIONS]
    if len(prompts) < 2:
        raise InputError(
            f"{len(prompts)} of {len(answers)} questions are about a statement of the card; "
            "expected two or more to compare wordings by"
        )

    def passes(question: str, reply: str) -> bool | None:
        if not reply.strip():
            return None
        return not apc(about[question], question, reply, scorer).broken

    test = HarmTest("wording", prompts, passes, tools(scorer)["pair scorer"])
    report = sensitivity(model, wordings(persona, seed), [test])
    found = report["difference of wording"]
    rates, k = {item.value for item in found.items}, len(found.items)
    if len(rates) == 1:  # nothing varies, which says nothing of how much it might
        found = replace(found, low=math.nan, high=math.nan)
    elif k > 1:  # half of the rates 0 and half 1 is the most that rates can vary
        most = (k // 2) * (k - k // 2) / (k * (k - 1))
        found = replace(found, high=min(found.high, most))
    note = (
        f"{len(prompts)} questions in {len(found.items)} wordings; 0 where wording does not "
        f"matter; {found.note}"
    )
    evasive = report["evasive in wording"]
    return [
        replace(found, name=NAME, note=note, tools=tools(scorer)),
        replace(evasive, name="evasive over wordings"),
    ]


# What is planted.


@dataclass(frozen=True)
class MindsTheWording:
    """Contradicts statements with probability `breaks` where they are told in another order than
    `told` has them, and never where they are told so.
    """

    told: str
    breaks: float

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        as_written = messages[0].content == self.told
        return KeepsStatements(0.0 if as_written else self.breaks)(messages, draw)
