"""Rows of panels: how wide they can be so that every page of a book holds its share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consistent_gen.story.book import Book, BookPanel
from consistent_gen.story.layouts import Layout
from consistent_gen.story.lettering import Lettering, TextBlock

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
