"""Does playing somebody cost or win accuracy? Prompting Science Report 4, "Playing Pretend:
Expert Personas Don't Improve Factual Accuracy" (arXiv 2512.05858).

Each persona answers the questions that nobody answers, too, many trials each. Differences are
paired by question and the questions are resampled: trials of one question are not independent,
and a test that takes them so finds effects that are not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from consistent_gen.language.models import LanguageModel
from consistent_gen.persona.behaviour.questions import (
    NOBODY,
    Answers,
    ChoiceQuestion,
    ScriptedSolver,
    answer_all,
    by_text,
    scripted_questions,
)
from consistent_gen.persona.measurement import MeasuredItem, Measurement, PersonaReport
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.statistics import mean, p_of_zero_mean
from consistent_gen.rewards.statistics import holm


def accuracy_audit(
    model: LanguageModel, personas: Sequence[Persona], questions: Sequence[ChoiceQuestion],
    *, trials: int = 25,
) -> PersonaReport:  # fmt: skip
    """The accuracy of nobody, and what each persona adds to it or takes from it.

    The report's measurements are "accuracy" and "effect of ID" for each persona, in shares; a note
    says what is left after Holm's correction for all personas.
    """
    return effects(model.name, answer_all(model, [None, *personas], questions, trials=trials))


def effects(subject: str, answers: Answers) -> PersonaReport:
    """The report on answers that are there, of which some are nobody's."""
    base = answers.accuracy(NOBODY)
    plain = mean(base)
    measured = [Measurement("accuracy", plain.value, plain.low, plain.high, plain.n,
                            failed=_failed(answers, NOBODY))]  # fmt: skip
    ids = [id for id in answers.of if id != NOBODY]
    found = {}
    for id in ids:
        paired = [a - b for a, b in zip(answers.accuracy(id), base, strict=True)]
        found[id] = mean(paired), paired
    adjusted = holm({id: p_of_zero_mean(paired) for id, (_, paired) in found.items()})
    for id, (effect, paired) in found.items():
        items = tuple(
            MeasuredItem(q.id, value, q.text, why=q.context)
            for q, value in zip(answers.questions, paired, strict=True)
        )
        flag = "differs" if adjusted[id] < 0.05 else "no difference shown"
        measured.append(Measurement(
            f"effect of {id}", effect.value, effect.low, effect.high, effect.n,
            failed=_failed(answers, id), null=0.0, items=items,
            note=f"{flag}: p {adjusted[id]:.3f} after Holm over {len(ids)} personas",
        ))  # fmt: skip
    return PersonaReport(subject, tuple(measured))


def _failed(answers: Answers, id: str) -> int:
    return answers.count(id, "unparsable") + answers.count(id, "abstained")


def recover(seed: int, parameter: float) -> Measurement:
    """The effect of a persona that changes accuracy by so much, of trials that stick together."""
    questions = scripted_questions(60)
    expert = Persona("expert", "Expert")
    knows = {("", ""): 0.6, ("Expert", ""): 0.6 + parameter}
    solver = ScriptedSolver(knows, by_text(questions), stubborn=0.8, seed=seed)
    model = Scripted(solver, seed=seed)
    return accuracy_audit(model, [expert], questions, trials=5)["effect of expert"]
