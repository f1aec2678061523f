"""Tables of the made pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def interval(value: Mapping[str, float]) -> str:
    """A mean with its interval, whichever way its ends are named."""
    low = value.get("lo", value.get("low"))
    high = value.get("hi", value.get("high"))
    return f"{value['mean']:.3f} ({low:.3f} to {high:.3f})"
