"""A whole story through the real command line, with an untrained model of the real shape."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.cli import main, progress
from consistent_gen.cli.replay import recipe_named
from consistent_gen.engine.events import Event, FrameDone
from consistent_gen.engine.metadata import read_png, write_png
from consistent_gen.engine.replaying import replay
from consistent_gen.errors import InputError, LimitError
from consistent_gen.methods import DEFAULT_METHOD, FOR_EVERY_MODEL, METHODS
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.registry import resolve
from consistent_gen.runtime import frame_seed
from consistent_gen.story.plan import StoryPlan
from tests.every_run import or_slow

FILES = ["frames", "index.html", "page.png", "report.json"]


def draw(story: Path, out: Path, model: Path, *options: str) -> int:
    # Noise may look like a hat, and would be drawn again.
    said = ["--out", str(out), "--model", str(model), "--mend", "0"]
    return main(["story", str(story), *said, *options])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, story_text: str) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "story.yaml").write_text(story_text)
    assert draw(folder / "story.yaml", folder / "out", tiny_folder, "--steps", "2") == 0
    return folder / "out"


def test_the_report_says_what_was_drawn(drawn: Path) -> None:
    assert sorted(p.name for p in drawn.iterdir()) == FILES
    report = json.loads((drawn / "report.json").read_text())
    assert report["schema"] == "consistent_gen.story_report/1"
    assert report["model"]["name"] == "tiny" and len(report["model"]["sha256"]) == 64
    assert (report["method"], report["steps"], report["guidance"]) == (DEFAULT_METHOD, 2, 5.0)
    assert report["seconds_total"] > 0 and report["seconds_per_frame"] > 0
    # What an untrained model draws may show nobody, of whom nothing can be said.
    assert report["scores"].keys() <= {"alignment", "consistency"} and report["versions"]["torch"]
    assert report["characters"].keys() == {"Mia", "Bo"}
    frames = report["frames"]
    assert [f["index"] for f in frames] == [0, 1, 2]
    assert [f["seed"] for f in frames] == [frame_seed(5, 0), frame_seed(5, 1), 3]
    assert frames[0]["prompt"] == "a pencil drawing of a girl with a red hat reading in the forest"
    assert frames[2]["prompt"].startswith(
        "a pencil drawing of a girl with a red hat and a small bear"
    )
    for frame in frames:
        with Image.open(drawn / frame["path"]) as picture:
            assert picture.size == (frame["width"], frame["height"]) == (64, 64)
        assert frame["steps"] == 2 and frame["scores"].keys() <= {"alignment", "consistency"}
        assert all(0.0 <= value <= 1.0 for value in frame["scores"].values())
        assert read_png(drawn / frame["path"])[1]["seed"] == frame["seed"]


def test_the_pages_open(drawn: Path) -> None:
    with Image.open(drawn / "page.png") as page:
        page.load()
        assert min(page.size) > 500
    sources: list[str | None] = []

    class Images(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                sources.append(dict(attrs)["src"])

    text = (drawn / "index.html").read_text(encoding="utf-8")
    Images().feed(text)
    assert sources == ["frames/00.png", "frames/01.png", "frames/02.png"]
    assert "Mia &amp; Bo &lt;3" in text and "Mia reads." in text


def test_replay_says_identical_or_how_far_off(
    drawn: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, model = drawn / "frames" / "02.png", ["--model", str(tiny_folder)]
    assert main(["replay", str(frame), *model]) == 0
    assert capsys.readouterr().out == "identical\n"

    pixels, metadata = read_png(frame)
    changed = pixels.copy()
    changed[:64] = 255 - changed[:64]
    write_png(tmp_path / "changed.png", changed, metadata)
    assert main(["replay", str(tmp_path / "changed.png"), *model]) == 1
    said = capsys.readouterr().out
    assert said.startswith("different: largest difference") and "pixels were changed" in said

    Image.fromarray(pixels).save(tmp_path / "bare.png")
    assert main(["replay", str(tmp_path / "bare.png"), *model]) == 2
    assert main(["replay", str(tmp_path / "none.png"), *model]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "bare.png" in errors[0] and "none.png" in errors[1]


def test_drawing_again_gives_equal_bytes_and_keeps_other_files(
    drawn: Path, tiny_folder: Path, story_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert draw(story_file, out, tiny_folder, "--steps", "2") == 0
    for name in ("frames/00.png", "frames/01.png", "frames/02.png", "page.png", "index.html"):
        assert (out / name).read_bytes() == (drawn / name).read_bytes(), name
    short = tmp_path / "short.yaml"
    short.write_text("title: x\nframes: [a fox]\n")
    assert draw(short, out, tiny_folder, "--steps=1", "--scheduler=dpm", "--size=32x64") == 0
    assert [p.name for p in (out / "frames").iterdir()] == ["00.png"]
    assert (out / "notes.txt").read_text() == "mine"
    assert read_png(out / "frames" / "00.png")[0].shape == (64, 32, 3)


def interrupt_after_first_frame(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Let the real run go until its first picture is written, then stop it."""
    real = progress.drawing_progress

    @contextmanager
    def stopping(plan: StoryPlan) -> Iterator[Callable[[Event], None]]:
        with real(plan) as on_event:

            def stop(event: Event) -> None:
                on_event(event)
                if isinstance(event, FrameDone):
                    if how == "ctrl-c":
                        raise KeyboardInterrupt
                    if how == "kill":
                        os.kill(os.getpid(), signal.SIGTERM)
                    raise OSError(28, "No space left on device")

            yield stop

    monkeypatch.setattr(progress, "drawing_progress", stopping)


