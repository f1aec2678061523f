"""PersonaEval (arXiv 2508.10014): who may judge personas? Somebody who can tell who speaks.

A judge reads a line, the profiles of everybody who might have answered, and says how likely each
is. `qualify_judge` refuses one that is below the bound of its track, and its card stands beside
every score that it gives. Per track, never pooled: 26,208 literary items would drown 699 of
experts. Two defects of the published runner are not copied: it keeps four probabilities where a
track has five options, and its F1 carries no information.
"""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.statistics import measured

HUMAN = 0.908  # top-1 of people, all tracks (abstract)
BINS = 20
MAX_OPTIONS = 8
Probabilities: TypeAlias = Sequence[float]
Ask: TypeAlias = Callable[[str, Sequence[str], Sequence[str]], Probabilities | None]


@dataclass(frozen=True)
class WhoCase:
    """prompt: what was said before. options: names with their profiles. truth: an index."""

    prompt: str
    options: tuple[str, ...]
    profiles: tuple[str, ...]
    truth: int


@dataclass(frozen=True)
class JudgeCard:
    """What a judge is worth on one track. It is refused where its interval lies below the bound."""

    judge: str
    track: str
    top1: Measurement
    measurements: tuple[Measurement, ...]
    bound: float

    @property
    def qualified(self) -> bool:
        return self.top1.value >= self.bound

    def __str__(self) -> str:
        word = "qualified" if self.qualified else "NOT qualified"
        return f"{self.judge}: top-1 {self.top1.value:.3f} on {self.track} ({word}, bound " \
               f"{self.bound:.2f}, people {HUMAN:.3f})"  # fmt: skip


def read_cases(path: str | Path) -> list[WhoCase]:
    """Cases of a published CSV (`prompt, gt, option1.., option1_profile..`).

    Raises:
        InputError: missing columns, or a right answer that is no option, by line.
    """
    found = []
    with Path(path).open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or ()
        count = sum(f"option{i}" in names for i in range(1, MAX_OPTIONS + 1))
        if "prompt" not in names or "gt" not in names or count < 2:
            raise InputError(
                f"{path} has the columns {', '.join(names)}; expected prompt, gt, option1, "
                "option1_profile and so on"
            )
        for number, row in enumerate(reader, 2):
            at = [i for i in range(1, count + 1) if (row.get(f"option{i}") or "").strip()]
            options = tuple(row[f"option{i}"].strip() for i in at)
            profiles = tuple((row.get(f"option{i}_profile") or "").strip() for i in at)
            truth = _truth((row["gt"] or "").strip(), options)
            if truth is None:
                raise InputError(f"{path}, line {number}: {row['gt']!r} is none of {options}")
            found.append(WhoCase(row["prompt"] or "", options, profiles, truth))
    return found


def _truth(told: str, options: Sequence[str]) -> int | None:
    if told in options:
        return options.index(told)
    number = re.fullmatch(r"(?:option)?\s*(\d+)", told, re.IGNORECASE)
    if number and 1 <= int(number.group(1)) <= len(options):
        return int(number.group(1)) - 1
    return None


def asked_of(model: LanguageModel) -> Ask:
    """A language model as a judge: it answers one JSON object of option number to probability."""

    def ask(prompt: str, options: Sequence[str], profiles: Sequence[str]) -> Probabilities | None:
        listed = "\n".join(
            f"{i}. {o}: {p}" for i, (o, p) in enumerate(zip(options, profiles, strict=True), 1)
        )
        text = (
            f"Somebody answers in this scene:\n{prompt}\n\nIt may be one of these:\n{listed}\n\n"
            "How likely is each? Answer with one JSON object from number to probability, sum 1."
        )
        return parse_probabilities(model.chat((Message("user", text),)), len(options))

    return ask


def parse_probabilities(text: str, count: int) -> list[float] | None:
    """Probabilities of options 1 to `count` out of a reply; None unless they sum to 1."""
    match = re.search(r"\{[^{}]*\}", text)
    try:
        told = json.loads(match.group()) if match else None
        values = [float(told[str(i)]) for i in range(1, count + 1)] if told else []
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    if not values or min(values) < 0.0 or not abs(math.fsum(values) - 1.0) <= 1e-5:
        return None
    return values


