"""Colours by name: the nearest of some names on the hue circle."""

from __future__ import annotations

from collections.abc import Mapping


def hue_word(angle: float, anchors: Mapping[str, float]) -> str:
    """The nearest name on the hue circle; `angle` and the values of `anchors` lie in [0, 1)."""
    return min(anchors, key=lambda name: abs((angle - anchors[name] + 0.5) % 1.0 - 0.5))
