"""An audit as one HTML page that stands alone: the worst quotes first, plots as inline SVG.

Whatever comes from the card or the model is escaped; the page loads and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from consistent_gen.persona.evaluate import audit_plots as plots
from consistent_gen.persona.evaluate.conflicts import metric_conflicts
from consistent_gen.persona.evaluate.faithfulness import Faithfulness
from consistent_gen.persona.evaluate.personaeval import JudgeCard
from consistent_gen.persona.measurement import MeasuredItem, Measurement, PersonaReport
from consistent_gen.persona.persona import Persona

QUOTES = 8
LONGEST = 400  # characters of a quote
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d1d1f; --quiet: #555; --edge: #bbb;
  --good: #1a56a8; --bad: #b3261e; --axis: #767676; --empty: #e8e8e8 }
@media (prefers-color-scheme: dark) { :root { --paper: #17181b; --ink: #e8e8ea; --quiet: #b0b0b6;
  --edge: #55565c; --good: #7fb2f5; --bad: #f2867e; --axis: #909096; --empty: #33343a } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper); overflow-wrap: break-word }
h2 { margin-top: 2.5rem } svg { max-width: 100%; height: auto; vertical-align: middle }
svg text { fill: var(--ink) } .good { fill: var(--good); stroke: var(--good) }
.worse { fill: var(--bad); stroke: var(--bad) } .axis { stroke: var(--axis) }
.empty { fill: var(--empty) } .curve { fill: none; stroke: var(--good); stroke-width: 2 }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal }
.scroll { overflow-x: auto }
td, th { border: 1px solid var(--edge); padding: .25rem .5rem; text-align: left;
  vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
td.long { min-width: 12rem } td svg { max-width: none }
blockquote { margin: 1rem 0; padding: .25rem 1rem; border-left: 4px solid var(--bad) }
.quiet { color: var(--quiet); font-size: .9rem } .bad { color: var(--bad); font-weight: 600 }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(
    report: PersonaReport,
    persona: Persona,
    answers: Sequence[Faithfulness],
    *,
    baseline: PersonaReport | None = None,
    judge: JudgeCard | None = None,
    failures: Mapping[str, str] | None = None,
    covers: str = "",
) -> str:
    """The whole document. covers: what it is about, where that is not the whole card."""
    title = f"Audit of {report.subject}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="quiet">Scores of a program about a program: simulated trait levels, no '
        "psychology. There is no single number on purpose; where measures disagree, both stand "
        "here. Intervals are 95 %.</p>",
        f"<p><strong>It is about {escape(covers)}.</strong></p>" if covers else "",
        _tools(report, judge),
        _quotes(report),
        _statements(answers),
        _measures(report),
        _traits(persona),
        *(_line(m) for m in report.measurements if _by_turn(m)),
        *(_rates(m) for m in report.measurements if _of_rates(m)),
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
        if m.direction == "none" or _by_turn(m) or _of_rates(m):
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
        f'<tr><td class="long">{escape(_cut(text))}</td><td>{plots.bar(value / reach)}</td>'
        f'<td class="number">{value:+.3f}</td><td class="number">{-broken}</td>'
        f'<td class="long">{escape(why)}<br>'
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
            f'<td class="number">{null}</td><td class="long">{escape(", ".join(m.tools))}'
            f"{'; ' if m.tools and m.note else ''}{escape(m.note)}</td></tr>"
        )
    heads = ("measure", "value", "interval", "cases", "failed", "better", "blind answer gets",
             "measured with")  # fmt: skip
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<h2>All measures</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_all_intervals(report)}"
    )


def _all_intervals(report: PersonaReport) -> str:
    """Values with their intervals on one axis."""
    shown = [(m.name, m.value, m.low, m.high) for m in report.measurements if not math.isnan(m.low)]
    low = min(0.0, *(row[2] for row in shown), 0.0)
    high = max(1e-3, *(row[3] for row in shown), 1e-3)
    return plots.intervals("values with intervals", shown, low=low, high=high) if shown else ""


def _traits(persona: Persona) -> str:
    if not persona.traits:
        return ""
    return (
        "<h2>Simulated trait levels</h2>"
        '<p class="quiet">As the card declares them, 0 to 1; a declaration, no measurement.</p>'
        + plots.levels("trait levels", sorted(persona.traits.items()))
    )


def _by_turn(m: Measurement) -> bool:
    return bool(m.items) and all(item.id.startswith("turn ") for item in m.items)


def _of_rates(m: Measurement) -> bool:
    """Whether its items are rates with intervals of their own, and no answers."""
    return bool(m.items) and all(not math.isnan(item.low) for item in m.items)


def _line(m: Measurement) -> str:
    """Values of one measure over the turns of the interview."""
    drawn = plots.line(m.name, [item.value for item in m.items])
    if not drawn:
        return ""
    told = f"{m.note}: {_number(m.value)} {m.unit}" if m.note else f"{_number(m.value)} {m.unit}"
    return f"<h2>{escape(m.name.capitalize())}</h2><p>{escape(told)}</p>{drawn}"


def _rates(m: Measurement) -> str:
    """A measure over rates, such as those of a card's wordings, each with its interval."""
    between = "" if math.isnan(m.low) else f" ({m.low:.3f} to {m.high:.3f})"
    rows = [(f"{i.id}: {i.why}", i.value, i.low, i.high) for i in m.items]
    return (
        f"<h2>{escape(m.name.capitalize())}</h2><p>{_number(m.value)} {escape(m.unit)}"
        f'{between}. {escape(m.note)}.</p><p class="quiet">The share of answers that pass, with '
        "95 % intervals: where they overlap widely, nothing says that the wording matters.</p>"
        + plots.intervals(m.name, rows, low=0.0, high=1.0)
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
    return plots.differences("differences to the baseline", shown)


def _failures(failures: Mapping[str, str]) -> str:
    if not failures:
        return ""
    lines = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in failures.items())
    return f"<h2>Not measured</h2><ul>{lines}</ul>"


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"