@pytest.mark.parametrize(("how", "code"), [("ctrl-c", 130), ("kill", 130), ("disk full", 1)])
def test_stopping_in_the_middle_leaves_nothing(
    how: str,
    code: int,
    tiny_folder: Path,
    story_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt_after_first_frame(monkeypatch, how)
    assert draw(story_file, tmp_path / "out", tiny_folder, "--steps", "1") == code
    assert [p.name for p in tmp_path.iterdir()] == ["story.yaml"]
    assert "Traceback" not in capsys.readouterr().err


def test_a_frame_that_fails_leaves_nothing(
    tiny_folder: Path,
    story_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def decode(self: Backbone, latents: object) -> np.ndarray:
        raise LimitError("no room for the picture")

    monkeypatch.setattr(Backbone, "decode", decode)
    assert draw(story_file, tmp_path / "out", tiny_folder, "--steps", "1") == 2
    assert [p.name for p in tmp_path.iterdir()] == ["story.yaml"]
    assert "no room for the picture" in capsys.readouterr().err


def test_references_without_effect_are_noted(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "fox.png")
    text = "title: x\ncharacters: {Rex: {description: a fox, references: fox.png}}\n"
    (tmp_path / "s.yaml").write_text(text + 'frames: ["{Rex}"]\n')
    options = ("--steps", "1", "--method", "vanilla")
    assert draw(tmp_path / "s.yaml", tmp_path / "out", tiny_folder, *options) == 0
    assert "does not look at the reference pictures of Rex" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_reference_that_is_no_picture_is_named(
    data: bytes, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fox.png").write_bytes(data)
    text = "title: x\ncharacters:\n  Rex: {description: a fox, references: fox.png}\n"
    (tmp_path / "s.yaml").write_text(text + 'frames: ["{Rex}"]\n')
    assert draw(tmp_path / "s.yaml", tmp_path / "out", tiny_folder) == 2
    told = capsys.readouterr().err
    assert "s.yaml:3: the reference picture fox.png of Rex cannot be read" in told.replace("'", "")
    assert not (tmp_path / "out").exists()


TYING = [name for name in FOR_EVERY_MODEL if resolve(METHODS, name).rules]


@pytest.mark.parametrize("method", or_slow(TYING, ["head_start"]))
def test_every_frame_of_a_method_that_ties_frames_is_drawn_again_alone(
    method: str,
    tiny_folder: Path,
    story_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert draw(story_file, out, tiny_folder, "--steps", "3", "--method", method) == 0
    frames = sorted((out / "frames").glob("*.png"))
    assert len(frames) == 3
    capsys.readouterr()
    for frame in frames:
        assert main(["replay", str(frame), "--model", str(tiny_folder)]) == 0
        assert capsys.readouterr().out == "identical\n"


def test_a_damaged_record_of_anchors_is_refused(
    tiny_folder: Path, story_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert draw(story_file, out, tiny_folder, "--steps", "1", "--method", TYING[0]) == 0
    image, metadata = read_png(out / "frames" / "02.png")
    record = metadata["story"]["sharing"]
    member = record["cast"][0]
    anchor = member["anchors"][0]
    broken = [
        None,
        {**record, "recipe": "vanilla"},
        {**record, "recipe": "magic"},
        {**record, "recipe_hash": "0"},
        {**record, "seed": "1"},
        {**record, "cast": [{**member, "anchors": []}]},
        {**record, "cast": [{**member, "anchors": [{**anchor, "reference": True}] * 2}]},
        {**record, "cast": [{**member, "masked": True}]},
        {**record, "cast": [{**member, "strengths": {"Mia": "much"}}]},
        {**record, "cast": record["cast"] * 20},
        {**record, "subjects": [["Mia", [-1]]]},
        {**record, "cast": [{**member, "strengths": {}}]},
        {**record, "anchor": 7},
        {**record, "anchor": True},
    ]
    damaged = [{**metadata, "story": {**metadata["story"], "sharing": value}} for value in broken]
    tiny = load_backbone(tiny_folder, device="cpu")
    for wrong in damaged:
        with pytest.raises(InputError) as told:
            replay(image, wrong, tiny, partial(recipe_named, tiny))
        assert "\n" not in told.value.message
    write_png(tmp_path / "damaged.png", image, damaged[0])
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "damaged.png"), "--model", str(tiny_folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_strength_of_one_and_of_all(tiny_folder: Path, story_file: Path, tmp_path: Path) -> None:
    def pictures(name: str, *options: str) -> list[np.ndarray]:
        out = tmp_path / name
        steps = ("--steps", "2", "--method", "style_aligned")
        assert draw(story_file, out, tiny_folder, *steps, *options) == 0
        return [read_png(path)[0] for path in sorted((out / "frames").glob("*.png"))]

    full, half = pictures("full"), pictures("half", "--strength", "Bo=0.5")
    # Bo's anchor is a portrait that nobody sees, so his own frame and the one of both change.
    same = [np.array_equal(a, b) for a, b in zip(full, half, strict=True)]
    assert same == [True, False, False]
    none = pictures("none", "--strength", "0", "--strength", "Bo=1")
    assert [np.array_equal(a, b) for a, b in zip(full, none, strict=True)] == [False, True, False]


def test_a_picture_is_replayed_in_its_own_number_format(
    tiny_folder: Path, story_file: Path, tmp_path: Path
) -> None:
    pictures = {}
    for dtype in ("float32", "bfloat16"):
        out = tmp_path / dtype
        assert draw(story_file, out, tiny_folder, "--steps", "2", "--dtype", dtype) == 0
        frame = out / "frames" / "00.png"
        pictures[dtype], metadata = read_png(frame)
        assert metadata["dtype"] == dtype
        assert main(["replay", str(frame), "--model", str(tiny_folder)]) == 0
    assert not np.array_equal(*pictures.values())
    apart = np.subtract(*(picture.astype(float) for picture in pictures.values()))
    assert np.abs(apart).mean() < 10.0, "the same picture, less finely"


def test_the_attention_backend_is_named_and_kept(
    tiny_folder: Path, story_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--steps", "1", "--attention-backend", "_native_math")
    assert draw(story_file, tmp_path / "out", tiny_folder, *options) == 0
    frame = tmp_path / "out" / "frames" / "00.png"
    assert read_png(frame)[1]["machine"]["attention"] == "_native_math"
    capsys.readouterr()
    replay = ["replay", str(frame), "--model", str(tiny_folder), "--attention-backend"]
    assert main([*replay, "_native_math"]) == 0
    code = main([*replay, "native"])
    if code:  # another kernel may round otherwise, and then it is named
        assert "attention: drawn with _native_math, now native" in capsys.readouterr().out
