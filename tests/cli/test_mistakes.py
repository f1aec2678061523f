"""What a user can do wrong: one line on stderr, exit code 2, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consistent_gen.cli import main

ROOT = Path(__file__).resolve().parents[2]
GOOD = "title: x\nframes: [a fox]\n"


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that `argv` is refused with."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["COMMAND"]),
        (["stroy"], ["unknown command 'stroy'", "'story'"]),
        (["story"], ["FILE", "--out"]),
        (["story", "good.yaml"], ["--out"]),
        (["story", "good.yaml", "--out", "o", "--stepps", "3"], ["'--stepps'", "--steps?"]),
        (["story", "good.yaml", "--out", "o", "extra"], ["'extra'"]),
        (["story", "good.yaml", "--out", "o", "--steps", "many"], ["--steps", "'many'"]),
        (["story", "good.yaml", "--out", "o", "--steps", "9" * 5000], ["--steps", "too large"]),
        (["story", "good.yaml", "--out", "o", "--steps", "0"], ["--steps", "1 to 1000"]),
        (["story", "good.yaml", "--out", "o", "--seed", "-1"], ["--seed"]),
        (["story", "good.yaml", "--out", "o", "--guidance", "nan"], ["--guidance"]),
        (["story", "good.yaml", "--out", "o", "--size", "big"], ["--size", "128x128"]),
        (["story", "good.yaml", "--out", "o", "--bucket", "1"], ["--bucket", "2 to 64"]),
        (["story", "good.yaml", "--out", "o", "--method", "vanila"], ["method", "'vanilla'"]),
        (["story", "good.yaml", "--out", "o", "--scheduler", "dmp"], ["scheduler", "'dpm'"]),
        (["story", "goood.yaml", "--out", "o"], ["no such file", "'good.yaml'"]),
        (["story", "good", "--out", "o"], ["no such file", "'good.yaml'"]),
        (["import", "takn/paeg.png"], ["no such file", "'taken/page.png'"]),
        (["story", "no/way.yaml", "--out", "o"], ["no such file", "folder 'no'"]),
        (["import", "goood.yaml", "--out", "o.yaml"], ["no such file", "'good.yaml'"]),
        (["story", ".", "--out", "o"], ["this is a folder"]),
        (["story", "bad.yaml", "--out", "o"], ["bad.yaml:2: ", "'stlye'", "'style'"]),
        (["story", "good.yaml", "--out", "good.yaml"], ["--out", "is a file"]),
        (["story", "good.yaml", "--out", "taken"], ["--out", "belongs to no earlier story"]),
        (["story", "good.yaml", "--out", "o", "--model", "no/model"], ["no model folder"]),
        (["story", "good.yaml", "--out", "o", "--model", "taken"], ["model_index.json"]),
        (["replay", "none.png"], ["none.png", "no such file"]),
        (["replay", "good.yaml"], ["good.yaml", "not a PNG"]),
        (["world"], ["COMMAND"]),
        (["world", "sheet", "--rows", "0"], ["--rows"]),
        (["world", "sheet", "--rows", "99", "--columns", "99"], ["400"]),
        (["world", "sheet", "--out", "sheet.exe"], ["--out", ".png"]),
    ],
)
def test_a_mistake_is_one_line(
    argv: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text("title: x\nstlye: flat\nframes: [a]\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "page.png").touch()
    before = sorted(tmp_path.rglob("*"))
    if "--model" in argv and "taken" in argv:
        (tmp_path / "taken" / "page.png").rename(tmp_path / "taken" / "other.png")
        before = sorted(tmp_path.rglob("*"))
    line = refused(capsys, *argv)
    for word in words:
        assert word in line
    assert sorted(tmp_path.rglob("*")) == before


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=120))
def test_any_bytes_as_a_story_file(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fuzz.yaml").write_bytes(data)
    line = refused(capsys, "story", str(tmp_path / "fuzz.yaml"), "--out", str(tmp_path / "out"))
    assert "fuzz.yaml" in line
    assert not (tmp_path / "out").exists()


def test_the_program_itself_refuses_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("title: [\n")
    command = [sys.executable, "-m", "consistent_gen.cli", "story", "bad.yaml", "--out", "o"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bad.yaml:2: not valid YAML") and done.stderr.count("\n") == 1


def test_world_sheet_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    options = ["world", "sheet", "--rows", "1", "--columns", "2", "--seed"]
    sheets = []
    for name, seed in (("a", "4"), ("b", "4"), ("c", "5")):
        out = tmp_path / f"{name}.png"
        assert main([*options, seed, "--out", str(out)]) == 0
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_models_and_versions_are_listed(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models"]) == 0
    assert "StableDiffusionPipeline" in capsys.readouterr().out
    assert main(["models", "--words", "--model", str(tiny_folder)]) == 0
    assert "forest" in capsys.readouterr().out.splitlines()
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("consistent-gen ")


def test_the_reference_page_is_the_programs_help() -> None:
    from consistent_gen.cli.reference import reference

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m consistent_gen.cli.reference > docs/cli.md"
