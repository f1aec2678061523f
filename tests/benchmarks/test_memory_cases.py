"""Traps, corrections and forgetting are counted as their page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.memory_cases import main

CASES = {
    "traps": [
        {"text": "If I lived in Rome I would walk.", "clause": "I lived in Rome"},
        {"text": "I live in Rome.", "clause": "live in Rome", "keep": ["lives in Rome"]},
    ],
    "corrections": [
        {
            "turns": ["I live in Oslo.", "I moved to Porto."],
            "now": "lives in Porto",
            "gone": "lives in Oslo",
            "q": "Where do I live?",
            "answer": "Porto",
        }
    ],
    "forgetting": [
        {
            "turns": ["I have a tattoo of a swallow.", "I live in Oslo."],
            "forget": "forget my tattoo",
            "gone": ["tattoo", "swallow"],
            "stays": ["lives in Oslo"],
        }
    ],
}


def test_each_list_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, cases in CASES.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    assert main([str(tmp_path), "--words-only"]) == 0
    counts: dict[str, dict[str, int]] = {}
    for line in capsys.readouterr().out.splitlines():
        counts |= json.loads(line)
    assert counts["traps"] == {"cases": 2, "stored": 1, "keep": 1, "kept": 1}
    assert counts["corrections"] == {"cases": 1, "state right": 1, "answer right": 1}
    assert counts["forgetting"] == {
        "cases": 1, "nothing left": 1, "nothing lost": 1, "both": 1,
    }  # fmt: skip


def test_a_folder_without_lists_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "holds none of traps.yaml" in capsys.readouterr().err
