"""Curved, tapering limbs: an outline around a soft curve through three joints."""

from __future__ import annotations

import math

import skia

from consistent_gen.world.painter import smooth

Point = tuple[float, float]
Bone = tuple[Point, Point, Point]  # shoulder, elbow, hand or hip, knee, foot

_SAMPLES = 5


def along(bone: Bone, t: float) -> Point:
    """Point at `t` in [0, 1] of a quadratic curve that rounds the middle joint."""
    (x0, y0), (x1, y1), (x2, y2) = bone
    cx, cy = 1.5 * x1 - 0.25 * (x0 + x2), 1.5 * y1 - 0.25 * (y0 + y2)
    u = 1.0 - t
    return (
        u * u * x0 + 2.0 * u * t * cx + t * t * x2,
        u * u * y0 + 2.0 * u * t * cy + t * t * y2,
    )


def limb(
    bone: Bone,
    width0: float,
    width1: float,
    start: float = 0.0,
    end: float = 1.0,
    *,
    cap: bool = True,
) -> skia.Path:
    """Outline of the limb from `start` to `end` of its curve.

    `width0` and `width1` are full widths at the whole limb's ends. `cap=False` cuts the far end
    flat, as a sleeve or a trouser leg needs it.
    """
    left: list[Point] = []
    right: list[Point] = []
    center = along(bone, start)
    for i in range(_SAMPLES):
        t = start + (end - start) * i / (_SAMPLES - 1)
        center = along(bone, t)
        before, after = along(bone, t - 0.02), along(bone, t + 0.02)
        dx, dy = after[0] - before[0], after[1] - before[1]
        norm = math.hypot(dx, dy) or 1.0
        half = 0.5 * (width0 + (width1 - width0) * t)
        nx, ny = -dy / norm * half, dx / norm * half
        left.append((center[0] + nx, center[1] + ny))
        right.append((center[0] - nx, center[1] - ny))
        if i == 0:
            left.insert(0, (center[0] - ny, center[1] + nx))
    if cap:
        left.append((center[0] + ny, center[1] - nx))
    return smooth([*left, *reversed(right)])


def tube(points: list[Point], widths: list[float]) -> skia.Path:
    """Outline around a free polyline with one full width per point (tails, locks of hair)."""
    left: list[Point] = []
    right: list[Point] = []
    last = len(points) - 1
    for i, ((x, y), width) in enumerate(zip(points, widths, strict=True)):
        x0, y0 = points[max(i - 1, 0)]
        x1, y1 = points[min(i + 1, last)]
        dx, dy = x1 - x0, y1 - y0
        norm = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / norm * width / 2, dx / norm * width / 2
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
    return smooth([*left, *reversed(right)])
