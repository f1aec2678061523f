"""Sections of docs/benchmarks.md on personas: how they are made, and whether measures hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.markdown import table


def population(result: Mapping[str, Any]) -> str:
    """Of `benchmarks.persona_population`."""
    made, run, large, gate = (result[k] for k in ("planted", "resumed", "large", "gate"))
    batches = large["per_second_of_processor_in_batches"]
    rows = [
        ("personas by a proposer that slips in 30 % of its drafts", f"{made['personas']:,}"),
        ("drafts that broke a rule", f"{made['drafts_that_broke_a_rule']:,}"),
        ("personas that break a rule", str(made["violations"])),
        ("quota cells that are off", f"{made['cells_off']} of {made['cells']}"),
        ("copies planted", f"{made['copies_planted']:,}"),
        ("near-duplicates refused", f"{made['near_duplicates_refused']:,}"),
        ("pairs within three bits, all pairs compared", str(made["pairs_within_distance"])),
        (
            f"killed after {' and '.join(f'{n:,}' for n in run['killed_after'])} personas, resumed",
            "equal bytes" if run["identical_bytes"] else "other bytes",
        ),
        (
            f"{large['personas']:,} personas, empty slots, cells off",
            f"{large['failed']}, {large['cells_off']}",
        ),
        ("personas a second of one processor", f"{large['per_second_of_processor']:.0f}"),
        ("the same, slowest and fastest 5,000", f"{min(batches):.0f}, {max(batches):.0f}"),
        ("memory at its peak", f"{large['peak_mib']:.0f} MiB"),
        (
            f"the gate alone, last tenth of {gate['hashes']:,}",
            f"{gate['microseconds'][-1]:.0f} us",
        ),
        (
            "hashes with three bits flipped that it missed",
            f"{gate['of_these_missed']} of {gate['three_bits_flipped']:,}",
        ),
        *(
            (f"texts with {n} of their words changed, refused", f"{share:.0%}")
            for n, share in result["words_changed"].items()
        ),
        *(
            (
                f"attributes near, middle, far: preset {name}",
                ", ".join(f"{share:.1%}" for share in result["attributes"][name]),
            )
            for name in ("code", "paper")
        ),
    ]
    head = (
        "## Persona populations\n\n`python -m benchmarks.persona_population`. A copy that its "
        "owners had to revise, because it broke a rule there, is a copy no more.\n\n"
    )
    return head + table(("", ""), rows)


def persona_lab(result: Mapping[str, Any]) -> str:
    """Of `benchmarks.persona_lab`."""
    rows = []
    for name, found in result["measures"].items():
        pairs = [f"{p['planted']:g}: {p['found']:.3g}" for p in found["parameters"]]
        coverage, alarms = found["coverage"], found.get("false_alarms")
        rows.append(
            (
                name.replace("_", " "), ", ".join(pairs), f"{found['correlation']:.3f}",
                "" if coverage is None else f"{coverage:.3f}",
                "" if alarms is None else f"{alarms:.3f}",
                "yes" if found["recovered"] and found["silent"] else "no",
            )
        )  # fmt: skip
    nulls = max(found.get("nulls", 0) for found in result["measures"].values())
    seeds = max(found["seeds"] for found in result["measures"].values())
    head = (
        "## Measures of personas find what was planted\n\n`python -m benchmarks.persona_lab`: "
        f"scripted models, {seeds} seeds of its own for each planted parameter, and {nulls} cases "
        "with nothing to find. A measure holds when planted and found correlate by 0.95 or the "
        "intervals cover 90 to 98 %, and at most 8 % of the null cases raise an alarm. What is "
        "planted without chance does not count to the coverage; where there is none, found has "
        "other units than planted, or is counted and has no interval.\n\n"
    )
    plot = "\n![Planted against found](images/persona_lab.svg)\n"
    columns = ("measure", "planted: found", "correlation", "coverage", "false alarms", "holds")
    return head + table(columns, rows) + plot


def measured(title: str, name: str) -> Callable[[Mapping[str, Any]], str]:
    """A section on the measurements that `benchmarks.persona_sets NAME` wrote."""

    def section(result: Mapping[str, Any]) -> str:
        rows = [
            (m["name"], f"{m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f})", str(m["n"]))
            for m in result["measurements"]
        ]
        tools = {f"{k}: {v}" for m in result["measurements"] for k, v in m["tools"].items()}
        head = f"## {title}\n\n`python -m benchmarks.persona_sets {name} PATH`. "
        return f"{head}{'; '.join(sorted(tools))}.\n\n{table(('', 'value', 'cases'), rows)}"

    return section


def information_grpo(result: Mapping[str, Any]) -> str:
    """Of `benchmarks.information_grpo`."""
    names = ("stability", "distinctness", "declined", "to the point")
    rows = [
        (arm, topics, *(f"{one[n]['mean']:.3f} ({one[n]['low']:.3f} to {one[n]['high']:.3f})"
                        for n in names))
        for arm, sets in result["arms"].items()
        for topics, one in sets.items()
    ]  # fmt: skip
    head = (
        "## GRPO over wordings of a question\n\n`python -m benchmarks.information_grpo --seeds "
        f"{result['seeds']}`: a small transformer whose advice depends on how, and by whom, it is "
        "asked; means over seeds, with the least and the most. Information alone is the control."
        "\n\n"
    )
    return head + table(("", "topics", *names), rows)


def checks(result: Mapping[str, Any]) -> str:
    """Of `benchmarks.persona_checks`."""
    rows = [
        (name, key, f"{value:.3f}")
        for name, found in result.items()
        for key, value in found.items()
    ]
    head = (
        "## Checks of persona papers on planted worlds\n\n`python -m benchmarks.persona_checks`; "
        "the tests that hold them stand in [systems](systems.md).\n\n"
    )
    return head + table(("check", "", "value"), rows)


def published(result: Mapping[str, Any]) -> str:
    """Of `benchmarks.persona_tables`."""
    rows = [
        (name, key, f"{value:,.3f}".rstrip("0").rstrip("."))
        for name, found in result.items()
        for key, value in found["values"].items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    head = (
        "## Published tables of persona papers, read again\n\n`python -m "
        "benchmarks.persona_tables --data DIR`: what our arithmetic makes of the authors' files, "
        "which are not kept; their hashes are in the result file.\n\n"
    )
    return head + table(("paper", "", "value"), rows)


def published_sets(result: Mapping[str, Any]) -> str:
    """Of `benchmarks.persona_published`: PERMA by axis, others by ability, and what was not had."""
    parts = [
        "## Published memory sets, with a scripted model\n\n"
        "`python -m benchmarks.persona_published --data DIR`; the files are not kept, their hashes "
        "are in the result file. The scripted model chooses what a memory speaks for; it measures "
        "no language model\n"
    ]
    for name, found in result.items():
        if isinstance(found, str):
            parts.append(f"{name}: {found}\n")
            continue
        runs = (
            {"": found} if "asked" in found else {k: v for k, v in found.items() if k != "sha256"}
        )
        for part, run in runs.items():
            parts.append(_published_set(f"{name} {part}".strip(), run))
    return "\n".join(parts)


def _published_set(name: str, run: Mapping[str, Any]) -> str:
    """One run: a row for each memory and solver."""
    rows: list[tuple[str, ...]] = []
    columns: list[str] = []
    for memory, row in run.items():
        if not isinstance(row, Mapping) or "solvers" not in row:
            continue
        for solver, scores in row["solvers"].items():
            axes = scores.get("axes")
            by = dict(axes) if isinstance(axes, Mapping) else {}
            by = by or {k: v["accuracy"] for k, v in scores.get("by_ability", {}).items()}
            since = scores.get("by_since", {}).items()
            by |= {f"{k} {run['since']} since": v["accuracy"] for k, v in since}
            turns = {k: v for k, v in row.items() if k.startswith("success in")}
            columns = [*by, *turns]
            cells = [f"{value:.3f}" for value in (*by.values(), *turns.values())]
            interval = f"{scores['accuracy']:.3f} ({scores['low']:.3f} to {scores['high']:.3f})"
            rows.append((memory, solver, interval, *cells))
    said = f"{name}: {run['asked']} of {run['questions']} questions asked, majority "
    said += f"{run['majority']:.3f}" + (
        f"; contexts {run['contexts']}" if "contexts" in run else ""
    )
    return f"{said}\n\n" + table(("memory", "solver", "accuracy", *columns), rows)
