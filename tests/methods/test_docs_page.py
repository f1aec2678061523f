"""docs/methods.md is what the registry says."""

from __future__ import annotations

from pathlib import Path

from consistent_gen.methods import METHODS
from consistent_gen.methods.docs_page import index

PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"


def test_the_page_is_the_registry() -> None:
    assert PAGE.read_text(encoding="utf-8") == index(), (
        "run: python -m consistent_gen.methods.docs_page > docs/methods.md"
    )
    assert all(f"## `{name}`" in index() for name in METHODS)
