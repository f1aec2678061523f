"""The story tab: the desk on the left, the pictures on the right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from pydantic import ValidationError

from consistent_gen.client.types import LibraryCharacterIn
from consistent_gen.draw_settings import BEST_OF, MEND, USUAL_MEND
from consistent_gen.errors import ConsistentGenError, InputError
from ui.board import missing_line
from ui.frame_panel import FramePanel
from ui.idea_box import IdeaBox
from ui.keeping import question
from ui.marks import marked_scenes
from ui.markup import board_html
from ui.messages import readable, tell
from ui.state import MAX_TITLE, Draft, new_seed, write_script
from ui.story_actions import StoryActions, StoryView, read_form
from ui.wiring import arrived, html_part, plain_html, setting_slider, slider_of, uploaded, wire

# A page that is left before its last words are saved leaves them to the next one in the same tab.
TAKE_UNSAVED = "(project) => [project, sessionStorage.getItem('studio-unsaved') || '']"
# Where the columns lie below each other, the pictures would be out of sight. Not smoothly: the
# board changes at the same moment, and that ends a smooth scroll.
SHOW_BOARD = """(...inputs) => {
  if (matchMedia('(max-width: 900px)').matches)
    setTimeout(() => document.querySelector('#status').scrollIntoView({ block: 'start' }), 250);
  return inputs;
}"""


@dataclass
class StoryTab:
    """The components of the tab that others (reload, other tabs) also write to."""

    actions: StoryActions
    project: gr.BrowserState

    def __post_init__(self) -> None:
        self.index = gr.State(-1)
        self.unsaved = gr.Textbox(visible=False)
        with gr.Row(equal_height=False, elem_classes="story-columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="column-desk"):
                self._make_desk()
            with gr.Column(scale=7, min_width=320, elem_classes="column-board"):
                self._make_board()
                self.panel = FramePanel(self.actions, self.project, self.index, self.script)
        self._wire()

    # Layout -------------------------------------------------------------------------------------
    def _make_desk(self) -> None:
        with gr.Column(elem_classes="paper-card open-row"):
            with gr.Row():
                self.title = gr.Textbox(
                    label="Title", max_length=MAX_TITLE, elem_id="story-title", max_lines=1,
                    min_width=140,
                )  # fmt: skip
                self.library = gr.Dropdown(
                    [], value=None, label="Open an example or a story", elem_id="open-story",
                    filterable=False, interactive=True, min_width=140,
                )  # fmt: skip
            with gr.Row(elem_classes="desk-tools"):
                self.undo = _tool("Undo", "undo")
                self.redo = _tool("Redo", "redo")
                self.new = _tool("New", "new-story")
                self.idea = IdeaBox()
                self.duplicate = _tool("Duplicate", "duplicate-story")
                self.delete = _tool("Delete", "delete-story")
                self.bring = gr.UploadButton(
                    "Import", file_types=[".yaml", ".yml", ".zip", ".json", ".jsonl", ".txt"],
                    type="filepath", size="sm", elem_id="import-story", min_width=44,
                )  # fmt: skip
            self.idea.make_box()
        self.script = html_part(
            "script_editor", "desk", elem_id="script", library=[], styles=[], assigned={}, marks={}
        )
        with gr.Accordion("Style and settings", open=False, elem_classes="paper-card settings"):
            with gr.Row():
                self.style = gr.Dropdown([""], value="", label="Style", min_width=120)
                self.method = gr.Dropdown([""], value="", label="Method", min_width=120)
            self.steps = setting_slider("steps", "steps")
            self.best_of = slider_of(
                BEST_OF, 1, "best-of", "Each picture is drawn so often. Kept is the one that shows "
                "your words and is most like the others. It takes as many times as long.",
            )  # fmt: skip
            self.mend = slider_of(
                MEND, USUAL_MEND, "mend", "So often at most the first picture of a character is "
                "drawn again when it shows a hat, a crown, a bow or a sad or angry face that you "
                "did not ask for.",
            )  # fmt: skip
            with gr.Row(elem_classes="seed-row"):
                self.seed = gr.Textbox(
                    label="Seed", max_lines=1, max_length=20, buttons=["copy"], elem_id="seed",
                    placeholder="new each time", min_width=120, scale=2,
                )  # fmt: skip
                self.dice = gr.Button("New seed", size="sm", min_width=100, scale=1)
            self.locked = gr.Checkbox(
                label="Keep this seed for the next drawing", elem_id="lock", container=False
            )

    def _make_board(self) -> None:
        with gr.Row(elem_classes="draw-row"):
            self.draw = gr.Button("Draw", variant="primary", elem_id="draw", scale=3, min_width=90)
            self.redraw = gr.Button(
                "Draw changes", elem_id="redraw", visible=False, scale=1, min_width=120
            )
            self.cancel = gr.Button(
                "Cancel", variant="stop", elem_id="cancel", visible=False, scale=1, min_width=90
            )
            self.retry = gr.Button(
                "Try again", elem_id="retry", visible=False, scale=1, min_width=90
            )
        self.status = plain_html(status_html("Nothing is drawn yet."), elem_id="status")
        self.board = plain_html(clicks=True, elem_id="board")

    # Wiring -------------------------------------------------------------------------------------
    @property
    def fields(self) -> list[Any]:
        """What a draft is read from, in the order of `read_form`."""
        return [
            self.script, self.title, self.style, self.method, self.steps, self.seed, self.locked,
            self.best_of, self.mend,
        ]  # fmt: skip

    @property
    def shown(self) -> list[Any]:
        """What a view is shown in, in the order of `show`."""
        return [self.board, self.status, self.cancel, self.retry, self.redraw, self.draw]

    def _wire(self) -> None:
        here = [self.project, *self.fields]
        panel = self.panel
        changed = (
            self.script.edited, self.style.input, self.method.input, self.locked.input,
            self.title.input, self.seed.input, self.steps.release,
            self.best_of.release, self.mend.release,
        )  # fmt: skip
        for event in changed:
            wire(event, self.keep, here, [self.script], trigger_mode="always_last")
        wire(self.script.picture, self._picture, here, [self.script])
        rolled = wire(self.dice.click, lambda: (new_seed(), True), [], [self.seed, self.locked])
        wire(rolled.then, self.keep, here, [self.script])
        self._wire_edits(here)
        wire(
            self.library.input, self._open, [self.project, self.library],
            [*self.fields, *self.shown, self.index, *panel.outputs],
        )  # fmt: skip
        drawn = wire(
            self.draw.click, self._draw, [*here, self.index],
            [self.seed, self.index, *self.shown, *panel.outputs, self.script], stream=True,
            js=SHOW_BOARD,
            trigger_mode="multiple",  # a press counts, even just before an earlier one has ended
        )  # fmt: skip
        again = wire(
            self.redraw.click, self._redraw, [*here, self.index], [*self.shown, self.script],
            stream=True, trigger_mode="multiple",
        )  # fmt: skip
        tried = wire(self.retry.click, self._retry, [self.project, self.index], self.shown,
                     stream=True)  # fmt: skip
        wire(self.cancel.click, self._cancel, [self.project], [self.status])
        shows = [self.index, self.board, self.status, *panel.outputs]
        # A click counts, even just before an earlier one on the board has ended.
        wire(self.board.pick, self._pick, [self.project], shows, trigger_mode="multiple")
        panel.wire_reroll(self.shown, self.show)
        once_more = wire(self.board.again, self._again, [self.project, self.index], self.shown,
                         stream=True, trigger_mode="multiple")  # fmt: skip
        wire(drawn.then, self._choices, [self.project], [self.library])
        for done in (drawn, again, tried, once_more, panel.rerolled, panel.part_drawn):
            wire(done.then, panel.print_page, [self.project, panel.layout], [panel.page])
        for done in (again, tried, once_more):
            wire(done.then, panel.open, [self.project, self.index], panel.outputs)

    def _wire_edits(self, here: list[Any]) -> None:
        """Buttons that put something else on the desk: what was being typed is saved first."""
        desk = self.actions.desk
        out = [*self.fields, *self.shown, self.index, *self.panel.outputs, self.library]
        for button, step in ((self.undo, desk.undo), (self.redo, desk.redo)):
            # Every press counts, so what a browser shows may lie behind: it is not saved then.
            done = wire(button.click, self._edited(step), here, out, in_order=True,
                        trigger_mode="multiple")  # fmt: skip
            wire(done.then, self._marked, self.fields, [self.script], trigger_mode="always_last")
        for button, edit in (
            (self.new, desk.begin), (self.duplicate, desk.duplicate), (self.delete, self._delete),
        ):  # fmt: skip
            done = wire(button.click, self._edited(edit), here, out)
            wire(done.then, self.keep, here, [self.script])
        self.idea.wire(self, here, out)
        brought = wire(self.bring.upload, self._bring_in, [*here, self.bring], out)
        wire(brought.then, self.keep, here, [self.script])

    # Handlers -----------------------------------------------------------------------------------
    def restore(self, known: object, unsaved: object = None) -> Iterator[tuple[Any, ...]]:
        """Everything on the tab for a browser that comes (back); then what still draws. `unsaved`:
        JSON of the desk that the page before was left with.
        """
        project, _ = self.actions.project(known)
        if isinstance(unsaved, str) and unsaved:
            project = self.actions.adopt(project, unsaved)
        model = self.actions.studio.model()
        draft = self.actions.draft(project)
        story = self.actions.story(project.id)
        styles = [("as the words say", ""), *[(name, name) for name in model.styles]]
        methods = [(f"usual ({model.default_method})", ""), *[(m, m) for m in model.methods]]
        head = (
            project.id,
            self._choices(project.id),
            gr.HTML(write_script(draft), library=self.actions.studio.shelf(), styles=model.styles),
            draft.title,
            gr.update(choices=styles, value=draft.style),
            gr.update(choices=methods, value=draft.method),
            draft.steps or model.steps,
            draft.seed,
            draft.locked,
            # What chooses knows the pictures of the story world only.
            gr.update(value=draft.best_of or 1, visible=model.words is not None),
            gr.update(value=self._mend(draft), visible=model.words is not None),
            gr.update(choices=model.layouts, value=story.layout if story else model.layouts[0]),
        )
        first = True
        for view in self.actions.resume(project.id):
            yield (*(head if first else skips(len(head))), *self.show(view))
            first = False

    @property
    def restored(self) -> list[Any]:
        """The outputs of `restore`."""
        return [self.project, self.library, *self.fields, self.panel.layout, *self.shown]

    def show(self, view: StoryView, index: int = -1) -> tuple[Any, ...]:
        """Updates of `shown` for a view."""
        html = board_html(view.board, self.actions.studio.picture, index if index >= 0 else None)
        return (
            html,
            status_html(f"{view.status} {missing_line(view.board)}".strip(), busy=view.busy),
            gr.update(visible=view.busy),
            gr.update(visible=view.can_retry),
            gr.update(visible=view.board.done > 0 and not view.busy),
            gr.update(interactive=not view.busy),
        )

    def keep(self, project: str, *fields: Any) -> Any:
        """Save the desk; what is to be said stands at the scenes and characters it is about."""
        marks = self.actions.keep(project, read_form(*fields))
        return gr.HTML(marks=marks | {"serial": serial_of(fields[0])})

    def _marked(self, *fields: Any) -> Any:
        """What is to be said of the desk that a browser shows; nothing is saved."""
        marks = self.actions.desk.marks(read_form(*fields))
        return gr.HTML(marks=marks | {"serial": serial_of(fields[0])})

    def _edited(self, edit: Callable[[str], Draft]) -> Callable[..., tuple[Any, ...]]:
        def run(project: str, *fields: Any) -> tuple[Any, ...]:
            self.actions.desk.leave(project, read_form(*fields))
            return self.put_there(project, edit(project))

        return run

    def put_there(self, project: str, draft: Draft) -> tuple[Any, ...]:
        """Updates of everything on the tab for what was put on the desk."""
        story = self.actions.story(project)
        view = self.actions.view(story.id if story else "")
        return (*self._lay_out(draft), *self.show(view), -1, *self.panel.show_nothing(),
                self._choices(project))  # fmt: skip

    def _delete(self, project: str) -> Draft:
        draft = self.actions.desk.delete(project)
        tell("Deleted. Undo brings it back; its pictures are kept for an hour.")
        return draft

    def _bring_in(self, project: str, *fields: Any) -> tuple[Any, ...]:
        *desk, file = fields
        self.actions.desk.put(project, read_form(*desk))
        draft, notes = self.actions.desk.bring_in(project, arrived(file))
        tell("\n".join([f"“{draft.title}” lies on the desk.", *notes[:6]]))
        return self.put_there(project, draft)

    def _open(self, project: str, what: str | None) -> tuple[Any, ...]:
        draft, view = self.actions.open(project, what or "")
        return (*self._lay_out(draft), *self.show(view), -1, *self.panel.show_nothing())

    def _mend(self, draft: Draft) -> int | None:
        """What the form shows; nothing for a model whose pictures nobody looks at."""
        usual = None if self.actions.studio.model().words is None else USUAL_MEND
        return usual if draft.mend is None else draft.mend

    def _lay_out(self, draft: Draft) -> tuple[Any, ...]:
        steps = draft.steps or self.actions.studio.model().steps
        return (write_script(draft), draft.title, draft.style, draft.method, steps, draft.seed,
                draft.locked, draft.best_of or 1, self._mend(draft))  # fmt: skip

    def _draw(self, project: str, *fields: Any) -> Iterator[tuple[Any, ...]]:
        *desk, _ = fields
        draft = read_form(*desk)
        nothing = (-1, *self.panel.show_nothing())
        try:
            for drawn, view in self.actions.draw(project, draft):
                index, *panel = nothing
                yield (drawn.seed, index, *self.show(view), *panel, gr.skip())
                nothing = skips(1 + len(self.panel.outputs))
        except (ConsistentGenError, ValidationError) as error:
            told, marks = self._trouble(draft, error)
            yield (*skips(2), *told, *skips(len(self.panel.outputs)), marks)

    def _redraw(self, project: str, *fields: Any) -> Iterator[tuple[Any, ...]]:
        *desk, index = fields
        draft = read_form(*desk)
        try:
            for view in self.actions.draw_changes(project, draft):
                yield (*self.show(view, index), gr.skip())
        except (ConsistentGenError, ValidationError) as error:
            told, marks = self._trouble(draft, error)
            yield (*told, marks)

    def _trouble(self, draft: Draft, error: Exception) -> tuple[tuple[Any, ...], Any]:
        """Why nothing is drawn, above the board and at the scenes: it stays until it is mended."""
        marks = self.actions.desk.marks(draft)
        scenes = marked_scenes(marks)
        what = f"scene{'s' if len(scenes) > 1 else ''} {', '.join(map(str, scenes))}"
        text = f"Not drawn; see {what}." if scenes else "Not drawn."
        told = status_html(f"{text}\n{readable(error)}", trouble=True)
        return (gr.skip(), told, *skips(len(self.shown) - 2)), gr.HTML(marks=marks)

    def _retry(self, project: str, index: int) -> Iterator[tuple[Any, ...]]:
        for view in self.actions.retry(project):
            yield self.show(view, index)

    def _again(self, project: str, selected: int, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        """Draw one picture again with a new seed."""
        for view in self.actions.reroll(project, _index(event, "again"), "", ""):
            yield self.show(view, selected)

    def _cancel(self, project: str) -> str:
        count = self.actions.cancel(project)
        return status_html("Stopping…" if count else "Nothing is being drawn.", busy=bool(count))

    def _pick(self, project: str, event: gr.EventData) -> tuple[Any, ...]:
        index = _index(event, "frame")
        if index < 0:
            view = self.actions.all_there(project, _index(event, "there"))
            return (gr.skip(), *self.show(view)[:2], *skips(len(self.panel.outputs)))
        story = self.actions.story(project)
        view = self.actions.view(story.id if story else "")
        return (index, *self.show(view, index)[:2], *self.panel.open(project, index))

    def _choices(self, project: str) -> Any:
        return gr.update(choices=self.actions.choices(project), value=self.actions.opened(project))

    def _picture(self, event: gr.EventData, project: str, *fields: Any) -> Any:
        """A reference picture for a card: the character moves into the library with it."""
        client = self.actions.studio.client
        draft = read_form(*fields)
        index = int(getattr(event, "index", -1))
        if not 0 <= index < len(draft.cast):
            raise InputError("That character is gone; add the picture again.")
        card = draft.cast[index]
        if not card.name or not card.description:
            raise InputError("Give the character a name and say what it looks like first.")
        data, kind = uploaded(getattr(event, "path", ""))
        home = card.library
        if not home:
            wish = LibraryCharacterIn(name=card.name, description=card.description)
            home = client.create_character(wish).id
        quality = client.add_reference(home, data, kind).quality
        said = [f"The picture of {card.name} is {quality.verdict}.", *quality.advice]
        tell(" ".join([*said, question(client, client.character(home))]).strip())
        assigned = {"index": index, "name": card.name, "library": home}
        return gr.HTML(library=self.actions.studio.shelf(), assigned=assigned)


def status_html(text: str, *, busy: bool = False, trouble: bool = False) -> str:
    """The sentence above the board; screen readers hear it change."""
    spinner = '<span class="brush" aria-hidden="true"></span>' if busy else ""
    kind = " trouble" if trouble else ""
    words = "<br>".join(escape(line) for line in text.splitlines())
    return (
        f'<p class="studio-status{kind}" role="status" aria-live="polite">{spinner}'
        f"<span>{words}</span></p>"
    )


def serial_of(script: object) -> int:
    """Which state of the desk the browser has sent, counted by the browser."""
    serial = script.get("serial") if isinstance(script, Mapping) else None
    return serial if isinstance(serial, int) else 0


def _tool(label: str, elem_id: str) -> gr.Button:
    return gr.Button(label, size="sm", elem_id=elem_id, min_width=44)


def skips(count: int) -> tuple[Any, ...]:
    """`count` updates that change nothing."""
    return tuple(gr.skip() for _ in range(count))


def _index(event: gr.EventData, key: str) -> int:
    text = str(getattr(event, key, ""))
    return int(text) if text.isascii() and text.isdigit() else -1
