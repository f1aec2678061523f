"""The writing desk of a project: every edit can be undone, nothing that was put there is lost.

An edit is what lay there before, with the story that was open where the edit opened another one.
A deleted story leaves the lists at once and the server an hour later, so that it can come back.
"""

from __future__ import annotations

import functools
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from consistent_gen.draw_settings import USUAL_MEND
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.inputs import BROKEN_ZIP
from consistent_gen.story.book import STORY_FILE
from consistent_gen.story.foreign import import_story
from consistent_gen.story.script import parse_story
from consistent_gen.story.types import Story
from consistent_gen.story.yaml_tree import MAX_FILE_BYTES
from ui.marks import marks_of
from ui.projects import Project
from ui.state import MAX_TITLE, Draft, SceneCard, draft_of_file, read_draft, write_draft
from ui.studio import Studio

MOST_EDITS = 60  # that can be undone
SAME_EDIT_S = 1.5  # typing goes on within this time
ANSWER_S = 3.0  # a browser shows the answer to a button within this time
DELETED_FOR_S = 3600.0

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _in_turn(edit: Callable[_P, _R]) -> Callable[_P, _R]:
    """A method of a desk, one at a time: presses that follow each other fast arrive together."""

    @functools.wraps(edit)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        desk = args[0]
        assert isinstance(desk, Desk)
        with desk.lock:
            return edit(*args, **kwargs)

    return alone


