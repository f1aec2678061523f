"""Draws shapes twice: once in colour (anti-aliased, in a style) and once as labels (the truth).

Everything is drawn in *world units*: the picture is 128 x 128 units whatever its size in pixels,
x to the right, y down. A label is an unsigned byte: 0 is the background, `label(subject, part)` a
part of a subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import skia
from numpy.typing import NDArray

from consistent_gen.world.palette import RGB, mix
from consistent_gen.world.styles import PIXEL_GRID, STYLE_TABLE, Pen, limit_colors
from consistent_gen.world.styles import UNITS as UNITS

# Parts of a subject in label order; "held" is what the action puts in its hands.
PARTS = ("skin", "face", "hair", "top", "bottom", "shoes", "accessory", "held")
# Lines thinner than this (units) are strokes of a pen themselves and get no contour.
_THIN = 2.4


def label(subject: int, part: str) -> int:
    """The label byte of `part` of subject number `subject` (0, 1 or 2)."""
    return 1 + subject * len(PARTS) + PARTS.index(part)


class Brush:
    """A colour canvas and a label canvas that share one transform.

    `style` is one of `spec.STYLES`; `seed` fixes grain and wobble. `tag=None` in a call means
    "leaves no label" (background, shadow, shine). `rng` is for callers; the style's own randomness
    is kept apart from it, so that a drawing takes the same course in every style.
    """

    def __init__(self, size: int, style: str, seed: int) -> None:
        self.size = size
        self.style = style
        self.rng = np.random.default_rng(seed)
        self._texture_rng = np.random.default_rng((seed, 1))
        self._look = STYLE_TABLE[style]
        self._side = PIXEL_GRID if style == "pixel" else size
        self._scale = 1.0  # of the current frame, relative to the picture
        self._strokes = 0
        self._front = False
        self._rgba = np.zeros((self._side, self._side, 4), dtype=np.uint8)
        self._label_rgba = np.zeros((size, size, 4), dtype=np.uint8)
        self._surface = skia.Surface(self._rgba, colorType=skia.kRGBA_8888_ColorType)
        self._labels = skia.Surface(self._label_rgba, colorType=skia.kRGBA_8888_ColorType)
        self.canvas = self._surface.getCanvas()
        self._label_canvas = self._labels.getCanvas()
        self.canvas.clear(skia.Color4f(*self._look.paper, 1.0))
        self._label_canvas.clear(skia.Color4f(0.0, 0.0, 0.0, 1.0))
        self.canvas.scale(self._side / UNITS, self._side / UNITS)
        self._label_canvas.scale(size / UNITS, size / UNITS)

    def fill(
        self,
        path: skia.Path,
        color: RGB,
        *,
        tag: int | None = None,
        outline: bool = True,
        alpha: float = 1.0,
    ) -> None:
        """Fill `path`. `tag` is a label byte, 0 to mark background, None to leave labels alone.

        `outline=False` says that styles with contour lines should not draw one here (blush, shine,
        pattern stripes, soft background detail). What is tagged, 0 or not, or drawn inside
        `foreground()`, gets stronger tones and lines in some styles. `alpha` in [0, 1] is opacity.
        """
        figure = self._front or tag is not None
        if outline and self._look.shadow:
            self._drop_shadow(path, None)
        self.canvas.drawPath(path, _paint(self._look.tone(color, figure), None, alpha))
        if outline and (pen := self._look.contour(color, figure)) is not None:
            self._contour(path, pen)
        if tag is not None:
            self._mark(path, tag, None)

    def line(
        self,
        path: skia.Path,
        color: RGB,
        width: float,
        *,
        tag: int | None = None,
        alpha: float = 1.0,
    ) -> None:
        """Stroke `path` with a round pen of `width` units and opacity `alpha`."""
        figure = self._front or tag is not None
        drawn = max(width, self._look.thinnest / self._scale)
        thick = drawn * self._scale >= _THIN
        pen = self._look.contour(color, figure)
        if thick and figure and self._look.shadow:
            self._drop_shadow(path, drawn)
        tone = self._look.tone(color, figure)
        if pen is not None and self.style == "neon" and not thick:
            tone = mix(pen.color, (1.0, 1.0, 1.0), 0.35) if figure else pen.color
        elif pen is not None and thick and figure:
            around = drawn + 2.0 * pen.width / self._scale
            self.canvas.drawPath(path, _paint(pen.color, around, pen.alpha))
        self.canvas.drawPath(path, _paint(tone, drawn, alpha))
        if tag is not None:
            self._mark(path, tag, width)

    def gradient(self, path: skia.Path, top: RGB, bottom: RGB, y0: float, y1: float) -> None:
        """Fill a background `path` with a vertical blend from `top` at `y0` to `bottom` at `y1`."""
        if self._look.bands:
            self._sheets(path, top, bottom, y0, y1)
            return
        paint = _paint((0.0, 0.0, 0.0))
        ends = [skia.Color4f(*self._look.tone(c, False), 1.0).toColor() for c in (top, bottom)]
        points = [skia.Point(0.0, y0), skia.Point(0.0, y1)]
        paint.setShader(skia.GradientShader.MakeLinear(points, ends))
        self.canvas.drawPath(path, paint)

    def _sheets(self, path: skia.Path, top: RGB, bottom: RGB, y0: float, y1: float) -> None:
        """A vertical blend cut into sheets of paper, each throwing its shadow on the one below."""
        count = self._look.bands
        self.fill(path, bottom, outline=False)
        with self.clipped(path):
            for i in range(count - 1, 0, -1):
                y = y0 + (y1 - y0) * i / count
                edge = [
                    (x, y + (2.4 if (k + i) % 2 else -2.4))
                    for k, x in enumerate(range(-40, 200, 24))
                ]
                sheet = smooth(edge, closed=False)
                sheet.lineTo(200.0, y0 - 100.0)
                sheet.lineTo(-40.0, y0 - 100.0)
                sheet.close()
                self._drop_shadow(sheet, None, 0.55)
                self.fill(sheet, mix(top, bottom, (i - 1) / (count - 1)), outline=False)

    def veil(self, color: RGB, alpha: float) -> None:
        """Tint the whole picture; styles take as much of it as suits them."""
        opacity = alpha * self._look.veil
        if opacity > 0.0:
            self.canvas.drawPaint(_paint(color, None, opacity))

    def _contour(self, path: skia.Path, pen: Pen) -> None:
        paint = _paint(pen.color, pen.width / self._scale, pen.alpha)
        extent = path.getBounds()
        if pen.wobble and max(extent.width(), extent.height()) * self._scale > 14.0:
            self._strokes += 1
            step, off = 7.0 / self._scale, pen.wobble / self._scale
            paint.setPathEffect(skia.DiscretePathEffect.Make(step, off, self._strokes))
        if pen.slip:
            dx, dy = self._texture_rng.uniform(-pen.slip, pen.slip, 2) / self._scale
            self.canvas.save()
            self.canvas.translate(dx, dy)
            self.canvas.drawPath(path, paint)
            self.canvas.restore()
        else:
            self.canvas.drawPath(path, paint)

    def _drop_shadow(self, path: skia.Path, width: float | None, depth: float = 1.0) -> None:
        """Two faint copies to the lower right: a penumbra and a core, cheaper than a blur."""
        matrix = self.canvas.getTotalMatrix()
        pixels = self._look.shadow * self._side / UNITS
        self.canvas.save()
        for share, alpha in ((1.0, 0.12), (0.6, 0.20)):
            moved = skia.Matrix.Translate(pixels * 0.7 * share, pixels * share)
            self.canvas.setMatrix(moved.preConcat(matrix))
            self.canvas.drawPath(path, _paint((0.10, 0.08, 0.16), width, depth * alpha))
        self.canvas.restore()

    def _mark(self, path: skia.Path, tag: int, width: float | None) -> None:
        gray = tag / 255.0
        paint = _paint((gray, gray, gray), width)
        paint.setAntiAlias(False)
        self._label_canvas.drawPath(path, paint)

    @contextmanager
    def moved(
        self,
        dx: float = 0.0,
        dy: float = 0.0,
        scale: float = 1.0,
        flip: bool = False,
        degrees: float = 0.0,
    ) -> Iterator[None]:
        """Draw inside a translated, then scaled (and mirrored), then rotated frame."""
        for canvas in (self.canvas, self._label_canvas):
            canvas.save()
            canvas.translate(dx, dy)
            canvas.scale(-scale if flip else scale, scale)
            canvas.rotate(degrees)
        outer, self._scale = self._scale, self._scale * scale
        try:
            yield
        finally:
            self._scale = outer
            for canvas in (self.canvas, self._label_canvas):
                canvas.restore()

    @contextmanager
    def foreground(self) -> Iterator[None]:
        """Draw figures and props: untagged details (eyes, patterns) look like tagged ones."""
        outer, self._front = self._front, True
        try:
            yield
        finally:
            self._front = outer

    @contextmanager
    def clipped(self, path: skia.Path) -> Iterator[None]:
        """Draw only inside `path` (garment patterns)."""
        for canvas in (self.canvas, self._label_canvas):
            canvas.save()
            canvas.clipPath(path, skia.ClipOp.kIntersect, canvas is self.canvas)
        try:
            yield
        finally:
            for canvas in (self.canvas, self._label_canvas):
                canvas.restore()

    def to_picture(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """Points of the current frame as picture coordinates in [0, 1], shape (n, 2), x then y."""
        matrix = self._label_canvas.getTotalMatrix()
        mapped = [matrix.mapXY(x, y) for x, y in points]
        return (
            np.array([(p.x(), p.y()) for p in mapped], dtype=np.float32).reshape(-1, 2) / self.size
        )

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The picture, uint8 (size, size, 3), and the labels, uint8 (size, size)."""
        rgb = self._rgba[..., :3]
        if self.style == "pixel":
            block = np.arange(self.size) * PIXEL_GRID // self.size
            rgb = limit_colors(np.ascontiguousarray(rgb))[block[:, None], block[None, :]]
        elif self._look.finish is not None:
            values = self._look.finish(rgb.astype(np.float32) / 255.0, self._texture_rng)
            rgb = np.clip(values * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
        return np.ascontiguousarray(rgb), self._label_rgba[..., 0].copy()


def _paint(color: RGB, width: float | None = None, alpha: float = 1.0) -> skia.Paint:
    paint = skia.Paint(AntiAlias=True, Color=skia.Color4f(*color, alpha))
    if width is not None:
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(width)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint


def polygon(points: Sequence[tuple[float, float]], closed: bool = True) -> skia.Path:
    """Straight-edged path through `points`."""
    path = skia.Path()
    path.addPoly([skia.Point(x, y) for x, y in points], closed)
    return path


def smooth(points: Sequence[tuple[float, float]], closed: bool = True) -> skia.Path:
    """Closed or open Catmull-Rom curve through `points`."""
    ring = [*points[-1:], *points, *points[:2]] if closed else [points[0], *points, points[-1]]
    path = skia.Path()
    path.moveTo(*points[0])
    x0, y0 = ring[0]
    x1, y1 = ring[1]
    x2, y2 = ring[2]
    for x3, y3 in ring[3:]:
        path.cubicTo(
            x1 + (x2 - x0) / 6, y1 + (y2 - y0) / 6, x2 - (x3 - x1) / 6, y2 - (y3 - y1) / 6, x2, y2
        )
        x0, y0, x1, y1, x2, y2 = x1, y1, x2, y2, x3, y3
    if closed:
        path.close()
    return path


def ellipse(cx: float, cy: float, rx: float, ry: float) -> skia.Path:
    """Axis-parallel ellipse."""
    path = skia.Path()
    path.addOval(skia.Rect.MakeLTRB(cx - rx, cy - ry, cx + rx, cy + ry))
    return path


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> skia.Path:
    """Rectangle with rounded corners."""
    path = skia.Path()
    path.addRoundRect(skia.Rect.MakeLTRB(x0, y0, x1, y1), radius, radius)
    return path
