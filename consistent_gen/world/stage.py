"""The light a place is drawn in, and the simple objects and shapes that places share."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import skia

from consistent_gen.world.painter import Brush, ellipse, polygon, smooth
from consistent_gen.world.palette import RGB, mix, oklch

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Light:
    """What a weather does to a colour: grays it, then pulls it towards `tint` by `strength`."""

    gray: float
    tint: RGB
    strength: float
    snow: float = 0.0  # how white the ground is

    def on(self, color: RGB) -> RGB:
        """`color` as seen in this light."""
        g = 0.30 * color[0] + 0.59 * color[1] + 0.11 * color[2]
        return mix(mix(color, (g, g, g), self.gray), self.tint, self.strength)


LIGHTS: dict[str, Light] = {
    "sunny": Light(0.0, (1.0, 0.97, 0.85), 0.05),
    "cloudy": Light(0.30, (0.62, 0.66, 0.72), 0.20),
    "rainy": Light(0.32, (0.36, 0.44, 0.56), 0.34),
    "snowy": Light(0.25, (0.88, 0.92, 0.98), 0.26, snow=0.78),
    "sunset": Light(0.0, (0.95, 0.50, 0.38), 0.27),
    "night": Light(0.10, (0.10, 0.12, 0.34), 0.58),
}
# Lamps are lit indoors, so evening and night are milder there.
INDOOR_LIGHTS: dict[str, Light] = {
    "sunny": Light(0.0, (1.0, 0.97, 0.85), 0.05),
    "sunset": Light(0.0, (0.98, 0.58, 0.36), 0.24),
    "night": Light(0.05, (0.20, 0.19, 0.42), 0.42),
}
_SNOW = (0.93, 0.95, 0.98)


@dataclass(frozen=True)
class Stage:
    """Where a place is drawn: a painter, a weather and a source of chance."""

    painter: Brush
    weather: str
    rng: random.Random
    indoor: bool = False

    @property
    def light(self) -> Light:
        """The light of this stage's weather."""
        return (INDOOR_LIGHTS if self.indoor else LIGHTS)[self.weather]

    def tone(self, lightness: float, chroma: float, hue: float, jitter: float = 6.0) -> RGB:
        """A lit OKLCH colour, its hue shifted by up to `jitter` degrees."""
        return self.light.on(oklch(lightness, chroma, hue + self.rng.uniform(-jitter, jitter)))

    def ground(self, lightness: float, chroma: float, hue: float, jitter: float = 6.0) -> RGB:
        """A lit colour of something snow lies on."""
        return mix(self.tone(lightness, chroma, hue, jitter), _SNOW, self.light.snow)

    def plant(self, lightness: float, chroma: float, hue: float) -> RGB:
        """A lit colour of leaves, straw or stones: only dusted with snow."""
        return mix(self.tone(lightness, chroma, hue), _SNOW, 0.4 * self.light.snow)

    def near(self, low: float, high: float) -> float:
        """A uniform number in [low, high]."""
        return self.rng.uniform(low, high)

    def fill(
        self, path: skia.Path, color: RGB, *, outline: bool = True, alpha: float = 1.0
    ) -> None:
        """Fill a background shape."""
        self.painter.fill(path, color, outline=outline, alpha=alpha)

    def soft(self, path: skia.Path, color: RGB, alpha: float = 1.0) -> None:
        """Fill a background detail that no style outlines."""
        self.painter.fill(path, color, outline=False, alpha=alpha)

    def line(self, path: skia.Path, color: RGB, width: float, alpha: float = 1.0) -> None:
        """Stroke a background detail."""
        self.painter.line(path, color, width, alpha=alpha)


def boxes(rects: Iterable[Box], radius: float = 0.0) -> skia.Path:
    """One path of many rectangles: a single draw call for windows, books or tiles of one colour."""
    path = skia.Path()
    for x0, y0, x1, y1 in rects:
        rect = skia.Rect.MakeLTRB(x0, y0, x1, y1)
        if radius:
            path.addRoundRect(rect, radius, radius)
        else:
            path.addRect(rect)
    return path


