"""The speed script at toy size: figures for every size, honest verdicts, failures told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory_speed
from consistent_gen.language.embedders import HashedNgrams


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of the comparison are drawn at random, as where MiniLM is not installed."""
    monkeypatch.setattr(memory_speed, "default_embedder", HashedNgrams)


def test_figures_budgets_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    words = ["--records", "60", "90", "--encrypted", "30", "--repeats", "3", "--compare", "0"]
    assert memory_speed.main([*words, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert set(found["figures_ms"]) == {"60", "90", "30 encrypted"}
    for figures in found["figures_ms"].values():
        for name in ("search", "turn_write", "executor_batch", "open", "purge"):
            assert 0 < figures[name]["p50"] <= figures[name]["p95"]
    assert set(found["budgets"]) == {"turn_write", "executor_batch", "open"}
    worst = max(found["figures_ms"][n]["turn_write"]["p95"] for n in ("60", "90"))
    assert found["budgets"]["turn_write"]["p95_ms"] == worst
    assert "90 records" in capsys.readouterr().out


def test_a_missed_budget_is_said() -> None:
    times = {"p95": 20.0, "cpu_p95": 12.0}
    figures = {"10000": dict.fromkeys(
        ("turn_write", "executor_batch", "open", "search", "purge"), times)}  # fmt: skip
    held = {name: row["held"] for name, row in memory_speed.against_budgets(figures).items()}
    assert held == {"turn_write": False, "executor_batch": False, "open": True,
                    "search_10000": True, "purge_10000": True}  # fmt: skip


def test_texts_are_seeded_distinct_and_skewed() -> None:
    texts = memory_speed.sentences(400, 1)
    assert texts == memory_speed.sentences(400, 1) != memory_speed.sentences(400, 2)
    assert len(set(texts)) == 400
    words = [word for text in texts for word in text.split()[:-1]]
    counts = np.sort(np.unique(words, return_counts=True)[1])[::-1]
    assert counts[0] > 10 * np.median(counts)


class Elsewhere:
    """A virtual environment whose interpreter stands in for mem0's half of the comparison."""

    def __init__(self, folder: Path, script: str) -> None:
        python = folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{script}\n')
        python.chmod(0o755)
        self.folder = folder


def test_ratios_and_their_printing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = json.dumps({what: {"p50": 1e6, "p95": 2e6} for what in ("add", "search")})
    made = Elsewhere(tmp_path / "e", f"printf '%s' '{times}' > \"$2/result.json\"")
    found = memory_speed.compare(2, environment=made.folder, repeats=2, seed=1)
    ours = found["ours_ms"]["add"]["p95"]
    assert found["mem0_over_ours"]["add_p95"] == round(2e6 / ours, 2)
    assert set(found["mem0_over_ours"]) == {"add_p50", "add_p95", "search_p50", "search_p95"}
    memory_speed._print({"figures_ms": {}, "budgets": {}, "comparison": found})
    out = capsys.readouterr().out
    assert "times as long: search_p95" in out and "mem0ai==" in out


def test_a_comparison_that_failed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Elsewhere(tmp_path / "e", "echo no disk left >&2; exit 3")
    found = memory_speed.compare(2, environment=made.folder, repeats=2, seed=1)
    assert "no disk left" in found["error"] and "mem0_over_ours" not in found
    memory_speed._print({"figures_ms": {}, "budgets": {}, "comparison": found})
    assert "mem0 failed: no disk left" in capsys.readouterr().out


def test_an_environment_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = memory_speed.compare(2, environment=tmp_path / "file" / "x", repeats=2, seed=1)
    assert "could not be installed" in found["error"] and found["adds"] == 2
