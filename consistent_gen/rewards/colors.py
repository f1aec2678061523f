"""Which colours a figure has, by name, from its pixels: what no factor of a reader can say of it.

A pixel's name follows from its place in OKLCH (B. Ottosson, "A perceptual color space for image
processing", 2020): black, white and gray where there is little chroma, brown where a warm hue is
dark, else the nearest of eight hues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from consistent_gen.rewards.base import Floats, Picture, Plane

# OKLCH hue in degrees.
HUE_DEGREES = {
    "red": 25.0, "orange": 58.0, "yellow": 97.0, "green": 145.0, "teal": 195.0, "blue": 255.0,
    "purple": 305.0, "pink": 352.0,
}  # fmt: skip
NAMES = (*HUE_DEGREES, "brown", "black", "gray", "white")
NEUTRAL = ("brown", "black", "gray", "white")
LEAST_CHROMA = 0.045
SHOWN = 0.2  # share of a figure's pixels from which on it has a colour
BINS = 6  # per axis of the histograms that are compared
_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(pixels: NDArray[np.uint8]) -> Floats:
    """... 3 of sRGB bytes as lightness (0 to 1) and the two opponent axes."""
    x = pixels.astype(float) / 255.0
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    found: Floats = np.cbrt(linear @ _RGB_TO_LMS.T) @ _LMS_TO_LAB.T
    return found


def color_shares(picture: Picture, mask: Plane | None = None) -> dict[str, float]:
    """Colour name -> share of the pixels under the mask (of all without one); {} under none."""
    pixels = picture.reshape(-1, 3) if mask is None else picture[mask]
    if not len(pixels):
        return {}
    lab = oklab(pixels)
    light, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    turn = np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))[:, None] - np.array([*HUE_DEGREES.values()])
    named = np.abs((turn + 180.0) % 360.0 - 180.0).argmin(1)
    names = np.array(NAMES)[named]
    warm = np.isin(names, ("red", "orange", "yellow")) & (light < 0.56) & (chroma < 0.13)
    names = np.where(warm, "brown", names)
    neutral = np.where(light < 0.4, "black", np.where(light < 0.87, "gray", "white"))
    names = np.where(chroma < LEAST_CHROMA, neutral, names)
    return {name: float((names == name).mean()) for name in NAMES}


def has_color(shares: Mapping[str, float], color: str) -> bool:
    """Whether a figure is called so: the colour covers enough of it, and no other hue covers more.

    Neutral colours are outlines, skin and shade as well, so they do not outvote a hue.
    """
    share = shares.get(color, 0.0)
    hues = [name for name in HUE_DEGREES if name != color]
    rivals = [shares.get(name, 0.0) for name in hues] if color not in NEUTRAL else []
    return share >= SHOWN and all(share >= rival for rival in rivals)


def histogram(picture: Picture, mask: Plane | None = None) -> Floats | None:
    """Shares of BINS^3 cells of OKLab; None under an empty mask."""
    pixels = picture.reshape(-1, 3) if mask is None else picture[mask]
    if not len(pixels):
        return None
    lab = oklab(pixels)
    scaled = np.stack([lab[:, 0], lab[:, 1] / 0.5 + 0.5, lab[:, 2] / 0.5 + 0.5], 1)
    cell = np.clip((scaled * BINS).astype(int), 0, BINS - 1)
    flat = cell @ np.array([BINS * BINS, BINS, 1])
    found: Floats = np.bincount(flat, minlength=BINS**3) / len(flat)
    return found


def overlap(a: Floats | None, b: Floats | None) -> float | None:
    """Intersection of two histograms, in [0, 1]."""
    return None if a is None or b is None else float(np.minimum(a, b).sum())


def color_similarities(pictures: Sequence[Picture], masks: Sequence[Plane] | None = None) -> Floats:
    """How alike the colours of n pictures (or of what their masks cover) are, n n; NaN without."""
    shown = [histogram(p, None if masks is None else masks[i]) for i, p in enumerate(pictures)]
    s = np.full((len(shown), len(shown)), np.nan)
    for i, a in enumerate(shown):
        for j, b in enumerate(shown):
            value = overlap(a, b)
            s[i, j] = np.nan if value is None else value
    return s
