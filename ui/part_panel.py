"""Under a drawn picture: one of its characters, or what is painted, is drawn again; the rest stays.

What is marked comes from the browser as strokes and boxes (`assets/mask_painter.js`), in shares of
the picture, and becomes a mask here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image, ImageDraw

from consistent_gen.client.types import RedrawIn
from consistent_gen.errors import InputError
from ui.frames import Frames, FrameView
from ui.messages import tell
from ui.story_actions import StoryView
from ui.wiring import file_value, html_part, wire

MARKED = "what I mark below"
ONLY = {"face": "{}: only face and hair", "body": "{}: all but face and hair"}
LEAST_BOX = 0.02  # of a side: less is a slip of the hand
MOST_MARKS, MOST_POINTS = 200, 6000  # in all, as the browser allows
TOOLS = ("brush", "eraser", "box")

Point = tuple[float, float]  # x, y in shares of the picture


@dataclass(frozen=True)
class Mark:
    """A stroke, or a box by two corners. width: of a stroke, as a share of the picture's."""

    tool: str
    points: tuple[Point, ...]
    width: float = 0.0

    @property
    def sides(self) -> tuple[float, float, float, float]:
        """Of a box: left, top, right, bottom."""
        (x0, x1), (y0, y1) = (sorted(side) for side in zip(*self.points, strict=True))
        return x0, y0, x1, y1


class PartPanel:
    """The components and their events.

    Args:
        frames: of the panel that it is in. project, index: which frame is open.
    """

    def __init__(self, frames: Frames, project: gr.BrowserState, index: gr.State) -> None:
        self._frames = frames
        self._project, self._index = project, index
        self._before = gr.State(0)
        with gr.Accordion("Redraw a part", open=False, elem_id="part"):
            self.who = gr.Dropdown(
                [MARKED], value=MARKED, label="What is drawn again", elem_id="part-who"
            )
            self.marks = html_part("mask_painter", "painter", elem_id="part-marks")
            with gr.Row():
                self.draw = gr.Button(
                    "Draw this part again", variant="primary", elem_id="part-draw"
                )
                self.undo = gr.Button("Undo", elem_id="part-undo", visible=False)
        wire(self.marks.pick, lambda: MARKED, [], [self.who])

    @property
    def outputs(self) -> list[Any]:
        """What a frame is shown in, in the order of `show`."""
        return [self.who, self.marks, self.undo]

    def show(self, view: FrameView) -> tuple[Any, ...]:
        """Updates of `outputs`."""
        choices = choices_of(view.cast)
        shown: dict[str, Any] = {"picture": file_value(view.picture), "marks": []}
        return gr.update(choices=choices, value=choices[0]), shown, gr.update(visible=False)

    def wire_drawing(
        self,
        panel: list[Any],
        open_frame: Callable[[str, int], tuple[Any, ...]],
        shown: list[Any],
        show: Callable[[StoryView, int], tuple[Any, ...]],
    ) -> Any:
        """Connect the buttons to the board above and the panel around; returns the drawing's event.

        panel, open_frame: the panel's outputs, these of the part among them, and their updates.
        """

        def draw(project: str, index: int, who: str, marks: object) -> Iterator[tuple[Any, ...]]:
            wish = self._wish(project, index, who, marks)
            before = self._frames.counting(project, index)
            unchanged, drawn = tuple(gr.skip() for _ in panel), False
            for view in self._frames.actions.redraw(project, index, wish):
                there = self._frames.counting(project, index) != before
                if drawn or not there or view.board.busy:
                    yield (*show(view, index), *unchanged, before)
                    continue
                # At once, and not when all has been looked at: the next part may be marked by then.
                drawn, updates = True, list(open_frame(project, index))
                updates[panel.index(self.undo)] = gr.update(visible=True)
                yield (*show(view, index), *updates, before)

        def undo(project: str, index: int, before: int) -> tuple[Any, ...]:
            self._frames.choose(project, index, before)
            tell("The picture is as it was.")
            view = self._frames.actions.view(self._frames.actions.story_of(project))
            return (*show(view, index), *open_frame(project, index))

        here = [self._project, self._index]
        wire(self.undo.click, undo, [*here, self._before], [*shown, *panel])
        return wire(
            self.draw.click, draw, [*here, self.who, self.marks],
            [*shown, *panel, self._before], stream=True, trigger_mode="multiple",
        )  # fmt: skip

    def _wish(self, project: str, index: int, who: str, marks: object) -> RedrawIn:
        """What is asked of the server; a mask is there before it is named."""
        view = self._frames.open(project, index)
        if view.picture is None:
            raise InputError("Choose a picture that is drawn first.")
        wish = wish_of(who, view.cast, read_marks(marks))
        if wish is not None:
            return wish
        with Image.open(view.picture) as opened:
            mask = painted(read_marks(marks), opened.size)
        stream = io.BytesIO()
        mask.save(stream, "PNG")
        return RedrawIn(mask=self._frames.studio.client.upload(stream.getvalue(), "image/png").id)


