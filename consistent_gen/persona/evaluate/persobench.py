"""PersoBench (arXiv 2410.03198): does a reply use its persona? Failures are scored and counted.

Two modes, never in one table. `released` does what the authors' notebook does: the C-score asks the
classifier with reply and persona swapped, all persona sentences joined to one; UE asks once each
for the reply and for the gold reply. `corrected` asks statement by statement, the statement as
premise. The paper evaluates valid outputs, the code gives invalid ones the worst value: both
columns are there, with the failure ratio. Of the live metrics those that need no further network
are here; BERTScore, word vectors and UniEval are not.
"""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from consistent_gen.errors import InputError
from consistent_gen.persona.evaluate.faithfulness import TruthTable, said_or_denied
from consistent_gen.persona.evaluate.pair_scorer import tools
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.statistics import measured

Mode: TypeAlias = Literal["released", "corrected"]
MAX_WORDS = 110
PROMPT_COLUMNS = ("personas", "act_response", "context")
RESPONSE_COLUMNS = ("gen_response", "response_time")
WORST = {"C-score": -1.0}  # of all others it is 0
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class PersoRow:
    """One item with what a model made of it. raw: its whole output. seconds: NaN where unknown."""

    personas: tuple[str, ...]
    context: str
    gold: str
    raw: str
    seconds: float = math.nan

    @property
    def response(self) -> str | None:
        """The reply inside the required JSON, None where the shape is wrong."""
        match = _OBJECT.search(self.raw)
        try:
            told = json.loads(match.group()) if match else None
        except (json.JSONDecodeError, RecursionError):
            return None
        said = told.get("response") if isinstance(told, dict) else None
        return said.strip() if isinstance(said, str) and said.strip() else None


def prompt(personas: Sequence[str], context: str, *, reasoning: bool = False) -> str:
    """The task in our words: both roles, persona, context, and the JSON that is expected."""
    keys = '"reasoning" (at most 110 words) and "response"' if reasoning else '"response"'
    told = "\n".join(f"- {p}" for p in personas) or "(none given)"
    return (
        "Two speakers talk, A and B. You are B and give B's next reply.\n"
        f"What is true of B:\n{told}\n\nThe conversation so far (a single line counts as one):\n"
        f"{context}\n\nUse what is true of B where it fits; no speaker's name before the reply. "
        f"Answer with one JSON object with {keys}; the response has at most {MAX_WORDS} words."
    )


def read_rows(prompts: str | Path, responses: str | Path) -> list[PersoRow]:
    """Items and a model's outputs from the two CSV files of the authors' layout.

    Raises:
        InputError: missing columns, or another number of rows.
    """
    asked, answered = _table(prompts, PROMPT_COLUMNS), _table(responses, RESPONSE_COLUMNS)
    if len(asked) != len(answered):
        raise InputError(f"{prompts} has {len(asked)} rows and {responses} {len(answered)}")
    rows = []
    for a, b in zip(asked, answered, strict=True):
        personas = tuple(line.strip() for line in a["personas"].splitlines() if line.strip())
        try:
            seconds = float(b["response_time"])
        except ValueError:
            seconds = math.nan
        rows.append(PersoRow(personas, a["context"], a["act_response"], b["gen_response"], seconds))
    return rows


