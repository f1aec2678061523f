"""docs/backbones.md is what the contract says, and has no empty or vague cell."""

from __future__ import annotations

from pathlib import Path

from consistent_gen.pipeline.contract import PIPELINES, REFUSED
from consistent_gen.pipeline.docs_page import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"


def test_the_page_is_the_contract() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: python -m consistent_gen.pipeline.docs_page > docs/backbones.md"
    )
    assert all(f"| `{name}` |" in page() for name in (*PIPELINES, *REFUSED))
    cells = [
        c.strip()
        for row in page().splitlines()
        if row.startswith("|")
        for c in row[1:-1].split("|")
    ]
    assert all(cells) and not {"raw error", "silent", "?"} & set(cells)
