"""An audit as one HTML page that stands alone: the worst quotes first, plots as inline SVG.

Whatever comes from the card or the model is escaped; the page loads and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from consistent_gen.persona.evaluate.conflicts import metric_conflicts
from consistent_gen.persona.evaluate.faithfulness import Faithfulness
from consistent_gen.persona.evaluate.personaeval import JudgeCard
from consistent_gen.persona.measurement import MeasuredItem, Measurement, PersonaReport
from consistent_gen.persona.persona import Persona

QUOTES = 8
LONGEST = 400  # characters of a quote
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: #1d1d1f; background: #fff }
h2 { margin-top: 2.5rem } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: .9rem } .scroll { overflow-x: auto }
td, th { border: 1px solid #bbb; padding: .25rem .5rem; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
blockquote { margin: 1rem 0; padding: .25rem 1rem; border-left: 4px solid #b3261e }
.quiet { color: #555; font-size: .9rem } .bad { color: #8c1d18; font-weight: 600 }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_BLUE, _RED, _GREY = "#1a56a8", "#b3261e", "#767676"


def page(
    report: PersonaReport,
    persona: Persona,
    answers: Sequence[Faithfulness],
    *,
    baseline: PersonaReport | None = None,
    judge: JudgeCard | None = None,
    failures: Mapping[str, str] | None = None,
) -> str:
    """The whole document."""
    title = f"Audit of {report.subject}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="quiet">Scores of a program about a program: simulated trait levels, no '
        "psychology. There is no single number on purpose; where measures disagree, both stand "
        "here. Intervals are 95 %.</p>",
        _tools(report, judge),
        _quotes(report),
        _statements(answers),
        _measures(report),
        _traits(persona),
        *(_line(m) for m in report.measurements if _by_turn(m)),
        _comparison(report, baseline) if baseline is not None else "",
        _failures(failures or {}),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(parts)}</body></html>\n"
    )


def _tools(report: PersonaReport, judge: JudgeCard | None) -> str:
    told = {(kind, text) for m in report.measurements for kind, text in m.tools.items()}
    lines = [f"<li>{escape(kind)}: {escape(text)}</li>" for kind, text in sorted(told)]
    if judge is not None:
        mark = "" if judge.qualified else ' class="bad"'
        lines.append(f"<li{mark}>judge: {escape(str(judge))}</li>")
    return f"<h2>What measured, and how good it is itself</h2><ul>{''.join(lines)}</ul>"


def _quotes(report: PersonaReport) -> str:
    """The worst items of all measures that have a better and a worse."""
    picked: list[tuple[str, MeasuredItem]] = []
    for m in report.measurements:
        if m.direction == "none" or _by_turn(m):
            continue
        for item in m.worst[:QUOTES]:
            bad = math.isnan(item.value) or _goodness(m, item) < _neutral(m)
            if bad and (item.answered or item.why):
                picked.append((m.name, item))
    if not picked:
        return "<h2>Worst quotes</h2><p>No answer was found to contradict a statement.</p>"
    told = []
    for name, item in picked[: 2 * QUOTES]:
        asked = f"<p>{escape(_cut(item.asked))}</p>" if item.asked else ""
        value = "failed" if math.isnan(item.value) else f"{item.value:.3f}"
        told.append(
            f"<blockquote>{asked}<p><strong>{escape(_cut(item.answered) or '(nothing)')}</strong>"
            f'</p><p class="quiet">{escape(name)} {value}: {escape(_cut(item.why))}</p>'
            "</blockquote>"
        )
    return f"<h2>Worst quotes</h2>{''.join(told)}"


def _goodness(m: Measurement, item: MeasuredItem) -> float:
    if m.direction == "reference":
        return -abs(item.value - m.reference)
    return -item.value if m.direction == "lower" else item.value


def _neutral(m: Measurement) -> float:
    if m.direction == "reference":
        return 0.0
    null = 0.0 if math.isnan(m.null) else m.null
    return -null if m.direction == "lower" else null


def _statements(answers: Sequence[Faithfulness]) -> str:
    """Each statement over all answers: its part of dAPC, and the answer that treats it worst."""
    if not answers:
        return "<h2>Statement by statement</h2><p>No question was answered.</p>"
    rows = []
    for i, first in enumerate(answers[0].scores):
        mine = [one.scores[i] for one in answers]
        value = sum(s.active - s.passive for s in mine) / len(mine)
        worst = max(range(len(mine)), key=lambda n: mine[n].judged.contradicted)
        broken = sum(s in one.broken for s, one in zip(mine, answers, strict=True))
        rows.append((-broken, value, first.statement.text, mine[worst].why, answers[worst].reply))
    rows.sort(key=lambda row: row[:2])
    reach = max(0.05, *(abs(row[1]) for row in rows))
    body = "".join(
        f"<tr><td>{escape(_cut(text))}</td><td>{_bar(value / reach)}</td>"
        f'<td class="number">{value:+.3f}</td><td class="number">{-broken}</td>'
        f"<td>{escape(why)}<br>"
        f'<span class="quiet">{escape(_cut(reply, 160))}</span></td></tr>'
        for broken, value, text, why, reply in rows
    )
    return (
        '<h2>Statement by statement</h2><p class="quiet">Each statement\'s mean part of dAPC over '
        "all answers: above 0 it is kept when asked about, below 0 contradicted when it is not; "
        "beside it, how many answers contradict it.</p>"
        '<div class="scroll"><table><thead><tr><th scope="col">statement</th><th scope="col"></th>'
        '<th scope="col">dAPC</th><th scope="col">contradicted</th>'
        '<th scope="col">worst answer</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _bar(share: float) -> str:
    width = 60.0 * min(abs(share), 1.0)
    x, color = (60.0, _BLUE) if share >= 0 else (60.0 - width, _RED)
    return (
        '<svg width="120" height="14" role="img" aria-label="bar"><line x1="60" x2="60" y1="0" '
        f'y2="14" stroke="{_GREY}"/><rect x="{x:.1f}" y="2" width="{width:.1f}" height="10" '
        f'fill="{color}"/></svg>'
    )


def _measures(report: PersonaReport) -> str:
    rows = []
    for m in report.measurements:
        interval = "" if math.isnan(m.low) else f"{m.low:.3f} to {m.high:.3f}"
        null = "" if math.isnan(m.null) else f"{m.null:.3g}"
        failed = f'<span class="bad">{m.failed}</span>' if m.failed else "0"
        rows.append(
            f"<tr><td>{escape(m.name)}</td>"
            f'<td class="number">{_number(m.value)} {escape(m.unit)}</td>'
            f'<td class="number">{interval}</td><td class="number">{m.n}</td>'
            f'<td class="number">{failed}</td><td>{escape(m.direction)}</td>'
            f'<td class="number">{null}</td><td>{escape("; ".join(m.tools.values()))} '
            f"{escape(m.note)}</td></tr>"
        )
    heads = ("measure", "value", "interval", "cases", "failed", "better", "blind answer gets",
             "measured with")  # fmt: skip
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<h2>All measures</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_intervals(report)}"
    )


def _intervals(report: PersonaReport) -> str:
    """Values with their intervals on one axis."""
    shown = [m for m in report.measurements if not math.isnan(m.low)]
    if not shown:
        return ""
    low = min(0.0, *(m.low for m in shown))
    high = max(1e-3, *(m.high for m in shown))

    def x(value: float) -> float:
        return 260.0 + 440.0 * (value - low) / (high - low)

    rows = [f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="{24 * len(shown)}" '
            f'stroke="{_GREY}" stroke-dasharray="3 3"/>']  # fmt: skip
    for i, m in enumerate(shown):
        y = 24 * i + 12
        rows.append(
            f'<text x="250" y="{y + 4}" text-anchor="end" font-size="12">{escape(m.name)}</text>'
            f'<line x1="{x(m.low):.1f}" x2="{x(m.high):.1f}" y1="{y}" y2="{y}" stroke="{_BLUE}" '
            f'stroke-width="2"/><circle cx="{x(m.value):.1f}" cy="{y}" r="4" fill="{_BLUE}"/>'
        )
    return _svg("values with intervals", 720, 24 * len(shown), rows)


def _traits(persona: Persona) -> str:
    if not persona.traits:
        return ""
    rows = []
    for i, (name, value) in enumerate(sorted(persona.traits.items())):
        y = 24 * i
        rows.append(
            f'<text x="190" y="{y + 16}" text-anchor="end" font-size="12">{escape(name)}</text>'
            f'<rect x="200" y="{y + 4}" width="400" height="16" fill="#e8e8e8"/>'
            f'<rect x="200" y="{y + 4}" width="{400 * value:.1f}" height="16" fill="{_BLUE}"/>'
            f'<text x="610" y="{y + 16}" font-size="12">{value:.2f}</text>'
        )
    return (
        "<h2>Simulated trait levels</h2>"
        '<p class="quiet">As the card declares them, 0 to 1; a declaration, no measurement.</p>'
        + _svg("trait levels", 660, 24 * len(rows), rows)
    )


def _by_turn(m: Measurement) -> bool:
    return bool(m.items) and all(item.id.startswith("turn ") for item in m.items)


def _line(m: Measurement) -> str:
    """Values of one measure over the turns of the interview."""
    points = [(i, item.value) for i, item in enumerate(m.items) if not math.isnan(item.value)]
    if len(points) < 2:
        return ""
    low, high = min(v for _, v in points), max(v for _, v in points)
    low, high = min(low, 0.0), max(high, low + 1e-6)

    def at(i: int, value: float) -> str:
        x = 50.0 + 640.0 * i / max(len(m.items) - 1, 1)
        return f"{x:.1f},{190.0 - 170.0 * (value - low) / (high - low):.1f}"

    drawn = " ".join(at(i, value) for i, value in points)
    rows = [
        f'<line x1="50" x2="690" y1="190" y2="190" stroke="{_GREY}"/>',
        f'<text x="44" y="194" text-anchor="end" font-size="12">{low:.2f}</text>',
        f'<text x="44" y="24" text-anchor="end" font-size="12">{high:.2f}</text>',
        f'<text x="690" y="208" text-anchor="end" font-size="12">turn {len(m.items)}</text>',
        f'<polyline points="{drawn}" fill="none" stroke="{_BLUE}" stroke-width="2"/>',
    ]
    told = f"{m.note}: {_number(m.value)} {m.unit}" if m.note else f"{_number(m.value)} {m.unit}"
    return f"<h2>{escape(m.name.capitalize())}</h2><p>{escape(told)}</p>" + _svg(
        m.name, 720, 214, rows
    )


def _comparison(report: PersonaReport, baseline: PersonaReport) -> str:
    """Against an earlier report: the verdict, every conflict, and the two on one another's axes."""
    verdict = report.against(baseline)
    lines = [f"<p>Against {escape(baseline.subject)}: <strong>{verdict.standing}</strong>.</p>"]
    for word, names in (("better", verdict.better), ("worse", verdict.worse),
                        ("cannot be compared", verdict.incomparable)):  # fmt: skip
        if names:
            lines.append(f"<p>{word}: {escape(', '.join(names))}</p>")
    if report.subject != baseline.subject:
        for conflict in metric_conflicts([report, baseline]):
            lines.append(
                f'<p class="bad">{escape(conflict.better)} gains '
                f"{escape(', '.join(conflict.gains))} and loses "
                f"{escape(', '.join(conflict.losses))}; neither stands for both.</p>"
            )
    return f"<h2>Pareto</h2>{''.join(lines)}{_differences(report, baseline)}"


