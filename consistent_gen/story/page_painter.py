"""Draws arranged pages on a skia canvas: the same strokes for a PDF and for pictures of pages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import skia

from consistent_gen.story.book import Book
from consistent_gen.story.bubble_shapes import draw_bubbles
from consistent_gen.story.layouts import RGB, Layout, layout_named
from consistent_gen.story.lettering import Lettering
from consistent_gen.story.pages import NUMBER_SIZE, Box, Cell, Page

ACCENT: RGB = (222, 142, 92)
FRAME_WIDTH = 1.6
ROUNDING = 0.035  # of a picture's width

# What a picture looks like at that width and height in points, from its index in the book.
Pictures = Callable[[int, float, float], Any]


def paint_page(
    canvas: Any, page: Page, book: Book, lettering: Lettering, pictures: Pictures
) -> None:
    """Draw one page; a unit of the canvas is a point."""
    layout = layout_named(book.layout)
    canvas.drawRect(skia.Rect.MakeWH(page.width, page.height), _fill(layout.paper))
    title, box = page.title, page.title_box
    title.paint(canvas, box.x + (box.width - title.width) / 2, box.y)
    if page.ornament is not None:
        _dots(canvas, *page.ornament)
    for cell in page.cells:
        round_corners = page.cover or layout.border == "round"
        _cell(canvas, cell, layout, pictures, round_corners=round_corners)
    if page.number is not None:
        number = lettering.set(str(page.number), NUMBER_SIZE, 60.0, color=layout.ink)
        number.paint(canvas, page.width / 2 - 30.0, page.height - layout.margin * 0.42 - 8.0)


def _cell(
    canvas: Any, cell: Cell, layout: Layout, pictures: Pictures, *, round_corners: bool
) -> None:
    box = cell.picture
    canvas.save()
    if round_corners:
        radius = ROUNDING * box.width
        canvas.clipRRect(skia.RRect.MakeRectXY(_rect(box), radius, radius), doAntiAlias=True)
    else:
        canvas.clipRect(_rect(box))
    image = pictures(cell.index, box.width, box.height)
    canvas.drawImageRect(image, _rect(box), skia.SamplingOptions(skia.FilterMode.kLinear))
    canvas.translate(box.x, box.y)
    draw_bubbles(canvas, cell.bubbles)
    canvas.restore()
    cell.caption.paint(canvas, cell.caption_box.x, cell.caption_box.y)
    if layout.border == "ink":
        line = _stroke(layout.ink, FRAME_WIDTH)
        canvas.drawRect(_rect(cell.frame), line)
        if cell.rule is not None:
            right = cell.frame.x + cell.frame.width
            canvas.drawLine(cell.frame.x, cell.rule, right, cell.rule, line)


def _dots(canvas: Any, x: float, y: float) -> None:
    for place in (-1, 0, 1):
        canvas.drawCircle(x + 12 * place, y, 2.2 if place else 3.0, _fill(ACCENT))


def _rect(box: Box) -> Any:
    return skia.Rect.MakeXYWH(box.x, box.y, box.width, box.height)


def _fill(color: RGB) -> Any:
    return skia.Paint(Color=skia.Color(*color), AntiAlias=True)


def _stroke(color: RGB, width: float) -> Any:
    return skia.Paint(
        Color=skia.Color(*color),
        AntiAlias=True,
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=width,
    )


def pixels(points: float, dots_per_inch: float) -> int:
    """A length in points as whole pixels, at least one."""
    return max(1, math.ceil(points * dots_per_inch / 72.0 - 1e-6))
