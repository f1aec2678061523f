"""The personas tab: character cards, mended, talked with, audited and drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from consistent_gen.client import ApiError
from consistent_gen.client.persona_lab import CardFields, CardMendIn, CardOut, TalkOut
from consistent_gen.client.types import LibraryCharacter
from consistent_gen.errors import ConsistentGenError, InputError
from ui.board import Board
from ui.messages import tell
from ui.persona_markup import (
    TalkPicture,
    audit_html,
    cards_html,
    drift_html,
    issues_html,
    persona_html,
    report_html,
    talk_html,
)
from ui.state import CastCard, Draft, SceneCard
from ui.story_actions import read_form
from ui.story_tab import StoryTab
from ui.studio import Studio
from ui.style import script
from ui.wiring import MAX_UPLOAD_BYTES, arrived, plain_html, wire

AUDIT_PAUSE_S = 1.0
PICTURE_PAUSE_S, PICTURE_S = 0.7, 240.0  # how often and how long a picture is waited for
QUESTIONS = 12
# Field of a card -> (its label, lines).
FIELDS: Mapping[str, tuple[str, int]] = {
    "name": ("Name", 1),
    "description": ("Who it is", 5),
    "personality": ("Character", 2),
    "scenario": ("Where and when", 2),
    "first_mes": ("First message", 2),
    "mes_example": ("Example of how it talks", 2),
}


class PersonasTab:
    """Components and handlers of the tab. `chosen` holds the id of the open card."""

    def __init__(self, studio: Studio, story: StoryTab, tabs: gr.Tabs) -> None:
        self.studio = studio
        self.story = story
        self.tabs = tabs
        self.chosen = gr.State("")
        with gr.Row(equal_height=False, elem_classes="story-columns"):
            with gr.Column(scale=5, min_width=320):
                self._make_shelf()
                self._make_talk()
                self._make_audit()
            with gr.Column(scale=7, min_width=320):
                self._make_form()
        with gr.Column(visible=False, elem_id="report-part") as self.report_part:
            plain_html("<h3>Report</h3>")
            self.report = gr.HTML(
                js_on_load=script("report"), apply_default_css=False, padding=False,
                elem_id="audit-report",
            )  # fmt: skip
            self.kept_report = gr.File(label="The report as a file", interactive=False)
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        """What a card is shown in, in the order of `show`."""
        return [
            self.chosen, self.shelf, self.open_part, self.talk_part, self.audit_part, self.heading,
            *self.fields.values(), *self.said.values(), self.general, self.persona, self.looks,
            self.talk, self.drift, self.audit, self.read, self.sure, self.file, self.report_part,
            self.report,
        ]  # fmt: skip

    # Layout -------------------------------------------------------------------------------------
    def _make_shelf(self) -> None:
        plain_html("<h3>Cards</h3>")
        self.shelf = plain_html(clicks=True, elem_id="cards")
        self.bring = gr.UploadButton(
            "Import a card", file_types=[".png", ".json", ".charx"], type="filepath",
            elem_id="import-card", variant="primary",
        )  # fmt: skip

    def _make_talk(self) -> None:
        with gr.Column(visible=False, elem_classes="paper-card") as self.talk_part:
            plain_html("<h3>Talk</h3>")
            self.talk = plain_html(elem_id="persona-talk")
            with gr.Row(elem_classes="say-row"):
                self.line = gr.Textbox(
                    label="Say something", max_length=4000, elem_id="persona-say", scale=5,
                    min_width=160, placeholder="Who are you?",
                )  # fmt: skip
                self.say = gr.Button("Say it", elem_id="persona-say-it", scale=1, min_width=90)
            self.draw_self = gr.Button("Draw yourself like this", elem_id="persona-draw", size="sm")
            self.drift = plain_html(elem_id="persona-drift")
            self.anew = gr.Button("Begin the talk anew", elem_id="talk-anew", size="sm")

    def _make_audit(self) -> None:
        with gr.Column(visible=False, elem_classes="paper-card") as self.audit_part:
            plain_html("<h3>Audit</h3>")
            self.audit = plain_html(elem_id="persona-audit")
            with gr.Row():
                self.run = gr.Button("Audit the persona", elem_id="audit-run", min_width=160)
                self.read = gr.Button(
                    "Open the report", visible=False, elem_id="open-report", min_width=160
                )

    def _make_form(self) -> None:
        self.fields: dict[str, gr.Textbox] = {}
        self.said: dict[str, gr.HTML] = {}
        with gr.Column(visible=False, elem_classes="paper-card form-card") as self.open_part:
            self.heading = plain_html(elem_id="card-heading")
            self.general = plain_html(elem_id="card-issues")
            for name, (label, lines) in FIELDS.items():
                self.fields[name] = gr.Textbox(
                    label=label, lines=lines, max_lines=60, elem_id=f"card-{name}"
                )
                self.said[name] = plain_html(elem_id=f"issues-{name}")
            self.save = gr.Button("Save and check again", variant="primary", elem_id="mend-card")
            self.persona = plain_html(elem_id="card-persona")
            self.looks = gr.Textbox(
                label="Looks like", lines=2, max_length=400, elem_id="persona-looks",
                info="What pictures are drawn from. Begin with the noun: “a girl with …”.",
                placeholder="a girl with red hair and a green coat",
            )  # fmt: skip
            with gr.Row():
                self.draw = gr.Button("Begin a story with this persona", elem_id="persona-story")
            with gr.Row():
                self.json = gr.Button("Export as JSON", elem_id="export-card", min_width=110)
                self.png = gr.Button("Export as PNG", elem_id="export-card-png", min_width=110)
                self.delete = gr.Button("Delete", elem_id="delete-card", min_width=80)
            self.sure = gr.Button(
                "Delete for good, with its talk and audit", variant="stop", visible=False,
                elem_id="delete-card-sure",
            )  # fmt: skip
            self.file = gr.File(label="Ready to download", visible=False, interactive=False)

    # Wiring -------------------------------------------------------------------------------------
    def _wire(self) -> None:
        out, here = self.outputs, [self.chosen]
        wire(self.shelf.pick, self.pick, [], out)
        wire(self.bring.upload, self.bring_in, [self.bring], out)
        wire(self.save.click, self.mend, [*here, *self.fields.values()], out)
        wire(self.delete.click, lambda: gr.update(visible=True), [], [self.sure])
        wire(self.sure.click, self.remove, here, out)
        wire(self.json.click, self.hand_out, here, [self.file])
        wire(self.png.click, self.hand_out_png, here, [self.file])
        spoken = [self.talk, self.line, self.drift]
        for event in (self.line.submit, self.say.click):
            wire(event, self.speak, [*here, self.line, self.looks], spoken, stream=True)
        wire(
            self.draw_self.click, self.portrait, [*here, self.line, self.looks], spoken,
            stream=True,
        )  # fmt: skip
        wire(self.anew.click, self.begin_anew, here, spoken)
        measured = [self.audit, self.run, self.read]
        wire(self.run.click, self.measure, here, measured, stream=True)
        wire(
            self.read.click,
            self.open_report,
            here,
            [self.report_part, self.report, self.kept_report],
        )
        story = self.story
        desk = [
            *story.fields, *story.shown, story.index, *story.panel.outputs, story.library,
        ]  # fmt: skip
        drawn = wire(
            self.draw.click, self.into_story,
            [*here, self.looks, story.project, *story.fields], [*desk, self.tabs],
        )  # fmt: skip
        kept = wire(drawn.then, story.keep, [story.project, *story.fields], [story.script])
        wire(kept.then, lambda: gr.HTML(library=self.studio.shelf()), [], [story.script])

    # Handlers: cards ----------------------------------------------------------------------------
    def show(self, card: CardOut | None) -> tuple[Any, ...]:
        """Updates of `outputs` for a card; None shows the shelf alone."""
        shelf = cards_html(self.studio.client.cards().cards, card.id if card else "")
        hidden = gr.update(visible=False)
        if card is None:
            return ("", shelf, hidden, hidden, hidden, "", *[""] * (2 * len(FIELDS)), "", "", "",
                    "", "", "", hidden, hidden, hidden, hidden, "")  # fmt: skip
        talk, audit = self.studio.client.talk(card.id), self.studio.client.audit(card.id)
        known = {name: [i for i in card.issues if i.place == name] for name in FIELDS}
        others = [issue for issue in card.issues if issue.place not in FIELDS]
        there = gr.update(visible=True)
        told = gr.update(visible=audit.state == "succeeded")
        return (
            card.id, shelf, there, there, there, self._heading(card),
            *(getattr(card.fields, name) for name in FIELDS),
            *(issues_html(known[name]) for name in FIELDS),
            issues_html(others, places=True), persona_html(card), _looks(card),
            talk_html(talk, pictures=self._pictures(talk)), drift_html(talk), audit_html(audit),
            told, hidden, hidden, hidden, "",
        )  # fmt: skip

    def _heading(self, card: CardOut) -> str:
        count = sum(issue.severity == "error" for issue in card.issues)
        words = f"{count} thing{'' if count == 1 else 's'} to mend before anybody talks"
        state = f'<p class="trouble">{words}.</p>' if count else ""
        return f"<h3>Read and mend</h3>{state}"

    def arrive(self, chosen: str) -> tuple[Any, ...]:
        """The shelf as it is now. What is being typed into the form of the open card stays; without
        one, the newest card is opened.
        """
        cards = self.studio.client.cards().cards
        if chosen in [one.id for one in cards]:
            return (chosen, cards_html(cards, chosen), *(gr.skip() for _ in self.outputs[2:]))
        return self.show(self.studio.client.card(cards[-1].id) if cards else None)

    def pick(self, event: gr.EventData) -> tuple[Any, ...]:
        """Open the card that was pressed."""
        return self.show(self.studio.client.card(str(getattr(event, "card", ""))))

    def bring_in(self, file: str | None) -> tuple[Any, ...]:
        """Import a card."""
        path = arrived(file)
        if path.stat().st_size > MAX_UPLOAD_BYTES:
            raise InputError(f"Choose a card of at most {MAX_UPLOAD_BYTES >> 20} MiB.")
        card = self.studio.client.create_card(path.read_bytes())
        tell(f"{card.fields.name} is here.")
        return self.show(card)

    def mend(self, chosen: str, *texts: str) -> tuple[Any, ...]:
        """Save what was changed in the form; the validator looks again."""
        was = self._card(chosen).fields
        given = dict(zip(FIELDS, texts, strict=True))
        changed = {name: text for name, text in given.items() if text != getattr(was, name)}
        if not changed:
            tell("Nothing was changed.")
        elif not given["name"].strip():
            raise InputError("A persona needs a name.")
        card = self.studio.client.mend_card(chosen, CardMendIn(**changed))
        if changed:
            errors = sum(issue.severity == "error" for issue in card.issues)
            tell("Saved. Something is still to mend." if errors else "Saved.")
        return self.show(card)

    def remove(self, chosen: str) -> tuple[Any, ...]:
        """Delete the open card with its talk and its audit."""
        self.studio.client.delete_card(chosen)
        return self.arrive("")

    def hand_out(self, chosen: str) -> Any:
        """The open card as a JSON file."""
        data = self.studio.client.export_card(chosen)
        return self._download(chosen, "card.json", data)

    def hand_out_png(self, chosen: str) -> Any:
        """The open card in the picture that it came in."""
        if not self._card(chosen).picture:
            raise InputError("This card came without a picture; export it as JSON.")
        return self._download(chosen, "png", self.studio.client.export_card(chosen, "png"))

    def _download(self, chosen: str, suffix: str, data: bytes) -> Any:
        path = self.studio.pictures.export(self._card(chosen).fields.name, suffix, data)
        return gr.update(value=str(path), visible=True)

    # Handlers: talking and measuring ------------------------------------------------------------
    def speak(self, chosen: str, text: str, looks: str) -> Iterator[tuple[Any, ...]]:
        """Say a line; it is shown at once, then the answer with the drift line. A picture that the
        persona draws of itself comes when it is there.
        """
        yield from self._speak(chosen, text.strip(), text, looks)

    def portrait(self, chosen: str, text: str, looks: str) -> Iterator[tuple[Any, ...]]:
        """Ask the persona for a picture of itself as the line says."""
        yield from self._speak(chosen, f"Draw yourself {text.strip()}".strip(), text, looks)

    def _speak(self, chosen: str, words: str, text: str, looks: str) -> Iterator[tuple[Any, ...]]:
        """text: what stands in the box, which comes back where nothing was answered."""
        if not words:
            return
        before: TalkOut = self.studio.client.talk(self._card(chosen).id)
        known = self._pictures(before)
        yield talk_html(before, words, known), "", gr.skip()
        try:
            told = " ".join(looks.split())[:400] or None
            talk = self.studio.client.talk_with_card(chosen, words, looks=told)
        except ConsistentGenError:
            yield talk_html(before, "", known), text, gr.skip()  # what was typed is not lost
            raise
        yield talk_html(talk, pictures=self._pictures(talk)), gr.skip(), drift_html(talk)
        end = time.monotonic() + PICTURE_S if talk.turns[-1].story else 0.0
        while time.monotonic() < end:
            time.sleep(PICTURE_PAUSE_S)
            pictures = self._pictures(talk)
            last = pictures.get(len(talk.turns) - 1)
            if last is None or not last.busy:
                yield talk_html(talk, pictures=pictures), gr.skip(), gr.skip()
                return

    def _pictures(self, talk: TalkOut) -> dict[int, TalkPicture]:
        """By number of a turn its picture; pictures of deleted stories are left out."""
        found: dict[int, TalkPicture] = {}
        boards: dict[str, Board] = {}
        for number, turn in enumerate(talk.turns):
            if turn.story is None or turn.frame is None:
                continue
            try:
                if turn.story not in boards:
                    story = self.studio.client.story(turn.story)
                    boards[turn.story] = self.studio.load_board(story)
            except ApiError as error:
                if error.status != 404:
                    raise
                continue
            cells = boards[turn.story].cells
            if turn.frame < len(cells):
                cell = cells[turn.frame]
                path = self.studio.picture(cell.picture) if cell.state == "done" else None
                found[number] = TalkPicture(path=path, busy=cell.busy, problem=cell.error)
        return found

    def begin_anew(self, chosen: str) -> tuple[Any, ...]:
        """Forget the talk."""
        self.studio.client.forget_talk(self._card(chosen).id)
        return talk_html(None), "", ""

    def measure(self, chosen: str) -> Iterator[tuple[Any, ...]]:
        """Start an audit and wait for it."""
        self._card(chosen)
        now = self.studio.client.audit_card(chosen, QUESTIONS)
        while now.state in ("queued", "running"):
            yield audit_html(now), gr.update(interactive=False), gr.update(visible=False)
            time.sleep(AUDIT_PAUSE_S)
            now = self.studio.client.audit(chosen)
        done = gr.update(visible=now.state == "succeeded")
        yield audit_html(now), gr.update(interactive=True), done

    def open_report(self, chosen: str) -> tuple[Any, ...]:
        """The report below, and as a file to keep."""
        page = self.studio.client.audit_report(self._card(chosen).id)
        return (
            gr.update(visible=True),
            report_html(page),
            self._download(chosen, "audit.html", page),
        )

    # Handlers: drawing --------------------------------------------------------------------------
    def into_story(self, chosen: str, looks: str, project: str, *form: Any) -> tuple[Any, ...]:
        """A new story with the persona, who is in the library from then on; what lies on the desk
        is kept, and undo brings it back.
        """
        words = " ".join(looks.split())
        if not words:
            raise InputError("Say what the persona looks like first.")
        story = self.studio.client.card_story(chosen, looks=words)
        ((name, character),) = story.characters.items()
        one = self._resident(chosen, name, words)
        cast = (CastCard(one.name, one.description or character.description, one.id, one.strength),)
        scenes = tuple(SceneCard(prompt=frame.prompt) for frame in story.frames)
        actions = self.story.actions
        actions.desk.leave(project, read_form(*form))
        draft = Draft(title=story.title, cast=cast, scenes=scenes)
        actions.desk.put(project, draft, story="")
        tell(f"A story with {one.name} lies on the desk: change the scenes, then press Draw.")
        return (*self.story.put_there(project, draft), gr.Tabs(selected="story"))

    def _resident(self, chosen: str, name: str, looks: str) -> LibraryCharacter:
        """The persona as a character of the library; one of that name is taken as it is."""
        for one in self.studio.client.characters().characters:
            if one.name.casefold() == name.casefold():
                if one.description != looks:
                    tell(f"{one.name} is in the library already, and is drawn as it says there.")
                return one
        return self.studio.client.card_character(chosen, looks=looks)

    def _card(self, chosen: str) -> CardOut:
        if not chosen:
            raise InputError("Import a card first, or choose one.")
        return self.studio.client.card(chosen)


def _looks(card: CardOut) -> str:
    told = " ".join((card.appearance or "").split())
    return told if len(told) <= 300 else told[: told.rfind(" ", 0, 300)].rstrip(",;:")


assert set(FIELDS) <= set(CardFields.model_fields), "the form's fields are the card's"
