"""`consistent-gen write`: a story file that `check` has nothing to say about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consistent_gen.cli import main
from consistent_gen.story.script import load_story
from tests.cli.test_mistakes import refused
from tests.memory.test_embedders import serving

IDEA = "a shy fox finds a balloon"


def test_the_file_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fox.yaml"
    assert main(["write", IDEA, "--frames", "8", "--seed", "3", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.startswith("templates: 8 frames, ")
    assert len(load_story(out).frames) == 8
    assert main(["check", str(out), "--strict"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and len(captured.out.strip().splitlines()) == 1


def test_equal_arguments_print_equal_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for seed in ("1", "1", "2"):
        assert main(["write", IDEA, "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_notices_go_beside_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["write", "a dragon who wants to fly"]) == 0
    captured = capsys.readouterr()
    assert "note: this model cannot draw a dragon" in captured.err
    assert captured.out.startswith("title:")


def test_an_endpoint_writes_as_the_assistant_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    story = {
        "title": "By a model",
        "characters": {"Ivo": "a brown bear wearing a red sweater"},
        "frames": [{"prompt": "{happy Ivo} waving", "caption": "Hello!"}] * 2,
    }
    reply = {"choices": [{"message": {"content": json.dumps(story)}}]}
    with serving(lambda body: reply) as (url, seen):
        argv = ["--model", "endpoint", "--url", url, "--name", "writer", "--frames", "2"]
        assert main(["write", "a bear", *argv]) == 0
    assert "By a model" in capsys.readouterr().out and len(seen) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([""], ["a sentence"]),
        (["https://example.org"], ["addresses are not read"]),
        (["x" * 301], ["301", "300"]),
        (["a fox", "--frames", "1"], ["2 to 24", "1"]),
        (["a fox", "--frames", "many"], ["--frames", "'many'"]),
        (["a fox", "--seed", "-1"], ["seed"]),
        (["a fox", "--model", "rules"], ["unknown language model 'rules'", "templates"]),
        (["a fox", "--model", "endpoint"], ["--model", "--url"]),
        (["a fox", "--out", "story.txt"], ["--out", ".yaml"]),
        (["a fox", "--draw-with", "nowhere"], ["nowhere"]),
    ],
)
def test_mistakes_in_words(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if "nowhere" in argv:
        assert main(["write", *argv]) != 0
        line = capsys.readouterr().err
    else:
        line = refused(capsys, "write", *argv)
    assert all(word in line for word in words), line


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine")
    assert "there already" in refused(capsys, "write", IDEA, "--out", str(out))
    assert out.read_text() == "mine"
