"""Reports that keep what disagrees (Embracing Contradiction, arXiv 2505.18139).

Metrics that rank systems differently are kept side by side for three reasons: they stand for
different values (pluralism), no single one sees everything (completeness), and together they keep
an optimiser from bending to one of them (implicit regularisation). So leaving a metric out of a
report is refused while it is part of a conflict; the paper's subject is responsible AI, and taking
it to personas is ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.persona.measurement import Measurement, PersonaReport
from consistent_gen.persona.statistics import measured
from consistent_gen.rewards.pareto import MetricConflict, conflicts, tolerance


def metric_conflicts(reports: Sequence[PersonaReport]) -> list[MetricConflict]:
    """Every pair of reports in which one metric gains and another loses by more than its
    tolerance; of several tolerances for a metric the largest counts.
    """
    names = [report.subject for report in reports]
    if len(set(names)) != len(names):
        raise InputError(f"reports of {names}; expected different subjects")
    tolerances: dict[str, float] = {}
    for report in reports:
        for name, value in report.tolerances.items():
            tolerances[name] = max(value, tolerances.get(name, 0.0))
    systems = {
        report.subject: {
            m.name: m.goodness for m in report.measurements if not math.isnan(m.goodness)
        }
        for report in reports
    }
    return conflicts(systems, tolerances)


def pruned(
    report: PersonaReport, keep: Collection[str], among: Sequence[PersonaReport]
) -> PersonaReport:
    """The report with the measurements of `keep` only.

    Raises:
        UnknownNameError: `keep` names what was not measured.
        InputError: what would be left out disagrees with something in a conflict `among` reports.
    """
    there = [m.name for m in report.measurements]
    unknown = sorted(set(keep) - set(there))
    if unknown:
        raise UnknownNameError(f"not measured: {', '.join(unknown)}; there are {', '.join(there)}")
    left_out = set(there) - set(keep)
    for conflict in metric_conflicts(among):
        hidden = sorted(left_out & {*conflict.gains, *conflict.losses})
        if hidden:
            raise InputError(
                f"{', '.join(hidden)} cannot be left out: {conflict.better} is better than "
                f"{conflict.than} in {', '.join(conflict.gains)} and worse in "
                f"{', '.join(conflict.losses)}, and a reader must see both"
            )
    return replace(report, measurements=tuple(m for m in report.measurements if m.name in keep))


def fairness(
    answers: Mapping[str, Sequence[tuple[bool, bool]]],
) -> tuple[Measurement, Measurement]:
    """The textbook pair that cannot both be perfect at unequal base rates: the largest gap between
    groups in the share of yes (demographic parity), and in the share of yes among those who deserve
    it (equal opportunity). answers: by group, (deserves, said yes) of each case.
    """
    yes, deserved = [], []
    for group, cases in answers.items():
        right = [said for deserves, said in cases if deserves]
        if not right:
            raise InputError(
                f"nobody in {group!r} deserves a yes; there is no opportunity to equal"
            )
        yes.append(sum(said for _, said in cases) / len(cases))
        deserved.append(sum(right) / len(right))
    n = sum(len(cases) for cases in answers.values())
    parity = Measurement("parity gap", max(yes) - min(yes), n=n, direction="lower")
    gap = max(deserved) - min(deserved)
    return parity, Measurement("opportunity gap", gap, n=n, direction="lower")


# The truth that conflicts are held to ------------------------------------------------------------


def recover(seed: int, parameter: float) -> Measurement:
    """The share of changes that trade one metric for another, found from 200 cases a metric.

    Of all others every second one makes both better, and every second one nothing; tolerances are
    what repeats of the same system differ by.
    """
    rng = np.random.default_rng(seed)
    metrics = ("kept", "fluent")

    def report(name: str, rates: Sequence[float]) -> PersonaReport:
        return PersonaReport(name, tuple(
            measured(metric, (rng.random(200) < rate).astype(float).tolist())
            for metric, rate in zip(metrics, rates, strict=True)
        ), tolerances)  # fmt: skip

    repeats = rng.binomial(200, 0.5, (20, 10)) / 200.0
    tolerances = dict.fromkeys(metrics, tolerance(repeats.tolist()))
    found = []
    for number in range(60):
        moved = (0.25, -0.25) if rng.random() < parameter else ((0.2, 0.2), (0.0, 0.0))[number % 2]
        new = report("new", [0.5 + by for by in moved])
        found.append(float(bool(metric_conflicts([report("old", (0.5, 0.5)), new]))))
    return measured("changes that trade", found, direction="lower", null=0.0)
