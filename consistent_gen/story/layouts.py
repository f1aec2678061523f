"""Page layouts by name, as data: `pages` arranges by them, `export_pages` draws.

Lengths are points, 1/72 inch; pages fit on A4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from consistent_gen.registry import unknown_name

RGB = tuple[int, int, int]
PAPER: RGB = (250, 246, 238)
WHITE: RGB = (255, 255, 255)
INK: RGB = (38, 34, 32)
NIGHT: RGB = (24, 22, 26)

A4_SHORT, A4_LONG = 595.0, 842.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a book is set.

    `columns` and `rows` are the most panels across and down a page; a short book gets larger
    panels, and a page that would be higher than `height` gets smaller ones. `border` is round
    (soft corners), ink (a comic's frame around picture and caption) or bleed (the picture runs to
    the page's edges). `caption_size` is that of letters under a panel of 230 points.
    """

    summary: str
    columns: int
    rows: int
    width: float = A4_SHORT
    height: float = A4_LONG
    margin: float = 40.0
    gap: float = 12.0
    border: Literal["round", "ink", "bleed"] = "ink"
    paper: RGB = WHITE
    ink: RGB = INK
    title_size: float = 30.0
    caption_size: float = 11.0
    cover: bool = False


LAYOUTS: dict[str, Layout] = {
    "grid": Layout(
        summary="a grid of pictures with captions below",
        columns=3,
        rows=4,
        gap=22.0,
        border="round",
        paper=PAPER,
    ),
    "comic4": Layout(summary="comic pages of two by two panels", columns=2, rows=2),
    "comic6": Layout(summary="comic pages of two by three panels", columns=2, rows=3),
    "strip": Layout(
        summary="newspaper strips of up to four panels, two to a page",
        columns=4,
        rows=2,
        width=A4_LONG,
        height=A4_SHORT,
        margin=36.0,
        gap=10.0,
        title_size=24.0,
    ),
    "splash": Layout(
        summary="one picture a page, up to the edges",
        columns=1,
        rows=1,
        margin=0.0,
        gap=0.0,
        border="bleed",
        paper=NIGHT,
        ink=PAPER,
        title_size=44.0,
        caption_size=14.0,
        cover=True,
    ),
    "picture-book": Layout(
        summary="a cover, then one picture a page with large words below",
        columns=1,
        rows=1,
        height=760.0,
        margin=64.0,
        border="round",
        paper=PAPER,
        title_size=46.0,
        caption_size=14.7,
        cover=True,
    ),
}
DEFAULT_LAYOUT = "comic4"


def layout_named(name: str) -> Layout:
    """The layout of that name.

    Raises:
        UnknownNameError: there is none; the message lists them.
    """
    if name not in LAYOUTS:
        raise unknown_name("layout", name, LAYOUTS)
    return LAYOUTS[name]
