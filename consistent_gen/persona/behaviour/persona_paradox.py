"""A persona that helps in one setting may harm in another, so that the mean shows nothing.

"The Persona Paradox: Medical Personas as Behavioral Priors" (arXiv 2601.05376); its repository
has no code. The audit of `playing_pretend` gets a context: the effect in each, how effects differ
between contexts, calibration, and the signed error of ordered answers. Role, style, context and
model stay apart in the rows; nothing is pooled. No medical content ships with the package.

Interpreted: the interaction is the effect in a context less the mean effect in all others; ECE has
ten bins of equal width; risk propensity is the mean of chosen less right level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel
from consistent_gen.persona.behaviour.questions import (
    NOBODY,
    Answer,
    Answers,
    ChoiceQuestion,
    ScriptedSolver,
    answer_all,
    by_text,
    scripted_questions,
)
from consistent_gen.persona.measurement import Measurement, PersonaReport
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.statistics import Estimate, mean, scipy_stats
from consistent_gen.rewards.base import Floats
from consistent_gen.rewards.statistics import holm

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Of answers with a confidence. ece: expected calibration error; brier: mean squared error."""

    ece: float
    brier: float
    n: int


def context_audit(
    model: LanguageModel, personas: Sequence[Persona], questions: Sequence[ChoiceQuestion],
    *, trials: int = 5,
) -> PersonaReport:  # fmt: skip
    """For each persona: "effect of ID", "effect of ID in CONTEXT", "interaction of ID in CONTEXT",
    and, for nobody too, "ece", "brier" and "risk propensity" by context where they can be had.

    Raises ``InputError`` where the questions are all of one context.
    """
    answers = answer_all(model, [None, *personas], questions, trials=trials, confidence=True)
    contexts = list(dict.fromkeys(q.context for q in answers.questions))
    if len(contexts) < 2:
        raise InputError("all questions are of one context; expected two or more")
    single = [c for c in contexts if sum(q.context == c for q in answers.questions) < 2]
    if single:
        raise InputError(f"a context needs two questions or more; see {', '.join(single)}")
    measured: list[Measurement] = []
    for id in answers.of:
        if id != NOBODY:
            measured += _effects(answers, id, contexts)
        for context in contexts:
            measured += _calibration(answers, id, context)
    return PersonaReport(model.name, tuple(measured))


def _effects(answers: Answers, id: str, contexts: Sequence[str]) -> list[Measurement]:
    pairs = zip(answers.accuracy(id), answers.accuracy(NOBODY), strict=True)
    gain = np.array([a - b for a, b in pairs])
    where = np.array([q.context for q in answers.questions])
    failed = answers.count(id, "unparsable") + answers.count(id, "abstained")
    whole = mean(list(gain))
    found = [Measurement(f"effect of {id}", whole.value, whole.low, whole.high, whole.n, failed,
                         null=0.0)]  # fmt: skip
    contrasts = {c: _difference(gain[where == c], gain[where != c]) for c in contexts}
    adjusted = holm({c: e.p for c, e in contrasts.items()})
    for context, contrast in contrasts.items():
        inside = mean(list(gain[where == context]))
        found.append(Measurement(f"effect of {id} in {context}", inside.value, inside.low,
                                 inside.high, inside.n, null=0.0))  # fmt: skip
        flag = "interaction" if adjusted[context] < 0.05 else "no interaction shown"
        found.append(Measurement(
            f"interaction of {id} in {context}", contrast.value, contrast.low, contrast.high,
            contrast.n, direction="none", null=0.0,
            note=f"{flag}: p {adjusted[context]:.3f} after Holm over {len(contexts)} contexts",
        ))  # fmt: skip
    return found


def _difference(a: Floats, b: Floats) -> Estimate:
    """Welch's: the mean of one group of questions less that of another."""
    value, variances = float(a.mean() - b.mean()), [float(x.var(ddof=1)) / len(x) for x in (a, b)]
    se = math.sqrt(sum(variances))
    if se == 0.0:
        return Estimate(value, value, value, float(value == 0.0), len(a) + len(b))
    freedom = sum(variances) ** 2 / sum(
        v**2 / (len(x) - 1) for v, x in zip(variances, (a, b), strict=True)
    )
    t = scipy_stats().t
    half = float(t.ppf(0.975, freedom)) * se
    p = 2.0 * float(t.sf(abs(value) / se, freedom))
    return Estimate(value, value - half, value + half, p, len(a) + len(b))


def _calibration(answers: Answers, id: str, context: str) -> list[Measurement]:
    who = id or "nobody"
    rows = [(q, row) for q, row in zip(answers.questions, answers.of[id], strict=True)
            if q.context == context]  # fmt: skip
    told = calibration([a for _, row in rows for a in row])
    total = sum(len(row) for _, row in rows)
    found = [
        Measurement(f"{name} of {who} in {context}", value, n=told.n, failed=total - told.n,
                    direction="lower")
        for name, value in (("ece", told.ece), ("brier", told.brier)) if told.n
    ]  # fmt: skip
    ordered = [(q, row) for q, row in rows if q.levels]
    if ordered:
        errors = [[a.chosen - q.right for a in row if a.chosen is not None] for q, row in ordered]
        signed = mean([float(np.mean(row)) for row in errors if row])
        missing = sum(a.chosen is None for _, row in ordered for a in row)
        found.append(Measurement(
            f"risk propensity of {who} in {context}", signed.value, signed.low, signed.high,
            signed.n, missing, direction="reference", reference=0.0, unit="levels", null=0.0,
        ))  # fmt: skip
    return found


def calibration(answers: Sequence[Answer]) -> Calibration:
    """Of the answers that chose an option and said how sure they were."""
    known = [(a.confidence, float(a.outcome == "right")) for a in answers
             if a.confidence is not None and a.chosen is not None]  # fmt: skip
    if not known:
        return Calibration(math.nan, math.nan, 0)
    sure, right = np.array(known).T
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    ece = sum(
        float(abs(sure[bins == b].mean() - right[bins == b].mean())) * float((bins == b).mean())
        for b in np.unique(bins)
    )
    return Calibration(ece, float(((sure - right) ** 2).mean()), len(known))


def recover(seed: int, parameter: float) -> Measurement:
    """The interaction of a persona that adds half of `parameter` in one context and takes as much
    in the other, so that its mean effect is none.
    """
    questions = scripted_questions(120, ("ward", "clinic"))
    half = parameter / 2.0
    knows = {("", ""): 0.6, ("Medic", "ward"): 0.6 + half, ("Medic", "clinic"): 0.6 - half}
    model = Scripted(ScriptedSolver(knows, by_text(questions), seed=seed), seed=seed)
    report = context_audit(model, [Persona("medic", "Medic")], questions, trials=4)
    return report["interaction of medic in ward"]
