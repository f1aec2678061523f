"""What every tab shares: the server, the files, the projects, the boards."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from consistent_gen.client.types import JobState, ModelInfo, StoryOut
from consistent_gen.errors import ConsistentGenError
from consistent_gen.story.script import load_story
from ui.board import Board, Boards, board_of, current_version
from ui.client import StudioClient
from ui.pictures import PictureFiles
from ui.projects import Projects
from ui.state import Draft, draft_of_file

_HERE = Path(__file__).resolve().parent
# Where a wheel carries the example stories, and where a checkout has them.
STORIES = (_HERE / "stories", _HERE.parent / "examples")
FIRST_STORY = "two_friends"
_MOST_LOOKED_AT = 4096


@dataclass
class Studio:
    """The studio on one server. Threads share it; handlers keep no state of their own."""

    client: StudioClient
    pictures: PictureFiles
    projects: Projects
    boards: Boards = field(default_factory=Boards)
    _model: ModelInfo | None = None
    _missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def model(self) -> ModelInfo:
        """The model that draws; asked for once. Raises ConsistentGenError when nobody answers."""
        with self._lock:
            if self._model is None:
                self._model = self.client.model()
            return self._model

    def picture(self, artifact: str | None) -> str | None:
        """The path of an artifact's file, None when there is none (any more)."""
        if not artifact:
            return None
        try:
            return str(self.pictures.path(self.client, artifact))
        except ConsistentGenError:
            return None

    def shelf(self) -> list[dict[str, str]]:
        """The library as the desk needs it."""
        return [
            {"id": one.id, "name": one.name, "description": one.description}
            for one in self.client.characters().characters
        ]

    def load_board(self, story: StoryOut) -> Board:
        """The board of a story with the jobs that still draw it."""
        page = self.client.jobs(limit=50)
        busy = [job for job in page.jobs if job.story == story.id and not job.state.finished]
        # Of what has ended only the newest says something that the story does not.
        ended = [job for job in page.jobs if job.story == story.id and job.state.finished][:1]
        told = [job for job in ended if job.state is not JobState.succeeded]
        jobs = sorted([*told, *busy], key=lambda job: job.created_at)
        board = board_of(story, tuple(jobs))
        cells = (replace(c, missing=self._missing.get(c.picture or "", ())) for c in board.cells)
        return self.boards.put(replace(board, cells=tuple(cells)))

    def look(self, story: StoryOut) -> bool:
        """Have the pictures of a story that are new looked at, for who is missing there; whether
        somebody is.
        """
        shown = {f.index: v.artifact for f in story.frames if (v := current_version(f))}
        if all(artifact in self._missing for artifact in shown.values()):
            return False
        try:
            found = {one.index: one.names for one in self.client.missing(story.id).frames}
        except ConsistentGenError:
            found = {}  # nobody can tell, and a warning is no more than that
        while len(self._missing) > _MOST_LOOKED_AT:
            del self._missing[next(iter(self._missing))]
        self._missing |= {art: tuple(found.get(i, ())) for i, art in shown.items()}
        return bool(found)

    def all_there(self, picture: str) -> None:
        """Believe the writer, not the reader: nobody is missing from this picture."""
        self._missing[picture] = ()


@functools.cache
def examples() -> dict[str, Draft]:
    """The stories to start from, by title; the first one is on the desk when the page opens."""
    found = [file for folder in STORIES for file in folder.glob("*.yaml")]
    files = sorted(found, key=lambda file: (file.stem != FIRST_STORY, file.stem))
    stories = [load_story(file) for file in files]
    return {story.title: draft_of_file(story) for story in stories}
