"""What came of the offline benchmark: one JSON value, the same as Markdown, and as one HTML page.

The JSON value has no times and no paths, so that two runs of a plan give equal files. The page
stands alone: pictures are in it as data, plots are inline SVG.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.suite_tasks import RESULT, SuitePlan, SuiteTask, artifact, drawn_pictures
from consistent_gen.checkpoints import read_json
from consistent_gen.errors import InputError
from consistent_gen.rewards.pareto import conflicts, standings, tolerance
from consistent_gen.rewards.statistics import bootstrap, paired

SCHEMA = "consistent_gen.suite/1"
# The first of these that all systems have are the axes of the Pareto front.
AXES = (("c_star_judge", "reader_consistency"), ("alignment", "different_pictures"))
SHEET_STORIES, SHEET_SIDE = 2, 144
Numbers = dict[str, dict[str, list[list[float]]]]  # system -> metric -> per story, per seed


def results(
    plan: SuitePlan, tasks: Sequence[SuiteTask], root: Path, failed: Mapping[str, str]
) -> Any:
    """Means with intervals over stories, differences to the first system, fronts and conflicts."""
    scored = [t for t in tasks if t.kind != "draw" and t.key not in failed]
    found: dict[str, Any] = {}
    for name, entries in plan.sets.items():
        of_set = [task for task in scored if task.about["set"] == name]
        if of_set:
            numbers, stories = _numbers(of_set, root, [entry.name for entry in entries])
            found[name] = {"stories": stories, **_of_set(numbers), "values": _plain(numbers)}
    about = {task.key: task.about for task in tasks}
    return {
        "schema": SCHEMA,
        "systems": list(plan.systems),
        "seeds": list(plan.seeds),
        "steps": plan.steps,
        "sets": found,
        "failed": [{"about": dict(about[key]), "why": why} for key, why in sorted(failed.items())],
    }


def _numbers(
    tasks: Sequence[SuiteTask], root: Path, names: Sequence[str]
) -> tuple[Numbers, list[str]]:
    """The values of the stories that every system has, in the set's order."""
    read: dict[str, dict[str, Mapping[str, Any]]] = {}
    for task in tasks:
        by_story = read.setdefault(task.about["system"], {})
        by_story[task.about["story"]] = read_json(artifact(root, task.key) / RESULT)
    stories = [name for name in names if all(name in by_story for by_story in read.values())]
    metrics = dict.fromkeys(m for by in read.values() for one in by.values() for m in one)
    numbers: Numbers = {
        system: {
            metric: [
                [math.nan if v is None else v for v in by_story[story].get(metric, [None])]
                for story in stories
            ]
            for metric in metrics
        }
        for system, by_story in read.items()
    }
    return numbers, stories


def _of_set(numbers: Numbers) -> dict[str, Any]:
    base = next(iter(numbers))
    table: dict[str, Any] = {}
    for system, columns in numbers.items():
        table[system] = {}
        for metric, values in columns.items():
            entry = {"mean": _interval(lambda v=values: bootstrap(v))}
            if system != base:
                other = numbers[base][metric]
                entry["over_first"] = _interval(lambda v=values, o=other: paired(v, o))
            table[system][metric] = entry
    return {"systems": table, **_fronts(numbers)}


def _interval(make: Any) -> dict[str, float] | None:
    try:
        return {name: round(value, 6) for name, value in asdict(make()).items()}
    except InputError:
        return None  # nothing of it could be scored


def _fronts(numbers: Numbers) -> dict[str, Any]:
    means = {
        system: {metric: [_mean(row) for row in rows] for metric, rows in columns.items()}
        for system, columns in numbers.items()
    }

    def known(metric: str) -> bool:
        return all(np.isfinite(columns[metric]).any() for columns in means.values()
                   if metric in columns) and all(metric in c for c in means.values())  # fmt: skip

    axes = [name for choice in AXES if (name := next(filter(known, choice), None))]
    if len(means) < 2 or len(axes) < 2:
        return {"axes": axes, "front": [], "conflicts": []}
    stacked = np.array([[columns[axis] for axis in axes] for columns in means.values()])
    usable = np.isfinite(stacked).all((0, 1))
    samples = {
        system: {axis: np.array(columns[axis])[usable].tolist() for axis in axes}
        for system, columns in means.items()
    }
    whole = {
        system: {m: float(np.nanmean(v)) for m, v in columns.items() if np.isfinite(v).any()}
        for system, columns in means.items()
    }
    limits = {
        metric: tolerance([row for columns in numbers.values() for row in columns[metric]])
        / math.sqrt(max(len(next(iter(numbers.values()))[metric]), 1))
        for metric in next(iter(numbers.values()))
    }
    return {
        "axes": axes,
        "front": [asdict(one) for one in standings(samples)] if usable.any() else [],
        "conflicts": [asdict(one) for one in conflicts(whole, limits)],
    }


