"""Likeness of faces of photographs, by the real recogniser."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.faces import (
    STRANGERS,
    dlib_likeness,
    face_matrix,
    installed_faces,
    photo_face_rewards,
)
from consistent_gen.rewards.files import read_folder
from consistent_gen.rewards.folder import missing_eyes, rewards_of, score_folder

needs_faces = pytest.mark.skipif(
    not installed_faces() or importlib.util.find_spec("skimage") is None,
    reason="dlib, its networks or scikit-image's photographs are not installed",
)


def photograph(name: str) -> Image.Image:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.png"
    return Image.open(path).convert("RGB")


def test_likeness_is_half_at_the_recognisers_limit() -> None:
    a, b = np.zeros(128), np.zeros(128)
    b[0] = 0.6
    assert dlib_likeness(a, a) == 1.0 and dlib_likeness(a, b) == pytest.approx(0.5)
    b[0] = 5.0
    assert dlib_likeness(a, b) == 0.0


def test_who_is_who_is_decided_for_all_faces_at_once() -> None:
    ada, bo = np.zeros(4), np.ones(4)
    s = face_matrix([[ada, bo], [bo, ada], [ada], []], None)
    assert s[0, 1] == 1.0 and s[0, 2] == 1.0 and s[1, 2] == 1.0
    assert np.isnan(s[:, 3]).all() and np.allclose(s, s.T, equal_nan=True)
    assert (face_matrix([[ada], []], STRANGERS)[0, 1]) == STRANGERS


@needs_faces
def test_a_hidden_face_is_no_zero_and_no_gain(tmp_path: Path) -> None:
    one = photograph("astronaut")
    one.save(tmp_path / "a.png")
    one.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.png")
    photograph("chelsea").save(tmp_path / "cat.png")
    found = score_folder(read_folder(tmp_path), "colors", rewards_of("colors"))
    assert found.values["faces_found"] == pytest.approx(2 / 3)
    alike = found.values["face_likeness"]
    assert alike is not None and alike > 0.6
    assert found.values["face_likeness_intended"] == pytest.approx((alike + 2 * STRANGERS) / 3)
    assert not any("faces" in text for text in missing_eyes("colors", judged=True))


@needs_faces
def test_pictures_without_a_face_have_no_likeness() -> None:
    grey = tuple(np.full((64, 64, 3), level, np.uint8) for level in (90, 160))
    found, alike, intended = photo_face_rewards()
    item = ImageSet(pictures=grey)
    assert found.one(item).value == 0.0 and "no face" in found.one(item).reason
    assert alike.one(item).value is None and intended.one(item).value is None
