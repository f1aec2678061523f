"""Sections of docs/benchmarks.md on the persona memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import table


def memory_speed(result: Mapping[str, Any]) -> str:
    """Calls of the store against their budgets, and beside mem0."""
    names = ("turn_write", "executor_batch", "search", "open", "purge")
    rows = [
        (size, *(f"{found[n]['p50']:.2f} / {found[n]['p95']:.2f}" for n in names))
        for size, found in result["figures_ms"].items()
    ]
    budgets = [
        (name.replace("_", " "), f"{row['budget_ms']:.0f}", f"{row['p95_ms']:.2f}",
         "yes" if row["held"] else "no")
        for name, row in result["budgets"].items()
    ]  # fmt: skip
    comparison = result.get("comparison", {})
    ratios = [
        (name.replace("_", " "), f"{ratio:.2f}")
        for name, ratio in comparison.get("mem0_over_ours", {}).items()
    ]
    parts = [
        "## Persona memory: speed\n\n`python -m benchmarks.memory_speed`, "
        f"{result['cores']} cores, milliseconds (p50 / p95)\n\n"
        + table(("records", *(n.replace("_", " ") for n in names)), rows),
        table(("budget", "ms at most", "p95 ms", "held"), budgets),
    ]
    if ratios:
        head = f"times as long with {comparison['mem0']}, {comparison['adds']} adds"
        parts.append(table((head, ""), ratios))
    return "\n".join(parts)


def memory_turns(result: Mapping[str, Any]) -> str:
    """What whole turns cost, by how much is remembered."""
    rows = [
        (size, part, *(f"{ms[part][q]:.1f}" for q in ("mean", "p50", "p95")))
        for size, ms in result["cpu_ms"].items()
        for part in ("all", "statements", "questions")
    ]
    grown = [(part, f"{ratio:.2f}") for part, ratio in result["growth"].items()]
    return (
        "## Persona memory: whole turns\n\n`python -m benchmarks.memory_turns`, milliseconds of "
        "processor time; asked are a growth of all turns of at most "
        f"{result['budget_growth']} and a p95 of at most {result['budget_p95_ms']:.0f} ms "
        f"({'held' if result['held'] else 'missed'})\n\n"
        + table(("facts", "turns", "mean", "p50", "p95"), rows)
        + "\n"
        + table(("turns", "dearest size over cheapest"), grown)
    )


def memory_pictures(result: Mapping[str, Any]) -> str:
    """Pictures as memories, step by step."""
    kinds = list(result)
    rows = [
        (step, *(f"{result[kind][step]} of {result[kind]['cases']}" for kind in kinds))
        for step in result[kinds[0]]
        if step != "cases"
    ]
    return (
        "## Persona memory: pictures\n\n`python -m benchmarks.memory_pictures`, cases in which a "
        "step is right\n\n" + table(("step", *kinds), rows)
    )


_ORDER = ("all parts", "no reasoning loop", "no alignment", "neither", "static profile",
          "alignment, no memory")  # fmt: skip


def memory_ablation(result: Mapping[str, Any]) -> str:
    """The arms of PersonaVLM's parts, for each model that answered."""
    parts = [
        "## Persona memory: what each part adds\n\n`python -m benchmarks.memory_ablation`, "
        "held-out natural conversations; questions judged by words, then means of a question "
        "(milliseconds: median by the clock, beside other jobs)\n"
    ]
    names = ("right", "stale", "wrong", "unknown")
    for run in result["runs"]:
        rows = [
            (arm, *(str(row[n]) for n in names), f"{row['style_gap']:.3f}", f"{row['calls']:.1f}",
             f"{row['tokens']:.0f}", f"{row['milliseconds']:.0f}")
            for arm, row in sorted(run["arms"].items(), key=lambda one: _ORDER.index(one[0]))
        ]  # fmt: skip
        asked = next(iter(run["arms"].values()))["questions"]
        head = (f"{run['model']}, {asked} questions", *names, "style gap", "calls", "tokens", "ms")
        parts.append(table(head, rows))
    return "\n".join(parts)


def memory_operations(result: Mapping[str, Any]) -> str:
    """Operations of each listener, and fast against agentic reading."""
    parts = [
        "## Persona memory: operations\n\n`python -m benchmarks.memory_operations`, gold facts of "
        "held-out natural conversations; written and ended are recalls, milliseconds by the clock "
        "beside other jobs\n"
    ]
    names = ("precision", "sound", "recall_written", "recall_ended", "score")
    for run in result["runs"]:
        rows = [
            (listener, str(row["turns"]), str(row["operations"]), *(f"{row[n]:.2f}" for n in names),
             str(row["unreadable"]), f"{row['milliseconds']:.0f}")
            for listener, row in run["operations"].items()
        ]  # fmt: skip
        columns = ("turns", "operations", "precision", "sound", "written", "ended", "score")
        head = (f"listener, {run['listened']}", *columns, "unreadable", "ms")
        parts.append(table(head, rows))
    for run in result["runs"]:
        rows = [
            (mode, f"{row['right']} of {row['questions']}", str(row["stale"]), str(row["wrong"]),
             f"{row['tokens']:.0f}", f"{row['milliseconds']:.0f}")
            for mode, row in run.get("modes", {}).items()
        ]  # fmt: skip
        if rows:
            parts.append(
                table(("reading, by rules", "right", "stale", "wrong", "tokens", "ms"), rows)
            )
    return "\n".join(parts)


def style_frontier(result: Mapping[str, Any]) -> str:
    """The settings that no other beats, policy by policy."""
    rows = [
        (one["policy"], ", ".join(f"{k} {v}" for k, v in one["constants"].items()),
         *(f"{one['measures'][n]:.3f}" for n in ("synchrony", "stability", "churn",
                                                 "register_flips")))
        for one in result["settings"] if one["best"]
    ]  # fmt: skip
    return (
        "## Persona memory: following the user's style\n\n`python -m benchmarks.style_frontier`, "
        f"{result['users']} users, {result['turns']} turns; of {len(result['settings'])} settings "
        "those that no other beats in synchrony and stability at once; a register flip is a turn "
        f"at which one of eight dimensions jumps by more than {result['flip']:.2f}\n\n"
        + table(("policy", "constants", "synchrony", "stability", "churn", "register flips"), rows)
    )
