"""Where speech and thought bubbles go: shaped around their words, inside the picture.

A bubble never leaves its picture and never covers what its tail points at; bubbles keep off each
other and off one another's speakers while there is room, and all in one picture have letters of
one size. Placing is a search over a grid with a fixed order, so that equal input gives equal pages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from consistent_gen.story.book import Speech
from consistent_gen.story.layouts import INK
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
