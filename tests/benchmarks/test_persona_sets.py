"""The runner of persona benchmarks: files of the published shape in, measurements out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.persona_sets import licence, main
from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.persona import Persona, Scripted, Statement
from consistent_gen.persona.evaluate.audit import VALUES, audit
from consistent_gen.persona.evaluate.faithfulness import KeepsStatements, TruthTable


def test_two_audits_and_what_they_disagree_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mia = Persona("mia", "Mia", statements=(Statement("I keep bees."), Statement("I sail.")))
    for name, breaks in (("keeps", 0.0), ("breaks", 1.0)):
        model = Scripted(KeepsStatements(breaks), name=name)
        audit(mia, model, tmp_path / name, scorer=TruthTable(), embedder=HashedNgrams())
    paths = [str(tmp_path / name / VALUES) for name in ("keeps", "breaks")]
    main(["contradiction", *paths, "--out", str(tmp_path / "out.json")])
    told = capsys.readouterr().out
    assert "Mia in keeps (seed 0) against Mia in breaks (seed 0): " in told
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["measurements"] and not any(m["items"] for m in found["measurements"])
    assert "bees" not in (tmp_path / "out.json").read_text()  # values, no quotes


def test_a_licence_beside_the_file_is_told_or_missed_in_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    file = folder / "x.jsonl"
    file.write_text("{}")
    assert licence(file).startswith("licence: none lies beside x.jsonl; its authors decide")
    (tmp_path / "set" / "README.md").write_text("# Set\nWords.\n")
    assert "none lies beside" in licence(file)
    (tmp_path / "set" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert licence(file) == "licence: see README.md beside x.jsonl"
    (folder / "LICENSE").write_text("CC BY 4.0")
    assert licence(file) == "licence: see LICENSE beside x.jsonl"


def test_mistakes_are_told_in_a_line(tmp_path: Path) -> None:
    wrong = tmp_path / "x.tsv"
    wrong.write_text("a\tb\n")
    for arguments, told in (
        (["lmedr", str(wrong)], "columns"),
        (["persobench", str(wrong)], "takes 2 paths"),
        (["personaeval", str(wrong)], "needs --model"),
        (["personafeedback", str(tmp_path)], "cannot be read"),
        (["lmedr", str(tmp_path / "none")], "No such file"),
        (["spasm", str(wrong)], "line 1: not JSON"),
        (["prodigy", str(tmp_path)], "characters.json cannot be read"),
    ):
        with pytest.raises(SystemExit, match=told):
            main(arguments)
