"""What happens on the story tab: handlers without Gradio's page, values in and values out.

Every handler asks the server for the truth; a project id is all that a browser has to bring.
Generators yield while a job's events come in. Leaving the page stops only the showing: a job is
cancelled when somebody presses Cancel, and at no other time.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from consistent_gen.client.types import EventType, RedrawIn, RerollIn, StoryOut
from consistent_gen.errors import ConsistentGenError, InputError
from ui.board import Board, current_version, status_line
from ui.desk import Desk, hidden
from ui.projects import Project
from ui.state import (
    Draft,
    caption_patch,
    change_request,
    draft_of_story,
    origins_of,
    read_draft,
    read_script,
    read_seed,
    story_request,
    with_seed,
    write_draft,
    write_script,
)
from ui.studio import Studio, examples

# Steps come many times a second; people and networks need fewer.
SHOW_EVERY_S = 0.3
PREVIEW_EVERY = 3
MOST_IN_LIST = 50
_WORTH_SHOWING = (EventType.preview, EventType.frame, EventType.error)
# A second press within this time was a double click.
DOUBLE_CLICK_S = 1.0


@dataclass(frozen=True)
class StoryView:
    """What the tab shows of a story: its board, a sentence, and whether something can be stopped
    or tried again.
    """

    board: Board
    status: str
    busy: bool = False
    can_retry: bool = False


class StoryActions:
    """The story tab on one studio."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.desk = Desk(studio)
        self._pressed: dict[str, float] = {}

    # Projects and drafts ------------------------------------------------------------------------
    def project(self, known: object) -> tuple[Project, bool]:
        """The project of a browser, and whether it is new. A new one has the first example."""
        project = self.studio.projects.open(known)
        if project is not None:
            self.desk.sweep(project)
            return project, False
        draft = next(iter(examples().values()), Draft())
        fresh = self.studio.projects.new()
        return self.studio.projects.change(fresh.id, draft=write_draft(draft)), True

    def adopt(self, project: Project, unsaved: str) -> Project:
        """The project with the cast and the scenes of a desk that was not saved; JSON that is none
        changes nothing.
        """
        try:
            cast, scenes = read_script(json.loads(unsaved))
        except ValueError:
            return project
        if cast or scenes:
            self.desk.put(project.id, replace(self.draft(project), cast=cast, scenes=scenes))
        return self.studio.projects.open(project.id) or project

    def draft(self, project: Project) -> Draft:
        """What lies on the desk of a project."""
        return read_draft(project.draft)

    def draft_of(self, project: str) -> Draft:
        """The same of a project that is known by its id; an empty one where there is none."""
        kept = self.studio.projects.open(project)
        return self.draft(kept) if kept else Draft()

    def keep(self, project: str, draft: Draft) -> dict[str, Any]:
        """Save the desk; what there is to say of its scenes and characters (see `ui.marks`)."""
        self.desk.put(project, draft)
        return self.desk.marks(draft)

    def choices(self, project: str = "") -> list[tuple[str, str]]:
        """What can be opened: (label, value) of examples and of drawn stories."""
        gone = hidden(self.studio.projects.open(project))
        found = [(f"Example: {title}", f"example:{title}") for title in examples()]
        for story in self.studio.client.stories(limit=MOST_IN_LIST).stories:
            if story.id in gone:
                continue
            when = f"{story.updated_at:%d %b %H:%M}"
            found.append((f"{story.title} ({story.drawn} of {story.frames}, {when})", story.id))
        return found

    def opened(self, project: str) -> str | None:
        """Which of `choices` lies on the desk, None for something else."""
        kept = self.studio.projects.open(project)
        if kept is None:
            return None
        title = read_draft(kept.draft).title
        return kept.story or (f"example:{title}" if title in examples() else None)

    def open(self, project: str, what: str) -> tuple[Draft, StoryView]:
        """Put an example (``example:TITLE``), a drawn story (its id) or nothing ("") there."""
        if what.startswith("example:") or not what:
            draft = examples().get(what.removeprefix("example:"), Draft(scenes=()))
            self.desk.put(project, draft, story="")
            return draft, self.view("")
        story = self.studio.client.story(what)
        draft = draft_of_story(story)
        self.desk.put(project, draft, story=story.id)
        self.studio.look(story)
        return draft, self.view(story.id)

    # Drawing ------------------------------------------------------------------------------------
    def view(self, story: str) -> StoryView:
        """A story as the server has it. An unknown or no story is an empty board."""
        if not story:
            return StoryView(Board(), status_line(Board()))
        return _view(self.studio.load_board(self.studio.client.story(story)))

    def draw(self, project: str, draft: Draft) -> Iterator[tuple[Draft, StoryView]]:
        """Draw a draft from the first scene on; yields the draft with the seed it is drawn with.

        Raises:
            InputError: the draft cannot be drawn as it is. ConsistentGenError: the server refuses.
        """
        if self._is_double_click(project):
            return
        draft = with_seed(draft)
        try:
            request = story_request(draft, preview_every=PREVIEW_EVERY)
            accepted = self.studio.client.create_story(request, idempotency_key=uuid.uuid4().hex)
        except ConsistentGenError:  # what was refused can be mended and sent at once
            self._pressed.pop(project, None)
            raise
        self.studio.projects.change(project, draft=write_draft(draft), story=accepted.story)
        for view in self.follow(project, accepted.story, accepted.job):
            yield draft, view

    def draw_changes(self, project: str, draft: Draft) -> Iterator[StoryView]:
        """Let the drawn story become the one on the desk: scenes and characters that were added,
        edited, moved or removed. Only pictures that this changes are drawn again.

        Raises:
            InputError: nothing has changed, or the draft cannot be drawn as it is.
        """
        story = self.studio.client.story(self.story_of(project))
        change = change_request(draft, story, preview_every=PREVIEW_EVERY)
        changed = self.studio.client.change_story(story.id, change)
        self.studio.projects.change(project, draft=write_draft(draft))
        if changed.job is not None:
            yield from self.follow(project, story.id, changed.job)
            return
        if change.origins == list(range(len(story.frames))) and not caption_patch(draft, story):
            raise InputError("No scene has changed since it was drawn.")
        view = self.view(story.id)
        yield replace(view, status=f"No picture has changed. {view.status}")

    def reroll(self, project: str, index: int, prompt: str, seed: str) -> Iterator[StoryView]:
        """Draw one frame again: with other words where `prompt` is not the old one, with `seed`
        where it is a number, otherwise with a new one.
        """
        story = self.studio.client.story(self.story_of(project))
        if not 0 <= index < len(story.frames):
            raise InputError("Choose a picture first.")
        frame = story.frames[index]
        if seed and read_seed(seed) is None:
            raise InputError(f"The seed {seed[:24]!r} is not a whole number from 0 to 2^63 - 1.")
        words = " ".join(prompt.split())
        wish = RerollIn(prompt=words if words and words != frame.prompt else None,
                        seed=read_seed(seed))  # fmt: skip
        accepted = self.studio.client.reroll(story.id, index, wish)
        yield from self.follow(project, story.id, accepted.job)

    def redraw(self, project: str, index: int, wish: RedrawIn) -> Iterator[StoryView]:
        """Draw a part of one frame again."""
        story = self.story_of(project)
        accepted = self.studio.client.redraw(story, index, wish)
        yield from self.follow(project, story, accepted.job)

    def write_down(self, project: str, script: object, index: int, **words: str) -> dict[str, Any]:
        """The desk's JSON with other words (`prompt`, `caption`) in the scene that is the frame
        `index` of the open story; the desk is saved so. Call it before the story changes.
        """
        cast, scenes = read_script(script)
        draft = replace(self.draft_of(project), cast=cast, scenes=scenes)
        story = self.story(project)
        origins = origins_of(draft, story) if story else []
        if index in origins:
            place = origins.index(index)
            scene = replace(scenes[place], **words)
            draft = replace(draft, scenes=(*scenes[:place], scene, *scenes[place + 1 :]))
            self.desk.put(project, draft)
        return write_script(draft)

    def follow(self, project: str, story: str, job: str) -> Iterator[StoryView]:
        """The board of a story while `job` draws; the last one is what the server has then. While
        the project has another story open nothing is shown: the board is that one's.
        """
        yield from self._while_open(project, story, self._boards(story, job))

    def _while_open(
        self, project: str, story: str, views: Iterator[StoryView]
    ) -> Iterator[StoryView]:
        return (view for view in views if self.has_open(project, story))

    def _boards(self, story: str, job: str) -> Iterator[StoryView]:
        yield self.view(story)
        shown = time.monotonic()
        for event in self.studio.client.events(job):
            board = self.studio.boards.happened(story, event)
            if event.type is EventType.done:
                break
            if event.type in _WORTH_SHOWING or time.monotonic() - shown >= SHOW_EVERY_S:
                shown = time.monotonic()
                yield _view(board)
        yield self.view(story)
        yield from self._looked_at(story)

    def resume(self, project: str) -> Iterator[StoryView]:
        """The board of the story that a project has open, and what still draws it: after a reload
        nothing is missing.
        """
        found = self.story(project)
        story = found.id if found else ""
        view = self.view(story)
        yield view
        jobs = {cell.job for cell in view.board.cells if cell.busy and cell.job}
        for job in jobs:
            yield from self.follow(project, story, job)
        if story and not jobs:
            yield from self._while_open(project, story, self._looked_at(story))

    def _looked_at(self, story: str) -> Iterator[StoryView]:
        """The board once more where somebody turns out to be missing."""
        if self.studio.look(self.studio.client.story(story)):
            yield self.view(story)

    def all_there(self, project: str, index: int) -> StoryView:
        """The board without its remark on picture `index`: the writer sees everybody there."""
        story = self.studio.client.story(self.story_of(project))
        if 0 <= index < len(story.frames) and (shown := current_version(story.frames[index])):
            self.studio.all_there(shown.artifact)
        return self.view(story.id)

    def cancel(self, project: str) -> int:
        """Stop all that draws the project's story; how many jobs that were."""
        story = self.story_of(project)
        jobs = [j for j in self.studio.client.jobs(limit=50).jobs if j.story == story]
        busy = [job for job in jobs if not job.state.finished]
        for job in busy:
            self.studio.client.cancel(job.id)
        return len(busy)

    def retry(self, project: str) -> Iterator[StoryView]:
        """Draw again what failed or was stopped in the newest job of the project's story."""
        story = self.story_of(project)
        jobs = [j for j in self.studio.client.jobs(limit=50).jobs if j.story == story]
        left = [job for job in jobs if job.state.finished and job.state != "succeeded"]
        if not left:
            raise InputError("Nothing of this story failed or was stopped.")
        job = self.studio.client.retry(left[0].id)
        yield from self.follow(project, story, job.id)

    def _is_double_click(self, project: str) -> bool:
        now = time.monotonic()
        before = self._pressed.get(project)
        self._pressed = {p: at for p, at in self._pressed.items() if now - at < DOUBLE_CLICK_S}
        self._pressed[project] = now
        return before is not None and now - before < DOUBLE_CLICK_S

    # The story that is open ---------------------------------------------------------------------
    def has_open(self, project: str, story: str) -> bool:
        """Whether it is that story which the project has open."""
        kept = self.studio.projects.open(project)
        return kept is not None and kept.story == story

    def story_of(self, project: str) -> str:
        """The id of the story that a project has open. Raises InputError when there is none."""
        found = self.studio.projects.open(project)
        if found is None or not found.story:
            raise InputError("Nothing is drawn yet. Press Draw first.")
        return found.story

    def story(self, project: str) -> StoryOut | None:
        """The story that a project has open, None when there is none or it was deleted."""
        try:
            return self.studio.client.story(self.story_of(project))
        except ConsistentGenError:
            return None


def read_form(
    script: object,
    title: str,
    style: str,
    method: str,
    steps: float,
    seed: str,
    locked: bool,
    best_of: float | None = None,
    mend: float | None = None,
) -> Draft:
    """A draft from the desk's JSON and the form fields beside it."""
    cast, scenes = read_script(script)
    draft = read_draft(
        {"title": title, "style": style, "method": method, "seed": str(seed or "").strip()}
    )
    number = int(steps) if isinstance(steps, int | float) else None
    several = int(best_of) if isinstance(best_of, int | float) and best_of > 1 else None
    again = int(mend) if isinstance(mend, int | float) else None
    return replace(
        draft, steps=number, best_of=several, mend=again, locked=bool(locked), cast=cast,
        scenes=scenes,
    )  # fmt: skip


def drawn_frames(story: StoryOut) -> int:
    """How many frames have at least one drawing."""
    return sum(current_version(frame) is not None for frame in story.frames)


def _view(board: Board) -> StoryView:
    stuck = any(cell.state in ("failed", "cancelled") for cell in board.cells)
    return StoryView(board, status_line(board), board.busy, stuck and not board.busy)
