"""LoRA files and offloading through the real command line."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path

import pytest

from consistent_gen.checkpoints import file_sha256
from consistent_gen.cli import main
from consistent_gen.cli.parser import build_parser
from consistent_gen.cli.story_many import story_tasks
from consistent_gen.models import load_backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.story.script import dump_story, load_story
from tests.cli.test_story_command import draw
from tests.models.lora_toys import diffusers_file, parts_of, trained

STORY = """\
title: One
steps: 2
method: vanilla
{loras}frames: [a red fox]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return build_tiny(tmp_path / "model")


@pytest.fixture
def file(model: Path, tmp_path: Path) -> Path:
    layers = trained(parts_of(load_backbone(model, device="cpu"), "text_encoder"))
    (tmp_path / "stories").mkdir()
    return diffusers_file(tmp_path / "stories" / "hat.safetensors", layers)


def test_a_story_names_them_and_its_pictures_are_drawn_again(
    model: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = file.parent / "own.yaml"
    entry = "loras:\n  - {file: hat.safetensors, weight: 0.5, name: hat}\n"
    own.write_text(STORY.format(loras=entry))
    plain = file.parent / "plain.yaml"
    plain.write_text(STORY.format(loras=""))
    assert draw(own, tmp_path / "a", model) == 0
    assert draw(plain, tmp_path / "b", model, "--lora", f"{file}=0.5", "--offload", "model") == 0
    assert draw(own, tmp_path / "c", model, "--lora", f"{file}=0") == 0
    assert draw(plain, tmp_path / "d", model) == 0
    a, c, d = (tmp_path / out / "frames" / "00.png" for out in "acd")
    assert c.read_bytes() == d.read_bytes() != a.read_bytes()
    record = {"sha256": file_sha256(file), "weight": 0.5, "name": "hat"}
    reports = [json.loads((tmp_path / out / "report.json").read_text()) for out in "abd"]
    assert [report["model"].get("loras") for report in reports] == [
        [record], [{"sha256": record["sha256"], "weight": 0.5}], None,
    ]  # fmt: skip

    replay = ["replay", str(a), "--model", str(model)]
    capsys.readouterr()
    assert main([*replay, "--lora", str(file)]) == 0
    assert capsys.readouterr().out == "identical\n"
    assert main(replay) == 2
    assert f"SHA-256 {record['sha256']} (weight 0.5)" in capsys.readouterr().err
    assert main(["replay", str(d), "--model", str(model), "--lora", str(file)]) == 2
    assert "the LoRAs of the picture are: none" in capsys.readouterr().err
    redraw = ["redraw", str(a), "--out", str(tmp_path / "new.png"), "--box", "0", "0", "1", "0.5"]
    assert main([*redraw, "--model", str(model), "--lora", str(file)]) == 0


@pytest.mark.parametrize(
    ("loras", "words"),
    [
        ("loras: [nowhere.safetensors]\n", ":4: there is no LoRA file"),
        ("loras: [own.yaml]\n", ":4: .*own.yaml is not a .safetensors file"),
        ("loras: hat.safetensors\n", ":4: loras is a list"),
        ("loras: [{file: hat.safetensors, weigth: 1}]\n", "did you mean 'weight'"),
        ("loras: [{weight: 1}]\n", "'file:' is missing here"),
        ("loras: [{file: hat.safetensors, weight: 99}]\n", "expected a number from -10 to 10"),
        ("loras: [hat.safetensors, hat.safetensors]\n", ":4: .*given twice"),
    ],
)
def test_mistakes_are_said_by_line(
    loras: str, words: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = file.parent / "own.yaml"
    own.write_text(STORY.format(loras=loras))
    assert draw(own, tmp_path / "out", tmp_path / "model") == 2
    told = capsys.readouterr().err
    assert re.search(words, told) and told.count("\n") == 1, told
    assert not (tmp_path / "out").exists()


def test_options_are_refused_in_a_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = file.parent / "plain.yaml"
    plain.write_text(STORY.format(loras=""))
    assert draw(plain, tmp_path / "out", tmp_path / "model", "--lora", "a.safetensors=11") == 2
    assert "expected a number from -10 to 10" in capsys.readouterr().err
    assert draw(plain, tmp_path / "out", tmp_path / "model", "--lora", "a.safetensors") == 2
    assert "--lora: there is no LoRA file a.safetensors" in capsys.readouterr().err
    assert draw(plain, tmp_path / "out", file) != 0
    assert "is a LoRA and no model; name it with --lora" in capsys.readouterr().err


def test_a_story_is_written_as_it_was_read(file: Path) -> None:
    own = file.parent / "own.yaml"
    entry = "loras: [a.safetensors, {file: b/c.safetensors, weight: -0.5, name: calm}]\n"
    own.write_text(STORY.format(loras=entry))
    story = load_story(own)
    assert [(str(one.path), one.weight, one.name) for one in story.loras] == [
        ("a.safetensors", 1.0, None), ("b/c.safetensors", -0.5, "calm"),
    ]  # fmt: skip
    own.write_text(dump_story(story))
    assert load_story(own) == story


def test_many_stories_are_drawn_anew_when_a_file_changes(
    model: Path, file: Path, tmp_path: Path
) -> None:
    (file.parent / "own.yaml").write_text(STORY.format(loras="loras: [hat.safetensors]\n"))
    said = ["story", "--many", str(file.parent), "--out", str(tmp_path / "out")]
    options: Namespace = build_parser().parse_args([*said, "--model", str(model)])
    ((before,), _) = story_tasks(options)
    file.write_bytes(file.read_bytes()[:-4] + b"\x00" * 4)
    ((after,), _) = story_tasks(options)
    assert before.key != after.key
    file.unlink()
    assert "there is no LoRA file" in story_tasks(options)[1]["own"]
