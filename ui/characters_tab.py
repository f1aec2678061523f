"""The characters tab: the library, its reference pictures and what we think of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from consistent_gen.client.types import (
    LibraryCharacter,
    LibraryCharacterIn,
    LibraryCharacterPatch,
)
from consistent_gen.errors import ConsistentGenError, InputError
from ui.keeping import question
from ui.markup import quality_html, shelf_html
from ui.messages import tell
from ui.state import CastCard, Draft, read_draft, read_script, write_script
from ui.story_tab import StoryTab
from ui.studio import Studio
from ui.uploads import MAX_FILE_BYTES
from ui.wiring import plain_html, uploaded, wire


class CharactersTab:
    """Components and handlers of the tab. `chosen` holds the id of the open character."""

    def __init__(self, studio: Studio, story: StoryTab) -> None:
        self.studio = studio
        self.story = story
        self.chosen = gr.State("")
        with gr.Row(equal_height=False, elem_classes="story-columns"):
            with gr.Column(scale=5, min_width=320):
                self._make_shelf()
            with gr.Column(scale=7, min_width=320), gr.Column(elem_classes="paper-card form-card"):
                self._make_form()
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        """What a character is shown in, in the order of `show`."""
        return [
            self.chosen, self.shelf, self.heading, self.name, self.looks, self.usual, self.strength,
            self.references, self.known, self.sure,
        ]  # fmt: skip

    # Layout -------------------------------------------------------------------------------------
    def _make_shelf(self) -> None:
        plain_html("<h3>Library</h3>")
        self.shelf = plain_html(clicks=True, elem_id="shelf")
        with gr.Row():
            self.new = gr.Button("New character", elem_id="new-character", min_width=130)
            self.bring = gr.UploadButton(
                "Import a file", file_types=[".zip"], type="filepath", elem_id="import-character",
                min_width=130,
            )  # fmt: skip

    def _make_form(self) -> None:
        self.heading = plain_html("<h3>New character</h3>", elem_id="character-heading")
        self.name = gr.Textbox(label="Name", max_length=40, elem_id="character-name")
        self.looks = gr.Textbox(
            label="Looks like", lines=2, max_length=400, elem_id="character-looks",
            placeholder="a brown bear with a red scarf",
            info="Begin with the noun: “a girl with …”.",
        )  # fmt: skip
        with gr.Row():
            self.usual = gr.Checkbox(True, label="Usual strength", min_width=140)
            self.strength = gr.Slider(0, 1, value=0.6, step=0.05, label="Strength of the pictures")
        self.save = gr.Button("Save", variant="primary", elem_id="save-character")
        with gr.Column(visible=False) as self.known:
            self.references = plain_html(clicks=True, elem_id="references")
            self.add = gr.UploadButton(
                "Add reference pictures", file_types=["image"], file_count="multiple",
                type="filepath", elem_id="add-reference",
            )  # fmt: skip
            with gr.Row():
                self.use = gr.Button("Put into the story", elem_id="use-character", min_width=130)
                self.export = gr.Button("Export", elem_id="export-character", min_width=100)
                self.delete = gr.Button("Delete", elem_id="delete-character", min_width=100)
            self.sure = gr.Button(
                "Delete for good, with all pictures", variant="stop", visible=False,
                elem_id="delete-sure",
            )  # fmt: skip
            self.file = gr.File(label="Ready to download", visible=False, interactive=False)

    # Wiring -------------------------------------------------------------------------------------
    def _wire(self) -> None:
        out, story = self.outputs, self.story
        form = [self.chosen, self.name, self.looks, self.usual, self.strength]
        wire(self.shelf.pick, self.pick, [], out)
        wire(self.new.click, self.begin, [], out)
        saved = wire(self.save.click, self.keep, form, out)
        wire(self.bring.upload, self.bring_in, [self.bring], out)
        added = wire(self.add.upload, self.add_pictures, [self.chosen, self.add], out)
        wire(self.references.pick, self.remove_picture, [self.chosen], out)
        wire(self.export.click, self.hand_out, [self.chosen], [self.file])
        wire(self.delete.click, lambda: gr.update(visible=True), [], [self.sure])
        gone = wire(self.sure.click, self.remove, [self.chosen], out)
        desk = [self.chosen, story.script, story.project]
        used = wire(self.use.click, self.into_story, desk, [story.script])
        wire(used.then, story.keep, [story.project, *story.fields], [story.script])
        for done in (saved, added, gone):
            wire(done.then, lambda: gr.HTML(library=self.studio.shelf()), [], [story.script])

    # Handlers -----------------------------------------------------------------------------------
    def show(self, one: LibraryCharacter | None) -> tuple[Any, ...]:
        """Updates of `outputs` for a character; None is the form for a new one."""
        characters = self.studio.client.characters().characters
        shelf = shelf_html(characters, self.studio.picture, one.id if one else "")
        if one is None:
            return ("", shelf, "<h3>New character</h3>", "", "", True, 0.6, "",
                    gr.update(visible=False), gr.update(visible=False))  # fmt: skip
        usual = one.strength is None
        return (
            one.id, shelf, "<h3>Edit the character</h3>", one.name, one.description, usual,
            0.6 if one.strength is None else one.strength,
            quality_html(
                one.references, self.studio.picture, question(self.studio.client, one)
            ),
            gr.update(visible=True), gr.update(visible=False),
        )  # fmt: skip

    def refresh(self, chosen: str) -> tuple[Any, ...]:
        """The open character as it is now; the empty form when it is gone."""
        try:
            return self.show(self.studio.client.character(chosen) if chosen else None)
        except ConsistentGenError:
            return self.show(None)

    def arrive(self, chosen: str) -> tuple[Any, ...]:
        """The library as it is now; what is being typed into the form stays."""
        shown = self.refresh(chosen)
        if shown[0] != chosen:  # the open character is gone
            return shown
        return (chosen, shown[1], *(gr.skip() for _ in shown[2:]))

    def pick(self, event: gr.EventData) -> tuple[Any, ...]:
        """Open the character whose card was pressed."""
        return self.show(self.studio.client.character(str(getattr(event, "character", ""))))

    def begin(self) -> tuple[Any, ...]:
        """An empty form."""
        return self.show(None)

    def keep(
        self, chosen: str, name: str, looks: str, usual: bool, strength: float
    ) -> tuple[Any, ...]:
        """Save the form, as a new character or over the open one."""
        name, looks = " ".join(name.split()), " ".join(looks.split())
        if not name or not looks:
            raise InputError("A character needs a name and words for what it looks like.")
        bound = None if usual else float(strength)
        client = self.studio.client
        if chosen:
            patch = LibraryCharacterPatch(name=name, description=looks, strength=bound)
            saved = client.patch_character(chosen, patch)
        else:
            wish = LibraryCharacterIn(name=name, description=looks, strength=bound)
            saved = client.create_character(wish)
        tell(f"{saved.name} is in the library.")
        return self.show(saved)

    def add_pictures(self, chosen: str, files: list[str] | None) -> tuple[Any, ...]:
        """Add reference pictures to the open character; each is judged on its own."""
        for file in files or []:
            data, kind = uploaded(file)
            self.studio.client.add_reference(chosen, data, kind)
        return self.refresh(chosen)

    def remove_picture(self, event: gr.EventData, chosen: str) -> tuple[Any, ...]:
        """Remove the reference whose button was pressed."""
        self.studio.client.delete_reference(chosen, str(getattr(event, "reference", "")))
        return self.refresh(chosen)

    def remove(self, chosen: str) -> tuple[Any, ...]:
        """Delete the open character with all that was derived from it."""
        self.studio.client.delete_character(chosen)
        return self.show(None)

    def hand_out(self, chosen: str) -> Any:
        """The open character as a portable file."""
        one = self.studio.client.character(chosen)
        data = self.studio.client.export_character(chosen)
        path = self.studio.pictures.export(one.name, "character.zip", data)
        return gr.update(value=str(path), visible=True)

    def bring_in(self, file: str | None) -> tuple[Any, ...]:
        """Add a character from such a file."""
        path = Path(str(file))
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"Choose a character file of at most {MAX_FILE_BYTES >> 20} MiB.")
        one = self.studio.client.import_character(path.read_bytes())
        tell(f"{one.name} has moved in.")
        return self.show(one)

    def into_story(self, chosen: str, value: object, project: str = "") -> Any:
        """Put the open character into the cast of the desk, or bind the card of that name to it;
        the desk of `project` is saved with it.
        """
        one = self.studio.client.character(chosen)
        cast, scenes = read_script(value)
        if any(card.name == one.name for card in cast):
            cards = [replace(c, library=one.id) if c.name == one.name else c for c in cast]
        else:
            cards = [*cast, CastCard(one.name, one.description, one.id, one.strength)]
        desk = self.story.actions.desk
        if (kept := self.studio.projects.open(project)) is not None:
            desk.put(project, replace(read_draft(kept.draft), cast=tuple(cards), scenes=scenes))
        tell(f"{one.name} is in the story now: write {{{one.name}}} into a scene.")
        script_value = write_script(Draft(cast=tuple(cards), scenes=scenes))
        return gr.HTML(script_value, library=self.studio.shelf())