def _differences(report: PersonaReport, baseline: PersonaReport) -> str:
    """How much better (right) or worse (left) each shared measure is, by its own tolerance."""
    theirs = {m.name: m for m in baseline.measurements}
    shown = [(m.name, m.goodness - theirs[m.name].goodness) for m in report.measurements
             if m.name in theirs]  # fmt: skip
    shown = [(name, d) for name, d in shown if not math.isnan(d)]
    if not shown:
        return ""
    reach = max(1e-6, *(abs(d) for _, d in shown))
    rows = [f'<line x1="460" x2="460" y1="0" y2="{24 * len(shown)}" stroke="{_GREY}"/>']
    for i, (name, d) in enumerate(shown):
        y, width = 24 * i, 200.0 * abs(d) / reach
        x, color = (460.0, _BLUE) if d >= 0 else (460.0 - width, _RED)
        rows.append(
            f'<text x="250" y="{y + 16}" text-anchor="end" font-size="12">{escape(name)}</text>'
            f'<rect x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="14" fill="{color}"/>'
            f'<text x="{x + width + 4 if d >= 0 else x - 4:.1f}" y="{y + 16}" font-size="12" '
            f'text-anchor="{"start" if d >= 0 else "end"}">{d:+.3f}</text>'
        )
    return _svg("differences to the baseline", 720, 24 * len(shown), rows)


def _failures(failures: Mapping[str, str]) -> str:
    if not failures:
        return ""
    lines = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in failures.items())
    return f"<h2>Not measured</h2><ul>{lines}</ul>"


def _svg(label: str, width: int, height: float, rows: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(rows)}</svg>"
    )


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"
