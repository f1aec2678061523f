"""Draws placed bubbles: speech with a round body and a bent tail, thoughts as clouds with puffs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import skia

from consistent_gen.story.bubbles import POWER, PlacedBubble, Point
from consistent_gen.story.layouts import INK, WHITE

TAIL_SHARE = 0.5  # of the way to what it points at
LONGEST_TAIL = 4.5  # letter sizes


def draw_bubbles(canvas: Any, bubbles: Sequence[PlacedBubble], stroke: float | None = None) -> None:
    """Draw with the picture's left upper corner at the canvas's origin: bodies, then words."""
    for bubble in bubbles:
        line = stroke or max(0.11 * bubble.block.size, 0.5)
        fill = skia.Paint(Color=skia.Color(*WHITE), AntiAlias=True)
        ink = skia.Paint(
            Color=skia.Color(*INK), AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeWidth=line
        )
        for path in _outlines(bubble):
            canvas.drawPath(path, fill)
            canvas.drawPath(path, ink)
    for bubble in bubbles:
        block = bubble.block
        block.paint(canvas, bubble.x - block.width / 2, bubble.y - block.height / 2)


def _outlines(bubble: PlacedBubble) -> Iterator[Any]:
    """The closed shapes that make up a bubble without its words."""
    if bubble.thought:
        yield _cloud(bubble)
        yield from _puffs(bubble)
        return
    body = _superellipse(bubble.x, bubble.y, bubble.half_width, bubble.half_height)
    tail = _tail(bubble)
    yield body if tail is None else skia.Op(body, tail, skia.PathOp.kUnion_PathOp)


def _superellipse(x: float, y: float, a: float, b: float, points: int = 96) -> Any:
    path = skia.PathBuilder()
    for i in range(points):
        angle = 2 * math.pi * i / points
        dx, dy = _on_superellipse(angle, a, b)
        (path.lineTo if i else path.moveTo)(x + dx, y + dy)
    path.close()
    return path.detach()


def _on_superellipse(angle: float, a: float, b: float) -> Point:
    cos, sin = math.cos(angle), math.sin(angle)
    power = 2 / POWER
    return a * math.copysign(abs(cos) ** power, cos), b * math.copysign(abs(sin) ** power, sin)


def _reach(bubble: PlacedBubble) -> tuple[Point, Point, float] | None:
    """Where the tail leaves the bubble's inside, its direction, and how far its tip goes from
    there; None when it would hardly show.
    """
    if bubble.target is None:
        return None
    inner = 0.5 * bubble.half_width
    from_x = min(max(bubble.target[0], bubble.x - inner), bubble.x + inner)
    dx, dy = bubble.target[0] - from_x, bubble.target[1] - bubble.y
    distance = math.hypot(dx, dy)
    if distance == 0.0:
        return None
    way = (dx / distance, dy / distance)
    edge = _edge_along(bubble, (from_x, bubble.y), way)
    length = min(
        distance - 0.5 * bubble.clear - edge,
        max(TAIL_SHARE * (distance - edge), 0.9 * bubble.block.size),
        LONGEST_TAIL * bubble.block.size,
    )
    if length < 0.2 * bubble.block.size:
        return None
    return (from_x, bubble.y), way, edge + length


def _edge_along(bubble: PlacedBubble, start: Point, way: Point) -> float:
    """How far it is from `start`, inside the bubble, to its edge in the direction `way`."""
    low, high = 0.0, 2 * (bubble.half_width + bubble.half_height)
    for _ in range(40):
        middle = (low + high) / 2
        if bubble.covers((start[0] + way[0] * middle, start[1] + way[1] * middle)):
            low = middle
        else:
            high = middle
    return low


def _tail(bubble: PlacedBubble) -> Any | None:
    """A wedge from inside the bubble towards its target, slightly bent."""
    found = _reach(bubble)
    if found is None:
        return None
    (x, y), (dx, dy), length = found
    half = min(0.55 * bubble.block.size, 0.45 * bubble.half_width)
    bend = 0.35 * half * (1 if dx >= 0 else -1)
    tip = (x + dx * length, y + dy * length)
    middle = (x + dx * length * 0.6 - dy * bend, y + dy * length * 0.6 + dx * bend)
    path = skia.PathBuilder()
    path.moveTo(x - dy * half, y + dx * half)
    path.quadTo(middle[0] - dy * half * 0.6, middle[1] + dx * half * 0.6, *tip)
    path.quadTo(middle[0] + dy * half * 0.6, middle[1] - dx * half * 0.6, x + dy * half,
                y - dx * half)  # fmt: skip
    path.close()
    return path.detach()


def _cloud(bubble: PlacedBubble) -> Any:
    """A cloud: puffs around a body, all inside the bubble's half width and height."""
    puff = 0.62 * bubble.block.size
    a, b = bubble.half_width - puff, bubble.half_height - puff
    around = math.pi * (a + b)
    count = max(9, round(around / (1.5 * puff)))
    cloud = _superellipse(bubble.x, bubble.y, a, b)
    for dx, dy in _evenly(a, b, count):
        circle = skia.PathBuilder().addCircle(bubble.x + dx, bubble.y + dy, puff).detach()
        cloud = skia.Op(cloud, circle, skia.PathOp.kUnion_PathOp)
    return cloud


def _evenly(a: float, b: float, count: int) -> Iterator[Point]:
    """`count` points at equal distances along a superellipse."""
    fine = [_on_superellipse(2 * math.pi * i / 720, a, b) for i in range(721)]
    lengths = [math.dist(p, q) for p, q in pairwise(fine)]
    step, walked = sum(lengths) / count, 0.0
    for point, length in zip(fine, lengths, strict=False):
        if walked <= 0.0:
            yield point
            walked += step
        walked -= length


def _puffs(bubble: PlacedBubble) -> Iterator[Any]:
    """The three little clouds of a thought's tail, shrinking towards its target."""
    found = _reach(bubble)
    if found is None:
        return
    (x, y), (dx, dy), length = found
    edge = _edge_along(bubble, (x, y), (dx, dy))
    for share, radius in ((0.22, 0.15), (0.6, 0.11), (0.92, 0.07)):
        at = edge + (length - edge) * share
        size = radius * (length - edge) + 0.08 * bubble.block.size
        yield skia.PathBuilder().addCircle(x + dx * at, y + dy * at, size).detach()