class Desk:
    """The desks of all projects of one studio."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.lock = threading.RLock()
        self._typed: dict[str, float] = {}
        self._sent: dict[str, tuple[Draft, float]] = {}

    @_in_turn
    def leave(self, project: str, form: Draft) -> None:
        """Save what a browser shows before a button puts something else there.

        A second press that comes before the first one's answer sends the same form again. That
        form was left already; saved as an edit it would take the first press back.
        """
        now = time.monotonic()
        self._sent = {p: was for p, was in self._sent.items() if now - was[1] < ANSWER_S}
        repeated = project in self._sent and self._sent[project][0] == form
        self._sent[project] = form, now
        if not repeated:
            self.put(project, form)

    @_in_turn
    def put(self, project: str, draft: Draft, *, story: str | None = None, **more: Any) -> None:
        """Lay `draft` there, as one edit; `story` opens another story with it ("" for none).

        Edits that follow each other at once are one edit, as long as the same story is open.
        """
        kept = self.studio.projects.open(project) or Project(id=project)
        if story is None and self._says(read_draft(kept.draft)) == self._says(draft):
            return
        now = time.monotonic()
        goes_on = story is None and now - self._typed.get(project, -SAME_EDIT_S) < SAME_EDIT_S
        self._typed = {p: at for p, at in self._typed.items() if now - at < SAME_EDIT_S}
        if story is None:
            self._typed[project] = now
        else:
            self._typed.pop(project, None)
        before: dict[str, Any] = {"draft": kept.draft}
        if story is not None:
            before["story"] = kept.story
        self.studio.projects.change(
            project,
            draft=write_draft(draft),
            story=kept.story if story is None else story,
            past=kept.past if goes_on and kept.past else [*kept.past, before][-MOST_EDITS:],
            future=[],
            **more,
        )

    def _says(self, draft: Draft) -> Draft:
        """The draft as it is drawn: the form shows what is usual where nothing is said."""
        mend = USUAL_MEND if draft.mend is None else draft.mend
        return replace(draft, steps=draft.steps or self.studio.model().steps, mend=mend)

    def undo(self, project: str) -> Draft:
        """What lay there before the last edit. Raises InputError when there was none."""
        return self._step(project, "past", "future", "There is nothing to undo.")

    def redo(self, project: str) -> Draft:
        """What was undone last. Raises InputError when nothing was."""
        return self._step(project, "future", "past", "There is nothing to redo.")

    @_in_turn
    def _step(self, project: str, taken: str, given: str, otherwise: str) -> Draft:
        kept = self.studio.projects.open(project)
        edits = list(getattr(kept, taken)) if kept else []
        if kept is None or not edits:
            raise InputError(otherwise)
        self._typed.pop(project, None)
        edit = edits.pop()
        back: dict[str, Any] = {"draft": kept.draft}
        story, deleted = kept.story, [*kept.deleted]
        if "story" in edit:
            back["story"] = story
            story = edit["story"]
        if "deleted" in edit:  # this edit deleted a story, or brought it back
            back["deleted"] = edit["deleted"]
            gone = [entry for entry in deleted if entry.get("story") != edit["deleted"]]
            bring_back = len(gone) < len(deleted)
            deleted = gone if bring_back else [*gone, _binned(edit["deleted"])]
        changed = {taken: edits, given: [*getattr(kept, given), back][-MOST_EDITS:]}
        draft = read_draft(edit["draft"])
        self.studio.projects.change(
            project, draft=write_draft(draft), story=story, deleted=deleted, **changed
        )
        return draft

    def begin(self, project: str) -> Draft:
        """An empty story with one scene to write."""
        draft = Draft(scenes=(SceneCard(),))
        self.put(project, draft, story="")
        return draft

    def duplicate(self, project: str) -> Draft:
        """A copy of what lies there, not drawn yet."""
        kept = self.studio.projects.open(project)
        draft = read_draft(kept.draft if kept else {})
        title = f"{draft.title or 'A story'} (copy)"
        copy = replace(draft, title=title[-MAX_TITLE:])
        self.put(project, copy, story="")
        return copy

    @_in_turn
    def delete(self, project: str) -> Draft:
        """Clear the desk; the drawn story that is open leaves the lists, and later the server."""
        kept = self.studio.projects.open(project) or Project(id=project)
        story = kept.story
        draft = Draft(scenes=(SceneCard(),))
        if not story:
            self.put(project, draft, story="")
            return draft
        past = [*kept.past, {"draft": kept.draft, "story": story, "deleted": story}]
        self._typed.pop(project, None)
        self.studio.projects.change(
            project, draft=write_draft(draft), story="", past=past[-MOST_EDITS:], future=[],
            deleted=[*kept.deleted, _binned(story)],
        )  # fmt: skip
        return draft

    def sweep(self, project: Project) -> None:
        """Let go of stories that were deleted an hour ago."""
        over = [e for e in project.deleted if time.time() - float(e["at"]) > DELETED_FOR_S]
        for entry in over:
            try:
                self.studio.client.delete_story(entry["story"])
            except ConsistentGenError:
                continue  # gone already, or tried again at the next visit
        if over:
            left = [entry for entry in project.deleted if entry not in over]
            self.studio.projects.change(project.id, deleted=left)

    def bring_in(self, project: str, file: Path) -> tuple[Draft, list[str]]:
        """Put a story file, another program's file or a ZIP export there, with remarks on it.

        Raises:
            InputError: it is none of these; says what is wrong with it.
        """
        story, notes = read_file(file)
        draft = draft_of_file(story)
        self.put(project, draft, story="")
        return draft, notes

    def marks(self, draft: Draft) -> dict[str, Any]:
        """What keeps each scene and each character from being drawn, and what of its words is
        drawn as something else.
        """
        return marks_of(draft, self.studio.client.check_story)


def read_file(file: Path) -> tuple[Story, list[str]]:
    """The story in a file, and remarks on what was left behind. Raises InputError."""
    name = file.name
    if zipfile.is_zipfile(file):
        return _told(parse_story(_story_in(file), source=name))
    if file.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{name} is larger than {MAX_FILE_BYTES >> 10} KiB.")
    try:
        return _told(parse_story(file.read_bytes(), source=name))
    except InputError as error:
        wrong = error
    try:
        imported = import_story(file)
    except ConsistentGenError:
        raise wrong from None
    return imported.story, list(imported.notes)


def _told(story: Story) -> tuple[Story, list[str]]:
    left = "its LoRA files are left out: the studio draws with its own model"
    return story, [left] if story.loras else []


def _story_in(file: Path) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(STORY_FILE)
            if info.file_size > MAX_FILE_BYTES:
                raise InputError(f"The story in {file.name} is too large.")
            with archive.open(info) as stream:
                return stream.read(MAX_FILE_BYTES + 1)
    except KeyError:
        message = f"{file.name} holds no {STORY_FILE}; export the story as ZIP again."
        raise InputError(message) from None
    except (*BROKEN_ZIP, OSError, ValueError):
        raise InputError(f"{file.name} is a damaged archive.") from None


def _binned(story: str) -> dict[str, Any]:
    return {"story": story, "at": time.time()}


def hidden(project: Project | None) -> set[str]:
    """Stories that a project has deleted."""
    return {str(e.get("story")) for e in (project.deleted if project else []) if _is_bin(e)}


def _is_bin(entry: object) -> bool:
    return isinstance(entry, Mapping) and "story" in entry and "at" in entry
