"""What is said about a reference picture, and the line about consent."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from consistent_gen.encoders.faces import Face, FaceAnalyzer, Licence, Picture
from consistent_gen.encoders.reference import (
    CONSENT,
    CONSENT_FILE,
    check_reference,
    consented,
    give_consent,
    sharpness,
)
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.world.dataset import StoryWorld


class Bright:
    """A backend that takes each third of a picture with a bright pixel for a face."""

    encoder_id, dimensions, realistic = "bright:1", 0, True
    licence = Licence(name="Apache-2.0", commercial=True, text="")

    def analyze(self, rgb: Picture) -> list[Face]:
        height, width = rgb.shape[:2]
        found = []
        for third in (2, 0, 1):  # not in the order of the picture
            left, right = third * width // 3, (third + 1) * width // 3
            if rgb[:, left:right].max() > 250:
                box = (float(left), 0.0, float(right), float(height))
                points = np.zeros((5, 2), np.float32)
                found.append(
                    Face(box=box, keypoints=points, score=0.9, raw=None, encoder_id="bright:1")
                )
        return found


def png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def shown(*thirds: int, size: int = 96) -> bytes:
    picture = np.zeros((size, 3 * size, 3), np.uint8)
    for third in thirds:
        picture[::2, third * size : (third + 1) * size : 2] = 255
    return png(picture)


def test_one_subject_is_taken(tmp_path: Path) -> None:
    assert isinstance(Bright(), FaceAnalyzer)
    (tmp_path / "a.png").write_bytes(shown(1))
    found = check_reference(tmp_path / "a.png", Bright())
    assert found.usable and found.chosen == 0 and (found.width, found.height) == (288, 96)
    assert found.problems == found.warnings == () and found.question == ""
    assert found.backend == "Bright" and found.encoder_id == "bright:1" and found.real_person
    assert found == check_reference((tmp_path / "a.png").read_bytes(), Bright())


def test_of_several_it_asks_which_from_the_left() -> None:
    found = check_reference(shown(0, 2), Bright())
    assert not found.usable and found.chosen is None and not found.problems
    assert found.question == "It shows 2 faces. Which one is meant, counted from the left?"
    assert [s.box[0] for s in found.subjects] == [0, 192]
    taken = check_reference(shown(0, 2), Bright(), which=1)
    assert taken.usable and taken.chosen == 1 and taken.question == ""
    with pytest.raises(InputError, match="face 3 was asked for, and the picture shows 2"):
        check_reference(shown(0, 2), Bright(), which=2)


def test_nobody_too_small_and_unreadable() -> None:
    nobody = check_reference(shown(), Bright())
    assert not nobody.usable and "no face was found" in nobody.problems[0]
    assert not nobody.real_person
    small = check_reference(shown(0, size=20), Bright())
    assert small.problems == ("the picture has 60 x 20 pixels; give one of 64 or more a side",)
    with pytest.raises(InputError, match="cannot be read; expected a PNG, JPEG or WebP"):
        check_reference(b"GIF89a", Bright())


def test_a_blurred_subject_is_warned_of() -> None:
    world = StoryWorld("validation")
    for index in range(4):
        picture = Image.fromarray(world.picture(index).rgb)
        whole = (0.0, 0.0, 128.0, 128.0)
        blurred = picture.filter(ImageFilter.GaussianBlur(5.0))
        assert sharpness(np.asarray(picture), whole) > 0.25
        assert sharpness(np.asarray(blurred), whole) < 0.12
    lit = np.zeros((96, 288, 3), np.uint8)
    lit[:, :96] = (np.linspace(0, 255, 96)[:, None, None]).astype(np.uint8)
    found = check_reference(png(lit), Bright())
    assert found.usable and found.warnings == ("the face is blurred; a sharper picture is better",)


def test_one_tone_and_nothing_are_not_sharp() -> None:
    assert sharpness(np.full((64, 64, 3), 90, np.uint8), (0, 0, 64, 64)) == 0.0
    assert sharpness(np.zeros((64, 64, 3), np.uint8), (70, 0, 90, 20)) == 0.0


def test_consent_is_asked_for_once_in_a_project(tmp_path: Path) -> None:
    assert "\n" not in CONSENT and not consented(tmp_path)
    give_consent(tmp_path)
    assert consented(tmp_path) and not consented(tmp_path / "another")
    (tmp_path / CONSENT_FILE).write_text('{"line": "another wording"}')
    assert not consented(tmp_path)
    for damaged in ("{", "[]"):
        (tmp_path / CONSENT_FILE).write_text(damaged)
        with pytest.raises(CheckpointError):
            consented(tmp_path)
