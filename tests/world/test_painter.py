"""The two canvases agree, and styles touch colour alone."""

from contextlib import nullcontext

import numpy as np
import pytest

from consistent_gen.world.painter import PARTS, Brush, ellipse, label, rounded, smooth
from consistent_gen.world.spec import STYLES
from consistent_gen.world.styles import PIXEL_GRID, PIXEL_LEVELS

RED = (0.85, 0.25, 0.2)


def draw(style: str, size: int = 128, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    painter = Brush(size, style, seed)
    painter.gradient(rounded(-1, -1, 129, 129, 0), (0.5, 0.7, 0.9), (0.9, 0.95, 1.0), 0, 128)
    painter.fill(rounded(10, 10, 50, 50, 4), (0.4, 0.6, 0.4))
    with painter.moved(64, 70, 1.3, flip=True, degrees=10):
        body = ellipse(0, 0, 22, 26)
        painter.fill(body, RED, tag=label(0, "top"))
        with painter.clipped(body):
            painter.fill(rounded(-30, -5, 30, 5, 0), (0.95, 0.9, 0.3), outline=False)
        painter.line(smooth([(0, -20), (20, -40)], closed=False), RED, 7, tag=label(1, "skin"))
        painter.line(smooth([(-5, 0), (0, 3), (5, 0)], closed=False), (0.2, 0.1, 0.1), 1.2)
    painter.veil((1.0, 0.5, 0.2), 0.1)
    return painter.finish()


def test_labels_of_three_subjects_are_distinct_and_leave_zero_to_the_background():
    bytes_ = {label(i, part) for i in range(3) for part in PARTS}
    assert bytes_ == set(range(1, 3 * len(PARTS) + 1))


@pytest.mark.parametrize("style", STYLES)
def test_same_seed_same_bytes(style):
    for one, other in zip(draw(style), draw(style), strict=True):
        assert one.dtype == np.uint8
        assert np.array_equal(one, other)


def test_styles_change_the_colours_and_never_the_labels():
    drawn = {style: draw(style) for style in STYLES}
    flat = drawn["flat"][1]
    assert set(np.unique(flat)) == {0, label(0, "top"), label(1, "skin")}
    for style, (rgb, labels) in drawn.items():
        assert np.array_equal(labels, flat), style
        for other in STYLES:
            if other != style:
                assert np.abs(rgb.astype(int) - drawn[other][0]).mean() > 1.0, (style, other)


def test_the_callers_generator_takes_the_same_course_in_every_style():
    first = set()
    for style in STYLES:
        painter = Brush(64, style, 9)
        painter.fill(ellipse(60, 60, 20, 20), RED, tag=1)
        first.add(float(painter.rng.random()))
    assert len(first) == 1


def test_untagged_details_of_the_foreground_keep_their_strength():
    tones = []
    for tag, front in ((None, False), (None, True), (3, False)):
        painter = Brush(64, "neon", 0)
        with painter.foreground() if front else nullcontext():
            painter.fill(ellipse(64, 64, 40, 40), RED, tag=tag, outline=False)
        tones.append(painter.finish()[0][32, 32].tolist())
    assert tones[1] == tones[2]
    assert sum(tones[0]) < sum(tones[1])


def test_tag_zero_takes_a_label_away_and_no_tag_leaves_it():
    painter = Brush(128, "flat", 0)
    painter.fill(ellipse(64, 64, 40, 40), RED, tag=label(0, "face"))
    painter.fill(ellipse(40, 64, 6, 6), (0, 0, 0))
    painter.fill(ellipse(90, 64, 6, 6), (0, 0, 0), tag=0)
    _, labels = painter.finish()
    assert labels[64, 40] == label(0, "face")
    assert labels[64, 90] == 0


@pytest.mark.parametrize("style", ["flat", "pixel"])
def test_to_picture_is_the_pixel_that_was_drawn_on(style):
    painter = Brush(200, style, 0)
    with painter.moved(90, 60, 0.8, flip=True, degrees=30):
        painter.fill(ellipse(20, 5, 3, 3), RED, tag=7)
        ((x, y),) = painter.to_picture([(20, 5)])
    rgb, labels = painter.finish()
    rows, columns = np.nonzero(labels == 7)
    assert (columns.mean() + 0.5) / 200 == pytest.approx(x, abs=0.005)
    assert (rows.mean() + 0.5) / 200 == pytest.approx(y, abs=0.005)
    red, green, _ = rgb[int(y * 200), int(x * 200)].astype(int)
    assert red > green + 60


@pytest.mark.parametrize("size", [128, 256, 192])
def test_pixel_style_is_blocks_of_few_colours(size):
    rgb, _ = draw("pixel", size)
    centres = (np.arange(PIXEL_GRID) * size + size // 2) // PIXEL_GRID
    block = np.arange(size) * PIXEL_GRID // size
    assert np.array_equal(rgb, rgb[np.ix_(centres, centres)][np.ix_(block, block)])
    assert len(np.unique(rgb)) <= PIXEL_LEVELS


def test_outlined_has_a_dark_rim_where_flat_has_none():
    flat, outlined = draw("flat")[0], draw("outlined")[0]
    dark = {"flat": (flat.max(axis=2) < 100).sum(), "outlined": (outlined.max(axis=2) < 100).sum()}
    assert dark["outlined"] > dark["flat"] + 150


def test_neon_is_dark_with_bright_lines():
    rgb, labels = draw("neon")
    assert rgb[labels == 0].mean() < 90
    assert rgb.max() > 230


@pytest.mark.parametrize("style", STYLES)
def test_textures_are_smooth(style):
    """On a plain field neighbouring pixels differ by a few steps at most: no per-pixel noise."""
    painter = Brush(128, style, 5)
    painter.fill(rounded(-40, -40, 168, 168, 0), (0.6, 0.7, 0.6), outline=False)
    rgb = painter.finish()[0][16:112, 16:112].astype(int)
    assert np.abs(np.diff(rgb, axis=0)).max() <= 4
    assert np.abs(np.diff(rgb, axis=1)).max() <= 4
