"""Start from an idea: a sentence fills the desk with a story to edit, and undo takes it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from consistent_gen.client.types import FEWEST_IDEA_FRAMES, MAX_IDEA, MOST_IDEA_FRAMES, IdeaIn
from consistent_gen.errors import InputError
from ui.messages import tell
from ui.state import CastCard, Draft, SceneCard, new_seed
from ui.story_actions import StoryActions, read_form
from ui.wiring import wire

if TYPE_CHECKING:
    from ui.story_tab import StoryTab

DEFAULT_FRAMES = 6
_MOST_NOTICES = 6


class IdeaBox:
    """A button among the desk's tools, and the box that it opens."""

    def __init__(self) -> None:
        self.open = gr.Button("Idea", size="sm", elem_id="from-idea", min_width=44)

    def make_box(self) -> None:
        """The box, hidden until it is asked for."""
        self.shown = gr.State(False)
        with gr.Column(visible=False, elem_id="idea-box") as self.box:
            self.idea = gr.Textbox(
                label="Start from an idea", max_length=MAX_IDEA, max_lines=2, elem_id="idea",
                placeholder="a shy fox finds a balloon",
            )  # fmt: skip
            with gr.Row():
                self.frames = gr.Slider(
                    FEWEST_IDEA_FRAMES, MOST_IDEA_FRAMES, value=DEFAULT_FRAMES, step=1,
                    label="Scenes", elem_id="idea-frames",
                )  # fmt: skip
                self.write = gr.Button("Write", elem_id="write-idea", scale=0, min_width=100)

    def wire(self, tab: StoryTab, here: list[Any], out: list[Any]) -> None:
        """here, out: inputs and outputs of the buttons that put something else on the desk."""

        def toggle(shown: bool) -> tuple[bool, Any]:
            return not shown, gr.update(visible=not shown)

        def write(project: str, *fields: Any) -> tuple[Any, ...]:
            *desk, idea, frames = fields
            tab.actions.desk.put(project, read_form(*desk))
            draft, notices = draft_of_idea(tab.actions, idea, frames)
            tab.actions.desk.put(project, draft, story="")
            tell("\n".join([f"“{draft.title}” lies on the desk.", *notices[:_MOST_NOTICES]]))
            return (*tab.put_there(project, draft), False, gr.update(visible=False))

        wire(self.open.click, toggle, [self.shown], [self.shown, self.box])
        asked = [*here, self.idea, self.frames]
        for event in (self.write.click, self.idea.submit):
            done = wire(event, write, asked, [*out, self.shown, self.box])
            wire(done.then, tab.keep, here, [tab.script])


def draft_of_idea(actions: StoryActions, idea: object, frames: object) -> tuple[Draft, list[str]]:
    """A story that tells `idea`, another one each time, and what of it cannot be drawn as said.

    Raises:
        InputError: there is no idea. ApiError: the server refuses it.
    """
    text = " ".join(str(idea or "").split())
    if not text:
        raise InputError("Say the idea in a sentence first, such as: a shy fox finds a balloon.")
    try:
        count = min(max(int(float(str(frames))), FEWEST_IDEA_FRAMES), MOST_IDEA_FRAMES)
    except ValueError:
        count = DEFAULT_FRAMES
    wish = IdeaIn(idea=text[:MAX_IDEA], frames=count, seed=int(new_seed()))
    written = actions.studio.client.write_story(wish)
    story = written.story
    draft = Draft(
        title=story.title,
        cast=tuple(CastCard(name, c.description) for name, c in story.characters.items()),
        scenes=tuple(SceneCard(f.prompt, caption=f.caption or "") for f in story.frames),
    )
    return draft, written.notices
