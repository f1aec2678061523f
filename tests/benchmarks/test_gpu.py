"""The script for a GPU, rehearsed on a toy."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import KEPT, PLAIN, main, page
from consistent_gen.checkpoints import read_json


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_it_measures_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    main(["--parts", "methods", "banks", "attention", "--steps", "2", "--out", str(out)])
    toy = read_json(out)["toy"]
    assert PLAIN in toy["methods"] and len(toy["methods"]) > 5
    assert all(row["seconds_a_step"] > 0.0 for row in toy["methods"].values())
    kept = [toy["banks"][mode]["bank_bytes"] for mode in KEPT]
    assert kept[0] > kept[1] > kept[2] > 0
    assert "seconds_a_step" in toy["attention"]["native"]
    assert any("needs" in row.get("reason", "") for row in toy["attention"].values())

    main(["--parts", "batching", "--steps", "2", "--frames", "2", "--out", str(out)])
    result = read_json(out)
    assert result["toy"] == toy, "what was measured before stays"
    assert result["batching"]["2 rows"]["frames_per_second"] > 0.0
    assert "plain diffusers" in page(result) and "frames a second" in page(result)
