"""The plots of an audit's page, as inline SVG without a script; classes are coloured by the page.

All are 480 units wide with letters of 15, and a row's words stand above its bar, so that they can
be read on a telephone, where a plot is three quarters as wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_WIDTH, _ROW, _LETTERS = 480, 44, 15


def bar(share: float) -> str:
    """A bar from the middle, for a table: right and good above 0, left and bad below; -1..1."""
    width = 60.0 * min(abs(share), 1.0)
    x, kind = (60.0, "good") if share >= 0 else (60.0 - width, "worse")
    return (
        '<svg width="120" height="14" role="img" aria-label="bar"><line x1="60" x2="60" y1="0" '
        f'y2="14" class="axis"/><rect x="{x:.1f}" y="2" width="{width:.1f}" height="10" '
        f'class="{kind}"/></svg>'
    )


def intervals(
    label: str, rows: Sequence[tuple[str, float, float, float]], *, low: float, high: float
) -> str:
    """Rows of (name, value, low, high) on one axis from `low` to `high`."""

    def x(value: float) -> float:
        return 8.0 + (_WIDTH - 16.0) * (value - low) / (high - low)

    floor = _ROW * len(rows)
    drawn = [_axis(x(at), 0, floor, dashed=True) for at in {low, 0.0, high} if low <= at <= high]
    for i, (name, value, start, end) in enumerate(rows):
        y = _ROW * i + 32
        drawn.append(
            f"{_text(8, y - 14, name)}"
            f'<line x1="{x(start):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}" class="good" '
            f'stroke-width="2"/><circle cx="{x(value):.1f}" cy="{y}" r="5" class="good"/>'
        )
    drawn += [
        _text(8, floor + 18, f"{low:.3g}"),
        _text(_WIDTH - 8, floor + 18, f"{high:.3g}", "end"),
    ]
    return _svg(label, floor + 24, drawn)


def levels(label: str, rows: Sequence[tuple[str, float]]) -> str:
    """Bars of (name, value) from 0 to 1."""
    drawn = []
    for i, (name, value) in enumerate(rows):
        y, width = _ROW * i, _WIDTH - 16
        drawn.append(
            f"{_text(8, y + 16, name)}{_text(_WIDTH - 8, y + 16, f'{value:.2f}', 'end')}"
            f'<rect x="8" y="{y + 22}" width="{width}" height="14" class="empty"/>'
            f'<rect x="8" y="{y + 22}" width="{width * value:.1f}" height="14" class="good"/>'
        )
    return _svg(label, _ROW * len(rows), drawn)


def differences(label: str, rows: Sequence[tuple[str, float]]) -> str:
    """Bars of (name, difference) from the middle: right and good above 0, left and bad below."""
    reach = max(1e-6, *(abs(d) for _, d in rows))
    middle, half = _WIDTH / 2.0, _WIDTH / 2.0 - 8.0
    drawn = [_axis(middle, 0, _ROW * len(rows))]
    for i, (name, d) in enumerate(rows):
        y, width = _ROW * i, half * abs(d) / reach
        x, kind = (middle, "good") if d >= 0 else (middle - width, "worse")
        drawn.append(
            f"{_text(8, y + 16, name)}{_text(_WIDTH - 8, y + 16, f'{d:+.3f}', 'end')}"
            f'<rect x="{x:.1f}" y="{y + 22}" width="{width:.1f}" height="14" class="{kind}"/>'
        )
    return _svg(label, _ROW * len(rows), drawn)


def line(label: str, values: Sequence[float]) -> str:
    """Values turn by turn, NaN left out; nothing where fewer than two are left."""
    points = [(i, value) for i, value in enumerate(values) if not math.isnan(value)]
    if len(points) < 2:
        return ""
    low = min(0.0, *(v for _, v in points))
    high = max(low + 1e-6, *(v for _, v in points))

    def at(i: int, value: float) -> str:
        x = 48.0 + (_WIDTH - 56.0) * i / max(len(values) - 1, 1)
        return f"{x:.1f},{180.0 - 160.0 * (value - low) / (high - low):.1f}"

    drawn = [
        f'<line x1="48" x2="{_WIDTH - 8}" y1="180" y2="180" class="axis"/>',
        _text(42, 185, f"{low:.2f}", "end"), _text(42, 25, f"{high:.2f}", "end"),
        _text(48, 204, "turn 1"), _text(_WIDTH - 8, 204, f"turn {len(values)}", "end"),
        f'<polyline points="{" ".join(at(i, v) for i, v in points)}" class="curve"/>',
    ]  # fmt: skip
    return _svg(label, 212, drawn)


def _axis(x: float, top: float, floor: float, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="3 3"' if dashed else ""
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{floor}" class="axis"{dashes}/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    kept = words if len(words) <= 58 else words[:57] + "\u2026"
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(kept)}</text>'


def _svg(label: str, height: float, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" height="{height:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="{_LETTERS}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{"".join(drawn)}</svg>'
    )
