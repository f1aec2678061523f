"""The seven drawing styles: tone of a colour, contour of a shape, finish of a picture.

A style never moves a shape, so that the labels are the same in all of them. Textures are smooth
(features of six units or more, a few 8-bit steps deep): an autoencoder must be able to keep them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.world.palette import RGB, mix

Floats = NDArray[np.floating[Any]]
UNITS = 128.0  # a picture is 128 x 128 world units whatever its size in pixels
PIXEL_GRID = 64
PIXEL_LEVELS = 15

_WHITE = (0.985, 0.98, 0.965)
_GRAPHITE = (0.27, 0.27, 0.30)
_INK = (0.12, 0.10, 0.16)
_VIOLET = (0.075, 0.055, 0.165)


def _luminance(color: RGB) -> float:
    return 0.30 * color[0] + 0.59 * color[1] + 0.11 * color[2]


@dataclass(frozen=True)
class Pen:
    """A contour line.

    `width` is in world units and `alpha` in [0, 1]; `wobble` bends the line and `slip` shifts all
    of it, by up to so many units off the true edge.
    """

    color: RGB
    width: float
    alpha: float = 1.0
    wobble: float = 0.0
    slip: float = 0.0


@dataclass(frozen=True)
class Style:
    """How one style treats colour and contour.

    `tone(color, figure)` is the fill colour and `contour(color, figure)` the pen around it, None
    for no line; `figure` is True for foreground. `finish(rgb, rng)` takes float RGB in [0, 1] of
    shape (h, w, 3) and returns the same shape. `shadow` is the drop-shadow length in units.
    """

    paper: RGB
    tone: Callable[[RGB, bool], RGB]
    contour: Callable[[RGB, bool], Pen | None]
    finish: Callable[[Floats, np.random.Generator], Floats] | None = None
    shadow: float = 0.0
    veil: float = 1.0  # how much of a whole-picture tint shows
    bands: int = 0  # sheets a vertical blend is cut into, 0 for a smooth one
    thinnest: float = 0.0  # units; finer lines are drawn this wide


def _same(color: RGB, figure: bool) -> RGB:
    return color


def _no_line(color: RGB, figure: bool) -> Pen | None:
    return None


def _ink_line(color: RGB, figure: bool) -> Pen | None:
    if figure:
        return Pen(mix(_INK, color, 0.10), 1.5)
    return Pen(mix(_INK, color, 0.30), 1.2, 0.9)


def _pencil_tone(color: RGB, figure: bool) -> RGB:
    gray = _luminance(color)
    pale = mix(color, (gray, gray, gray), 0.42 if figure else 0.55)
    return mix(_WHITE, pale, 0.80 if figure else 0.40)


def _pencil_line(color: RGB, figure: bool) -> Pen | None:
    return Pen(_GRAPHITE, 0.85, 0.95, 0.30, 0.3) if figure else Pen(_GRAPHITE, 0.8, 0.66, 0.0, 0.5)


def _watercolor_tone(color: RGB, figure: bool) -> RGB:
    return mix(_WHITE, color, 0.92 if figure else 0.70)


def _watercolor_line(color: RGB, figure: bool) -> Pen | None:
    dark = mix(color, (0.16, 0.14, 0.26), 0.30)
    return Pen(dark, 0.9, 0.75) if figure else Pen(dark, 1.1, 0.42)


def _neon_tone(color: RGB, figure: bool) -> RGB:
    # eyes and teeth stay light
    if not figure:
        return mix(_VIOLET, color, 0.22)
    return mix(_VIOLET, color, 0.44 + 0.28 * _luminance(color) ** 3)


def _neon_line(color: RGB, figure: bool) -> Pen | None:
    top = max(*color, 0.05)
    bright = (color[0] / top, color[1] / top, color[2] / top)
    if top < 0.42 or _luminance(color) < 0.2:  # black things glow in pale violet
        bright = mix(bright, (0.72, 0.66, 1.0), 0.75)
    if figure:
        return Pen(mix(bright, (1.0, 1.0, 1.0), 0.12), 1.15)
    return Pen(mix(_VIOLET, bright, 0.62), 0.9, 0.85)


def _cut_edge(color: RGB, figure: bool) -> Pen | None:
    return Pen(mix(color, (1.0, 1.0, 1.0), 0.72), 0.9 if figure else 0.75, 0.9)


@lru_cache(maxsize=16)
def _interpolation(size: int, knots: int) -> Floats:
    """Matrix (size, knots) that draws a smooth curve through `knots` equally spaced values."""
    at = np.linspace(0.0, knots - 1.0, size)
    low = np.minimum(at.astype(int), knots - 2)
    t = at - low
    t = t * t * (3.0 - 2.0 * t)
    weights = np.zeros((size, knots), dtype=np.float32)
    weights[np.arange(size), low] = 1.0 - t
    weights[np.arange(size), low + 1] += t
    return weights


def _cloudiness(size: int, knots: int, rng: np.random.Generator) -> Floats:
    """A smooth random field in [-1, 1], shape (size, size, 1), with `knots` features a side."""
    values = rng.uniform(-1.0, 1.0, (knots, knots)).astype(np.float32)
    weights = _interpolation(size, knots)
    field: Floats = (weights @ values @ weights.T)[..., None]
    return field


def _blurred(rgb: Floats, sigma_units: float) -> Floats:
    """Separable Gaussian blur of float RGB (size, size, 3), the edge repeated.

    Plain shifted sums: at these widths faster than an image filter, and the same everywhere.
    """
    size = rgb.shape[0]
    sigma = sigma_units * size / UNITS
    reach = max(1, math.ceil(2.2 * sigma))
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(reach + 1)]
    total = taps[0] + 2.0 * sum(taps[1:])
    out = rgb
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        wide = np.pad(out, pad, mode="edge")
        views = [
            wide[k : k + size] if axis == 0 else wide[:, k : k + size] for k in range(2 * reach + 1)
        ]
        out = views[reach] * np.float32(taps[0] / total)
        for k in range(1, reach + 1):
            out += (views[reach - k] + views[reach + k]) * np.float32(taps[k] / total)
    return out


@lru_cache(maxsize=8)
def _hatching(size: int) -> Floats:
    """Soft diagonal strokes seven units apart in [0, 1], shape (size, size, 1)."""
    axis = np.arange(size, dtype=np.float32) * (UNITS / size)
    phase = (axis[None, :] + axis[:, None]) * (2.0 * math.pi / 7.0 / math.sqrt(2.0))
    strokes: Floats = ((0.5 + 0.5 * np.cos(phase)) ** 2)[..., None].astype(np.float32)
    return strokes


@lru_cache(maxsize=8)
def _border_distance(size: int) -> Floats:
    """Distance to the nearest side of the picture in units, shape (size, size, 1)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (UNITS / size)
    side = np.minimum(axis, UNITS - axis)
    distance: Floats = np.minimum(side[:, None], side[None, :])[..., None]
    return distance


