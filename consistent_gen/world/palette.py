"""Colours of the story world: OKLCH arithmetic, the garment hue circle, coats and eyes.

Garment colours live on a hue circle in [0, 1). Eight names sit on it; lightness and chroma follow
the hue so that every point is a soft, printable colour. Coats (hair, fur, metal) are six named
tones with a continuous shift. All RGB values are floats in [0, 1].
Source of the colour space: B. Ottosson, "A perceptual color space for image processing" (2020).
"""

from __future__ import annotations

import math

RGB = tuple[float, float, float]

# name -> (OKLCH hue in degrees, lightness, chroma)
HUES: dict[str, tuple[float, float, float]] = {
    "red": (25.0, 0.60, 0.18),
    "orange": (58.0, 0.74, 0.15),
    "yellow": (97.0, 0.87, 0.14),
    "green": (145.0, 0.66, 0.14),
    "teal": (195.0, 0.70, 0.10),
    "blue": (255.0, 0.58, 0.14),
    "purple": (305.0, 0.56, 0.15),
    "pink": (352.0, 0.78, 0.11),
}

# name -> (lightness, chroma, hue in degrees) of hair, fur or metal
COATS: dict[str, tuple[float, float, float]] = {
    "black": (0.30, 0.02, 280.0),
    "brown": (0.45, 0.07, 55.0),
    "ginger": (0.66, 0.15, 50.0),
    "golden": (0.83, 0.11, 88.0),
    "gray": (0.65, 0.015, 250.0),
    "white": (0.94, 0.015, 85.0),
}

# name -> (lightness, chroma, hue in degrees) of the iris
EYES: dict[str, tuple[float, float, float]] = {
    "brown": (0.40, 0.08, 55.0),
    "blue": (0.60, 0.13, 250.0),
    "green": (0.60, 0.13, 150.0),
    "gray": (0.55, 0.01, 250.0),
}


def oklch(lightness: float, chroma: float, hue_deg: float) -> RGB:
    """sRGB in [0, 1] of an OKLCH colour, clipped to the gamut."""
    a = chroma * math.cos(math.radians(hue_deg))
    b = chroma * math.sin(math.radians(hue_deg))
    l_ = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m_ = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s_ = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * l_ - 3.3077115913 * m_ + 0.2309699292 * s_,
        -1.2684380046 * l_ + 2.6097574011 * m_ - 0.3413193965 * s_,
        -0.0041960863 * l_ - 0.7034186147 * m_ + 1.7076147010 * s_,
    )
    r, g, b = (_encode(min(max(x, 0.0), 1.0)) for x in linear)
    return (r, g, b)


def _encode(x: float) -> float:
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055


def hue_color(hue: float) -> RGB:
    """Garment colour at `hue` in [0, 1): lightness and chroma interpolated between the named
    anchors.
    """
    deg = (hue % 1.0) * 360.0
    anchors = sorted(HUES.values())
    for i, (h0, l0, c0) in enumerate(anchors):
        h1, l1, c1 = anchors[(i + 1) % len(anchors)]
        span = (h1 - h0) % 360.0
        offset = (deg - h0) % 360.0
        if offset <= span:
            t = offset / span
            return oklch(l0 + t * (l1 - l0), c0 + t * (c1 - c0), deg)
    raise AssertionError("the anchors cover the circle")


def hue_name(hue: float) -> str:
    """The nearest of the eight colour names to `hue` in [0, 1)."""
    deg = (hue % 1.0) * 360.0
    return min(HUES, key=lambda n: abs((deg - HUES[n][0] + 180.0) % 360.0 - 180.0))


def hue_anchors() -> dict[str, float]:
    """The eight colour names and where they lie on the circle, in [0, 1)."""
    return {name: degrees / 360.0 for name, (degrees, _, _) in HUES.items()}


def coat_color(coat: str, shift: float) -> RGB:
    """Hair, fur or metal colour; `shift` in [0, 1] runs from darker and redder to lighter and
    yellower.
    """
    lightness, chroma, hue = COATS[coat]
    t = shift - 0.5
    return oklch(min(lightness + 0.12 * t, 0.96), chroma * (1.0 - 0.3 * t), hue + 18.0 * t)


def skin_color(tone: float) -> RGB:
    """Human skin; `tone` in [0, 1] from light to dark."""
    return oklch(0.89 - 0.40 * tone, 0.045 + 0.03 * math.sin(math.pi * tone), 62.0 - 8.0 * tone)


def eye_color(name: str) -> RGB:
    """Iris colour by name."""
    return oklch(*EYES[name])


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """Linear blend from `a` (t = 0) to `b` (t = 1)."""
    return (a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]), a[2] + t * (b[2] - a[2]))
