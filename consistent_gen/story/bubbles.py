"""Where speech and thought bubbles go: shaped around their words, inside the picture.

A bubble never leaves its picture and never covers what its tail points at; bubbles keep off each
other and off one another's speakers while there is room, and all in one picture have letters of
one size. Placing is a search over a grid with a fixed order, so that equal input gives equal pages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import skia

from consistent_gen.story.book import Speech
from consistent_gen.story.layouts import INK, WHITE
from consistent_gen.story.lettering import Lettering, TextBlock

Point = tuple[float, float]

POWER = 2.8  # of the superellipse |x/a|^n + |y/b|^n = 1: rounder than a box, roomier than an oval
LARGEST_SHARE = (0.66, 0.42)  # of the picture's width and height, for one bubble
EDGE_SHARE = 0.018  # of the picture's width, kept free along its edges
CLEAR_SHARE = 0.045  # of the picture's width, kept free around what a tail points at
WIDE = 1.7  # the ratio of width to height that bubbles tend to
GRID = 17
SHRINK = 0.88
SMALLEST_SHARE = 0.5  # of the letters' first size, before words are cut
COVERS_SPEAKER, COVERS_OTHER, OVERLAPS = 1e6, 1e3, 1e2


@dataclass(frozen=True)
class PlacedBubble:
    """A placed bubble in the picture's points: its middle, half its size, its words and its tail.

    `half_width` and `half_height` reach to the outermost edge, a thought's cloud included.
    """

    x: float
    y: float
    half_width: float
    half_height: float
    block: TextBlock
    thought: bool
    target: Point | None
    clear: float

    def covers(self, point: Point, margin: float = 0.0) -> bool:
        """Whether `point` lies under the bubble's body or within `margin` of it."""
        across = abs(point[0] - self.x) / (self.half_width + margin)
        down = abs(point[1] - self.y) / (self.half_height + margin)
        return bool(across**POWER + down**POWER < 1.0)

    def overlap(self, other: PlacedBubble) -> float:
        """The area that both bubbles' boxes share."""
        across = self.half_width + other.half_width - abs(self.x - other.x)
        down = self.half_height + other.half_height - abs(self.y - other.y)
        return max(across, 0.0) * max(down, 0.0)


def place_bubbles(
    speeches: Sequence[Speech], lettering: Lettering, width: float, height: float
) -> tuple[PlacedBubble, ...]:
    """The bubbles of a picture of that size, in order; words in signs that cannot be shown are
    left out, and a speech without any others has no bubble.
    """
    first = min(max(0.043 * width, 5.0), 0.11 * height, 20.0)
    size = first
    shown = [speech for speech in speeches if lettering.writable(speech.text)]
    while True:
        last = size * SHRINK < SMALLEST_SHARE * first
        placed, cost = _placed(shown, lettering, width, height, size, cut=last)
        if cost < OVERLAPS or last:
            return placed
        size *= SHRINK


# Placing ------------------------------------------------------------------------------------------
def _placed(
    speeches: Sequence[Speech],
    lettering: Lettering,
    width: float,
    height: float,
    size: float,
    *,
    cut: bool,
) -> tuple[tuple[PlacedBubble, ...], float]:
    """All bubbles with letters of `size`, and how bad it is; infinite when words do not fit."""
    targets = [_scaled(speech.target, width, height) for speech in speeches]
    placed: list[PlacedBubble] = []
    worst = 0.0
    for speech, target in zip(speeches, targets, strict=True):
        block = _shaped(speech, lettering, width, height, size, cut=cut)
        if block is None:
            return (), math.inf
        others = [t for t in targets if t is not None and t is not target]
        bubble, cost = _best(speech, block, target, others, placed, width, height)
        placed.append(bubble)
        worst = max(worst, cost)
    return tuple(placed), worst


def _scaled(point: Point | None, width: float, height: float) -> Point | None:
    return None if point is None else (point[0] * width, point[1] * height)


