"""Exports that show pages: PDF, comic archive, one PNG and a GIF of the panels in turn."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import skia
from PIL import Image

from consistent_gen.story.book import Book, BookPanel
from consistent_gen.story.bubbles import draw_bubbles, place_bubbles
from consistent_gen.story.export import archive
from consistent_gen.story.layouts import RGB, Layout, layout_named
from consistent_gen.story.lettering import Lettering
from consistent_gen.story.pages import NUMBER_SIZE, Box, Cell, Page, arrange, letter

SCREEN_DPI = 150.0
PRINT_DPI, FINEST_DPI = 200.0, 300.0
LONG_BOOK = 60  # panels from which pictures are kept smaller
LONG_BOOK_DPI = 120.0
MAX_PNG_PIXELS = 16_000_000
JPEG_QUALITY, PRINT_QUALITY = 92, 93
GIF_SIDES = ((24, 480), (80, 320), (math.inf, 240))  # up to so many panels: pixels of the width
GIF_CAPTION_SHARE = 0.3
GIF_SHORTEST_MS, GIF_LONGEST_MS, GIF_MS_PER_CHARACTER = 1600, 6000, 45


# PDF ----------------------------------------------------------------------------------------------
def pdf_of(book: Book) -> bytes:
    """A PDF with text that can be selected and searched; fonts are embedded."""
    lettering = letter(book)
    stream = skia.DynamicMemoryWStream()
    metadata = skia.PDF.Metadata()
    if book.stripped:
        metadata.fProducer = ""  # skia's own name otherwise
    else:
        metadata.fTitle = _printable(book.title)
        metadata.fSubject = _printable(book.made_with)
        metadata.fKeywords = "generated images"
        metadata.fCreator = metadata.fProducer = "consistent_gen"
    document = skia.PDF.MakeDocument(stream, metadata)
    dpi = _dpi(book, PRINT_DPI)
    for page in arrange(book, lettering):
        canvas = document.beginPage(page.width, page.height)
        paint_page(canvas, page, book, lettering, _PrintPictures(book, dpi))
        document.endPage()
    document.close()
    return bytes(stream.detachAsData())


def _dpi(book: Book, usual: float) -> float:
    """Of pages, a file each or together: finest for a fine book, less than usual for a long one."""
    if book.fine:
        return FINEST_DPI
    return usual if len(book.panels) < LONG_BOOK else LONG_BOOK_DPI


class _PrintPictures:
    """Pictures at a printer's resolution: photographs as JPEG, hard pixels without loss.

    Small pictures are enlarged here since viewers of PDF differ in how they smooth them.
    """

    def __init__(self, book: Book, dpi: float) -> None:
        self.book = book
        self.dpi = dpi

    def __call__(self, index: int, width: float, height: float) -> skia.Image:
        panel = self.book.panels[index]
        picture = panel.picture.convert("RGB")
        if panel.pixelated:
            times = max(1, round(pixels(width, self.dpi) / picture.width))
            size = (picture.width * times, picture.height * times)
            return _skia_image(picture.resize(size, Image.Resampling.NEAREST))
        least, most = pixels(width, self.dpi), pixels(width, FINEST_DPI)
        if not least <= picture.width <= most:
            across = min(max(picture.width, least), most)
            size = (across, max(1, round(across * picture.height / picture.width)))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        return skia.Image.MakeFromEncoded(skia.Data.MakeWithCopy(_jpeg(picture, PRINT_QUALITY)))


# Pages as pictures --------------------------------------------------------------------------------
def page_pictures(book: Book, dpi: float = SCREEN_DPI) -> Iterator[Image.Image]:
    """The pages of a book as RGB pictures, one after the other."""
    lettering = letter(book)
    for page in arrange(book, lettering):
        yield _page_picture(page, book, lettering, dpi)


def _page_picture(page: Page, book: Book, lettering: Lettering, dpi: float) -> Image.Image:
    scale = dpi / 72.0
    surface = skia.Surface(pixels(page.width, dpi), pixels(page.height, dpi))
    canvas = surface.getCanvas()
    canvas.clear(skia.Color(*layout_named(book.layout).paper))
    canvas.scale(scale, scale)

    def picture(index: int, width: float, height: float) -> skia.Image:
        panel = book.panels[index]
        resample = Image.Resampling.NEAREST if panel.pixelated else Image.Resampling.LANCZOS
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return _skia_image(panel.picture.convert("RGB").resize(size, resample))

    paint_page(canvas, page, book, lettering, picture)
    return _pillow_image(surface)


def cbz_of(book: Book) -> bytes:
    """A comic archive: numbered JPEG pages and a ComicInfo.xml."""
    dpi = _dpi(book, SCREEN_DPI)
    pages = [_jpeg(picture, JPEG_QUALITY) for picture in page_pictures(book, dpi)]
    files = {f"{number:03d}.jpg": data for number, data in enumerate(pages, start=1)}
    info = {} if book.stripped else {"ComicInfo.xml": _comic_info(book, len(pages))}
    return archive({**info, **files})


def _comic_info(book: Book, pages: int) -> bytes:
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<ComicInfo>",
        f"  <Title>{escape(_printable(book.title))}</Title>",
        f"  <Notes>{escape(_printable(book.made_with))}</Notes>",
        f"  <PageCount>{pages}</PageCount>",
        "</ComicInfo>",
        "",
    ]
    return "\n".join(lines).encode()


def png_of(book: Book) -> bytes:
    """All pages in one picture: one page alone, several in rows, smaller where they are many."""
    lettering = letter(book)
    pages = arrange(book, lettering)
    columns = 1 if len(pages) <= 2 else math.ceil(math.sqrt(len(pages)))
    rows = math.ceil(len(pages) / columns)
    width, height = pages[0].width, max(page.height for page in pages)
    total = columns * width * rows * height / 72.0**2
    dpi = min(FINEST_DPI if book.fine else SCREEN_DPI, math.sqrt(MAX_PNG_PIXELS / total) * 0.99)
    across, down = pixels(width, dpi), pixels(height, dpi)
    paper = layout_named(book.layout).paper
    sheet = Image.new("RGB", (columns * across, rows * down), paper)
    for i, page in enumerate(pages):
        place = (i % columns * across, i // columns * down)
        sheet.paste(_page_picture(page, book, lettering, dpi), place)
    return _png(sheet)


# GIF ----------------------------------------------------------------------------------------------
def gif_of(book: Book) -> bytes:
    """The panels in turn, with their words, for as long as reading takes; it loops."""
    lettering = letter(book)
    width = int(next(side for count, side in GIF_SIDES if len(book.panels) <= count))
    heights = [round(width * panel.picture.height / panel.picture.width) for panel in book.panels]
    tallest = min(max(heights), round(1.6 * width))
    band = round(GIF_CAPTION_SHARE * width) if any(p.caption for p in book.panels) else 0
    frames = [_gif_frame(book, i, lettering, width, tallest, band) for i in range(len(heights))]
    stream = io.BytesIO()
    frames[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[_reading_ms(book, i) for i in range(len(frames))],
        loop=0,
        optimize=False,
    )
    return stream.getvalue()


def _gif_frame(
    book: Book, index: int, lettering: Lettering, width: int, tallest: int, band: int
) -> Image.Image:
    layout = layout_named(book.layout)
    panel = book.panels[index]
    across, down = panel.picture.size
    scale = min(width / across, tallest / down)
    size = (max(1, round(across * scale)), max(1, round(down * scale)))
    surface = skia.Surface(width, tallest + band)
    canvas = surface.getCanvas()
    canvas.clear(skia.Color(*layout.paper))
    canvas.save()
    canvas.translate((width - size[0]) // 2, (tallest - size[1]) // 2)
    _draw_panel(canvas, panel, lettering, size)
    canvas.restore()
    if band:
        caption = lettering.fit(panel.caption, width * 0.92, band * 0.86, largest=width / 22,
                                smallest=9.0, color=layout.ink)  # fmt: skip
        caption.paint(canvas, (width - caption.width) / 2, tallest + (band - caption.height) / 2)
    # A frame may have 256 colours of its own; dithering would make plain areas swarm.
    return _pillow_image(surface).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _reading_ms(book: Book, index: int) -> int:
    panel = book.panels[index]
    letters = len(panel.caption) + sum(len(speech.text) for speech in panel.bubbles)
    return min(GIF_SHORTEST_MS + GIF_MS_PER_CHARACTER * letters, GIF_LONGEST_MS)


def panel_picture(panel: BookPanel, width: int) -> Image.Image:
    """One panel with its bubbles, `width` pixels wide, as an editor shows it."""
    lettering = Lettering([speech.text for speech in panel.bubbles])
    height = max(1, round(width * panel.picture.height / panel.picture.width))
    surface = skia.Surface(width, height)
    _draw_panel(surface.getCanvas(), panel, lettering, (width, height))
    return _pillow_image(surface)


def _draw_panel(
    canvas: skia.Canvas, panel: BookPanel, lettering: Lettering, size: tuple[int, int]
) -> None:
    resample = Image.Resampling.NEAREST if panel.pixelated else Image.Resampling.LANCZOS
    canvas.drawImage(_skia_image(panel.picture.convert("RGB").resize(size, resample)), 0, 0)
    canvas.clipRect(skia.Rect.MakeWH(*size))
    draw_bubbles(canvas, place_bubbles(panel.bubbles, lettering, *size))


# Pictures in and out ------------------------------------------------------------------------------
def _skia_image(picture: Image.Image) -> skia.Image:
    # MakeRasterData would share the bytes without keeping them alive.
    pixels_rgba = np.asarray(picture.convert("RGBA"))
    return skia.Image.fromarray(pixels_rgba, colorType=skia.kRGBA_8888_ColorType, copy=True)


def _pillow_image(surface: skia.Surface) -> Image.Image:
    array = surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)
    return Image.fromarray(array).convert("RGB")


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return stream.getvalue()


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:200])


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
