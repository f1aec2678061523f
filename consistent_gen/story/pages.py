"""Where everything of a book stands on its pages: arithmetic only, nothing is drawn.

Panels of a page are of one width; pictures keep their shape and are never cropped or covered by
their captions. All content pages of a book are of one size, in points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from consistent_gen.story.book import Book, BookPanel
from consistent_gen.story.bubbles import PlacedBubble, place_bubbles
from consistent_gen.story.layouts import Layout, layout_named
from consistent_gen.story.lettering import NOTHING, Lettering, TextBlock

SMALLEST_CAPTION = 5.5
SMALLER, LARGER = 0.72, 1.5  # of a layout's letters, in narrow and in wide panels
CAPTION_SHARE = 0.6  # of a panel's width: the most height that a caption gets
CAPTION_LEAD = 8.0  # between a picture and its caption, and between caption and frame
BAND_LEAD = 20.0  # around the caption of a picture that bleeds
COMFORTABLE = 0.6  # of the greatest width of a panel, before a page gets fewer rows
TALLEST = 1.6  # a picture higher than this many widths is made narrower


@dataclass(frozen=True)
class PanelRow:
    """Panels side by side: their indices, sizes of pictures, captions and the room for both."""

    indices: tuple[int, ...]
    sizes: tuple[tuple[float, float], ...]
    captions: tuple[TextBlock, ...]
    picture_height: float
    caption_height: float

    @property
    def height(self) -> float:
        """Of pictures and captions together."""
        return self.picture_height + self.caption_height


@dataclass(frozen=True)
class Sheet:
    """The rows of one page, the width of its panels, and its share of the greatest width."""

    rows: Sequence[PanelRow]
    width: float
    share: float

    @property
    def is_comfortable(self) -> bool:
        """Whether panels are not much smaller than they could be, and no caption is cut."""
        cut = any(caption.cut for row in self.rows for caption in row.captions)
        return not cut and self.share >= COMFORTABLE


def fitted(
    book: Book, layout: Layout, lettering: Lettering, group: range, columns: int, room: float
) -> Sheet:
    """The panels of a page in rows of `columns`, as wide as the height `room` allows."""
    widest = (layout.width - 2 * layout.margin - (columns - 1) * layout.gap) / columns
    width = widest
    while True:
        rows = _rows(book, layout, lettering, group, columns, width)
        needed = stacked(rows, layout)
        if needed <= room or layout.border == "bleed":
            return Sheet(rows, width, width / widest)
        # Captions wrap anew, so the estimate may fall short and be made again.
        width *= min(0.97, max(0.5, room / needed))


def stacked(rows: Sequence[PanelRow], layout: Layout) -> float:
    """The height of rows above one another, with the gaps between them."""
    return sum(row.height for row in rows) + (len(rows) - 1) * layout.gap


def _rows(
    book: Book,
    layout: Layout,
    lettering: Lettering,
    group: range,
    columns: int,
    width: float,
) -> list[PanelRow]:
    rows = []
    for start in range(group.start, group.stop, columns):
        indices = tuple(range(start, min(start + columns, group.stop)))
        panels = [book.panels[i] for i in indices]
        sizes = tuple(picture_size(panel, width) for panel in panels)
        captions = tuple(_caption(panel, layout, lettering, width) for panel in panels)
        lead = caption_lead(layout)
        highest = max(caption.height for caption in captions)
        caption_height = highest + lead * (1 if layout.border == "round" else 2) if highest else 0.0
        rows.append(
            PanelRow(indices, sizes, captions, max(height for _, height in sizes), caption_height)
        )
    return rows


def caption_lead(layout: Layout) -> float:
    """The free height above a caption, and in frames and bands below it too."""
    return BAND_LEAD if layout.border == "bleed" else CAPTION_LEAD * layout.caption_size / 11.0


def picture_size(panel: BookPanel, width: float) -> tuple[float, float]:
    """Width and height of a picture in a panel of `width`; very tall ones are narrower."""
    across, down = panel.picture.size
    height = width * down / across
    if height <= TALLEST * width:
        return width, height
    return width * TALLEST * width / height, TALLEST * width


def _caption(panel: BookPanel, layout: Layout, lettering: Lettering, width: float) -> TextBlock:
    inner = width - (0.0 if layout.border == "round" else 2 * caption_lead(layout))
    largest = layout.caption_size * min(LARGER, max(SMALLER, width / 230.0))
    return lettering.fit(
        panel.caption,
        inner,
        CAPTION_SHARE * width,
        largest=largest,
        smallest=min(SMALLEST_CAPTION, largest),
        color=layout.ink,
    )


SMALLEST_TITLE = 13.0
LOWEST = 0.6  # of its width: the least height of a page
NUMBER_SIZE = 8.0
ORNAMENT_HEIGHT = 26.0


@dataclass(frozen=True)
class Box:
    """A rectangle by its left upper corner and size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Cell:
    """A panel on a page. `frame` goes around picture and caption, with a line at the height `rule`
    between them when there is a caption; bubbles count from `picture`.
    """

    index: int
    picture: Box
    frame: Box
    caption: TextBlock
    caption_box: Box
    bubbles: tuple[PlacedBubble, ...] = ()
    rule: float | None = None


