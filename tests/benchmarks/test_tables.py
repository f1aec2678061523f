"""docs/benchmarks.md says what the result files say."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tables import RESULTS, SECTIONS, page

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_made_from_the_results() -> None:
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert text == page(), "run: python -m benchmarks.tables > docs/benchmarks.md"


def test_every_result_file_has_a_section() -> None:
    assert {path.stem for path in RESULTS.glob("*.json")} <= set(SECTIONS)
