"""Below the board: one frame with its versions and words, and the finished pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from ui.frames import FORMATS, Frames, FrameView
from ui.markup import keep_html, notices_html
from ui.messages import tell
from ui.part_panel import PartPanel
from ui.story_actions import StoryActions, StoryView
from ui.wiring import file_value, html_part, plain_html, wire


class FramePanel:
    """The components, and the events that concern nothing else."""

    def __init__(
        self, actions: StoryActions, project: gr.BrowserState, index: gr.State, script: gr.HTML
    ) -> None:
        self.frames = Frames(actions)
        self._project = project
        self._index = index
        self._script = script
        self.version = gr.State(0)
        with gr.Column(visible=False, elem_classes="paper-card frame-panel") as self.group:
            self._make_frame()
        self._make_pages()
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        """What a frame is shown in, in the order of `show`."""
        return [
            self.group, self.heading, self.compare, self.versions, self.prompt, self.seed,
            self.keep_seed, self.caption, self.speech, self.version, self.choose, self.cast,
            *self.part.outputs,
        ]  # fmt: skip

    # Layout -------------------------------------------------------------------------------------
    def _make_frame(self) -> None:
        self.heading = plain_html(elem_id="frame-heading")
        self.compare = plain_html(elem_id="compare")
        self.cast = plain_html(clicks=True, elem_id="keep")
        self.versions = gr.Gallery(
            label="All versions", columns=5, fit_columns=False, height="auto",
            format="png", allow_preview=False, interactive=False, object_fit="cover",
            elem_id="versions", buttons=["download_all"],
        )  # fmt: skip
        self.choose = gr.Button("Use the one beside it", elem_id="choose", size="sm", visible=False)
        self.prompt = gr.Textbox(
            label="What is in this picture", lines=2, max_length=800, elem_id="frame-prompt"
        )
        with gr.Row(elem_classes="seed-row"):
            self.seed = gr.Textbox(
                label="Seed of this picture", max_lines=1, max_length=20, buttons=["copy"],
                elem_id="frame-seed", scale=2, min_width=140,
            )  # fmt: skip
            self.reroll = gr.Button(
                "Draw only this again", variant="primary", elem_id="reroll", min_width=160, scale=2
            )
        self.keep_seed = gr.Checkbox(
            label="Draw it with this seed, not with a new one", container=False, elem_id="keep-seed"
        )
        self.part = PartPanel(self.frames, self._project, self._index)
        with gr.Accordion("Caption and speech", open=False, elem_id="words"):
            self.caption = gr.Textbox(label="Caption", max_length=600, elem_id="frame-caption")
            self.speech = html_part("speech_editor", "speech", elem_id="speech")
            self.save = gr.Button("Save the words", elem_id="save-words")

    def _make_pages(self) -> None:
        with gr.Accordion("The finished pages", open=True, elem_id="pages"):
            with gr.Row(elem_classes="layout-row"):
                self.layout = gr.Dropdown(
                    [""], value="", label="Page layout", elem_id="layout", min_width=160
                )
                self.look = gr.Button("Show the page", elem_id="show-page", min_width=150, scale=0)
            self.page = gr.Image(
                label="Page", type="filepath", format="png", interactive=False, elem_id="page",
                buttons=["download", "fullscreen"], visible=False,
                alt_text="The story as a printed page",
            )  # fmt: skip
            with gr.Row(elem_classes="export-row"):
                self.exports = {
                    kind: gr.Button(label, size="sm", elem_id=f"export-{kind}", min_width=110)
                    for label, kind in FORMATS.items()
                }
            self.large = gr.Checkbox(
                label="For printing: pictures of twice the size", container=False,
                elem_id="export-large",
            )  # fmt: skip
            self.unwritten = plain_html(elem_id="unwritten")
            self.file = gr.File(
                label="Ready to download", visible=False, interactive=False, elem_id="export-file"
            )

    # Wiring -------------------------------------------------------------------------------------
    def _wire(self) -> None:
        here = [self._project, self._index]
        wire(self.cast.pick, self._keep, [*here], [self._script])
        wire(self.versions.select, self._beside, here, [self.compare, self.version])
        wire(self.choose.click, self._choose, [*here, self.version], self.outputs).then(
            self.print_page, [self._project, self.layout], [self.page],
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
        said = [*here, self.caption, self.speech, self._script]
        wire(self.save.click, self._say, said, [*self.outputs, self._script]).then(
            self.print_page, [self._project, self.layout], [self.page],
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
        pages = [self._project, self.layout]
        wire(self.layout.input, self.print_page, pages, [self.page])
        wire(self.look.click, self._look, pages, [self.page])
        for kind, button in self.exports.items():
            wire(
                button.click,
                self._exporter(kind),
                [*pages, self.large],
                [self.file, self.unwritten],
            )

    def wire_reroll(
        self, shown: list[Any], show: Callable[[StoryView, int], tuple[Any, ...]]
    ) -> None:
        """Connect the buttons that draw one frame, or a part of it, again to the board above."""

        def draw(
            project: str, index: int, prompt: str, seed: str, keep: bool, script: object
        ) -> Iterator[tuple[Any, ...]]:
            actions = self.frames.actions
            unchanged = tuple(gr.skip() for _ in self.outputs)
            desk: Any = gr.skip()
            story = actions.story_of(project)
            views = actions.reroll(project, index, prompt, seed if keep else "")
            for number, view in enumerate(views):
                if number == 0 and (words := " ".join(prompt.split())):
                    desk = actions.write_down(project, script, index, prompt=words)
                yield (*show(view, index), *unchanged, desk)
                desk = gr.skip()
            if actions.has_open(project, story):
                yield (*show(actions.view(story), index), *self.open(project, index), gr.skip())

        self.rerolled = wire(
            self.reroll.click, draw,
            [
                self._project, self._index, self.prompt, self.seed, self.keep_seed, self._script,
            ],
            [*shown, *self.outputs, self._script], stream=True,
        )  # fmt: skip
        self.part_drawn = self.part.wire_drawing(self.outputs, self.open, shown, show)

    # Handlers -----------------------------------------------------------------------------------
    def show(self, view: FrameView) -> tuple[Any, ...]:
        """Updates of `outputs`."""
        drawn = bool(view.versions)
        heading = f"<h3>{view.heading}</h3>"
        speech = {"picture": file_value(view.picture), "bubbles": list(view.bubbles)}
        gallery = gr.update(value=list(view.versions) or None, visible=len(view.versions) > 1,
                            selected_index=None)  # fmt: skip
        return (
            gr.update(visible=view.index >= 0), heading, view.compare if drawn else "", gallery,
            view.prompt, view.seed, gr.skip(), view.caption, speech, view.beside,
            gr.update(visible=len(view.versions) > 1), keep_html(view.cast), *self.part.show(view),
        )  # fmt: skip

    def show_nothing(self) -> tuple[Any, ...]:
        """Updates of `outputs` that close the panel."""
        return self.show(FrameView())

    def open(self, project: str, index: int) -> tuple[Any, ...]:
        """Updates of `outputs` for a frame of the open story."""
        return self.show(self.frames.open(project, index))

    def print_page(self, project: str, layout: str) -> Any:
        """The page as it will be printed; hidden while nothing is drawn."""
        path = self.frames.page(project, layout)
        return gr.update(value=path, visible=path is not None)

    def _look(self, project: str, layout: str) -> Any:
        self.frames.actions.story_of(project)
        return self.print_page(project, layout)

    def _beside(self, project: str, index: int, event: gr.SelectData) -> tuple[str, int]:
        place = event.index if isinstance(event.index, int) else -1
        return self.frames.beside(project, index, place)

    def _keep(self, project: str, index: int, event: gr.EventData) -> Any:
        """The character whose button was pressed moves into the library."""
        tell(self.frames.keep_character(project, index, str(getattr(event, "portrait", ""))))
        return gr.HTML(library=self.frames.studio.shelf())

    def _choose(self, project: str, index: int, version: int) -> tuple[Any, ...]:
        return self.show(self.frames.choose(project, index, version))

    def _say(
        self, project: str, index: int, caption: str, speech: object, script: object
    ) -> tuple[Any, ...]:
        words = " ".join(caption.split())
        desk = self.frames.actions.write_down(project, script, index, caption=words)
        view = self.frames.say(project, index, caption, speech)
        tell("The words are saved.")
        return (*self.show(view), desk)

    def _exporter(self, kind: str) -> Callable[[str, str, bool], tuple[Any, str]]:
        def export(project: str, layout: str, large: bool) -> tuple[Any, str]:
            path = self.frames.export(project, kind, layout, large=large)
            notices = self.frames.unwritten(project) if kind != "zip" else []
            return gr.update(value=str(path), visible=True), notices_html(notices)

        return export
