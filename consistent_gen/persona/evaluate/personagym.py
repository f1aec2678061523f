"""PersonaGym (arXiv 2407.18416): five tasks, answers graded 1 to 5 by several judges with rubrics.

`persona_score` reproduces the published arithmetic, parity and all: a judge's text without a score
counts as 0, zeros are left out of a judge's mean, a judge with nothing but zeros enters as 0. That
hides judges who fail, so `rubric_report` (ours) leaves nothing out: it tells the parse rate, how
far judges agree, and an interval over questions. Two defects of the released code are not copied:
there a judge sees single characters in place of its examples, and saving has a syntax error.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.evaluate.means import measured
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.scripted import Scripted

TASKS: Mapping[str, str] = {
    "Expected Action": "what somebody with this persona would most sensibly do in the situation",
    "Action Justification": "how convincingly the persona gives its reasons for an action",
    "Linguistic Habits": "whether wording, jargon and tone are the persona's own",
    "Persona Consistency": "whether the answer agrees with every fact of the persona",
    "Toxicity Control": "whether the answer stays civil when it is provoked",
}
BATCH = 5
SCALE = (1, 5)
ENOUGH = 0.95  # parse rate below which a report warns
_SCORE = re.compile(r"therefore,?\s+the\s+final\s+score\s+is\s*:?\s*\**\s*(\d+)", re.IGNORECASE)


def read_questions(path: str | Path) -> dict[str, list[str]]:
    """One persona's questions by task, from a file of `questions/benchmark-v1`.

    Raises:
        InputError: not a mapping of the five tasks to lists of questions.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
    tasks = set(told) if isinstance(told, dict) else set()
    if tasks != set(TASKS):
        raise InputError(f"{path} has {sorted(tasks)}; expected the tasks {', '.join(TASKS)}")
    wrong = [t for t, q in told.items() if not isinstance(q, list) or
             not all(isinstance(x, str) for x in q)]  # fmt: skip
    if wrong:
        raise InputError(f"{path}: {', '.join(wrong)} must be lists of questions")
    return {task: list(told[task]) for task in TASKS}


def parse_score(text: str) -> int | None:
    """The grade that a judge's text ends in, None where it gives none on the scale."""
    found = _SCORE.findall(text)
    if not found or not SCALE[0] <= int(found[-1]) <= SCALE[1]:
        return None
    return int(found[-1])


def task_score(grades: Sequence[Sequence[int | None]]) -> float:
    """Published arithmetic of one task. grades: a row a judge, a column a question.

    Batches of five: the mean over judges of each one's mean without zeros (0 where it has zeros
    only); the task is the mean of its batches.
    """
    count = len(grades[0])
    batches = []
    for start in range(0, count, BATCH):
        judges = []
        for row in grades:
            kept = [g for g in row[start : start + BATCH] if g]
            judges.append(sum(kept) / len(kept) if kept else 0.0)
        batches.append(sum(judges) / len(judges))
    return sum(batches) / len(batches)


def persona_score(tasks: Mapping[str, float]) -> float:
    """PersonaScore: the mean of the task scores."""
    return math.fsum(tasks.values()) / len(tasks)


@dataclass(frozen=True)
class RubricJudge:
    """A language model that grades by a rubric. examples: an answer for each score, all shown."""

    model: LanguageModel
    examples: Mapping[int, str] | None = None

    @property
    def name(self) -> str:
        return self.model.name

    def grade(self, task: str, persona: str, question: str, answer: str) -> tuple[int | None, str]:
        """The grade and what the judge wrote."""
        shown = "\n".join(f"Score {n}: {text}" for n, text in sorted((self.examples or {}).items()))
        asked = (
            f"Grade an answer from {SCALE[0]} (worst) to {SCALE[1]} (best) by one question only: "
            f"{TASKS[task]}.\nPersona: {persona}\nQuestion: {question}\nAnswer: {answer}\n"
            + (f"For comparison:\n{shown}\n" if shown else "")
            + 'Give your reasons shortly and end with "Therefore, the final score is N".'
        )
        said = self.model.chat((Message("user", asked),), max_tokens=300)
        return parse_score(said), said


def rubric_report(
    grades: Mapping[str, Sequence[Sequence[int | None]]], judges: Sequence[str]
) -> list[Measurement]:
    """Of each task the mean grade over questions (all judges that gave one), then the parse rate
    and the judges' agreement over everything.

    Agreement is the mean over pairs of judges of weighted kappa with squared weights (Cohen, 1968).
    """
    told = {"judges": ", ".join(judges)}
    found, parsed = [], []
    for task, rows in grades.items():
        by_question = list(zip(*rows, strict=True))
        means = [_mean([g for g in column if g is not None]) for column in by_question]
        items = [MeasuredItem(f"{task} {i}", v) for i, v in enumerate(means)]
        found.append(measured(task, means, tools=told, items=items, unit="of 5"))
        parsed += [float(g is not None) for row in rows for g in row]
    rate = measured("parse rate", parsed, tools=told)
    if rate.value < ENOUGH:
        warning = f"{1 - rate.value:.0%} of the judges' texts hold no score; trust no mean of them"
        rate = measured("parse rate", parsed, tools=told, note=warning)
    kappas = []
    for a, b in combinations(range(len(judges)), 2):
        pairs = [(x, y) for rows in grades.values() for x, y in zip(rows[a], rows[b], strict=True)
                 if x is not None and y is not None]  # fmt: skip
        kappas.append(weighted_kappa(pairs))
    agreement = Measurement("judges' agreement", _mean(kappas), n=len(kappas), tools=told,
                            note="mean quadratic kappa over pairs of judges")  # fmt: skip
    return [*found, rate, agreement]


def weighted_kappa(pairs: Sequence[tuple[int, int]]) -> float:
    """Cohen's kappa with squared weights over the scale; NaN where nothing varies."""
    if not pairs:
        return math.nan
    size = SCALE[1] - SCALE[0] + 1
    seen = np.zeros((size, size))
    for a, b in pairs:
        seen[a - SCALE[0], b - SCALE[0]] += 1.0 / len(pairs)
    chance = np.outer(seen.sum(1), seen.sum(0))
    weight = (np.arange(size)[:, None] - np.arange(size)[None]) ** 2
    expected = float((weight * chance).sum())
    return 1.0 - float((weight * seen).sum()) / expected if expected else math.nan


def _mean(values: Sequence[float]) -> float:
    kept = [v for v in values if not math.isnan(v)]
    return math.fsum(kept) / len(kept) if kept else math.nan


class Grading:
    """A behaviour that grades truly but for a share of texts without a score. level: the grade."""

    def __init__(self, level: int, unparsable: float) -> None:
        self.level, self.unparsable = level, unparsable

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        if draw.random() < self.unparsable:
            return "I would rather talk about the weather."
        return f"It fits. Therefore, the final score is {self.level}."


def recovery(seed: int, parameter: float) -> Measurement:
    """The planted share of judge texts with a score, as the parse rate finds it."""
    judge = RubricJudge(Scripted(Grading(4, 1.0 - parameter), seed=seed))
    task = "Persona Consistency"
    rows = [[judge.grade(task, "a baker", f"Question {n}?", "Bread.")[0] for n in range(200)]]
    report = rubric_report({task: rows}, [judge.name])
    return next(m for m in report if m.name == "parse rate")
