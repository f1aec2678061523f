"""The example story through the real command line, with models that have transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consistent_gen.cli import main
from consistent_gen.models.tiny_transformers import build_tiny_transformer
from tests.cli.test_story_command import draw, interrupt_after_first_frame

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "two_friends.yaml"
GUIDANCE = {
    "sd3": 7.0, "flux-dev": 3.5, "flux-schnell": 1.0, "klein": 1.0, "qwen": 4.0, "pixart": 4.5,
}  # fmt: skip
OPTIONS = ("--steps", "2", "--size", "64x64")


@pytest.mark.slow  # nothing in the command knows a family; `engine/test_transformers` runs always
@pytest.mark.parametrize("kind", GUIDANCE)
def test_the_example_is_drawn_replayed_and_drawn_again_after_an_interruption(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = build_tiny_transformer(tmp_path / "model", kind)  # type: ignore[arg-type]
    assert draw(EXAMPLE, tmp_path / "out", model, *OPTIONS) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    said = report["model"]["name"], report["guidance"], report["steps"]
    assert said == ("model", GUIDANCE[kind], 2)
    frames = sorted((tmp_path / "out" / "frames").glob("*.png"))
    assert len(frames) == 4
    for frame in frames:
        capsys.readouterr()
        assert main(["replay", str(frame), "--model", str(model)]) == 0
        assert capsys.readouterr().out == "identical\n"

    with monkeypatch.context() as patched:
        interrupt_after_first_frame(patched, "ctrl-c")
        assert draw(EXAMPLE, tmp_path / "again", model, *OPTIONS) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]
    assert draw(EXAMPLE, tmp_path / "again", model, *OPTIONS) == 0
    for frame in frames:
        assert (tmp_path / "again" / "frames" / frame.name).read_bytes() == frame.read_bytes()


def test_what_the_model_cannot_do_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build_tiny_transformer(tmp_path / "model", "flux-schnell")
    for option, why in (("--retouch", "flow"), ("--guidance", "no guidance")):
        assert draw(EXAMPLE, tmp_path / "out", model, *OPTIONS, option, "0.5") == 2
        told = capsys.readouterr().err
        assert f"{option}: {option[2:]} does nothing with model 'model'" in told and why in told
    assert draw(EXAMPLE, tmp_path / "out", model, "--size", "40x64") == 2
    assert "the width is 40" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