def choices_of(cast: Sequence[str]) -> list[str]:
    """What can be drawn again in a picture of these characters."""
    parts = [label.format(name) for name in cast for label in ("{}", *ONLY.values())]
    return [*parts, MARKED]


def wish_of(who: str, cast: Sequence[str], marks: Sequence[Mark]) -> RedrawIn | None:
    """What is asked of the server; None where it takes a mask.

    Raises:
        InputError: nothing is marked, or next to nothing.
    """
    for name in cast:
        if who == name:
            return RedrawIn(character=name)
        for only, label in ONLY.items():
            if who == label.format(name):
                return RedrawIn(character=name, only=only)  # type: ignore[arg-type]
    if all(mark.tool == "eraser" for mark in marks):
        raise InputError("Mark something in the picture first: paint over it, or draw a box.")
    if len(marks) > 1 or marks[0].tool != "box":
        return None
    x0, y0, x1, y1 = marks[0].sides
    if x1 - x0 < LEAST_BOX or y1 - y0 < LEAST_BOX:
        raise InputError("The box is too small; draw it from one corner to the opposite one.")
    return RedrawIn(box=[x0, y0, x1, y1])


def painted(marks: Sequence[Mark], size: tuple[int, int]) -> Image.Image:
    """The mask of a picture of size (width, height): white where it is marked.

    Raises:
        InputError: all of it was erased again.
    """
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    for mark in marks:
        fill = 0 if mark.tool == "eraser" else 255
        if mark.tool == "box":
            x0, y0, x1, y1 = mark.sides
            pen.rectangle((x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1]), fill=fill)
            continue
        points = [(x * size[0], y * size[1]) for x, y in mark.points]
        reach = max(mark.width * size[0] / 2, 0.5)
        pen.line(points, fill=fill, width=max(1, round(2 * reach)))
        for x, y in points:  # round ends and bends
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)
    if mask.getextrema() == (0, 0):
        raise InputError("Nothing is marked any more; paint over what shall be drawn again.")
    return mask


def read_marks(value: object) -> tuple[Mark, ...]:
    """What the browser sent.

    Raises:
        InputError: it is of another form, or more than can be marked.
    """
    given = value.get("marks") if isinstance(value, dict) else None
    if not isinstance(given, list) or len(given) > MOST_MARKS:
        raise InputError("What is marked did not arrive; mark it again.")
    marks = tuple(_mark(entry) for entry in given)
    if sum(len(mark.points) for mark in marks) > MOST_POINTS:
        raise InputError("What is marked did not arrive; mark it again.")
    return marks


def _mark(entry: Any) -> Mark:
    mark = entry if isinstance(entry, dict) else {}
    tool, points, width = (mark.get(key) for key in ("tool", "points", "width"))
    pairs = points if isinstance(points, list) and 1 <= len(points) <= MOST_POINTS else []
    good = tool in TOOLS and bool(pairs) and (tool != "box" or len(pairs) == 2)
    good &= all(isinstance(p, list) and len(p) == 2 and all(map(_is_share, p)) for p in pairs)
    if not good or (tool != "box" and not _is_share(width)):
        raise InputError("What is marked did not arrive; mark it again.")
    return Mark(str(tool), tuple((float(x), float(y)) for x, y in pairs), float(width or 0.0))


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0.0 <= value <= 1.0  # NaN is none
