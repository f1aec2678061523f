"""A drawn story as something to hand out: pictures with captions and speech, and a page layout.

Plain values. `layouts` says how pages look, `export` turns a book into a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from consistent_gen.errors import InputError, LimitError
from consistent_gen.story.layouts import DEFAULT_LAYOUT, layout_named

if TYPE_CHECKING:
    from PIL import Image

STORY_FILE = "story.yaml"  # in a ZIP export
MAX_PANELS = 200
MAX_SPEECHES = 6
MAX_PICTURE_SIDE = 8192
MAX_BOOK_PIXELS = 512_000_000


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Something said or thought in a picture.

    `x`, `y` in [0, 1] are where the middle of the bubble should be, from the picture's left and
    top; `tail_x`, `tail_y` where its tail points (the speaker's mouth), or None for no tail. The
    bubble is moved as far as it must to stay inside the picture and off what the tail points at.
    """

    text: str
    x: float
    y: float
    tail_x: float | None = None
    tail_y: float | None = None
    thought: bool = False

    @property
    def target(self) -> tuple[float, float] | None:
        """What the tail points at, or None without a tail."""
        if self.tail_x is None or self.tail_y is None:
            return None
        return self.tail_x, self.tail_y


@dataclass(frozen=True, kw_only=True)
class BookPanel:
    """One picture of a book.

    `pixelated` keeps hard pixels when the picture is enlarged. `png` are the bytes of the frame's
    own file and `metadata` what it says about itself; both go into a ZIP export and nowhere else.
    """

    picture: Image.Image
    caption: str = ""
    bubbles: tuple[Speech, ...] = ()
    pixelated: bool = False
    metadata: Mapping[str, Any] | None = None
    png: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Book:
    """A story's pictures in order. `made_with` names model and method, for the file's properties;
    `story` is the text of its story file, where that may be handed on, and goes into a ZIP. `fine`:
    pages have 300 dots per inch. `stripped` files have no properties at all.

    Raises:
        UnknownNameError: there is no such layout.
        LimitError: more than `MAX_PANELS` panels, `MAX_SPEECHES` in one, or too many pixels.
        InputError: no panel, or a speech with places outside [0, 1].
    """

    title: str
    panels: tuple[BookPanel, ...]
    layout: str = DEFAULT_LAYOUT
    made_with: str = ""
    story: str | None = None
    fine: bool = False
    stripped: bool = False

    def bare(self) -> Book:
        """The same pictures, captions and speech, and nothing that is not shown."""
        panels = tuple(replace(panel, metadata=None, png=None) for panel in self.panels)
        return replace(self, panels=panels, made_with="", story=None, stripped=True)

    def __post_init__(self) -> None:
        layout_named(self.layout)
        if not self.panels:
            raise InputError("the story has no pictures yet; draw it first")
        if len(self.panels) > MAX_PANELS:
            raise LimitError(f"{len(self.panels)} pictures; a book holds at most {MAX_PANELS}")
        pixels = sum(panel.picture.width * panel.picture.height for panel in self.panels)
        if pixels > MAX_BOOK_PIXELS:
            raise LimitError(f"{pixels} pixels in all; a book holds at most {MAX_BOOK_PIXELS}")
        for number, panel in enumerate(self.panels, start=1):
            _check(panel, f"picture {number}")


def _check(panel: BookPanel, place: str) -> None:
    width, height = panel.picture.size
    if not (1 <= width <= MAX_PICTURE_SIDE and 1 <= height <= MAX_PICTURE_SIDE):
        raise LimitError(f"{place} is {width}x{height}; at most {MAX_PICTURE_SIDE} pixels a side")
    if len(panel.bubbles) > MAX_SPEECHES:
        raise LimitError(
            f"{place} has {len(panel.bubbles)} bubbles; at most {MAX_SPEECHES} fit into a picture"
        )
    for speech in panel.bubbles:
        if (speech.tail_x is None) != (speech.tail_y is None):
            raise InputError(f"{place}: a bubble's tail needs both tail_x and tail_y, or neither")
        for value in (speech.x, speech.y, *(speech.target or ())):
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InputError(f"{place}: a bubble's place is {value}; expected 0 to 1")
