"""Under a drawn picture: one of its characters, or a box in it, is drawn again; the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageDraw

from consistent_gen.client.types import RedrawIn
from consistent_gen.errors import InputError
from ui.frames import Frames, FrameView
from ui.messages import tell
from ui.story_actions import StoryView
from ui.wiring import wire

BOX = "a box that I mark"
LEAST_BOX = 0.02  # of a side: less is a slip of the hand
_LINE = (220, 40, 40)

Corner = tuple[float, float]  # x, y in shares of the picture


class PartPanel:
    """The components and their events.

    Args:
        frames: of the panel that it is in. project, index: which frame is open.
    """

    def __init__(self, frames: Frames, project: gr.BrowserState, index: gr.State) -> None:
        self._frames = frames
        self._project, self._index = project, index
        self._corners, self._before = gr.State([]), gr.State(0)
        with gr.Accordion("Redraw a part", open=False, elem_id="part"):
            self.who = gr.Dropdown(
                [BOX], value=BOX, label="What is drawn again", elem_id="part-who"
            )
            self.picture = gr.Image(
                label="For a box, click two opposite corners", type="filepath", format="png",
                interactive=False, elem_id="part-picture", buttons=[],
                alt_text="The picture of which a part is drawn again",
            )  # fmt: skip
            with gr.Row():
                self.draw = gr.Button(
                    "Draw this part again", variant="primary", elem_id="part-draw"
                )
                self.undo = gr.Button("Undo", elem_id="part-undo", visible=False)
        wire(
            self.picture.select, self._mark, [project, index, self._corners],
            [self.picture, self._corners, self.who],
        )  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        """What a frame is shown in, in the order of `show`."""
        return [self.who, self.picture, self._corners, self.undo]

    def show(self, view: FrameView) -> tuple[Any, ...]:
        """Updates of `outputs`."""
        choices = [*view.cast, BOX]
        return (
            gr.update(choices=choices, value=choices[0]), view.picture, [], gr.update(visible=False)
        )  # fmt: skip

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

        def draw(
            project: str, index: int, who: str, corners: list[Corner]
        ) -> Iterator[tuple[Any, ...]]:
            wish = wish_of(who, corners)
            before = self._frames.counting(project, index)
            unchanged, drawn = tuple(gr.skip() for _ in panel), False
            for view in self._frames.actions.redraw(project, index, wish):
                there = self._frames.counting(project, index) != before
                if drawn or not there or view.board.busy:
                    yield (*show(view, index), *unchanged, before)
                    continue
                # At once, and not when all has been looked at: the next box may be marked by then.
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
            self.draw.click, draw, [*here, self.who, self._corners],
            [*shown, *panel, self._before], stream=True, trigger_mode="multiple",
        )  # fmt: skip

    def _mark(
        self, project: str, index: int, corners: list[Corner], event: gr.SelectData
    ) -> tuple[Any, ...]:
        """A click into the picture is a corner; the third begins anew."""
        path = self._frames.open(project, index).picture
        if path is None or not isinstance(event.index, list | tuple):
            raise InputError("Choose a picture that is drawn first.")
        with Image.open(Path(path)) as opened:
            picture = opened.convert("RGB")
        at = event.index[0] / picture.width, event.index[1] / picture.height
        corners = [*(corners if len(corners) < 2 else []), at]
        return marked(picture, corners), corners, BOX


def marked(picture: Image.Image, corners: list[Corner]) -> Image.Image:
    """The picture with the corners, or the box between them, drawn into it."""
    shown = picture.copy()
    pen = ImageDraw.Draw(shown)
    points = [(x * picture.width, y * picture.height) for x, y in corners]
    if len(points) == 2:
        (x0, x1), (y0, y1) = (sorted(side) for side in zip(*points, strict=True))
        pen.rectangle((x0, y0, x1, y1), outline=_LINE, width=2)
    else:
        for x, y in points:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_LINE)
    return shown


def wish_of(who: str, corners: list[Corner]) -> RedrawIn:
    """What is asked of the server.

    Raises:
        InputError: no box is marked, or next to none.
    """
    if who != BOX:
        return RedrawIn(character=who)
    if len(corners) < 2:
        raise InputError("Click two opposite corners of a box into the picture first.")
    (x0, x1), (y0, y1) = (sorted(side) for side in zip(*corners, strict=True))
    if x1 - x0 < LEAST_BOX or y1 - y0 < LEAST_BOX:
        raise InputError("The box is too small; click two corners that are farther apart.")
    return RedrawIn(box=[min(max(side, 0.0), 1.0) for side in (x0, y0, x1, y1)])
