"""Can a model say what a given person would prefer? (arXiv 2406.11657), with the right to abstain.

A judge chooses and says how certain it is, 1 to 100. Below a threshold it abstains, and a person is
asked instead. The threshold comes from labelled pairs: the lowest certainty from which on the judge
is right often enough, its interval's lower end above chance. Where certainty says nothing about
accuracy there is no such threshold, and the judge gets none instead of a bad one. Risk always
stands beside coverage: the published "above 80 %" holds for 12 % of the items.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.judging import Choice
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.statistics import measured, scipy_stats

BANDS = ("uncertain", "moderately certain", "quite certain", "certain", "highly certain")
TARGET = 0.80
LEAST = 30  # items above a threshold, at least
SPLITS = 9
_CHOICE = re.compile(r"\[\[\s*([AB])\s*\]\]", re.IGNORECASE)
_CERTAINTY = re.compile(r"\[\[\s*(\d{1,3})\s*\]\]")
# What the published rows of each set have in common, and what marks it.
COLUMNS = ("prompt", "answer", "certainty", "acc", "ground_truth")


@dataclass(frozen=True)
class JudgedPair:
    """One labelled pair. certainty: 1 to 100, NaN where unreadable."""

    right: bool
    certainty: float


@dataclass(frozen=True)
class RiskPoint:
    """Judging only what is at least this certain: what is covered, and how often it is right."""

    threshold: float
    coverage: float
    accuracy: float
    n: int


def read_outputs(path: str | Path) -> list[JudgedPair]:
    """A judge's published outputs, a JSON object a line. `certainty` is a text there.

    Raises:
        InputError: a line without the keys that all sets share, by line.
    """
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            missing = [key for key in COLUMNS if key not in row]
        except (json.JSONDecodeError, TypeError, RecursionError):
            row, missing = {}, list(COLUMNS)
        if missing:
            raise InputError(f"{path}, line {number}: {', '.join(missing)} missing")
        digits = re.search(r"\d+", str(row["certainty"]))
        certainty = float(digits.group()) if digits else math.nan
        found.append(JudgedPair(bool(float(row["acc"])), certainty))
    return found


def accuracy(pairs: Sequence[JudgedPair], at_least: float = 0.0) -> tuple[float, int]:
    """Share of right answers among those at least this certain, and their number."""
    kept = [p.right for p in pairs if at_least <= 0.0 or p.certainty >= at_least]
    return (sum(kept) / len(kept) if kept else math.nan), len(kept)


def risk_coverage(pairs: Sequence[JudgedPair]) -> list[RiskPoint]:
    """The curve over all thresholds that occur, from everything to the most certain."""
    known = sorted((p.certainty, p.right) for p in pairs if not math.isnan(p.certainty))
    if not known:
        return []
    levels, starts = np.unique([certainty for certainty, _ in known], return_index=True)
    counts = len(known) - starts
    right = np.cumsum([r for _, r in reversed(known)])[counts - 1]
    return [
        RiskPoint(float(level), int(n) / len(pairs), int(hits) / int(n), int(n))
        for level, n, hits in zip(levels, counts, right, strict=True)
    ]


def choose_threshold(
    pairs: Sequence[JudgedPair], target: float = TARGET, seed: int = 0
) -> float | None:
    """The lowest certainty from which on the judge is right in `target` of the cases.

    Chosen on one half and kept only if the other half reaches it within the error of both
    (one-sided 5 %), in most of `SPLITS` ways to halve the pairs: the median of those that are kept.
    And only where certainty ranks right answers higher at all (AUC above .5, one-sided 1 %). None
    otherwise.
    """
    usable = [p for p in pairs if not math.isnan(p.certainty)]
    if len(usable) < 2 * LEAST:
        return None
    share = accuracy(usable)[0]
    if share - 1.645 * math.sqrt(share * (1.0 - share) / len(usable)) >= target:
        return min(p.certainty for p in usable)  # good enough as it is; certainty need not rank
    if not _ranks(usable):
        return None
    rng, kept = random.Random(f"halves {seed}"), []
    for _ in range(SPLITS):
        order = rng.sample(usable, len(usable))
        found = _of_halves(order[: len(order) // 2], order[len(order) // 2 :], target)
        kept += [] if found is None else [found]
    return median_low(kept) if len(kept) > SPLITS // 2 else None


def _of_halves(
    half: Sequence[JudgedPair], other: Sequence[JudgedPair], target: float
) -> float | None:
    for point in risk_coverage(half):
        if point.n >= LEAST // 2 and point.accuracy >= target:
            share, n = accuracy(other, point.threshold)
            error = target * (1.0 - target) * (1.0 / point.n + 1.0 / max(n, 1))
            reached = n >= LEAST // 2 and share >= target - 1.645 * math.sqrt(error)
            return point.threshold if reached else None
    return None


def _ranks(pairs: Sequence[JudgedPair]) -> bool:
    """Whether right answers are more certain than wrong ones (Mann-Whitney, one-sided 1 %)."""
    right = [p.certainty for p in pairs if p.right]
    wrong = [p.certainty for p in pairs if not p.right]
    if len(right) < 2 or len(wrong) < 2:
        return len(wrong) < 2
    return bool(scipy_stats().mannwhitneyu(right, wrong, alternative="greater").pvalue < 0.01)


def judge_report(
    name: str, pairs: Sequence[JudgedPair], target: float = TARGET
) -> list[Measurement]:
    """Accuracy on all and above the threshold, each with its coverage."""
    told = {"judge": name}
    threshold = choose_threshold(pairs, target)
    items = [MeasuredItem(str(i), float(p.right), why=f"certainty {p.certainty:g}")
             for i, p in enumerate(pairs)]  # fmt: skip
    found = [measured("agreement with the person", [float(p.right) for p in pairs], tools=told,
                      null=0.5, items=items)]  # fmt: skip
    unreadable = [float(math.isnan(p.certainty)) for p in pairs]
    found.append(measured("certainty unreadable", unreadable, direction="lower", tools=told))
    if threshold is None:
        note = f"no threshold: certainty does not lead to {target:.0%}"
        found.append(Measurement("coverage", math.nan, n=len(pairs), tools=told, note=note))
        return found
    kept = [float(p.right) for p in pairs if p.certainty >= threshold]
    note = f"of what is at least {threshold:g} certain, {len(kept) / len(pairs):.0%} of all"
    found.append(measured("agreement above the threshold", kept, tools=told, note=note))
    found.append(Measurement("coverage", len(kept) / len(pairs), n=len(pairs), tools=told))
    return found


class PersonalJudge:
    """A language model as a `PairwiseJudge` of what one person prefers; both orders are asked.

    threshold: of the certainty (1 to 100) below which it abstains; None never does. `failures`
    counts answers that could not be read; such a pair is abstained from.
    """

    def __init__(self, model: LanguageModel, threshold: float | None = None) -> None:
        self.name = f"personal judge on {model.name}"
        self._model, self.threshold = model, threshold
        self.failures = 0

    def compare(self, context: str, a: str, b: str) -> Choice:
        """See `PairwiseJudge`; the context holds the profile and the question."""
        forward, backward = self._ask(context, a, b), self._ask(context, b, a)
        if forward is None or backward is None:
            self.failures += 1
            return Choice(0.5, 0.0, abstained=True)
        p_a = (forward[0] + 1.0 - backward[0]) / 2.0
        certainty = min(forward[1], backward[1])
        flipped = forward[0] == backward[0]
        if flipped or (self.threshold is not None and certainty < self.threshold):
            return Choice(0.5, certainty / 100.0, abstained=True, flipped=flipped)
        return Choice(p_a, certainty / 100.0, flipped=flipped)

    def _ask(self, context: str, first: str, second: str) -> tuple[float, float] | None:
        bands = "; ".join(f"{20 * i + 1} to {20 * i + 20} {name}" for i, name in enumerate(BANDS))
        asked = (
            f"{context}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\nWhich one would this person "
            'prefer? Write "[[A]]" or "[[B]]", then how certain you are from 1 to 100 as "[[X]]" '
            f"({bands})."
        )
        return parse_choice(self._model.chat((Message("user", asked),), max_tokens=40))


def parse_choice(text: str) -> tuple[float, float] | None:
    """(1 for A or 0 for B, certainty 1 to 100), None where either is missing."""
    choice, certainty = _CHOICE.search(text), _CERTAINTY.search(text)
    if choice is None or certainty is None or not 1 <= int(certainty.group(1)) <= 100:
        return None
    return float(choice.group(1).upper() == "A"), float(certainty.group(1))


def area_under_risk(points: Sequence[RiskPoint]) -> float:
    """Mean risk over coverage (AURC), by the trapezium rule; lower is better."""
    order = sorted(points, key=lambda p: p.coverage)
    x = np.array([p.coverage for p in order])
    y = np.array([1.0 - p.accuracy for p in order])
    return float(np.trapezoid(y, x) / (x[-1] - x[0])) if len(order) > 1 else math.nan


# The truth that the measures are held to --------------------------------------------------------


def planted(seed: int, right: Callable[[float], float], count: int = 1000) -> list[JudgedPair]:
    """Pairs with certainties over 1 to 100 that are right with probability right(certainty)."""
    rng = random.Random(f"certainty {seed}")
    sure = [rng.randint(1, 100) for _ in range(count)]
    return [JudgedPair(rng.random() < right(c), float(c)) for c in sure]


def recover_certain(seed: int, parameter: float) -> Measurement:
    """The planted accuracy of the most certain fifth."""
    pairs = planted(seed, lambda c: 0.5 + (parameter - 0.5) * float(c > 80))
    return measured("sure and right", [float(p.right) for p in pairs if p.certainty > 80])


def recover_answered(seed: int, parameter: float) -> Measurement:
    """The share of pairs that a judge may answer, by its threshold for 80 %.

    The surest are right in 95 % of cases, all others by chance; down to half as many again as those
    it is 80 %. Where nothing is sure, no threshold is to be found, and nothing is answered. Of a
    share that a threshold decides, which is chosen from the same pairs, no interval is given.
    """
    sure = 100.0 * (1.0 - parameter / 1.5)
    pairs = planted(seed, lambda c: 0.95 if c > sure else 0.5)
    found = next(m for m in judge_report("scripted", pairs) if m.name == "coverage")
    return replace(found, value=0.0) if math.isnan(found.value) else found
