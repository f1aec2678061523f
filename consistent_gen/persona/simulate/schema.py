"""A persona for a simulated speaker in three steps: drawn fields, a check whether they fit, prose.

The way of SPASM (arXiv 2604.09212): demographic, contextual, affective and behavioural fields are
drawn, a validator refuses what no person could be, and a writer makes text of the rest. Pools and
rules are our own and small; who needs quotas, more rules and a gate against duplicates makes
personas with `consistent_gen.persona.population`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import yes_or_no
from consistent_gen.persona.persona import Persona, Statement

Fields: TypeAlias = dict[str, str | int]
Rule: TypeAlias = Callable[[Mapping[str, str | int]], str | None]  # what is wrong; None if nothing

POOLS: Mapping[str, Sequence[str | int]] = {
    "age": tuple(range(16, 86)),
    "occupation": (
        "pupil", "apprentice carpenter", "student", "nurse", "bus driver", "teacher", "surgeon",
        "accountant", "farmer", "pensioner", "software developer", "head cook", "judge",
    ),
    "place": ("a fishing village", "a mining town", "a capital", "a suburb", "a mountain hamlet"),
    "household": (
        "alone", "with a partner", "with parents", "with two children", "in a shared flat",
    ),
    "concern": (
        "money", "sleep", "an exam", "a move", "a quarrel with a neighbour", "a new job",
        "retirement", "a sick parent",
    ),
    "feeling": ("calm", "worried", "angry", "hopeful", "ashamed", "tired", "curious", "lonely"),
    "manner": ("asks short questions", "tells long stories", "jokes", "doubts advice", "hesitates"),
}  # fmt: skip
LEAST_AGE = {"nurse": 20, "bus driver": 21, "teacher": 23, "surgeon": 30, "accountant": 21,
             "head cook": 22, "judge": 32, "software developer": 18, "pensioner": 58,
             "farmer": 18, "student": 17}  # fmt: skip
MOST_AGE = {"pupil": 19, "apprentice carpenter": 30, "nurse": 68, "bus driver": 70,
            "teacher": 69, "surgeon": 70, "judge": 72}  # fmt: skip
TRIES = 100


def drawn(rng: random.Random, pools: Mapping[str, Sequence[str | int]] = POOLS) -> Fields:
    """One value of each pool, independently: most of it is possible, not all."""
    return {name: rng.choice(values) for name, values in pools.items()}


def age_fits_occupation(fields: Mapping[str, str | int]) -> str | None:
    """Nobody judges at nineteen or goes to school at fifty."""
    work, age = str(fields["occupation"]), int(fields["age"])
    if age < LEAST_AGE.get(work, 0) or age > MOST_AGE.get(work, 200):
        return f"a {work} of {age}"
    return None


def household_fits_age(fields: Mapping[str, str | int]) -> str | None:
    """Minors do not raise two children alone, and few of eighty live with their parents."""
    age, household = int(fields["age"]), fields["household"]
    if (age < 20 and household == "with two children") or (
        age > 65 and household == "with parents"
    ):
        return f"lives {household} at {age}"
    return None


def concern_fits(fields: Mapping[str, str | int]) -> str | None:
    """Retirement is near for the old, exams are for those who learn."""
    age, concern = int(fields["age"]), fields["concern"]
    learns = fields["occupation"] in ("pupil", "student", "apprentice carpenter")
    if (concern == "retirement" and age < 50) or (concern == "an exam" and not learns):
        return f"is concerned about {concern} as a {fields['occupation']} of {age}"
    return None


RULES: tuple[Rule, ...] = (age_fits_occupation, household_fits_age, concern_fits)


def model_rule(model: LanguageModel) -> Rule:
    """A language model as one more validator; what it does not say clearly is refused, too."""

    def finds(fields: Mapping[str, str | int]) -> str | None:
        told = "; ".join(f"{name}: {value}" for name, value in fields.items())
        question = f"Could one real person be all of this? {told}. Answer yes or no."
        return None if yes_or_no(model.chat([Message("user", question)], max_tokens=8)) else told

    return finds


def plausible(
    rng: random.Random,
    rules: Sequence[Rule] = RULES,
    pools: Mapping[str, Sequence[str | int]] = POOLS,
) -> tuple[Fields, list[str]]:
    """Fields that no rule refuses, and what was refused on the way.

    Raises:
        InputError: nothing passed in `TRIES` draws; the message tells the last refusals.
    """
    refused: list[str] = []
    for _ in range(TRIES):
        fields = drawn(rng, pools)
        wrong = [issue for rule in rules if (issue := rule(fields)) is not None]
        if not wrong:
            return fields, refused
        refused += wrong
    raise InputError(f"no plausible persona in {TRIES} draws; the last were {refused[-3:]}")


def persona_of(fields: Fields, id: str, name: str, writer: LanguageModel | None = None) -> Persona:
    """The persona in prose: by a plain template, or by a language model from the same fields."""
    said = (
        f"I am {fields['age']} and work as a {fields['occupation']}.",
        f"I live {fields['household']} in {fields['place']}.",
        f"What is on my mind is {fields['concern']}.",
        f"I am {fields['feeling']} these days.",
        f"People say of me: {fields['manner']}.",
    )
    summary = " ".join(said)
    if writer is not None:
        question = f"Write one paragraph about {name}, and add no facts. Of {name}: {summary}"
        summary = writer.chat([Message("user", question)], max_tokens=200) or summary
    source = "schema" if writer is None else f"schema, written by {writer.name}"
    statements = tuple(Statement(text, "schema") for text in said)
    return Persona(id, name, summary, statements, fields=dict(fields),
                   provenance={"proposer": source})  # fmt: skip