def _mean(row: Sequence[float]) -> float:
    known = [value for value in row if np.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _plain(numbers: Numbers) -> Any:
    return {
        system: {
            metric: [[v if np.isfinite(v) else None for v in row] for row in rows]
            for metric, rows in columns.items()
        }
        for system, columns in numbers.items()
    }


# Markdown -----------------------------------------------------------------------------------------


def markdown(found: Mapping[str, Any]) -> str:
    """The tables of `results`."""
    lines = ["# Benchmark of stories", "", f"{found['steps']} steps; seeds {found['seeds']}.", ""]
    for name, one in found["sets"].items():
        lines += [f"## {name}: {len(one['stories'])} stories", "", *_table(one["systems"]), ""]
        lines += [_told(conflict) for conflict in one["conflicts"]]
        if one["front"]:
            on = [f"{s['name']} ({s['probability']:.2f})" for s in one["front"] if s["on_front"]]
            lines += ["", f"On the front of {' and '.join(one['axes'])}: {', '.join(on)}.", ""]
    if found["failed"]:
        lines += ["## Not made", ""]
        lines += [f"- {dict(one['about'])}: {one['why']}" for one in found["failed"]]
    return "\n".join(lines) + "\n"


def _told(conflict: Mapping[str, Any]) -> str:
    gains, losses = (", ".join(conflict[key]) for key in ("gains", "losses"))
    return (
        f"- {conflict['better']} against {conflict['than']}: better in {gains}; worse in {losses}"
    )


def _table(systems: Mapping[str, Any]) -> list[str]:
    rows = ["| metric | " + " | ".join(systems) + " |", "| --- " * (len(systems) + 1) + "|"]
    for metric in next(iter(systems.values())):
        cells = []
        for entry in systems.values():
            cell = _shown(entry[metric]["mean"])
            if entry[metric].get("over_first"):
                cell += f"; {_shown(entry[metric]['over_first'], sign=True)} over the first"
            cells.append(cell)
        rows.append(f"| {metric} | " + " | ".join(cells) + " |")
    return rows


def _shown(value: Mapping[str, float] | None, *, sign: bool = False) -> str:
    if value is None:
        return "n/a"
    form = "{:+.3f}" if sign else "{:.3f}"
    mean, low, high = (form.format(value[name]) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


# HTML ---------------------------------------------------------------------------------------------

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1d1d1f; background: #fff }
table { border-collapse: collapse; margin: 1rem 0; font-size: .85rem }
td, th { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top }
.sheet td { padding: 2px; border: 0 } .scroll { overflow-x: auto } svg { max-width: 100% }
"""


def html(found: Mapping[str, Any], tasks: Sequence[SuiteTask], root: Path) -> str:
    """The page. Pictures are those of the first stories that were drawn."""
    parts = []
    for name, one in found["sets"].items():
        parts.append(f"<h2>{escape(name)}: {len(one['stories'])} stories</h2>")
        for metric in one["axes"]:
            parts.append(bars_svg(metric, one["systems"]))
        if one["front"]:
            parts.append(front_svg(one["axes"], one["front"]))
        parts.append(f'<div class="scroll">{_html_table(one["systems"])}</div>')
        if one["conflicts"]:
            told = "".join(f"<li>{escape(_told(c)[2:])}</li>" for c in one["conflicts"])
            parts.append(f"<p>Where metrics disagree:</p><ul>{told}</ul>")
        parts += _sheets(name, one["stories"][:SHEET_STORIES], tasks, root)
    for one in found["failed"]:
        parts.append(f"<p>Not made: {escape(str(dict(one['about'])))}: {escape(one['why'])}</p>")
    head = f"<title>Benchmark of stories</title><style>{_STYLE}</style>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}</head><body>'
        f"<h1>Benchmark of stories</h1><p>{found['steps']} steps; seeds "
        f"{escape(str(found['seeds']))}. Intervals are 95 %, over stories, then seeds.</p>"
        f"{''.join(parts)}</body></html>\n"
    )


def _html_table(systems: Mapping[str, Any]) -> str:
    rows = [line.strip("|").split("|") for line in _table(systems)]
    head, body = rows[0], rows[2:]
    heads = "".join(f'<th scope="col">{escape(cell.strip())}</th>' for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell.strip())}</td>" for cell in row) + "</tr>"
        for row in body
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def bars_svg(metric: str, systems: Mapping[str, Any]) -> str:
    """Means of a metric by system, with their intervals."""
    known = {n: e[metric]["mean"] for n, e in systems.items() if e[metric]["mean"] is not None}
    low = min([0.0, *(v["low"] for v in known.values())])
    high = max([1e-6, *(v["high"] for v in known.values())])

    def x(value: float) -> float:
        return float(200.0 + 420.0 * (value - low) / (high - low))

    rows = []
    for number, (name, value) in enumerate(known.items()):
        y = 34 + 26 * number
        left, right = sorted((x(0.0), x(value["mean"])))
        rows.append(
            f'<text x="190" y="{y + 5}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left:.1f}" y="{y - 8}" width="{right - left:.1f}" height="16"'
            f' fill="#7aa6c2"/><path d="M{x(value["low"]):.1f} {y}H{x(value["high"]):.1f}"'
            f' stroke="#1d1d1f" stroke-width="2"/>'
            f'<text x="630" y="{y + 5}">{value["mean"]:.3f}</text>'
        )
    height = 34 + 26 * len(known)
    return (
        f'<svg viewBox="0 0 700 {height}" width="700" role="img" aria-label="{escape(metric)}" '
        f'font-size="13"><text x="0" y="14" font-weight="bold">{escape(metric)}</text>'
        f"{''.join(rows)}</svg>"
    )


def front_svg(axes: Sequence[str], front: Sequence[Mapping[str, Any]]) -> str:
    """Systems by two metrics; filled ones are on the front."""
    points = [[one["values"][axis] for axis in axes[:2]] for one in front]
    lows, highs = (np.array(points).min(0), np.array(points).max(0))
    spread = np.maximum(highs - lows, 1e-3)
    marks = []
    for one, (a, b) in zip(front, points, strict=True):
        x = 60 + 480 * (a - lows[0]) / spread[0]
        y = 250 - 210 * (b - lows[1]) / spread[1]
        fill = "#b5493b" if one["on_front"] else "none"
        label = f"{one['name']} ({one['probability']:.2f})"
        end = ' text-anchor="end"' if x > 400 else ""
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{fill}" stroke="#b5493b"/>'
            f'<text x="{x + (-10 if end else 10):.1f}" y="{y - 8:.1f}"{end}>{escape(label)}</text>'
        )
    return (
        '<svg viewBox="0 0 640 300" width="640" role="img" aria-label="Pareto front" '
        'font-size="13"><path d="M40 20V270H620" fill="none" stroke="#888"/>'
        f'<text x="620" y="292" text-anchor="end">{escape(axes[0])}, {lows[0]:.3f} to '
        f'{highs[0]:.3f}</text><text x="46" y="16">{escape(axes[1])}, {lows[1]:.3f} to '
        f"{highs[1]:.3f}; in brackets how surely a system is on the front</text>"
        f"{''.join(marks)}</svg>"
    )


def _sheets(name: str, stories: Sequence[str], tasks: Sequence[SuiteTask], root: Path) -> list[str]:
    found = []
    for story in stories:
        rows = []
        for task in tasks:
            about = task.about
            if task.kind == "draw" and (about["set"], about["story"]) == (name, story):
                cells = "".join(f"<td>{_embedded(path)}</td>" for path in
                                drawn_pictures(root, task.key))  # fmt: skip
                label = f"{about['system']}, seed {about['seed']}"
                rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
        if rows:
            found.append(f"<h3>{escape(story)}</h3>")
            table = f'<table class="sheet">{"".join(rows)}</table>'
            found.append(f'<div class="scroll">{table}</div>')
    return found


def _embedded(path: Path) -> str:
    with Image.open(path) as opened:
        small = opened.convert("RGB")
    small.thumbnail((SHEET_SIDE, SHEET_SIDE))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    text = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="" width="{small.width}" src="data:image/jpeg;base64,{text}">'
