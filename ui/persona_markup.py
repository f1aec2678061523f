"""HTML of personas: the shelf of cards, what the validator says, a talk with its drift, an audit.

Pure; everything that comes from a card is somebody else's text, and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from consistent_gen.client.persona_lab import (
    AuditOut,
    CardBrief,
    CardIssue,
    CardOut,
    TalkOut,
    TalkTurn,
)
from ui.markup import file_url

_SEVERITIES = {"error": "Mend this first", "warning": "Have a look", "note": "Good to know"}
_WHOLE = ("card", "picture")  # places that are no field
_FIGURES = {  # measurement -> (what it is called here, what it says)
    "dAPC per statement": (
        "Keeps to the card", "above 0 answers say what the card says, below 0 the opposite"),
    "active part": ("Says it when asked", "0 to 1; more is better"),
    "passive penalty": ("Says the opposite unasked", "0 to 1; less is better"),
    "contradicts own last five turns": (
        "Contradicts itself", "share of turns against one of the last five, 0 to 1"),
    "drift": ("Moves away from the card", "change of the distance with each turn; 0 is steady"),
    "speaks as a program": ("Steps out of its role", "share of answers such as “as an AI”, 0 to 1"),
    "sensitivity to wording": (
        "Depends on how the card is worded", "0 where the same in other words changes nothing"),
}  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640.0, 150.0, 44.0, 30.0


def cards_html(cards: Iterable[CardBrief], selected: str = "") -> str:
    """The cards as a list of buttons."""
    rows = []
    for one in cards:
        pressed = str(one.id == selected).lower()
        found = [(one.errors, "to mend", "bad"), (one.warnings, "to look at", "look")]
        counts = "".join(
            f'<span class="count {kind}">{count} {words}</span>' for count, words, kind in found
            if count
        )  # fmt: skip
        rows.append(
            f'<li><button type="button" class="card-row" data-card="{escape(one.id, quote=True)}"'
            f' aria-pressed="{pressed}"><span class="name">{escape(one.name)}</span>'
            f"{counts or '<span class=count>ready</span>'}</button></li>"
        )
    if not rows:
        return (
            '<p class="hint">No card is here yet. Import a character card (a PNG picture or a JSON '
            "file), as other programs save them.</p>"
        )
    return f'<ul class="card-rows" aria-label="Your cards">{"".join(rows)}</ul>'


def issues_html(issues: Iterable[CardIssue], *, places: bool = False) -> str:
    """What the validator says: severity in words, then how to mend it. places: name the field,
    where the list does not stand beside it.
    """
    rows = []
    for issue in issues:
        place = f"{escape(issue.place)}: " if places and issue.place not in _WHOLE else ""
        mend = f" {escape(_sentence(issue.mend))}" if issue.mend else ""
        rows.append(
            f'<li class="{issue.severity}"><strong>{_SEVERITIES[issue.severity]}.</strong> '
            f"{place}{escape(_sentence(issue.message))}{mend}</li>"
        )
    return f'<ul class="card-issues">{"".join(rows)}</ul>' if rows else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def persona_html(card: CardOut) -> str:
    """What the card says, as the persona that speaks: one statement for each thing."""
    rows = "".join(f"<li>{escape(s.text)}</li>" for s in card.statements)
    more = card.statement_count - len(card.statements)
    rest = f'<p class="hint">and {more:,} more</p>' if more > 0 else ""
    return (
        f"<details class=card-statements><summary>What is read from the card: "
        f"{card.statement_count:,} statement{'' if card.statement_count == 1 else 's'}</summary>"
        f"<ul>{rows}</ul>{rest}</details>"
    )


@dataclass(frozen=True, kw_only=True)
class TalkPicture:
    """A picture that belongs to a turn. path: of its file, None where there is none (yet). busy:
    whether it is still drawn. problem: why it was not, in words, where that is known.
    """

    path: str | None = None
    busy: bool = False
    problem: str = ""


def talk_html(
    talk: TalkOut | None,
    waiting: str = "",
    pictures: Mapping[int, TalkPicture] = MappingProxyType({}),
) -> str:
    """The talk; each turn of the persona says how far from its card it is. waiting: a line of the
    user's that is being answered. pictures: by number of a turn.
    """
    turns = [] if talk is None else talk.turns
    if not turns and not waiting:
        return (
            '<p class="hint">Say something, and the persona answers from its card. It draws '
            "itself, too: “draw yourself in the forest”.</p>"
        )
    rows = []
    for number, turn in enumerate(turns):
        measured = "" if turn.drift is None else f' <span class="drift">{turn.drift:.2f}</span>'
        who = "persona" if turn.own else "me"
        name = escape(turn.speaker) if turn.own else "You"
        rows.append(
            f'<li class="{who}"><p class="who">{name}{measured}</p><p>{escape(turn.text)}</p>'
            f"{_picture(turn, pictures[number]) if number in pictures else ''}</li>"
        )
    if waiting:
        rows.append(f'<li class="me"><p class="who">You</p><p>{escape(waiting)}</p></li>')
        rows.append('<li class="persona"><p class="who">…</p></li>')
    return f'<ol class="talk" aria-label="The talk">{"".join(rows)}</ol>'


def _picture(turn: TalkTurn, picture: TalkPicture) -> str:
    if picture.busy:
        return '<p class="hint busy">The picture is being drawn…</p>'
    if picture.path is None:
        why = f": {picture.problem}" if picture.problem else "; ask for it again."
        return f'<p class="hint">The picture was not drawn{escape(why)}</p>'
    said = escape(turn.text, quote=True)
    return f'<img src="{escape(file_url(picture.path), quote=True)}" alt="{said}">'


def drift_html(talk: TalkOut | None) -> str:
    """The drift of the persona's turns as a line, with the same in words."""
    drifts = [] if talk is None else [t.drift for t in talk.turns if t.drift is not None]
    if talk is None or not drifts:
        return ""
    words = f"The last turn is {drifts[-1]:.2f} away from the card."
    if talk.slope is not None:
        steady = abs(talk.slope) < 0.005
        way = "moves away by" if talk.slope > 0 else "comes nearer by"
        said = (
            "stays as near as it was" if steady else f"{way} {abs(talk.slope):.3f} with each turn"
        )
        words += f" The persona {said}."
    return (
        f'<figure class="drift-line">{_line(drifts)}<figcaption>{escape(words)} '
        "0 is the card's own words, 1 has nothing to do with them. "
        f"Speaks: {escape(talk.by)}. Measured by {escape(talk.measured_by)}.</figcaption></figure>"
    )


