"""Whole pictures: every word of the specification shows, and the labels tell the truth."""

import random
from dataclasses import replace

import numpy as np
import pytest

from consistent_gen.world.painter import PARTS, label
from consistent_gen.world.scene import contact_sheet, render
from consistent_gen.world.spec import (
    ACTIONS,
    CAMERAS,
    INDOOR,
    PLACES,
    PROPS,
    STYLES,
    WEATHERS,
    FrameSpec,
    sample_frame,
    sample_identity,
)


def subject_mask(labels, index):
    """Where subject number `index` (0, 1 or 2) is seen, bool of the shape of `labels`."""
    first = label(index, PARTS[0])
    return (labels >= first) & (labels < first + len(PARTS))


def part_mask(labels, index, part):
    """Where `part` (of `painter.PARTS`) of subject `index` is seen, bool as large as `labels`."""
    return labels == label(index, part)


def frame(seed: int = 1, count: int = 1, **changes: str) -> FrameSpec:
    rng = random.Random(seed)
    base = sample_frame(rng, identities=tuple(sample_identity(rng) for _ in range(count)))
    plain = {
        "place": "meadow",
        "weather": "sunny",
        "style": "flat",
        "camera": "medium",
        "prop": "none",
    }
    return replace(base, **{**plain, **changes})


def acting(spec: FrameSpec, action: str) -> FrameSpec:
    return replace(spec, subjects=tuple(replace(s, action=action) for s in spec.subjects))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def test_same_frame_same_bytes():
    for seed in range(12):
        spec = sample_frame(random.Random(seed))
        one, other = render(spec), render(spec)
        assert np.array_equal(one.rgb, other.rgb)
        assert np.array_equal(one.labels, other.labels)
        assert one.rgb.shape == (128, 128, 3)
        assert len(one.figures) == len(spec.subjects)


@pytest.mark.parametrize(
    ("factor", "words", "least"),
    [
        ("place", PLACES, 12.0),
        ("weather", WEATHERS, 4.0),
        ("style", STYLES, 2.0),
        ("camera", CAMERAS, 8.0),
        ("prop", PROPS, 1.0),
    ],
)
def test_every_word_of_a_factor_gives_another_picture(factor, words, least):
    drawn = {word: render(frame(**{factor: word})).rgb for word in words}
    for one in words:
        for other in words:
            if one != other:
                assert difference(drawn[one], drawn[other]) > least, (one, other)


@pytest.mark.parametrize("place", INDOOR)
def test_the_hour_shows_indoors(place):
    drawn = [render(frame(place=place, weather=w)).rgb for w in ("sunny", "sunset", "night")]
    assert difference(drawn[0], drawn[1]) > 4.0
    assert difference(drawn[1], drawn[2]) > 4.0


@pytest.mark.parametrize("place", PLACES)
def test_another_layout_seed_gives_another_layout(place):
    spec = frame(place=place, weather="night" if place == "moon" else "sunny")
    assert difference(render(spec).rgb, render(replace(spec, layout_seed=99)).rgb) > 1.0


def test_labels_hold_every_subject_and_nothing_else():
    for seed in range(20):
        count = 1 + seed % 3
        picture = render(frame(seed, count, prop=PROPS[seed % len(PROPS)]))
        assert picture.labels.max() <= label(count - 1, PARTS[-1])
        for i in range(count):
            mask = subject_mask(picture.labels, i)
            assert mask.mean() > 0.02, (seed, i)
            parts = [part_mask(picture.labels, i, part) for part in PARTS]
            assert np.array_equal(mask, np.logical_or.reduce(parts))
            assert sum(int(p.sum()) for p in parts) == mask.sum()
            assert part_mask(picture.labels, i, "face").sum() > 40, (seed, i)


def test_style_never_changes_labels():
    for seed in range(6):
        spec = frame(seed, 1 + seed % 3, place=PLACES[seed], prop="ball")
        expected = render(spec).labels
        for style in STYLES:
            assert np.array_equal(render(replace(spec, style=style)).labels, expected), style


def test_weather_and_place_leave_the_labels_alone():
    expected = render(frame(4)).labels
    assert np.array_equal(render(frame(4, weather="snowy", place="castle")).labels, expected)


def test_a_prop_leaves_the_place_where_it_was():
    bare, ball = render(frame(2)).rgb, render(frame(2, prop="ball")).rgb
    changed = np.abs(bare.astype(int) - ball).max(axis=2) > 8
    assert 0.005 < changed.mean() < 0.1


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("camera", CAMERAS)
def test_the_action_stays_in_the_picture(camera, action):
    """Faces are whole, and nothing of a figure touches the upper edge."""
    for seed in range(4):
        labels = render(acting(frame(seed, camera=camera), action)).labels
        assert not subject_mask(labels, 0)[0].any(), seed
        assert not part_mask(labels, 0, "held")[:, [0, -1]].any() or action != "balloon"
        face = part_mask(labels, 0, "face")
        assert face.any() and not face[:, [0, -1]].any()


def test_a_close_figure_is_larger_than_a_far_one():
    share = {
        c: subject_mask(render(acting(frame(3, camera=c), "standing")).labels, 0).mean()
        for c in CAMERAS
    }
    assert share["close"] > share["medium"] > share["far"] > 0.05


@pytest.mark.parametrize("style", STYLES)
def test_other_sizes_show_the_same_scene(style):
    spec = frame(5, 2, style=style, prop="ball")
    small, large = render(spec), render(spec, 256)
    assert large.rgb.shape == (256, 256, 3)
    assert (large.labels[1::2, 1::2] == small.labels).mean() > 0.97
    halved = large.rgb.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert difference(small.rgb, halved) < 8.0


@pytest.mark.parametrize("size", [0, 16, 4096])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(ValueError, match=str(size)):
        render(frame(), size)


def test_contact_sheet_is_a_reproducible_grid():
    sheet = contact_sheet(1, 2, 3, size=64)
    assert sheet.shape == (128, 192, 3)
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet, contact_sheet(1, 2, 3, size=64))
    assert not np.array_equal(sheet, contact_sheet(2, 2, 3, size=64))
