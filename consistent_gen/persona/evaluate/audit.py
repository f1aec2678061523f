"""An audit of one persona: everything that fits it is measured and written as a page to read.

`audit` interviews a model in the persona's place, holds every answer against every statement, and
runs the measures of `MEASURES`, each over the same interview. Nothing of the card is trusted: it is
data, escaped wherever it is shown. Files appear whole or not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from consistent_gen.checkpoints import atomic_file, write_json
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.language.embedders import TextEmbedder, default_embedder
from consistent_gen.language.models import LanguageModel
from consistent_gen.persona.evaluate.faithfulness import (
    Faithfulness,
    faithfulness,
    questions_about,
)
from consistent_gen.persona.evaluate.pair_scorer import default_scorer
from consistent_gen.persona.evaluate.personaeval import JudgeCard
from consistent_gen.persona.evaluate.reply_consistency import discourse
from consistent_gen.persona.evaluate.wording import wording_sensitivity
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.measurement import MeasuredItem, Measurement, PersonaReport
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.simulate.spasm import distances
from consistent_gen.persona.statistics import share
from consistent_gen.persona.transcript import Transcript, project
from consistent_gen.registry import resolve

# Measures of an audit beside faithfulness: name -> "module:function" of one signature,
# `function(interview: Interview) -> Sequence[Measurement]`. What is measured turn by turn has items
# called "turn 1" and so on: the page draws them as a line.
MEASURES: dict[str, str] = {
    "discourse": "consistent_gen.persona.evaluate.audit:own_words",
    "drift": "consistent_gen.persona.evaluate.audit:distance_by_turn",
    "role": "consistent_gen.persona.evaluate.audit:out_of_role",
    "wording": "consistent_gen.persona.evaluate.audit:by_wording",
}
INTERVIEWER = "interviewer"
PAGE, VALUES = "report.html", "report.json"
MAX_QUESTIONS = 200
MAX_STATEMENTS = 100  # that answers are held against, unless more is said


@dataclass(frozen=True)
class Interview:
    """What a measure of an audit gets. answers: to the questions, each asked alone and held against
    every statement. transcript: all questions, asked in one conversation.

    speaker: the persona's name in the transcript, which differs from the interviewer's.
    """

    persona: Persona
    model: LanguageModel
    answers: tuple[Faithfulness, ...]
    transcript: Transcript
    speaker: str
    scorer: PairScorer
    embedder: TextEmbedder
    seed: int


def audit(
    persona: Persona,
    model: LanguageModel,
    out: str | Path,
    *,
    questions: Sequence[str] = (),
    ask: int | None = None,
    statements: int = MAX_STATEMENTS,
    scorer: PairScorer | None = None,
    embedder: TextEmbedder | None = None,
    measures: Mapping[str, str] | None = None,
    baseline: PersonaReport | None = None,
    judge: JudgeCard | None = None,
    tolerances: Mapping[str, float] | None = None,
    seed: int = 0,
) -> PersonaReport:
    """Measure a persona in a model, write `report.html` and `report.json` into `out`.

    Args:
        questions: to ask; none are made from the card (`questions_about`), `ask` of them, or one
            for each statement and three general ones where that is None, 200 at most.
        statements: how many the persona keeps, the first ones; of a longer card the page says so.
        scorer, embedder: None for the best that is installed; the page says which.
        measures: beside faithfulness; None for `MEASURES`. One that fails is told, not dropped.
        baseline: an earlier report (of another model or card) that this one is compared with.
        judge: a card that stands on the page, for measures that a judge scores.

    Raises:
        InputError: the persona has no statements, too many questions, an unknown measure.
    """
    if not persona.statements:
        raise InputError(
            f"{persona.name} has no statements, and an audit holds answers against statements; "
            "give the card some, or import it, which makes them from its description"
        )
    total = len(persona.statements)
    persona = replace(persona, statements=persona.statements[: max(statements, 1)])
    covers = f"the first {statements} of {total} statements" if total > statements else ""
    count = len(persona.statements) + 3 if ask is None else ask
    asked = list(questions) or list(questions_about(persona, count))
    if len(asked) > MAX_QUESTIONS:
        if questions:
            raise InputError(f"{len(asked)} questions; at most {MAX_QUESTIONS} are asked")
        asked = asked[:MAX_QUESTIONS]
    scorer, embedder = scorer or default_scorer(), embedder or default_embedder()
    measured, answers = faithfulness(persona, model, scorer, asked)
    spoken = interview(persona, model, asked)
    speaker = spoken.speakers[1]
    told = Interview(persona, model, tuple(answers), spoken, speaker, scorer, embedder, seed)
    failures: dict[str, str] = {}
    table = MEASURES if measures is None else measures
    for name in table:
        function = resolve(table, name, kind="measure of an audit")
        try:
            measured += function(told)
        except ConsistentGenError as error:
            failures[name] = str(error)
    report = PersonaReport(
        f"{persona.name} in {model.name}", tuple(measured), dict(tolerances or {})
    )
    write(
        report, persona, answers, out,
        baseline=baseline, judge=judge, failures=failures, covers=covers,
    )  # fmt: skip
    return report


def write(
    report: PersonaReport,
    persona: Persona,
    answers: Sequence[Faithfulness],
    out: str | Path,
    *,
    baseline: PersonaReport | None = None,
    judge: JudgeCard | None = None,
    failures: Mapping[str, str] | None = None,
    covers: str = "",
) -> None:
    """Write an audit's two files; those of an earlier audit are replaced as wholes.

    covers: what it is about, where that is not the whole card.
    """
    from consistent_gen.persona.evaluate.audit_page import page

    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; an audit is written into a folder")
    text = page(
        report, persona, answers,
        baseline=baseline, judge=judge, failures=failures or {}, covers=covers,
    )  # fmt: skip
    values = {
        "subject": report.subject,
        "covers": covers,
        "measurements": [m.as_json() for m in report.measurements],
        "tolerances": dict(report.tolerances),
        "failures": dict(failures or {}),
    }
    with atomic_file(folder / PAGE) as place:
        place.write_text(text, encoding="utf-8")
    write_json(folder / VALUES, values)


def read_report(path: str | Path) -> PersonaReport:
    """The report of an earlier audit's `report.json`, as a baseline for another.

    Raises:
        InputError: not such a file.
    """
    import json

    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        measurements = []
        for entry in told["measurements"]:
            numbers = ("value", "low", "high", "reference", "null")
            entry |= {k: math.nan for k in numbers if entry.get(k) is None}
            items = tuple(map(_item, entry.pop("items")))
            measurements.append(Measurement(**entry, items=items))
        return PersonaReport(told["subject"], tuple(measurements), told["tolerances"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not the report.json of an audit ({error})") from None


def _item(told: dict[str, Any]) -> MeasuredItem:
    numbers = ("value", "low", "high")
    return MeasuredItem(**(told | {k: math.nan for k in numbers if told.get(k) is None}))


def interview(persona: Persona, model: LanguageModel, questions: Sequence[str]) -> Transcript:
    """All questions in one conversation, so that what the persona said before is in its view."""
    name = persona.name if persona.name != INTERVIEWER else f"{persona.name} (persona)"
    transcript = Transcript((INTERVIEWER, name))
    for question in questions:
        transcript = transcript.said(INTERVIEWER, question)
        reply = model.chat(project(transcript, name, persona.prompt()), max_tokens=160).strip()
        transcript = transcript.said(name, reply or "(no answer)")
    return transcript.ended("all questions asked")


def own_words(told: Interview) -> list[Measurement]:
    """Does the persona contradict its own last five turns?"""
    mine = Transcript((told.speaker,), tuple(
        turn for turn in told.transcript.turns if turn.speaker == told.speaker
    ))  # fmt: skip
    found = discourse([mine], told.scorer)
    return [m for m in found if m.name == "contradicts own last five turns"]


def distance_by_turn(told: Interview) -> list[Measurement]:
    """1 - cosine of each of its turns to the persona's text, 0 to 2, and its slope over the turns
    by least squares (drift, ours): above 0 the speaker moves away.
    """
    turns = told.transcript.of(told.speaker)
    distance = np.array(distances(told.persona, turns, told.embedder))
    items = [MeasuredItem(f"turn {i}", float(d), answered=text) for i, (d, text)
             in enumerate(zip(distance, turns, strict=True), 1)]  # fmt: skip
    slope = low = high = math.nan
    if len(turns) > 2:
        x = np.arange(len(turns)) - (len(turns) - 1) / 2.0
        slope = float(x @ distance / (x @ x))
        rest = distance - distance.mean() - slope * x
        error = float(np.sqrt(rest @ rest / (len(turns) - 2) / (x @ x)))
        low, high = slope - 1.96 * error, slope + 1.96 * error
    tool = {"embedder": f"{told.embedder.space}: {told.embedder.description}"}
    return [
        Measurement(
            "drift", slope, low, high, len(turns), direction="lower", unit="per turn", null=0.0,
            tools=tool, items=tuple(items), note="slope of the distance to the card's text",
        )
    ]  # fmt: skip


# How models speak of themselves; whoever's card is about such a thing may say so.
_PROGRAM = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence)|language model|ai (?:model|assistant)|"
    r"virtual assistant|created by (?:openai|anthropic|alibaba)|how (?:can|may) i "
    r"(?:assist|help) you|i(?: am|'m) an? (?:ai|artificial intelligence))\b",
    re.IGNORECASE,
)
_IS_ONE = re.compile(r"\b(?:ai|a\.i\.|artificial|assistant|program|robot|android)\b", re.IGNORECASE)


def out_of_role(told: Interview) -> list[Measurement]:
    """The share of answers, alone and in the conversation, in which a program speaks of itself in
    English set phrases (ours). Not measured where the card is about something of the kind.

    Raises:
        InputError: it is, so that such an answer may well be in its role.
    """
    if _IS_ONE.search(told.persona.prompt()):
        raise InputError("the card is about a program or an assistant, which may speak as one")
    asked = [t.text for t in told.transcript.turns if t.speaker == INTERVIEWER]
    said = [(one.question, one.reply) for one in told.answers]
    said += zip(asked, told.transcript.of(told.speaker), strict=True)
    items = []
    for number, (question, reply) in enumerate(said, 1):
        phrase = _PROGRAM.search(reply.replace("\u2019", "'"))
        why = f"says {phrase[0]!r}" if phrase else ""
        items.append(MeasuredItem(f"answer {number}", float(bool(phrase)), question, reply, why))
    hits = sum(item.value == 1.0 for item in items)
    found = share(hits, len(items))
    return [
        Measurement(
            "speaks as a program", found.value, found.low, found.high, found.n, direction="lower",
            null=0.0, items=tuple(items), note="share of answers; set phrases, in English",
        )
    ]  # fmt: skip


def by_wording(told: Interview) -> list[Measurement]:
    """Does it matter how the card is worded?"""
    return wording_sensitivity(told.persona, told.model, told.answers, told.scorer, told.seed)