@dataclass(frozen=True)
class Page:
    """One page; `number` is printed when it is not None, `ornament` is the middle of the dots."""

    width: float
    height: float
    cells: tuple[Cell, ...]
    title: TextBlock = NOTHING
    title_box: Box = Box(0.0, 0.0, 0.0, 0.0)
    ornament: tuple[float, float] | None = None
    number: int | None = None
    cover: bool = False


def letter(book: Book) -> Lettering:
    """The fonts that all texts of a book need."""
    speech = (speech.text for panel in book.panels for speech in panel.bubbles)
    return Lettering([book.title, "0123456789", *(panel.caption for panel in book.panels), *speech])


def arrange(book: Book, lettering: Lettering) -> list[Page]:
    """The pages of a book, first the cover when its layout has one."""
    layout = layout_named(book.layout)
    columns = _columns(layout, len(book.panels))
    title = NOTHING if layout.cover else _title(book, layout, lettering)
    head = 0.0 if title is NOTHING else _head(title, layout)
    sheets = _sheets(book, layout, lettering, columns, head)
    height = _page_height(layout, sheets, head)
    pages = []
    for number, sheet in enumerate(sheets, start=1):
        top = head if number == 1 else 0.0
        title_box, cells = _page(book, layout, lettering, sheet, height, top)
        has_dots = top > 0.0 and layout.border == "round"
        page = Page(
            layout.width,
            height,
            cells,
            title=title if top else NOTHING,
            title_box=title_box,
            ornament=_under(title_box) if has_dots else None,
            number=number if len(sheets) > 1 and layout.border != "bleed" else None,
        )
        pages.append(page)
    if layout.cover:
        pages.insert(0, _cover(book, layout, lettering, height))
    return pages


def _sheets(
    book: Book, layout: Layout, lettering: Lettering, columns: int, head: float
) -> list[Sheet]:
    """The panels of every page; where words need much room, pages have fewer rows."""
    sheets: list[Sheet] = []
    room = layout.height - 2 * layout.margin
    for most_rows in range(layout.rows, 0, -1):
        sheets = [
            fitted(book, layout, lettering, group, columns, room - (0.0 if group.start else head))
            for group in _groups(len(book.panels), columns, most_rows)
        ]
        if all(sheet.is_comfortable for sheet in sheets):
            break
    return sheets


def _columns(layout: Layout, count: int) -> int:
    if layout.columns == 3 and count == 4:
        return 2  # a square rather than a row with a lone panel below it
    return min(layout.columns, count)