def qualify_judge(
    name: str, ask: Ask, cases: Sequence[WhoCase], track: str, *, bound: float = 0.8, seed: int = 0
) -> JudgeCard:
    """Ask a judge about every case, options in a seeded order; ties are broken by the seed too.

    bound: of top-1. The mean of people is .908, the best model of the paper reached about .69; the
    default lies between. An answer that cannot be read counts as wrong and as failed.
    """
    if not cases:
        raise InputError(f"no cases of {track}; a judge cannot be qualified on nothing")
    ranks, brier, sure, items = [], [], [], []
    for i, case in enumerate(cases):
        rng = random.Random(f"options {seed} {i}")
        order = list(range(len(case.options)))
        rng.shuffle(order)
        given = ask(case.prompt, [case.options[j] for j in order],
                    [case.profiles[j] for j in order])  # fmt: skip
        if given is None:
            ranks.append(math.nan)
            items.append(MeasuredItem(str(i), math.nan, case.prompt, "", "no probabilities"))
            continue
        p = np.array(given)[np.argsort(order)]
        tie = [rng.random() for _ in p]
        ranking = sorted(range(len(p)), key=lambda j: (-p[j], tie[j]))
        ranks.append(float(1 + ranking.index(case.truth)))
        truth = np.eye(len(p))[case.truth]
        brier.append(float(((p - truth) ** 2).sum()))
        sure.append((float(p.max()), ranking[0] == case.truth))
        items.append(
            MeasuredItem(str(i), float(ranks[-1] == 1), case.prompt, case.options[ranking[0]])
        )
    told = {"judge": name}
    top1 = measured("top-1", [float(r == 1) for r in ranks], tools=told, items=items,
                    null=1.0 / len(cases[0].options),
                    note="an unreadable answer counts as wrong")  # fmt: skip
    others = (
        measured("top-2", [r if math.isnan(r) else float(r <= 2) for r in ranks], tools=told),
        measured("mean rank", ranks, direction="lower", tools=told),
        measured("Brier", brier, direction="lower", tools=told),
        Measurement("ECE", calibration_error(sure), n=len(sure), direction="lower", tools=told),
        measured("unreadable", [float(math.isnan(r)) for r in ranks], direction="lower"),
    )
    return JudgeCard(name, track, top1, others, bound)


def calibration_error(sure: Sequence[tuple[float, bool]], bins: int = BINS) -> float:
    """ECE over equal bins of confidence: the mean gap to accuracy, weighted by size."""
    if not sure:
        return math.nan
    p, hit = np.array([s for s, _ in sure]), np.array([float(h) for _, h in sure])
    at = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[at == b].sum() - hit[at == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(p))


def scripted_judge(accuracy: float, options: Mapping[str, int], seed: int = 0) -> Ask:
    """A judge that is right with this probability, and says so: calibrated by construction.

    options: the right option's name by prompt is read as an index into the case's own options.
    """

    def ask(prompt: str, shown: Sequence[str], profiles: Sequence[str]) -> Probabilities:
        rng = random.Random(f"judge {seed} {prompt}")
        right = shown.index(f"option {options[prompt]}")
        others = [i for i in range(len(shown)) if i != right]
        top = right if rng.random() < accuracy else rng.choice(others)
        rest = (1.0 - accuracy) / (len(shown) - 1)
        return [accuracy if i == top else rest for i in range(len(shown))]

    return ask


def planted(seed: int, count: int = 250, options: int = 4) -> tuple[list[WhoCase], dict[str, int]]:
    """Cases without content, and the right option by prompt."""
    rng = random.Random(f"who {seed}")
    names = tuple(f"option {i}" for i in range(options))
    truths = [rng.randrange(options) for _ in range(count)]
    cases = [WhoCase(f"scene {seed} {n}", names, names, t) for n, t in enumerate(truths)]
    return cases, {case.prompt: case.truth for case in cases}


def recover(seed: int, parameter: float) -> Measurement:
    """The planted accuracy of a judge (above chance), as top-1 finds it."""
    cases, truth = planted(seed)
    card = qualify_judge("scripted", scripted_judge(parameter, truth, seed), cases, "planted")
    return card.top1
