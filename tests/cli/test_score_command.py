"""`consistent-gen score`: any folder, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.checkpoints import weights_root
from consistent_gen.cli import main
from consistent_gen.engine.metadata import SCHEMA, write_png
from consistent_gen.world.dataset import StoryWorld

WORLD = StoryWorld("train")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures that this program did not draw, and a broken one."""
    place = tmp_path / "pictures"
    place.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        noise = rng.integers(0, 60, (72, 96, 3))
        shade = np.array([(200, 60, 40), (30, 90, 190)][number % 2])
        Image.fromarray((shade + noise).clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")
    (place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return place


def scored(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert main(["score", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_is_scored_and_the_backend_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(folder), "--backend", "colors"]) == 0
    text = capsys.readouterr().out
    assert "20 pictures scored by the backend 'colors'" in text
    assert "no network" in text and "color_histogram" in text
    assert "left out:" in text and "broken.png: " in text
    assert "what would tell more:" in text and "--model DIR" in text and "--judge URL" in text
    found = scored(capsys, str(folder), "--backend", "colors")
    assert found["schema"] == "consistent_gen.score/1" and found["backend"] == "colors"
    assert len(found["members"]) == 20 and list(found["left_out"]) == ["broken.png"]
    assert found["cards"]["pixel_l2"]["known_failure"]


def test_photographs_take_the_photo_backend(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scored(capsys, str(folder), "--reference", str(folder / "0.png"))
    assert found["backend"] == "photo" and "EfficientNet" in found["sees"]
    members = found["members"]
    like, unlike = ([members[f"{n}.png"] for n in range(start, 20, 2)] for start in (2, 1))
    assert min(like) > max(unlike)


@pytest.mark.weights
def test_pictures_of_the_story_world_are_known_by_their_metadata(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (weights_root() / "reader").is_dir():
        pytest.skip("the reader's weights are not here")
    numbers = [n for n in range(40) if len(WORLD.frame(n).subjects) == 1][:3]
    for number in numbers:
        facts = {
            "schema": SCHEMA, "model": {"name": "storyworld", "sha256": "0" * 64},
            "prompt": WORLD.caption(number, share=1.0).text + " with a purple dragon",
            "negative": "", "seed": 1, "width": 128, "height": 128, "method": "vanilla",
        }  # fmt: skip
        write_png(tmp_path / f"{number}.png", WORLD.picture(number).rgb, facts)
    found = scored(capsys, str(tmp_path))
    assert found["backend"] == "world"
    assert found["values"]["alignment"] > 0.8
    assert "dragon" in found["reasons"]["alignment"], "what could not be read is told"
    assert found["values"]["character_count"] == 1.0
    assert 0.2 < found["values"]["reader_consistency"] < 0.95, "three strangers"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["score"], ["DIR"]),
        (["score", "nowhere"], ["nowhere", "no such folder"]),
        (["score", "empty"], ["no picture files"]),
        (["score", "broken"], ["none of the 1 pictures can be read"]),
        (["score", "good/a.png"], ["this is a file"]),
        (["score", "good", "--backend", "foto"], ["'foto'", "'photo'"]),
        (["score", "good", "--reference", "gone.png"], ["--reference", "no such file"]),
        (["score", "good", "--prompts", "gone.json"], ["gone.json"]),
        (["score", "good", "--prompts", "good/a.png"], ["not JSON"]),
        (["score", "good", "--backend", "model"], ["--model"]),
        (["score", "good", "--model", "empty"], ["no vision model"]),
        (["score", "good", "--judge", "http://localhost:1/v1"], ["--judge-name"]),
        (["score", "good", "--judge", "empty"], ["no vision-language model"]),
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
    for name in ("empty", "broken", "good"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG")
    for name in ("a", "b"):
        Image.new("RGB", (20, 20), "red" if name == "a" else "blue").save(f"good/{name}.png")
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    for word in words:
        assert word in line


def test_an_endpoint_that_is_away_leaves_the_other_scores(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scored(
        capsys, str(folder), "--backend", "colors", "--judge", "http://127.0.0.1:9/v1",
        "--judge-name", "none",
    )  # fmt: skip
    assert found["values"]["pair_judge"] is None and "failed" in found["reasons"]["pair_judge"]
    assert found["values"]["color_histogram"] is not None