def _groups(count: int, columns: int, most_rows: int) -> list[range]:
    """The panels of each page: full rows, nearly as many on each; the title's has fewer."""
    rows = -(-count // columns)
    pages = -(-rows // most_rows)
    groups, start = [], 0
    for page in range(pages):
        rows_here = rows // pages + (page >= pages - rows % pages)
        stop = min(start + rows_here * columns, count)
        groups.append(range(start, stop))
        start = stop
    return groups


def _title(book: Book, layout: Layout, lettering: Lettering) -> TextBlock:
    width = layout.width - 2 * max(layout.margin, 40.0)
    return lettering.fit(
        book.title,
        width,
        2.6 * layout.title_size,
        largest=layout.title_size,
        smallest=SMALLEST_TITLE,
        color=layout.ink,
    )


def _head(title: TextBlock, layout: Layout) -> float:
    """The height that a title takes above the first row."""
    return title.height + (ORNAMENT_HEIGHT + 14.0 if layout.border == "round" else 16.0)


def _under(title: Box) -> tuple[float, float]:
    return title.x + title.width / 2, title.y + title.height + ORNAMENT_HEIGHT / 2 + 2.0


def _page_height(layout: Layout, sheets: Sequence[Sheet], head: float) -> float:
    """That of the layout; a book of one page, or of pictures that bleed, is as high as it needs."""
    needed = [stacked(sheet.rows, layout) for sheet in sheets]
    needed[0] += head
    if layout.border == "bleed":
        return max(*needed, LOWEST * layout.width)  # a cover needs some height, too
    if len(sheets) > 1 or layout.cover:
        return layout.height
    return needed[0] + 2 * layout.margin


# Places -------------------------------------------------------------------------------------------
def _page(
    book: Book,
    layout: Layout,
    lettering: Lettering,
    sheet: Sheet,
    height: float,
    head: float,
) -> tuple[Box, tuple[Cell, ...]]:
    """The title's box and the cells of a page, in the middle of the height when room is left."""
    rows, width = sheet.rows, sheet.width
    spare = max(height - head - stacked(rows, layout) - 2 * layout.margin, 0.0)
    top = layout.margin + spare * (0.0 if layout.border == "bleed" else 0.45)
    title_width = layout.width - 2 * max(layout.margin, 40.0)
    title_box = Box((layout.width - title_width) / 2, top, title_width, max(head - 16.0, 0.0))
    if layout.border == "round" and head:
        title_box = Box(title_box.x, top, title_width, head - ORNAMENT_HEIGHT - 14.0)
    y = top + head
    cells: list[Cell] = []
    for row in rows:
        used = len(row.indices) * width + (len(row.indices) - 1) * layout.gap
        x = (layout.width - used) / 2
        for place in range(len(row.indices)):
            cells.append(_cell(book, layout, lettering, row, place, Box(x, y, width, row.height)))
            x += width + layout.gap
        y += row.height + layout.gap
    return title_box, tuple(cells)


def _cell(
    book: Book, layout: Layout, lettering: Lettering, row: PanelRow, place: int, frame: Box
) -> Cell:
    across, down = row.sizes[place]
    picture = Box(
        frame.x + (frame.width - across) / 2,
        frame.y + (row.picture_height - down) / 2,
        across,
        down,
    )
    caption = row.captions[place]
    lead = caption_lead(layout)
    free = row.caption_height - caption.height
    # In a frame words stand in the middle of their part; else all of a row start at one height.
    drop = free / 2 if layout.border == "ink" else lead
    caption_box = Box(
        frame.x + (frame.width - caption.width) / 2,
        frame.y + row.picture_height + drop,
        caption.width,
        caption.height,
    )
    index = row.indices[place]
    bubbles = place_bubbles(book.panels[index].bubbles, lettering, across, down)
    rule = frame.y + row.picture_height if caption.height else None
    if not caption.height:  # beside panels with words, one without is lower, not half empty
        frame = Box(frame.x, frame.y, frame.width, row.picture_height)
    return Cell(index, picture, frame, caption, caption_box, bubbles, rule)


def _cover(book: Book, layout: Layout, lettering: Lettering, height: float) -> Page:
    """The title over the first picture, which is shown without words."""
    title = _title(book, layout, lettering)
    typical = median(panel.picture.height / panel.picture.width for panel in book.panels)
    size = picture_size(book.panels[0], min(0.62 * layout.width, 0.5 * height / max(typical, 0.2)))
    room = height - title.height - 2 * ORNAMENT_HEIGHT - 48.0
    size = (size[0] * min(1.0, room / size[1]), min(size[1], room))
    total = title.height + 2 * ORNAMENT_HEIGHT + size[1]
    top = max((height - total) * 0.42, 24.0)
    inner = layout.width - 2 * max(layout.margin, 40.0)
    title_box = Box((layout.width - inner) / 2, top, inner, title.height)
    picture = Box(
        (layout.width - size[0]) / 2, top + title.height + 2 * ORNAMENT_HEIGHT, size[0], size[1]
    )
    cell = Cell(0, picture, picture, NOTHING, picture)
    ornament = (layout.width / 2, top + title.height + ORNAMENT_HEIGHT)
    return Page(layout.width, height, (cell,), title, title_box, ornament, cover=True)