def _shaped(
    speech: Speech, lettering: Lettering, width: float, height: float, size: float, *, cut: bool
) -> TextBlock | None:
    """The words in the box that makes the most pleasing bubble, or None when none is small enough.

    With `cut`, words are left out rather than None returned.
    """
    most_wide, most_high = _room(width, height, size, speech.thought)
    best, best_cost = None, math.inf
    fits = lettering.set(speech.text, size, most_wide, color=INK).height <= most_high
    for tenth in range(10, 0, -1) if fits else ():
        block = lettering.balanced(speech.text, size, most_wide * tenth / 10, color=INK)
        if block.height > most_high or block.breaks_words:
            break
        ratio = math.log(max(block.width, size) / block.height / WIDE)
        cost = (block.width + size) * (block.height + size) * (1 + ratio * ratio)
        if cost < best_cost:
            best, best_cost = block, cost
    if best is None and cut:
        return lettering.fit(
            speech.text, most_wide, most_high, largest=size, smallest=size * 0.8, color=INK
        )
    return best


def _room(width: float, height: float, size: float, thought: bool) -> Point:
    """The largest box of words in a bubble of the largest size."""
    around_x, around_y = _padding(size, thought)
    return (
        max(LARGEST_SHARE[0] * width / 2 ** (1 / POWER) - around_x, size),
        max(LARGEST_SHARE[1] * height / 2 ** (1 / POWER) - around_y, size * 1.3),
    )


def _padding(size: float, thought: bool) -> Point:
    """What is added to a box of words, both sides together, before the corners are rounded."""
    return (1.0 * size, 0.5 * size) if thought else (0.5 * size, 0.1 * size)


def _best(
    speech: Speech,
    block: TextBlock,
    target: Point | None,
    others: Sequence[Point],
    placed: Sequence[PlacedBubble],
    width: float,
    height: float,
) -> tuple[PlacedBubble, float]:
    """The bubble at the nearest good place to the one that was asked for, and its cost."""
    around_x, around_y = _padding(block.size, speech.thought)
    half_width = (block.width + around_x) / 2 * 2 ** (1 / POWER)
    half_height = (block.height + around_y) / 2 * 2 ** (1 / POWER)
    clear = min(CLEAR_SHARE * width, 0.08 * height)
    edge = EDGE_SHARE * width
    best: PlacedBubble | None = None
    best_cost = math.inf
    for x, y in _places(speech, half_width + edge, half_height + edge, width, height):
        tried = PlacedBubble(x, y, half_width, half_height, block, speech.thought, target, clear)
        cost = math.hypot(x / width - speech.x, y / height - speech.y)
        if target is not None and tried.covers(target, clear):
            cost += COVERS_SPEAKER
        cost += COVERS_OTHER * sum(tried.covers(point, clear) for point in others)
        cost += sum(OVERLAPS + tried.overlap(other) for other in placed if tried.overlap(other))
        if cost < best_cost:
            best, best_cost = tried, cost
    assert best is not None
    return best, best_cost


def _places(
    speech: Speech, from_x: float, from_y: float, width: float, height: float
) -> Iterator[Point]:
    """Middles to try: what was asked for, moved inside, then a grid over all that lies inside."""
    low_x, high_x = min(from_x, width / 2), max(width - from_x, width / 2)
    low_y, high_y = min(from_y, height / 2), max(height - from_y, height / 2)
    wished_x = min(max(speech.x * width, low_x), high_x)
    wished_y = min(max(speech.y * height, low_y), high_y)
    across = [low_x + (high_x - low_x) * i / (GRID - 1) for i in range(GRID)]
    down = [low_y + (high_y - low_y) * i / (GRID - 1) for i in range(GRID)]
    for y in (wished_y, *down):
        for x in (wished_x, *across):
            yield x, y


TAIL_SHARE = 0.5  # of the way to what it points at
LONGEST_TAIL = 4.5  # letter sizes


def draw_bubbles(canvas: Any, bubbles: Sequence[PlacedBubble]) -> None:
    """Draw with the picture's left upper corner at the canvas's origin: bodies, then words."""
    for bubble in bubbles:
        line = max(0.11 * bubble.block.size, 0.5)
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


def _superellipse(x: float, y: float, a: float, b: float) -> Any:
    path = skia.PathBuilder()
    for i in range(96):
        angle = 2 * math.pi * i / 96
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
    path.quadTo(
        middle[0] + dy * half * 0.6, middle[1] - dx * half * 0.6, x + dy * half, y - dx * half
    )
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
