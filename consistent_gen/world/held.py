"""What an action brings along: book, food, balloon, music notes and the stool."""

from __future__ import annotations

import random

from consistent_gen.world.limbs import Point
from consistent_gen.world.look import CREAM, Look, shade, tint
from consistent_gen.world.painter import Brush, ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB, hue_color
from consistent_gen.world.skeleton import Skeleton

WOOD: RGB = (0.72, 0.50, 0.31)
BREAD: RGB = (0.90, 0.70, 0.42)
LEAF: RGB = (0.45, 0.70, 0.32)
APPLE: RGB = (0.86, 0.25, 0.22)
HELD_HUES = (0.07, 0.28, 0.40, 0.71, 0.85)


def draw_behind(
    painter: Brush, look: Look, skeleton: Skeleton, action: str, rng: random.Random
) -> None:
    """The stool under a sitting figure, the balloon behind the head, the notes of a dance."""
    tag = look.tag("held")
    if action == "sitting":
        hx, hy = skeleton.joints["hip"]
        _stool(painter, tag, hx - 3.0, hy + 3.0)
    elif action == "balloon":
        _balloon(painter, tag, skeleton.joints["r_hand"], hue_color(rng.choice(HELD_HUES)))
    elif action == "dancing":
        color = shade(hue_color(rng.choice(HELD_HUES)), 0.2)
        _note(painter, tag, (-40.0, -92.0), color, -8.0)
        _note(painter, tag, (37.0, -90.0), color, 10.0)


def draw_in_front(
    painter: Brush, look: Look, skeleton: Skeleton, action: str, rng: random.Random
) -> None:
    """The book before the chest or the food at the mouth."""
    tag = look.tag("held")
    if action == "reading":
        x, y = skeleton.joints["neck"]
        with painter.moved(x + 2.0, y + 18.5):
            _book(painter, tag, hue_color(rng.choice(HELD_HUES)))
    elif action == "eating":
        x, y = skeleton.joints["r_hand"]
        with painter.moved(x - 1.5, y - 4.5):
            (_sandwich, _apple)[rng.randrange(2)](painter, tag)


def _stool(painter: Brush, tag: int, x: float, y: float) -> None:
    for dx, slant in ((-8.5, -2.0), (8.5, 2.0)):
        leg = [
            (x + dx - 2.2, y + 2),
            (x + dx + 2.2, y + 2),
            (x + dx + slant + 2.0, 0),
            (x + dx + slant - 2.0, 0),
        ]
        painter.fill(polygon(leg), shade(WOOD, 0.22), tag=tag)
    painter.fill(rounded(x - 8.0, y + 8.0, x + 8.0, y + 10.5, 1.0), shade(WOOD, 0.32), tag=tag)
    painter.fill(rounded(x - 14.0, y, x + 14.0, y + 5.0, 2.4), WOOD, tag=tag)


def _balloon(painter: Brush, tag: int, hand: Point, color: RGB) -> None:
    x, y = min(max(hand[0] + 2.0, 33.0), 36.0), -100.0
    string = smooth(
        [hand, (hand[0] + 3.0, (hand[1] + y + 14) / 2), (x - 2.0, y + 20.0), (x, y + 15.0)],
        closed=False,
    )
    painter.line(string, (0.45, 0.38, 0.40), 1.3, tag=tag)
    painter.fill(
        polygon([(x, y + 12.0), (x - 3.2, y + 17.0), (x + 3.2, y + 17.0)]),
        shade(color, 0.15),
        tag=tag,
    )
    body = [(x, y - 15.5), (x + 9.2, y - 12.0), (x + 13.0, y - 2.5), (x + 8.5, y + 9.0),
            (x, y + 14.0),
            (x - 8.5, y + 9.0), (x - 13.0, y - 2.5), (x - 9.2, y - 12.0)]  # fmt: skip
    painter.fill(smooth(body), color, tag=tag)
    painter.fill(ellipse(x - 5.0, y - 6.5, 2.4, 3.8), tint(color, 0.65), outline=False)


def _note(painter: Brush, tag: int, at: Point, color: RGB, degrees: float) -> None:
    with painter.moved(*at, degrees=degrees):
        painter.line(
            polygon([(2.6, 5.0), (2.6, -8.0), (8.0, -5.5)], closed=False), color, 2.2, tag=tag
        )
        painter.fill(ellipse(0.0, 5.2, 3.8, 3.0), color, tag=tag)


def _book(painter: Brush, tag: int, color: RGB) -> None:
    for s in (-1, 1):
        page = [(0.0, -8.0), (s * 7.0, -11.2), (s * 15.0, -10.0), (s * 15.0, 5.0), (0.0, 7.0)]
        painter.fill(polygon(page), CREAM, tag=tag)
        cover = [(0.0, -6.0), (s * 16.2, -8.4), (s * 16.2, 8.6), (0.0, 10.6)]
        painter.fill(polygon(cover), color if s < 0 else shade(color, 0.1), tag=tag)
        title = [(s * 5.0, -1.8), (s * 11.8, -2.8), (s * 11.8, 2.8), (s * 5.0, 3.6)]
        painter.fill(polygon(title), tint(color, 0.72), tag=tag, outline=False)
    painter.line(
        polygon([(0.0, -6.5), (0.0, 10.2)], closed=False), shade(color, 0.35), 1.8, tag=tag
    )


def _sandwich(painter: Brush, tag: int) -> None:
    painter.fill(rounded(-9.5, 0.8, 9.5, 6.4, 2.6), BREAD, tag=tag)
    frill = [
        (-10.5, 0.0),
        (-6.0, 3.0),
        (-2.0, 1.0),
        (2.5, 3.2),
        (6.0, 1.0),
        (10.5, 1.6),
        (9.0, -2.0),
        (-9.0, -2.0),
    ]
    painter.fill(smooth(frill), LEAF, tag=tag, outline=False)
    painter.fill(rounded(-9.6, -3.0, 9.6, -0.6, 1.0), (0.92, 0.42, 0.36), tag=tag, outline=False)
    dome = [(-9.5, -2.2), (-8.0, -6.6), (0.0, -8.8), (8.0, -6.6), (9.5, -2.2)]
    painter.fill(smooth(dome), BREAD, tag=tag)
    painter.fill(ellipse(-2.5, -6.0, 2.6, 1.0), tint(BREAD, 0.5), outline=False)


def _apple(painter: Brush, tag: int) -> None:
    body = [
        (0.0, -5.6),
        (5.5, -7.6),
        (9.4, -2.0),
        (7.0, 6.0),
        (0.0, 7.4),
        (-7.0, 6.0),
        (-9.4, -2.0),
        (-5.5, -7.6),
    ]
    painter.fill(smooth(body), APPLE, tag=tag)
    painter.fill(ellipse(-7.6, 0.4, 3.4, 4.4), CREAM, tag=tag, outline=False)
    painter.line(polygon([(0.4, -5.6), (1.8, -10.4)], closed=False), shade(WOOD, 0.4), 1.7, tag=tag)
    painter.fill(smooth([(2.0, -9.0), (6.0, -12.0), (9.4, -10.0), (6.0, -7.6)]), LEAF, tag=tag)
