"""Sections of docs/benchmarks.md on characters who are given by pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import interval, table


def identity(result: Mapping[str, Any]) -> str:
    """How much of a held-out character an adapter and sharing keep."""
    columns = ("identity", "alignment", "pose", "copied place", "all there", "swapped", "late",
               "angular copy")  # fmt: skip
    text = (
        "## Characters given by a picture\n\n`python -m benchmarks.identity`, held-out identities, "
        "one true picture each in another place, pose and style, sentences that name the kind "
        f"alone; {result['steps']} steps; sharing is {result['method']}. Read by the judge; "
        "intervals are 95 % over stories. `of the way`: from kind named to all named. `late`: the "
        "last four frames less the first four. The adapter is the arm like StoryMaker's; the other "
        "three (like IP-Adapter-Plus and ConsistentID, and reference tokens) are built and tested, "
        "not trained, and have no row.\n"
    )
    for name, part in result.items():
        if not isinstance(part, dict) or "rows" not in part:
            continue
        shown = [c for c in columns if any(c in row for row in part["rows"].values())]
        rows = [
            (
                label,
                *(interval(row[c]) if c in row and c in ("identity", "late")
                  else f"{row[c]['mean']:.3f}" if c in row else "" for c in shown),
                f"{row['of the way']:.2f}",
            )
            for label, row in part["rows"].items()
        ]  # fmt: skip
        text += f"\n{name}, {part['stories']} stories\n\n"
        text += table(("", *shown, "of the way"), rows)
    return text


def identity_parts(result: Mapping[str, Any]) -> str:
    """What changes and what stays where a part is drawn again."""
    columns = ("coat", "coat kept", "face", "face kept", "body", "body kept", "outside")
    names = {"words": "drawn from words", "whole": "all of it like the picture",
             "face": "the face like the picture", "body": "the body like the picture"}  # fmt: skip
    rows = [
        (label, *(interval(result["rows"][row][c]) if c in result["rows"][row] else ""
                  for c in columns))
        for row, label in names.items()
    ]  # fmt: skip
    return (
        "## A face or a body like a picture\n\n`python -m benchmarks.identity_parts`, "
        f"{result['seen']} frames of held-out identities, one true picture each in another place, "
        "pose and style: `redraw --only face` and `--only body` with `--like`. Shares of the "
        "part's factors that are as in the picture, and as in the frame drawn from words (`kept`); "
        "`outside`: pixels outside of what is marked that changed.\n\n"
        + table(("", *columns), rows)
    )
