"""Characters: every factor is seen, the truth fits the labels, and drawing is deterministic."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from consistent_gen.world.figure import FigureTruth, draw_figure
from consistent_gen.world.painter import PARTS, Brush, label
from consistent_gen.world.skeleton import JOINTS
from consistent_gen.world.spec import (
    ACTIONS,
    DISCRETE,
    EXPRESSIONS,
    HUE_FACTORS,
    KINDS,
    SCALAR_FACTORS,
    Identity,
    sample_identity,
)

SIZE = 128
FOOT_Y = 122.0


def identity(seed: int = 0, **factors: object) -> Identity:
    return replace(sample_identity(random.Random(seed)), **factors)  # type: ignore[arg-type]


def plain(kind: str, **factors: object) -> Identity:
    middle = {name: 0.5 for name in SCALAR_FACTORS}
    words = {
        "coat": "ginger", "hair_style": "short", "cheeks": "none", "eye_color": "blue",
        "nose": "button",
        "ear_shape": "round", "top": "shirt", "sleeve": "long", "pattern": "stripes",
        "bottom": "trousers", "shoes": "boots", "accessory": "none",
    }  # fmt: skip
    hues = {
        "top_hue": 0.1, "pattern_hue": 0.55, "bottom_hue": 0.7, "shoe_hue": 0.0,
        "accessory_hue": 0.85,
    }  # fmt: skip
    return replace(identity(0, **middle, **words, **hues, kind=kind), **factors)  # type: ignore[arg-type]


def render(
    who: Identity,
    action: str = "standing",
    expression: str = "calm",
    *,
    seed: int = 1,
    index: int = 0,
    flip: bool = False,
    scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, FigureTruth]:
    painter = Brush(SIZE, "flat", 0)
    with painter.moved(64.0, FOOT_Y, scale=scale, flip=flip):
        truth = draw_figure(painter, who, action, expression, index=index, seed=seed)
    rgb, labels = painter.finish()
    return rgb, labels, truth


def changed_pixels(a: np.ndarray, b: np.ndarray) -> int:
    return int((np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > 16).sum())


@pytest.mark.parametrize("action", ACTIONS)
def test_all_actions_show_the_parts_they_should(action: str) -> None:
    least = {
        "skin": 20,
        "face": 300,
        "hair": 25,
        "top": 150,
        "bottom": 40,
        "shoes": 60,
        "accessory": 30,
    }
    holds = action in ("sitting", "reading", "eating", "dancing", "balloon")
    for kind in KINDS:
        _, labels, _ = render(plain(kind, accessory="scarf", top="sweater"), action, index=1)
        counts = {part: int((labels == label(1, part)).sum()) for part in PARTS}
        for part, pixels in least.items():
            assert counts[part] >= pixels, (kind, part, counts)
        assert (counts["held"] > 40) == holds, (kind, counts)
        assert set(np.unique(labels)) <= {0, *(label(1, part) for part in PARTS)}, kind


@pytest.mark.parametrize("accessory", DISCRETE["accessory"])
def test_accessory_label_is_there_exactly_when_worn(accessory: str) -> None:
    for kind in KINDS:
        _, labels, _ = render(plain(kind, accessory=accessory))
        pixels = int((labels == label(0, "accessory")).sum())
        assert pixels == 0 if accessory == "none" else pixels > 60, (kind, pixels)


@pytest.mark.parametrize("seed", range(8))
def test_same_arguments_draw_the_same_bytes(seed: int) -> None:
    who = identity(seed)
    first = render(who, ACTIONS[seed], "happy", seed=seed)
    second = render(who, ACTIONS[seed], "happy", seed=seed)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
    assert first[2] == second[2]


def test_the_seed_changes_pose_and_held_things() -> None:
    who = plain("girl")
    pictures = {render(who, "balloon", seed=s)[0].tobytes() for s in range(6)}
    assert len(pictures) == 6


@pytest.mark.parametrize("factor", [name for name in DISCRETE if name != "kind"])
def test_every_word_of_a_discrete_factor_is_seen(factor: str) -> None:
    for kind in KINDS:
        drawn = {word: render(plain(kind, **{factor: word}))[0] for word in DISCRETE[factor]}
        for (one, a), (other, b) in combinations(drawn.items(), 2):
            assert changed_pixels(a, b) >= 7, (kind, one, other)


def test_every_kind_is_seen() -> None:
    pictures = [render(plain(kind))[0] for kind in KINDS]
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert changed_pixels(a, b) >= 60


@pytest.mark.parametrize("factor", SCALAR_FACTORS)
def test_every_scalar_factor_is_seen(factor: str) -> None:
    for kind in KINDS:
        low, high = (render(plain(kind, **{factor: value}))[0] for value in (0.0, 1.0))
        assert changed_pixels(low, high) >= 20, kind


@pytest.mark.parametrize("factor", HUE_FACTORS)
def test_every_hue_is_seen(factor: str) -> None:
    for top in DISCRETE["top"]:
        worn = plain("boy", top=top, accessory="scarf")
        a, b = (render(replace(worn, **{factor: value}))[0] for value in (0.2, 0.7))
        assert changed_pixels(a, b) >= 40, top


def test_actions_and_expressions_all_differ() -> None:
    for kind in KINDS:
        shapes = [render(plain(kind), action)[1] > 0 for action in ACTIONS]
        faces = [render(plain(kind), "standing", expression)[0] for expression in EXPRESSIONS]
        for i in range(len(shapes)):
            for j in range(i):
                assert int((shapes[i] ^ shapes[j]).sum()) >= 80, (kind, ACTIONS[i], ACTIONS[j])
        for i in range(len(faces)):
            for j in range(i):
                assert changed_pixels(faces[i], faces[j]) >= 12, (EXPRESSIONS[i], EXPRESSIONS[j])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_keypoints_lie_on_the_face(kind: str, flip: bool) -> None:
    for expression in EXPRESSIONS:
        _, labels, truth = render(plain(kind), "walking", expression, flip=flip)
        for x, y in truth.keypoints:
            assert labels[int(y * SIZE), int(x * SIZE)] == label(0, "face")
        x0, y0, x1, y1 = truth.head_box
        assert all(x0 < x < x1 and y0 < y < y1 for x, y in truth.keypoints)


@pytest.mark.parametrize("action", ACTIONS)
def test_mirrored_drawing_mirrors_the_truth(action: str) -> None:
    who = identity(3)
    _, _, plain_truth = render(who, action)
    _, _, mirrored = render(who, action, flip=True)
    points = [(1.0 - x, y) for x, y in plain_truth.keypoints]
    expected = [points[i] for i in (1, 0, 2, 4, 3)]
    np.testing.assert_allclose(mirrored.keypoints, expected, atol=1e-5)
    x0, y0, x1, y1 = plain_truth.head_box
    np.testing.assert_allclose(mirrored.head_box, (1.0 - x1, y0, 1.0 - x0, y1), atol=1e-5)
    swap = {"l_": "r_", "r_": "l_"}
    for name in JOINTS:
        x, y = plain_truth.skeleton[name]
        other = swap.get(name[:2], name[:2]) + name[2:]
        np.testing.assert_allclose(mirrored.skeleton[other], (1.0 - x, y), atol=1e-5)


@pytest.mark.parametrize("action", ACTIONS)
def test_no_action_hides_the_face_and_all_stay_below_the_ceiling(action: str) -> None:
    for seed in range(12):
        who = identity(1000 + seed)
        _, labels, truth = render(who, action, "happy", seed=seed, scale=0.9)
        for x, y in truth.keypoints:
            assert labels[int(y * SIZE), int(x * SIZE)] == label(0, "face"), who
        assert (FOOT_Y - np.nonzero(labels)[0].min()) / 0.9 <= 118.0, who


def test_left_is_left_in_the_picture() -> None:
    for flip in (False, True):
        _, _, truth = render(plain("fox"), flip=flip)
        left_eye, right_eye, nose, left_mouth, right_mouth = truth.keypoints
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert truth.skeleton["l_shoulder"][0] < truth.skeleton["r_shoulder"][0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tall", [0.0, 1.0])
def test_figures_stay_inside_their_frame(kind: str, tall: float) -> None:
    for action in ACTIONS:
        for accessory in ("crown", "backpack"):
            style = "long" if kind == "robot" else "spiky"
            extremes = dict.fromkeys(("height", "build", "ear_size", "face_width"), tall)
            words = {"hair_style": style, "ear_shape": "pointed", "accessory": accessory}
            who = plain(kind, **extremes, **words)
            _, labels, _ = render(who, action, scale=0.9)
            rows, columns = np.nonzero(labels)
            assert (FOOT_Y - rows.min()) / 0.9 <= 118.0, (action, accessory)
            assert (rows.max() - FOOT_Y) / 0.9 <= 3.0, (action, accessory)
            assert np.abs(columns - 63.5).max() / 0.9 <= 50.0, (action, accessory)


@pytest.mark.parametrize("kind", KINDS)
def test_standing_height_is_about_a_hundred_units(kind: str) -> None:
    _, _, truth = render(plain(kind))
    height = FOOT_Y - truth.head_box[1] * 128.0
    assert 84.0 <= height <= 110.0
    width = (truth.head_box[2] - truth.head_box[0]) * 128.0
    assert 38.0 <= width <= 50.0


def test_wrong_names_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"flying.*standing"):
        render(plain("girl"), "flying")
    with pytest.raises(ValueError, match=r"bored.*happy"):
        render(plain("girl"), "standing", "bored")