def _table(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [c for c in columns if c not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                f"{path} has the columns {', '.join(reader.fieldnames or ())}; "
                f"{', '.join(missing)} missing"
            )
        return [{k: v or "" for k, v in row.items() if k} for row in reader]


def personalization_report(
    rows: Sequence[PersoRow], scorer: PairScorer, mode: Mode = "corrected"
) -> list[Measurement]:
    """All measures of a model's rows: each over valid replies and, with " (invalid as worst)", over
    all; beside them the failure ratio and the seconds a reply took.
    """
    if not rows:
        raise InputError("no rows to report on")
    usable = [row for row in rows if row.response is not None and row.personas]
    columns = _columns(usable, scorer, mode)
    told, failed = tools(scorer), len(rows) - len(usable)
    found: list[Measurement] = []
    for name, values in columns.items():
        items = [
            MeasuredItem(str(i), v, row.context, row.response or "")
            for i, (row, v) in enumerate(zip(usable, values, strict=True))
            if name == "C-score"
        ]
        label = f"{name}, {mode}"
        whole = [*values, *[WORST.get(name, 0.0)] * failed]
        found += [
            measured(label, values, failed=failed, tools=told, items=items),
            measured(f"{label} (invalid as worst)", whole, tools=told),
        ]
    invalid = [float(row.response is None or not row.personas) for row in rows]
    bad = [MeasuredItem(str(i), math.nan, row.context, row.raw, "no reply of the required shape")
           for i, row in enumerate(rows) if row.response is None]  # fmt: skip
    found.append(measured("failure ratio", invalid, direction="lower", items=bad))
    seconds = [row.seconds for row in rows]
    found.append(measured("response time", seconds, direction="lower", unit="s"))
    return found


def _columns(rows: Sequence[PersoRow], scorer: PairScorer, mode: Mode) -> dict[str, list[float]]:
    said = [row.response or "" for row in rows]
    if mode == "released":
        joined = [" ".join(row.personas) for row in rows]
        c = [float(n.label) for n in scorer.nli(list(zip(said, joined, strict=True)))]
        follows = [n.label > 0 for n in scorer.nli(list(zip(joined, said, strict=True)))]
        gold = [n.label > 0 for n in scorer.nli([(p, r.gold) for p, r in
                                                 zip(joined, rows, strict=True)])]  # fmt: skip
    else:
        labels = _by_statement(rows, said, scorer)
        c = [float(max(row) if min(row) >= 0 else -1) for row in labels]
        follows = [max(row) > 0 for row in labels]
        gold = [max(row) > 0 for row in _by_statement(rows, [r.gold for r in rows], scorer)]
    return {
        "C-score": c,
        "UE": [float(f) + float(f and g) for f, g in zip(follows, gold, strict=True)],
        "distinct-1": [_distinct(text, 1) for text in said],
        "distinct-2": [_distinct(text, 2) for text in said],
        "persona overlap": [_overlap(row.personas, text) for row, text
                            in zip(rows, said, strict=True)],
    }  # fmt: skip


def _by_statement(
    rows: Sequence[PersoRow], said: Sequence[str], scorer: PairScorer
) -> list[list[int]]:
    pairs = [(p, text) for row, text in zip(rows, said, strict=True) for p in row.personas]
    labels = iter([nli.label for nli in scorer.nli(pairs)])
    return [[next(labels) for _ in row.personas] for row in rows]


def _distinct(text: str, n: int) -> float:
    """Different n-grams in a share of all (Li et al., 2016)."""
    words = _WORD.findall(text.casefold())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _overlap(personas: Sequence[str], text: str) -> float:
    """Share of the reply's different words that the persona uses too (ours, for its TF-IDF)."""
    words = set(_WORD.findall(text.casefold()))
    known = set(_WORD.findall(" ".join(personas).casefold()))
    return len(words & known) / len(words) if words else 0.0


# The truth that the measures are held to --------------------------------------------------------


def planted(seed: int, malformed: float, denied: float, count: int = 120) -> list[PersoRow]:
    """Rows of which a share is malformed, and of the rest a share denies the persona."""
    rng = random.Random(f"rows {seed}")
    rows = []
    for _ in range(count):
        bad, said = rng.random() < malformed, said_or_denied("I own a boat.", rng.random() < denied)
        raw = "Hi!" if bad else json.dumps({"response": said})
        rows.append(PersoRow(("I own a boat.",), "A: Hello", "Hi", raw))
    return rows


def recover_malformed(seed: int, parameter: float) -> Measurement:
    """The planted share of malformed outputs, as the failure ratio finds it."""
    report = personalization_report(planted(seed, parameter, 0.3), TruthTable())
    return next(m for m in report if m.name == "failure ratio")


def recover_c_score(seed: int, parameter: float) -> Measurement:
    """The planted C-score of valid rows, beside malformed ones; at 0 as many deny as repeat."""
    report = personalization_report(planted(seed, 0.15, (1.0 - parameter) / 2.0), TruthTable())
    return report[0]
