"""What was measured, and reports that keep what disagrees.

A report is a vector of measurements, each with its interval, direction, failures and tools. It has
no single number: metrics that contradict each other are what a reader needs to see (Embracing
Contradiction, arXiv 2505.18139). A change is accepted when no metric falls by more than its
tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from consistent_gen.errors import InputError

Direction: TypeAlias = Literal["higher", "lower", "reference", "none"]
Standing: TypeAlias = Literal["accepted", "dominated", "trade-off", "equal"]


@dataclass(frozen=True)
class MeasuredItem:
    """One case behind a measurement: what was asked and answered, its value, and why.

    value: NaN where the case failed (unparsable, refused); `why` says so. low, high: its 95 %
    interval where the case is a rate of its own, such as one wording's; else NaN.
    """

    id: str
    value: float
    asked: str = ""
    answered: str = ""
    why: str = ""
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Measurement:
    """A value with what one must know to trust it.

    low, high: its 95 % interval, NaN where there is none. n: cases with a value. failed: cases
    without one, which are never left out unsaid. direction: what is better; "reference" means near
    `reference`, from either side. tools: the judge, scorer or embedder by kind, with its own
    accuracy as text. null: what a persona-blind answer would get, where that is known.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    failed: int = 0
    direction: Direction = "higher"
    unit: str = ""
    reference: float = math.nan
    null: float = math.nan
    tools: Mapping[str, str] = field(default_factory=dict)
    items: tuple[MeasuredItem, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.direction == "reference" and not math.isfinite(self.reference):
            raise InputError(f"{self.name} is measured against a reference, and has none")
        if not (math.isnan(self.low) or math.isnan(self.high)) and self.low > self.high:
            raise InputError(f"the interval of {self.name} is {self.low} to {self.high}")

    @property
    def goodness(self) -> float:
        """The value so that higher is better; NaN for what is only told."""
        if self.direction == "none":
            return math.nan
        if self.direction == "reference":
            return -abs(self.value - self.reference)
        return self.value if self.direction == "higher" else -self.value

    @property
    def worst(self) -> tuple[MeasuredItem, ...]:
        """Items, the worst first; failed ones before all others."""
        sign = {"higher": 1.0, "lower": -1.0}.get(self.direction, 1.0)

        def rank(item: MeasuredItem) -> float:
            if math.isnan(item.value):
                return -math.inf
            if self.direction == "reference":
                return -abs(item.value - self.reference)
            return sign * item.value

        return tuple(sorted(self.items, key=rank))

    def as_json(self) -> dict[str, Any]:
        """Strict JSON: what is not a number is null."""
        told: dict[str, Any] = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }
        told["tools"] = dict(self.tools)
        told["items"] = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in vars(i).items()}
            for i in self.items
        ]
        return told


@dataclass(frozen=True)
class Comparison:
    """What became of a change: each metric that got better or worse by more than its tolerance."""

    standing: Standing
    better: tuple[str, ...]
    worse: tuple[str, ...]
    incomparable: tuple[str, ...]


@dataclass(frozen=True)
class PersonaReport:
    """All that was measured of one subject. tolerances: by name of a measurement, 0 where none."""

    subject: str
    measurements: tuple[Measurement, ...]
    tolerances: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [m.name for m in self.measurements]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"measured twice in one report: {', '.join(twice)}")
        wrong = sorted(k for k, v in self.tolerances.items() if not v >= 0.0)
        if wrong:
            raise InputError(f"tolerances are 0 or more; see {', '.join(wrong)}")

    def __getitem__(self, name: str) -> Measurement:
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        names = ", ".join(m.name for m in self.measurements)
        raise InputError(f"no measurement {name!r}; there are {names}")

    def against(self, baseline: PersonaReport) -> Comparison:
        """This report as a change of `baseline`: "dominated" when something got worse and nothing
        better, "trade-off" when both, "accepted" when only better, "equal" when neither.

        What has no direction, or was measured in one of them only, is told as incomparable.
        """
        mine = {m.name: m for m in self.measurements}
        theirs = {m.name: m for m in baseline.measurements}
        better, worse, unlike = [], [], sorted(mine.keys() ^ theirs.keys())
        for name in [n for n in mine if n in theirs]:
            difference = mine[name].goodness - theirs[name].goodness
            tolerance = self.tolerances.get(name, 0.0)
            if math.isnan(difference):
                unlike.append(name)
            elif difference > tolerance:
                better.append(name)
            elif difference < -tolerance:
                worse.append(name)
        standing: Standing = "equal"
        if worse:
            standing = "trade-off" if better else "dominated"
        elif better:
            standing = "accepted"
        return Comparison(standing, tuple(better), tuple(worse), tuple(unlike))


def pareto(reports: Sequence[PersonaReport]) -> tuple[bool, ...]:
    """Which reports no other one dominates, over the metrics that all of them have."""
    shared = [m.name for m in reports[0].measurements] if reports else []
    for report in reports[1:]:
        there = {m.name for m in report.measurements}
        shared = [name for name in shared if name in there]
    points = [[report[name].goodness for name in shared] for report in reports]
    kept = [i for i in range(len(shared)) if not any(math.isnan(p[i]) for p in points)]
    rows = [[p[i] for i in kept] for p in points]
    return tuple(
        not any(
            all(b >= a for a, b in zip(row, other, strict=True)) and other != row for other in rows
        )
        for row in rows
    )
