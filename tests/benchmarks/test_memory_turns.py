"""The cost of turns at toy size: the same turns at each size, an honest verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import memory_turns
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.memory.listening.rule_listener import RuleListener

TALK = """
turns:
  - {n: 1, at: "2026-01-05T09:00:00", text: "I like tea."}
  - {n: 2, at: "2026-01-05T09:05:00", text: "I live in Bonn."}
facts: []
questions:
  - {q: "What do I like?"}
"""


def test_turns_at_two_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_turns, "default_embedder", HashedNgrams)
    monkeypatch.setattr(memory_turns, "default_listener", RuleListener)
    talk, out = tmp_path / "talk.yaml", tmp_path / "turns.json"
    talk.write_text(TALK)
    words = ["--facts", "40", "60", "--conversation", str(talk), "--filled", str(tmp_path / "kept")]
    assert memory_turns.main([*words, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {size: ms["turns"] for size, ms in found["cpu_ms"].items()} == {"40": 2, "60": 2}
    means = [ms["all"]["mean"] for ms in found["cpu_ms"].values()]
    assert found["growth"]["all"] == pytest.approx(max(means) / min(means), abs=0.001)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"40", "60"}
