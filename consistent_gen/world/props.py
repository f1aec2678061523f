"""The extra object of a frame: ball, flowers, kite, butterfly or lantern."""

from __future__ import annotations

import random
from collections.abc import Callable

from consistent_gen.world.painter import Brush, ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB, hue_color, mix, oklch
from consistent_gen.world.spec import sample_hue
from consistent_gen.world.stage import dots, strokes

# Props that hang in the air behind the figures; the others stand in front of them.
BEHIND = ("kite",)
_GROUNDED = ("ball", "flowers", "lantern")


def draw_prop(
    painter: Brush, prop: str, xs: tuple[float, ...], feet: float, rng: random.Random
) -> None:
    """Draw `prop` beside the figures standing at `xs` (units); `feet` is the height they stand at.

    Marks label 0 (background) where it covers a figure.
    """
    side = _free_side(xs, rng)
    if prop in _GROUNDED:
        x, y = (16.0, 112.0)[side], min(feet + 2.0, 123.0)
        if len(xs) == 2 and max(xs) - min(xs) > 46.0:
            x = 0.5 * (xs[0] + xs[1])
    elif prop == "kite":
        x, y = (21.0, 107.0)[side], rng.uniform(20.0, 26.0)
    else:
        x, y = (17.0, 111.0)[side], rng.uniform(38.0, 52.0)
    with (
        painter.foreground(),
        painter.moved(x + rng.uniform(-2.0, 2.0), y, scale=1.1, flip=side == 1),
    ):
        _DRAW[prop](painter, hue_color(sample_hue(rng)), rng)


def _free_side(xs: tuple[float, ...], rng: random.Random) -> int:
    """0 for the left, 1 for the right: the side with more room, a coin toss when they are alike."""
    left, right = min(xs), 128.0 - max(xs)
    if abs(left - right) < 5.0:
        return rng.randrange(2)
    return 0 if left > right else 1


def _ball(painter: Brush, color: RGB, rng: random.Random) -> None:
    disc = ellipse(0.0, -10.0, 10.0, 10.0)
    painter.fill(ellipse(0.0, 0.0, 10.0, 2.0), (0.2, 0.2, 0.25), outline=False, alpha=0.22)
    painter.fill(disc, color, tag=0)
    with painter.clipped(disc):
        band = [
            (-12.0, -11.0),
            (-4.0, -8.5),
            (4.0, -8.5),
            (12.0, -11.0),
            (12.0, -5.5),
            (0.0, -2.6),
            (-12.0, -5.5),
        ]
        painter.fill(smooth(band), (0.98, 0.96, 0.90), outline=False)
        painter.fill(ellipse(0.0, -20.0, 5.0, 3.4), (0.98, 0.96, 0.90), outline=False)
    painter.fill(ellipse(-3.5, -14.0, 2.4, 1.8), (1.0, 1.0, 1.0), outline=False, alpha=0.5)


def _flowers(painter: Brush, color: RGB, rng: random.Random) -> None:
    heads = [(-7.0, -22.0), (0.0, -28.0), (7.0, -21.0)]
    stems = strokes([((0.0, -8.0), head) for head in heads])
    painter.line(stems, oklch(0.55, 0.12, 145.0), 1.6, tag=0)
    pot = [(-8.0, -12.0), (8.0, -12.0), (6.0, 0.0), (-6.0, 0.0)]
    painter.fill(polygon(pot), oklch(0.62, 0.11, 45.0), tag=0)
    painter.fill(rounded(-9.0, -14.0, 9.0, -10.5, 1.2), oklch(0.68, 0.11, 48.0), tag=0)
    ring = ((0.0, -4.2), (4.0, -1.3), (2.5, 3.4), (-2.5, 3.4), (-4.0, -1.3))
    for x, y in heads:
        painter.fill(dots([(x + dx, y + dy, 3.1) for dx, dy in ring]), color, tag=0)
        painter.fill(ellipse(x, y, 2.7, 2.7), oklch(0.88, 0.15, 95.0), tag=0, outline=False)


def _kite(painter: Brush, color: RGB, rng: random.Random) -> None:
    tail = [(0.0, 16.0), (5.0, 24.0), (-2.0, 32.0), (4.0, 41.0)]
    painter.line(smooth(tail, closed=False), (0.95, 0.94, 0.90), 1.4, tag=0)
    for x, y in tail[1:]:
        bow = [(x - 4.0, y - 2.4), (x + 4.0, y + 2.4), (x + 4.0, y - 2.4), (x - 4.0, y + 2.4)]
        painter.fill(polygon(bow), mix(color, (1.0, 1.0, 1.0), 0.35), tag=0)
    painter.fill(polygon([(0.0, -17.0), (13.0, -3.0), (0.0, 16.0), (-13.0, -3.0)]), color, tag=0)
    halves = mix(color, (1.0, 1.0, 0.9), 0.55)
    painter.fill(polygon([(0.0, -17.0), (13.0, -3.0), (0.0, -3.0)]), halves, outline=False)
    painter.fill(polygon([(0.0, 16.0), (-13.0, -3.0), (0.0, -3.0)]), halves, outline=False)


def _butterfly(painter: Brush, color: RGB, rng: random.Random) -> None:
    for k in (-1, 1):
        upper = [(0.0, -1.0), (k * 4.0, -11.0), (k * 12.0, -12.0), (k * 12.0, -3.0), (k * 4.0, 0.5)]
        lower = [(0.0, 0.0), (k * 8.0, 1.0), (k * 9.5, 7.0), (k * 5.0, 10.0), (k * 1.0, 4.0)]
        painter.fill(smooth(lower), mix(color, (1.0, 1.0, 0.85), 0.35), tag=0)
        painter.fill(smooth(upper), color, tag=0)
        painter.fill(
            ellipse(k * 8.5, -7.5, 2.3, 2.3), mix(color, (1.0, 1.0, 0.9), 0.7), outline=False
        )
    feelers = strokes([((0.0, -7.0), (-3.0, -13.0)), ((0.0, -7.0), (3.0, -13.0))])
    painter.line(feelers, (0.25, 0.20, 0.25), 0.9)
    painter.fill(ellipse(0.0, 0.0, 1.6, 7.5), (0.25, 0.20, 0.25), tag=0)


def _lantern(painter: Brush, color: RGB, rng: random.Random) -> None:
    iron = (0.34, 0.29, 0.33)
    painter.fill(ellipse(0.0, -11.0, 19.0, 19.0), (1.0, 0.84, 0.45), outline=False, alpha=0.28)
    painter.line(
        smooth([(-6.0, -20.0), (0.0, -29.0), (6.0, -20.0)], closed=False), iron, 1.5, tag=0
    )
    painter.fill(rounded(-7.0, -19.0, 7.0, -2.0, 2.5), (1.0, 0.88, 0.50), tag=0)
    painter.fill(ellipse(0.0, -9.0, 2.6, 4.6), (0.98, 0.64, 0.26), outline=False)
    painter.line(strokes([((0.0, -18.0), (0.0, -14.0))]), iron, 1.0)
    painter.fill(polygon([(-9.0, -18.0), (0.0, -24.0), (9.0, -18.0)]), iron, tag=0)
    painter.fill(rounded(-8.5, -3.5, 8.5, 0.0, 1.2), iron, tag=0)


_DRAW: dict[str, Callable[[Brush, RGB, random.Random], None]] = {
    "ball": _ball,
    "flowers": _flowers,
    "kite": _kite,
    "butterfly": _butterfly,
    "lantern": _lantern,
}
