"""The page for newcomers names files that exist and hold what it says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (?P<task>[^|]+) \| `(?P<file>[^`]+)`[^|]* \| `(?P<name>[^`]+)` \|$", re.M)
ROWS = [m.groupdict() for m in ROW.finditer((ROOT / "docs" / "contributing.md").read_text("utf-8"))]


def test_the_page_has_all_of_its_rows() -> None:
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(rows) - 1 >= 12, "a row that is not read is not checked"


def test_the_file_holds_what_the_page_says() -> None:
    for row in ROWS:
        text = (ROOT / row["file"]).read_text("utf-8")
        assert re.search(rf"\b{re.escape(row['name'])}\b", text), row