def _finish_pencil(rgb: Floats, rng: np.random.Generator) -> Floats:
    dark = np.clip(1.0 - rgb.mean(axis=2, keepdims=True) - 0.16, 0.0, 0.5)
    drawn: Floats = rgb - dark * _hatching(rgb.shape[0]) * 0.11
    return drawn


def _finish_watercolor(rgb: Floats, rng: np.random.Generator) -> Floats:
    """Bleeding edges, uneven pigment and an unpainted ragged border."""
    size = rgb.shape[0]
    soft = 0.66 * rgb + 0.34 * _blurred(rgb, 0.9)
    pool = _cloudiness(size, 9, rng) + 0.6 * _cloudiness(size, 18, rng)
    white = np.asarray(_WHITE, dtype=np.float32)
    density = white - soft
    # dark washes are laid on more evenly, or night would be patchy
    pigment = density * (1.0 + (0.15 - 0.11 * density.mean(axis=2, keepdims=True)) * pool)
    edge = np.clip((_border_distance(size) - 1.5 - 3.0 * pool) / 4.0, 0.0, 1.0)
    painted: Floats = white - pigment * edge
    return painted


def _finish_neon(rgb: Floats, rng: np.random.Generator) -> Floats:
    """Bloom: light above the dark fills spreads over its surroundings."""
    light = np.clip(rgb - 0.30, 0.0, 1.0)
    return rgb + 0.75 * _blurred(light, 2.2)


def _finish_papercut(rgb: Floats, rng: np.random.Generator) -> Floats:
    return rgb + 0.008 * _cloudiness(rgb.shape[0], 20, rng)


def limit_colors(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every channel rounded to `PIXEL_LEVELS` steps: hues stay, blends break into bands."""
    step = 255.0 / (PIXEL_LEVELS - 1)
    return (np.rint(rgb / step) * step + 0.5).astype(np.uint8)


STYLE_TABLE: dict[str, Style] = {
    "flat": Style(_WHITE, _same, _no_line),
    "outlined": Style(_WHITE, _same, _ink_line),
    "pencil": Style(_WHITE, _pencil_tone, _pencil_line, _finish_pencil, veil=0.5),
    "watercolor": Style(_WHITE, _watercolor_tone, _watercolor_line, _finish_watercolor, veil=0.8),
    "pixel": Style(_WHITE, _same, _no_line, thinnest=1.8),
    "neon": Style(_VIOLET, _neon_tone, _neon_line, _finish_neon, veil=0.0),
    "papercut": Style(_WHITE, _same, _cut_edge, _finish_papercut, shadow=3.4, bands=4),
}
