"""`consistent-gen export`: drawn folders to files, speech from a file, mistakes in one line."""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from consistent_gen.cli.export import add_command
from consistent_gen.engine.metadata import write_png
from consistent_gen.errors import ConsistentGenError, StoryError
from consistent_gen.story.export import FORMATS

METADATA = {
    "schema": 1, "model": {"name": "tiny", "sha256": "0" * 64}, "prompt": "a fox", "negative": "",
    "seed": 7, "steps": 2, "guidance": 1.0, "scheduler": "ddim", "width": 16, "height": 16,
    "method": "vanilla",
}  # fmt: skip


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """The folder of a drawn story of two frames."""
    folder = tmp_path / "drawn"
    frames = []
    for i in range(2):
        path = f"frames/{i:02d}.png"
        write_png(folder / path, np.full((16, 16, 3), 90 + 60 * i, np.uint8), METADATA)
        frames.append({"path": path, "caption": f"Words {i}", "prompt": "a fox"})
    report = {"schema": "consistent_gen.story_report/1", "title": "The Drawn One", "frames": frames}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    options = parser.parse_args(["export", *map(str, words)])
    code: int = options.run(options)
    return code


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_lands_in_the_folder(
    drawn: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(drawn, "--format", format) == 0
    file = drawn / f"the-drawn-one.{format}"
    assert file.stat().st_size > 500
    assert capsys.readouterr().out.startswith("2 pictures, ")
    first = file.read_bytes()
    assert run(drawn, "--format", format) == 0
    assert file.read_bytes() == first
    assert sorted(p.name for p in drawn.iterdir()) == ["frames", "report.json", file.name]


def test_the_ending_of_out_says_the_format(drawn: Path, tmp_path: Path) -> None:
    assert run(drawn, "--out", tmp_path / "new/book.PDF", "--layout", "splash") == 0
    assert (tmp_path / "new/book.PDF").read_bytes().startswith(b"%PDF")


def test_speech_from_a_file_is_drawn_and_kept(drawn: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech.yaml"
    speech.write_text(
        '- {frame: 1, text: "Hello!", x: 0.3, y: 0.1, tail_x: 0.5, tail_y: 0.6}\n'
        "- {frame: 2, text: Hm, thought: yes}\n"
    )
    assert run(drawn, "--speech", speech, "--out", tmp_path / "book.zip") == 0
    manifest = json.loads(zipfile.ZipFile(tmp_path / "book.zip").read("story.json"))
    hello = {"text": "Hello!", "x": 0.3, "y": 0.1, "tail_x": 0.5, "tail_y": 0.6}
    assert manifest["frames"][0]["bubbles"] == [hello]
    assert manifest["frames"][1]["bubbles"] == [
        {"text": "Hm", "x": 0.5, "y": 0.12, "thought": True}
    ]
    again = tmp_path / "again"
    zipfile.ZipFile(tmp_path / "book.zip").extractall(again)
    for out, folder, extra in (("a.pdf", drawn, ["--speech", speech]), ("b.pdf", again, [])):
        assert run(folder, *extra, "--out", tmp_path / out) == 0
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frame: 1", "1: expected a list of bubbles"),
        ("- 5", "1: expected a bubble"),
        ("- {frame: 3, text: x}", "1: frame is number ('3'); expected a number from 1 to 2"),
        ("- {frame: 1.5, text: x}", "1: frame is 1.5; expected a whole number"),
        ("- {text: x}", "1: frame is missing"),
        ("- {frame: 1}", "1: text is missing"),
        ("- {frame: 1, text: ' '}", "1: text is missing"),
        (
            "\n- {frame: 1, text: x, x: 1.5}",
            "2: x is number ('1.5'); expected a number from 0 to 1",
        ),
        ("- {frame: 1, text: x, x: left}", "1: x is text; expected"),
        ("- {frame: 1, text: x, tail_x: 0.5}", "1: a tail needs both"),
        ("- {frame: 1, text: x, thought: maybe}", "1: thought is text; expected yes or no"),
        ("- {frame: 1, text: [x]}", "1: text is a list; expected a single value"),
        ("- {frame: 1, txet: x}", "1: unknown key of a bubble 'txet'; did you mean 'text'?"),
        ("- {frame: 1, text: " + "x" * 1001 + "}", "1: text has 1001 characters"),
    ],
)
def test_mistakes_in_a_speech_file_name_the_line(
    drawn: Path, tmp_path: Path, text: str, says: str
) -> None:
    speech = tmp_path / "speech.yaml"
    speech.write_text(text)
    with pytest.raises(ConsistentGenError) as caught:
        run(drawn, "--format", "pdf", "--speech", speech)
    assert str(caught.value).startswith(f"{speech}:{says}")


def test_other_mistakes_write_nothing(drawn: Path, tmp_path: Path) -> None:
    before = sorted(drawn.rglob("*"))
    mistakes: list[tuple[list[str | Path], str]] = [
        ([drawn], "--format: say what to make"),
        ([drawn, "--format", "pfd"], "--format: unknown export format 'pfd'; did you mean 'pdf'"),
        ([drawn, "--out", "book.docx"], "--format: unknown export format 'docx'"),
        ([drawn, "--format", "pdf", "--layout", "comic5"], "unknown layout 'comic5'"),
        ([drawn, "--format", "pdf", "--out", tmp_path], "--out: "),
        ([drawn, "--format", "gif", "--out", "x.pdf"], "--out: --format says 'gif'"),
        ([tmp_path, "--format", "pdf"], f"{tmp_path}: neither report.json nor story.json"),
        ([tmp_path / "absent", "--format", "pdf"], f"{tmp_path / 'absent'}: no such folder"),
        ([drawn, "--format", "pdf", "--speech", "absent.yaml"], "absent.yaml: cannot be read"),
    ]
    for words, says in mistakes:
        with pytest.raises(ConsistentGenError) as caught:
            run(*words)
        assert str(caught.value).startswith(says)
    assert sorted(drawn.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(drawn: Path) -> None:
    (drawn / "file").write_text("x")
    with pytest.raises(ConsistentGenError, match="cannot write"):
        run(drawn, "--format", "pdf", "--out", drawn / "file" / "book.pdf")


def test_a_list_of_too_many_bubbles_is_refused(drawn: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech.yaml"
    speech.write_text("- {frame: 1, text: x}\n" * 7)
    with pytest.raises(ConsistentGenError, match="picture 1 has 7 bubbles; at most 6"):
        run(drawn, "--format", "pdf", "--speech", speech)
    speech.write_text("&a - x")
    with pytest.raises(StoryError):
        run(drawn, "--format", "pdf", "--speech", speech)


def test_enlarged_pictures_lie_beside_the_frames(drawn: Path) -> None:
    assert run(drawn, "--format", "zip", "--enlarge", "2") == 0
    with zipfile.ZipFile(drawn / "the-drawn-one.zip") as archive:
        assert "frames/01.large.png" in archive.namelist()
        assert archive.read("frames/01.png") == (drawn / "frames/01.png").read_bytes()
