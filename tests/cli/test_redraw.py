"""`redraw` as it is typed: what can be marked, and one line for what cannot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.cli.__main__ import main
from consistent_gen.engine.metadata import read_png, write_png
from consistent_gen.story.marking import character_mask
from consistent_gen.world.dataset import StoryWorld

STORY = "title: x\ncharacters: {Mia: a girl}\nframes: ['{Mia} walking']\n"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame of the shipped model in few steps."""
    folder = tmp_path_factory.mktemp("story")
    (folder / "s.yaml").write_text(STORY)
    assert main(["story", str(folder / "s.yaml"), "--out", str(folder / "o"), "--steps", "2"]) == 0
    return next((folder / "o" / "frames").glob("*.png"))


def test_a_box_a_mask_and_a_character(drawn: Path, tmp_path: Path) -> None:
    image, _ = read_png(drawn)
    height, width = image.shape[:2]
    out = str(tmp_path / "new.png")
    assert main(["redraw", str(drawn), "--out", out, "--box", "0.5", "0", "1", "1"]) == 0
    boxed, metadata = read_png(out)
    assert np.array_equal(boxed[:, : width // 2], image[:, : width // 2])
    assert not np.array_equal(boxed, image)
    assert metadata["story"]["redrawn"]["share"] == 0.5
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    asked = ["redraw", str(drawn), "--out", out, "--mask", str(tmp_path / "mask.png")]
    assert main([*asked, "--prompt", "a girl on the beach"]) == 0
    masked, metadata = read_png(out)
    assert np.array_equal(masked[height // 2 :], image[height // 2 :])
    assert metadata["prompt"] == "a girl on the beach"


def test_a_face_like_a_picture(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the face changes, and the new picture says after which picture."""
    world = StoryWorld("validation")
    near = (n for n in range(200) if world.frame(n).camera == "close")
    one, two = [n for n in near if len(world.frame(n).subjects) == 1][:2]
    old, mia, out = (str(tmp_path / name) for name in ("old.png", "mia.png", "new.png"))
    # Two steps draw nobody yet: a true picture stands in for what they drew after a picture.
    picture, metadata = world.picture(one).rgb, read_png(drawn)[1]
    metadata |= {"method": "vanilla", "width": 128, "height": 128, "story": {"identities": {}}}
    write_png(old, picture, metadata)
    Image.fromarray(world.picture(two).rgb).save(mia)
    face = ["redraw", old, "--out", out, "--character", "1", "--only", "face"]
    assert main(face) == 2
    assert "does not hold" in capsys.readouterr().err and not Path(out).exists()
    assert main([*face, "--like", mia]) == 0
    new, metadata = read_png(out)
    changed = (new != picture).any(-1)
    assert changed.any() and not changed[~character_mask(picture, 1, only="face")].any()
    shown = hashlib.sha256(world.picture(two).rgb.tobytes()).hexdigest()
    assert metadata["story"]["identities"]["characters"] == {"its character": [shown]}


def test_mistakes_are_one_line_and_write_nothing(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (32, 32), 255).save(tmp_path / "small.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "foreign.png")
    nobody = tmp_path / "foreign.png"
    out, small = str(tmp_path / "new.png"), str(tmp_path / "small.png")
    for asked, told in (
        ([str(drawn), "--box", "0.5", "0", "0.4", "1"], "is no rectangle"),
        ([str(drawn), "--mask", small], "the mask has 32x32 pixels"),
        ([str(drawn), "--mask", str(tmp_path / "none.png")], "the mask"),
        ([str(drawn), "--character", "7"], "--character"),
        ([str(drawn)], "one of the arguments"),
        ([str(drawn), "--box", "0", "0", "1", "1", "--only", "face"], "--only"),
        ([str(drawn), "--box", "0", "0", "1", "1", "--like", str(nobody)], "shows nobody"),
        ([str(drawn), "--box", "0", "0", "1", "1", "--like", str(tmp_path / "no")], "--like"),
        ([str(tmp_path / "foreign.png"), "--box", "0", "0", "1", "1"], "no 'consistent_gen'"),
        ([str(drawn), "--box", "0", "0", "1", "1", "--seed", "-1"], "seed"),
        ([str(drawn), "--box", "0", "0", "1", "1", "--prompt", "a girl with a dragon"], "dragon"),
    ):
        assert main(["redraw", *asked, "--out", out]) == 2
        err = capsys.readouterr().err
        assert told in err and err.strip().count("\n") == 0, err
        assert not Path(out).exists()
