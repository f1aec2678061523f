"""Does every measure of personas find what was planted, and stay silent where nothing was?

`python -m benchmarks.persona_lab [NAME ...] [--seeds 20] [--out FILE.json] [--plot FILE.svg]`

A measure is entered in `RECOVERIES` with a function of the one signature

    def recovery(seed: int, parameter: float) -> Measurement

that plants `parameter` in scripted models, measures them as a user would, and returns the
measurement whose `value` is to be that parameter (`low`, `high`: its 95 % interval, where the
measure gives one). Where the value only rises or falls with the parameter, the correlation counts
and there is no coverage. `null` is the parameter at which there is nothing to find; a false alarm
is an interval that leaves it out, or another value where the measure gives no interval. Everything
random comes from the seed, and each planted parameter has seeds of its own, so that its intervals
are independent of all others. What is planted without chance (a rate of 0 or 1, which is found as
it is in every run) does not count to the coverage, which it could only flatter.

A measure is held to have recovered when values and parameters correlate by 0.95, or the intervals
cover 90 to 98 % of the parameters; and to be silent when at most 8 % of 200 nulls raise an alarm.

With `--out`, each measure is written when it is done, and those that stand there with the same
numbers of seeds are not measured again; so a run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from consistent_gen.checkpoints import atomic_file, write_json
from consistent_gen.registry import resolve

NULL_SEEDS = 200
SEEDS = 20  # for each planted parameter
LEAST_CORRELATION = 0.95
COVERAGE = (0.90, 0.98)
MOST_ALARMS = 0.08


@dataclass(frozen=True)
class Planted:
    """How a measure is tried: its recovery ("module:function"), the parameters that are planted,
    and the one at which there is nothing; None where that is no possible world. null_value: what
    is to be found there, where values have other units than parameters; else the same."""

    recovery: str
    parameters: tuple[float, ...]
    null: float | None = None
    null_value: float | None = None


_SIMULATE = "consistent_gen.persona.simulate"
_BEHAVIOUR = "consistent_gen.persona.behaviour"
_EVALUATE = "consistent_gen.persona.evaluate"
_RATES = (0.0, 0.1, 0.25, 0.5, 0.75)
_SCORES = (-0.6, -0.3, 0.0, 0.3, 0.6)
RECOVERIES: dict[str, Planted] = {
    "echo_rate": Planted(f"{_SIMULATE}.spasm:recover_echo", _RATES, 0.0),
    "drift_slope": Planted(f"{_SIMULATE}.spasm:recover_drift", (0.0, 0.01, 0.02, 0.03, 0.05), 0.0),
    "fact_recall": Planted(f"{_SIMULATE}.usp:recover_recall", (0.3, 0.5, 0.7, 0.9, 1.0), 1.0),
    "bluntness": Planted(f"{_SIMULATE}.usp:recover_bluntness", _RATES, 0.0),
    "role_confusion": Planted(f"{_SIMULATE}.usp:recover_role_confusion", _RATES, 0.0),
    "mutual_praise": Planted(f"{_SIMULATE}.usp:recover_mutual_praise", _RATES, 0.0),
    "portrayal_success": Planted(f"{_SIMULATE}.psyplay:recover", (0.1, 0.3, 0.5, 0.7, 0.9), 0.5),
    "acted_on": Planted(f"{_BEHAVIOUR}.belief_behaviour:recover", (0.0, 0.25, 0.5, 0.75, 1.0), 0.0),
    "cards_turned": Planted(
        f"{_BEHAVIOUR}.personality_illusion:recover", (-3.0, -1.5, 0.0, 1.5, 3.0), 0.0
    ),
    "sycophancy_slope": Planted(f"{_BEHAVIOUR}.too_nice:recover", (-0.2, 0.0, 0.2, 0.4, 0.6), 0.0),
    "accuracy_audit": Planted(
        f"{_BEHAVIOUR}.playing_pretend:recover", (-0.4, -0.2, 0.0, 0.2, 0.35), 0.0
    ),
    "context_audit": Planted(
        f"{_BEHAVIOUR}.persona_paradox:recover", (-0.6, -0.3, 0.0, 0.3, 0.6), 0.0
    ),
    "group_bias_audit": Planted(
        f"{_BEHAVIOUR}.bias_runs_deep:recover", (0.0, 0.1, 0.2, 0.3, 0.5), 0.0
    ),
    "sensitivity": Planted(
        f"{_BEHAVIOUR}.stochastic_parrots:recover", (0.0, 0.0025, 0.005, 0.01, 0.02), 0.0
    ),
    "variation": Planted(f"{_BEHAVIOUR}.run_stability:recover", (0.0, 0.1, 0.2, 0.3), 0.0),
    "consistently_wrong": Planted(
        f"{_BEHAVIOUR}.run_stability:recover_wrong", (0.0, 0.2, 0.4, 0.6, 0.8), 0.0
    ),
    "variant_stability": Planted(
        f"{_BEHAVIOUR}.variant_consistency:recover", (0.1, 0.3, 0.5, 0.7, 0.9, 1.0), 1.0
    ),
    "broken_statements": Planted(f"{_EVALUATE}.faithfulness:recover_broken", _RATES, 0.0),
    "dapc_per_statement": Planted(
        f"{_EVALUATE}.faithfulness:recover_dapc", (-0.03, -0.015, 0.0, 0.015, 0.03), 0.0
    ),
    "contradicting_replies": Planted(
        f"{_EVALUATE}.reply_consistency:recover_contradictions", _RATES, 0.0
    ),
    "c_score": Planted(f"{_EVALUATE}.reply_consistency:recover_c_score", _SCORES, 0.0),
    "turn_agreement": Planted(
        f"{_EVALUATE}.reply_consistency:recover_turns", (0.1, 0.3, 0.5, 0.7, 0.9), 0.5
    ),
    "malformed_replies": Planted(f"{_EVALUATE}.persobench:recover_malformed", _RATES, 0.0),
    "persobench_c_score": Planted(f"{_EVALUATE}.persobench:recover_c_score", _SCORES, 0.0),
    "adherence": Planted(
        f"{_EVALUATE}.eval4sim:recover_adherence", (0.0, 0.05, 0.1, 0.15, 0.2), 0.4, 1.0
    ),
    "authorship": Planted(
        f"{_EVALUATE}.eval4sim:recover_authorship", (0.1, 0.2, 0.3, 0.4), 0.4, 1.0
    ),
    "naturalness": Planted(
        f"{_EVALUATE}.eval4sim:recover_naturalness", (0.82, 0.88, 0.94, 1.0), 1.0
    ),
    "judge_parse_rate": Planted(
        f"{_EVALUATE}.personagym:recover_parse_rate", (0.3, 0.6, 0.8, 0.95, 1.0), 1.0
    ),
    "judges_agreement": Planted(
        f"{_EVALUATE}.personagym:recover_agreement", (0.0, 0.25, 0.5, 0.75, 0.9), 0.0
    ),
    "judge_reads_profile": Planted(
        f"{_EVALUATE}.personafeedback:recover", (0.5, 0.65, 0.8, 0.95), 0.5
    ),
    "judge_knows_speaker": Planted(f"{_EVALUATE}.personaeval:recover", (0.25, 0.5, 0.7, 0.9), 0.25),
    "judge_certainty": Planted(
        f"{_EVALUATE}.personal_judge:recover_certain", (0.5, 0.65, 0.8, 0.95), 0.5
    ),
    "judge_answers": Planted(
        f"{_EVALUATE}.personal_judge:recover_answered", (0.0, 0.15, 0.3, 0.45, 0.6, 0.75), 0.0
    ),
    "shared_characters": Planted(f"{_EVALUATE}.prodigy:recover", (0.0, 0.25, 0.5, 1.0), 0.0),
    "metric_conflicts": Planted(f"{_EVALUATE}.conflicts:recover", _RATES, 0.0),
}


def tried(planted: Planted, *, seeds: int = SEEDS, nulls: int = NULL_SEEDS) -> dict[str, Any]:
    """What one measure found for each parameter, and whether that is good enough."""
    recovery = resolve({"it": planted.recovery}, "it", kind="recovery")
    start = time.perf_counter()
    points = []
    for number, parameter in enumerate(planted.parameters):
        for seed in range(1_000 * number, 1_000 * number + seeds):
            found = recovery(seed, parameter)
            points.append([parameter, found.value, found.low, found.high])
    found_at = np.array(points)
    at = {p: found_at[found_at[:, 0] == p] for p in planted.parameters}
    by_chance = [rows for rows in at.values() if np.ptp(rows[:, 1]) > 0.0]
    inside = [
        bool(low <= p <= high)
        for rows in by_chance if planted.null_value is None
        for p, _, low, high in rows if not math.isnan(low)
    ]  # fmt: skip
    result: dict[str, Any] = {
        "recovery": planted.recovery,
        "parameters": [
            {"planted": p, "found": float(rows[:, 1].mean()), "spread": float(rows[:, 1].std())}
            for p, rows in at.items()
        ],
        "seeds": seeds,
        "correlation": float(np.corrcoef(found_at[:, 0], found_at[:, 1])[0, 1]),
        "coverage": sum(inside) / len(inside) if inside else None,
    }
    if planted.null is not None:
        silence = planted.null if planted.null_value is None else planted.null_value
        alarms = 0
        for seed in range(nulls):
            found = recovery(10_000 + seed, planted.null)
            if math.isnan(found.low):
                alarms += found.value != silence
            else:
                alarms += not found.low <= silence <= found.high
        result |= {"null": planted.null, "nulls": nulls, "false_alarms": alarms / nulls}
    covered = result["coverage"] is not None and COVERAGE[0] <= result["coverage"] <= COVERAGE[1]
    result["recovered"] = abs(result["correlation"]) >= LEAST_CORRELATION or covered
    result["silent"] = result.get("false_alarms", 0.0) <= MOST_ALARMS
    result["seconds"] = round(time.perf_counter() - start, 1)
    return result


def svg(results: Mapping[str, Mapping[str, Any]], columns: int = 6) -> str:
    """Planted against found, a small square for each measure; the line is where both are equal."""
    side, gap = 190, 50
    rows = math.ceil(len(results) / columns)
    width, height = columns * (side + gap) + gap, rows * (side + gap) + gap
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (name, result) in enumerate(results.items()):
        x0 = gap + (number % columns) * (side + gap)
        y0 = gap + (number // columns) * (side + gap)
        parts += _square(name, result["parameters"], x0, y0, side)
    return "\n".join([*parts, "</svg>\n"])


def _square(
    name: str, points: Sequence[Mapping[str, float]], x0: float, y0: float, side: float
) -> list[str]:
    planted = [p["planted"] for p in points]
    reach = [*planted, *(p["found"] - p["spread"] for p in points),
             *(p["found"] + p["spread"] for p in points)]  # fmt: skip
    low, high = min(reach), max(reach)
    scale = side / ((high - low) or 1.0)

    def x(value: float) -> float:
        return round(x0 + (value - low) * scale, 1)

    def y(value: float) -> float:
        return round(y0 + side - (value - low) * scale, 1)

    parts = [
        f'<rect x="{x0}" y="{y0}" width="{side}" height="{side}" fill="none" stroke="#999"/>',
        f'<line x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}" stroke="#ccc"/>',
        f'<text x="{x0}" y="{y0 - 6}">{name.replace("_", " ")}</text>',
        f'<text x="{x0}" y="{y0 + side + 14}" fill="#666">{low:.2g}</text>',
        f'<text x="{x0 + side}" y="{y0 + side + 14}" fill="#666" text-anchor="end">'
        f"{high:.2g}</text>",
    ]
    for point in points:
        at, found, spread = x(point["planted"]), point["found"], point["spread"]
        parts.append(
            f'<line x1="{at}" y1="{y(found - spread)}" x2="{at}" y2="{y(found + spread)}" '
            'stroke="#36c"/>'
        )
        parts.append(f'<circle cx="{at}" cy="{y(found)}" r="3" fill="#36c"/>')
    return parts


def _same(planted: Planted, old: Mapping[str, Any], options: argparse.Namespace) -> bool:
    """Whether a result is of the same recovery, parameters and seeds."""
    nulls = options.nulls if planted.null is not None else None
    return (
        old.get("recovery") == planted.recovery and old["seeds"] == options.seeds
        and old.get("nulls") == nulls and old.get("null") == planted.null
        and [p["planted"] for p in old["parameters"]] == list(planted.parameters)
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="measures; all where none is named"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="for each planted parameter")
    parser.add_argument("--nulls", type=int, default=NULL_SEEDS, help="null cases for each measure")
    parser.add_argument("--out", type=Path, help="write the figures there, and go on")
    parser.add_argument("--plot", type=Path, help="write planted against found there as SVG")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(RECOVERIES))
    if unknown:
        parser.error(f"no measure {', '.join(unknown)}; there are {', '.join(RECOVERIES)}")
    console, names = Console(), options.names or list(RECOVERIES)
    done = {}
    if options.out and options.out.is_file():
        done = json.loads(options.out.read_text(encoding="utf-8"))["measures"]
    for name in names:
        planted, old = RECOVERIES[name], done.get(name, {})
        if _same(planted, old, options):
            continue
        done[name] = tried(planted, seeds=options.seeds, nulls=options.nulls)
        console.print(f"{name}: {done[name]['seconds']} s")
        if options.out:
            known = {n: done[n] for n in RECOVERIES if n in done}
            write_json(options.out, {"measures": known})
    results = {name: done[name] for name in RECOVERIES if name in done}
    table = Table("measure", "correlation", "coverage", "false alarms", "recovered", "silent")
    for name, result in results.items():
        coverage, alarms = result["coverage"], result.get("false_alarms")
        table.add_row(
            name, f"{result['correlation']:.3f}",
            "" if coverage is None else f"{coverage:.3f}",
            "" if alarms is None else f"{alarms:.3f}",
            "yes" if result["recovered"] else "no", "yes" if result["silent"] else "no",
        )  # fmt: skip
    console.print(table)
    if options.plot:
        with atomic_file(options.plot) as temporary:
            temporary.write_text(svg(results), encoding="utf-8")


if __name__ == "__main__":
    main()
