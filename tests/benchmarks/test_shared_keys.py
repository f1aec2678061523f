"""What another picture's keys are worth, on the shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import shared_keys


@pytest.mark.slow
def test_the_shipped_model_reads_another_pictures_keys(tmp_path: Path) -> None:
    out = tmp_path / "keys.json"
    shared_keys.main(["--pairs", "12", "--lead", "0.3", "--out", str(out)])
    rows = {row["time"]: row for row in json.loads(out.read_text())["rows"]}
    assert list(rows) == list(shared_keys.TIMES)
    assert all(row["ratio"] == row["shared"] / row["alone"] for row in rows.values())
    # Where nothing is decided yet they tell most, and the picture is known best at the end.
    assert rows[900]["ratio"] < 0.97
    assert rows[999]["alone"] > rows[550]["alone"] > rows[150]["alone"]