def dots(centres: Iterable[tuple[float, float, float]], squash: float = 1.0) -> skia.Path:
    """One path of many discs (x, y, radius), flattened vertically by `squash`."""
    path = skia.Path()
    for x, y, r in centres:
        path.addOval(skia.Rect.MakeLTRB(x - r, y - r * squash, x + r, y + r * squash))
    return path


def strokes(lines: Iterable[Sequence[tuple[float, float]]]) -> skia.Path:
    """One open path of many polylines."""
    path = skia.Path()
    for points in lines:
        path.addPoly([skia.Point(x, y) for x, y in points], False)
    return path


def land(stage: Stage, y: float, swell: float, color: RGB, *, outline: bool = True) -> None:
    """Rolling ground from around height `y` down to the bottom edge."""
    xs = (-14.0, 18.0, 50.0, 82.0, 112.0, 142.0)
    ridge = [(x, y + stage.near(-swell, swell)) for x in xs]
    path = smooth(ridge, closed=False)
    path.lineTo(142.0, 140.0)
    path.lineTo(-14.0, 140.0)
    path.close()
    stage.fill(path, color, outline=outline)


def round_tree(stage: Stage, x: float, y: float, size: float, hue: float = 140.0) -> None:
    """A leafy tree standing at (x, y), about `size` units tall."""
    trunk = stage.tone(0.50, 0.06, 55.0)
    stage.fill(boxes([(x - 0.07 * size, y - 0.45 * size, x + 0.07 * size, y)]), trunk)
    leaf = stage.plant(0.60, 0.10, hue)
    top = y - 0.68 * size
    crown = [
        (x + dx * size, top + dy * size)
        for dx, dy in (
            (-0.34, 0.12),
            (-0.27, -0.18),
            (0.0, -0.32),
            (0.27, -0.18),
            (0.34, 0.12),
            (0.0, 0.26),
        )
    ]
    stage.fill(smooth(crown), leaf)
    stage.soft(
        ellipse(x - 0.1 * size, top - 0.1 * size, 0.13 * size, 0.1 * size),
        mix(leaf, (1.0, 1.0, 0.8), 0.22),
    )


def pine(stage: Stage, x: float, y: float, size: float) -> None:
    """A three-tier conifer standing at (x, y)."""
    stage.soft(
        boxes([(x - 0.05 * size, y - 0.2 * size, x + 0.05 * size, y)]), stage.tone(0.42, 0.05, 50.0)
    )
    green = mix(stage.tone(0.48, 0.08, 158.0), _SNOW, 0.35 * stage.light.snow)
    tiers = [(-0.12, -0.52, 0.30), (-0.34, -0.76, 0.24), (-0.58, -1.0, 0.17)]
    for i, (low, high, half) in enumerate(tiers):
        tier = [
            (x - half * size, y + low * size),
            (x, y + high * size),
            (x + half * size, y + low * size),
        ]
        stage.fill(polygon(tier), mix(green, (1.0, 1.0, 1.0), 0.06 * i))


def bush(stage: Stage, x: float, y: float, size: float, color: RGB) -> None:
    """A low round bush whose foot is at (x, y)."""
    hump = [
        (x - size, y),
        (x - 0.8 * size, y - 0.5 * size),
        (x - 0.2 * size, y - 0.85 * size),
        (x + 0.5 * size, y - 0.7 * size),
        (x + size, y - 0.1 * size),
        (x, y + 0.1 * size),
    ]
    stage.fill(smooth(hump), color)


def flower_bed(
    stage: Stage,
    spots: Sequence[tuple[float, float]],
    size: float,
    hues: Sequence[float],
) -> None:
    """Five-petal flowers at `spots`, their hues taken in turn."""
    stems = strokes([((x, y), (x, y + 3.0 * size)) for x, y in spots])
    stage.line(stems, stage.tone(0.55, 0.11, 140.0), 1.0)
    ring = ((0.0, -1.0), (0.95, -0.3), (0.6, 0.8), (-0.6, 0.8), (-0.95, -0.3))
    for i, hue in enumerate(hues):
        mine = spots[i :: len(hues)]
        petals = [(x + dx * size, y + dy * size, 0.85 * size) for x, y in mine for dx, dy in ring]
        stage.soft(dots(petals), stage.tone(0.80, 0.11, hue))
    stage.soft(dots([(x, y, 0.8 * size) for x, y in spots]), stage.tone(0.88, 0.13, 95.0))