def _line(drifts: Sequence[float]) -> str:
    top = max(1.0, *drifts)
    step = (_WIDTH - _LEFT - 12.0) / max(1, len(drifts) - 1)
    points = [
        (_LEFT + step * i, (_HEIGHT - _BOTTOM) * (1.0 - value / top) + 6.0)
        for i, value in enumerate(drifts)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points)
    floor = _HEIGHT - _BOTTOM + 6.0
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="Distance to the '
        f'card, turn by turn: {", ".join(f"{value:.2f}" for value in drifts)}">'
        f'<path class="axis" d="M{_LEFT} 6V{floor}H{_WIDTH - 12}"/>'
        f'<text x="{_LEFT - 8}" y="12" text-anchor="end">{top:.0f}</text>'
        f'<text x="{_LEFT - 8}" y="{floor}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">first turn</text>'
        f'<text x="{_WIDTH - 12}" y="{_HEIGHT - 4}" text-anchor="end">turn {len(drifts)}</text>'
        f'<polyline points="{path}"/>{dots}</svg>'
    )


def audit_html(audit: AuditOut | None) -> str:
    """An audit as it stands, in words; its figures once it has ended."""
    if audit is None or audit.state == "none":
        return (
            '<p class="hint">An audit interviews the persona and holds every answer against its '
            "card.</p>"
        )
    if audit.state in ("queued", "running"):
        words = "The audit waits for its turn…" if audit.state == "queued" else "Interviewing…"
        return f'<p class="hint busy">{words}</p>'
    if audit.state == "failed":
        return f'<p class="trouble">The audit did not end well: {escape(audit.problem)}</p>'
    rows = "".join(_figure(f.name, f.value, f.low, f.high, f.failed) for f in audit.figures)
    covers = f'<p class="hint">It is about {escape(audit.covers)}.</p>' if audit.covers else ""
    return (
        f'<table class="audit-figures"><caption>Speaks: {escape(audit.by)}</caption>'
        f"<tbody>{rows}</tbody></table>{covers}"
    )


def _figure(
    name: str, value: float | None, low: float | None, high: float | None, failed: int
) -> str:
    title, meaning = _FIGURES.get(name, (name, ""))
    said = "no value" if value is None else f"{value:.3f}"
    between = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    missed = f"{failed} without an answer" if failed else ""
    about = ". ".join(part for part in (meaning, missed) if part)
    return (
        f"<tr><th scope=row>{escape(title)}<small>{escape(about)}</small></th>"
        f"<td>{said}<small>{between}</small></td></tr>"
    )


def report_html(page: bytes) -> str:
    """The report inside the tab: a frame that runs nothing, as tall as what it shows."""
    source = escape(page.decode("utf-8", "replace"), quote=True)
    return (
        '<iframe class="audit-report" title="Report of the audit" sandbox="allow-same-origin" '
        f'srcdoc="{source}"></iframe>'
    )
