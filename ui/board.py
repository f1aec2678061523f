"""The board: one cell for each scene, kept up to date by the events of the jobs that draw it.

`Board` is a value; `board_of` makes it from what the server has, `after` from an event. `Boards`
keeps the boards of all open stories, so that two jobs on one story show on one board.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from consistent_gen.client.types import (
    Event,
    EventType,
    FrameVersion,
    Job,
    JobFrameState,
    JobState,
    StoryFrame,
    StoryOut,
)

CellState = Literal["blank", "queued", "drawing", "done", "failed", "cancelled"]
_MAX_BOARDS = 256
_STATE_OF_FRAME: Mapping[JobFrameState, CellState] = {
    JobFrameState.queued: "queued",
    JobFrameState.running: "drawing",
    JobFrameState.succeeded: "done",
    JobFrameState.failed: "failed",
    JobFrameState.cancelled: "cancelled",
}


@dataclass(frozen=True, kw_only=True)
class BoardCell:
    """A scene on the board. `picture` is an artifact, of an unfinished drawing when `preview`;
    `job` is what draws it, or drew it last.
    """

    index: int
    prompt: str = ""
    caption: str = ""
    state: CellState = "blank"
    step: int = 0
    steps: int = 0
    picture: str | None = None
    preview: bool = False
    seed: int | None = None
    version: int | None = None
    versions: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    job: str | None = None

    @property
    def busy(self) -> bool:
        """Whether it waits or is being drawn."""
        return self.state in ("queued", "drawing")


@dataclass(frozen=True, kw_only=True)
class Board:
    """All cells of a story. `job` is the job whose events came last, None before any."""

    story: str = ""
    title: str = ""
    cells: tuple[BoardCell, ...] = ()
    job: str | None = None
    position: int | None = None

    @property
    def busy(self) -> bool:
        """Whether anything on it waits or is being drawn."""
        return any(cell.busy for cell in self.cells)

    @property
    def done(self) -> int:
        """Cells that show a finished drawing."""
        return sum(cell.state == "done" for cell in self.cells)


def current_version(frame: StoryFrame) -> FrameVersion | None:
    """The drawing that counts: the chosen one, else the newest."""
    chosen = [v for v in frame.versions if v.version == frame.current]
    return chosen[0] if chosen else (frame.versions[-1] if frame.versions else None)


def board_of(story: StoryOut, jobs: tuple[Job, ...] = ()) -> Board:
    """The board of a story, with what `jobs` (oldest first) still draw of it."""
    cells = tuple(_cell_of(frame) for frame in story.frames)
    board = Board(story=story.id, title=story.title, cells=cells)
    for job in jobs:
        board = _with_job(board, job)
    return board


def after(board: Board, event: Event) -> Board:
    """The board once `event` has happened. Events may come twice; unknown frames change nothing."""
    board = replace(board, job=event.job)
    if event.type is EventType.queued and event.frame is None:
        return replace(board, position=_whole(event.data.get("position")))
    if event.type is EventType.done:
        return _ended(board, event.job, str(event.data.get("state", "")))
    index = event.frame
    if index is None or not 0 <= index < len(board.cells):
        return board
    cell = replace(_cell_after(board.cells[index], event), job=event.job)
    cells = (*board.cells[:index], cell, *board.cells[index + 1 :])
    return replace(board, cells=cells, position=None if cell.state == "drawing" else board.position)


def status_line(board: Board) -> str:
    """What is going on, in one sentence for people and screen readers."""
    if not board.cells:
        return "Nothing is drawn yet."
    total = len(board.cells)
    drawing = [cell for cell in board.cells if cell.state == "drawing"]
    if drawing:
        steps = sum(cell.step for cell in drawing)
        whole = sum(cell.steps for cell in drawing)
        part = f", {100 * steps // whole} % of what is on the easel" if whole else ""
        return f"Drawing: {board.done} of {total} scenes are done{part}."
    if board.busy:
        ahead = f"; {board.position} scenes are ahead" if board.position else ""
        return f"Waiting for a place at the easel{ahead}."
    failed = sum(cell.state == "failed" for cell in board.cells)
    if failed:
        return f"{board.done} of {total} scenes are drawn, {failed} failed."
    if board.done == total:
        return f"All {total} scenes are drawn." if total > 1 else "The scene is drawn."
    stopped = any(cell.state == "cancelled" for cell in board.cells)
    words = "Stopped" if stopped else "So far"
    return f"{words}: {board.done} of {total} scenes are drawn."


class Boards:
    """The boards of open stories, by story id; the least used are forgotten. Thread-safe."""

    def __init__(self) -> None:
        self._boards: OrderedDict[str, Board] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, board: Board) -> Board:
        """Keep a board made from what the server has."""
        with self._lock:
            self._boards[board.story] = board
            self._boards.move_to_end(board.story)
            while len(self._boards) > _MAX_BOARDS:
                self._boards.popitem(last=False)
        return board

    def get(self, story: str) -> Board:
        """The board of a story, an empty one when none is kept."""
        with self._lock:
            return self._boards.get(story, Board(story=story))

    def happened(self, story: str, event: Event) -> Board:
        """Apply an event to the board of a story and return it."""
        with self._lock:
            board = after(self._boards.get(story, Board(story=story)), event)
            self._boards[story] = board
        return board


def _cell_of(frame: StoryFrame) -> BoardCell:
    version = current_version(frame)
    base = BoardCell(
        index=frame.index,
        prompt=frame.prompt,
        caption=frame.caption,
        versions=len(frame.versions),
    )
    if version is None:
        return base
    return replace(
        base,
        state="done",
        picture=version.artifact,
        seed=version.seed,
        version=version.version,
        scores=version.scores,
    )


def _with_job(board: Board, job: Job) -> Board:
    cells = list(board.cells)
    for frame in job.frames:
        if not 0 <= frame.index < len(cells) or frame.state is JobFrameState.succeeded:
            continue
        cell = cells[frame.index]
        # A newer drawing of the frame makes an older failure history.
        if job.state.finished and cell.state == "done":
            continue
        cells[frame.index] = replace(
            cell,
            state=_STATE_OF_FRAME[frame.state],
            step=frame.step,
            steps=frame.steps,
            error=frame.error.detail if frame.error else "",
            job=job.id,
        )
    return replace(board, cells=tuple(cells), job=job.id, position=job.queue_position)


def _cell_after(cell: BoardCell, event: Event) -> BoardCell:
    data = event.data
    if event.type is EventType.queued:
        return replace(cell, state="queued", step=0, error="")
    if event.type is EventType.started:
        return replace(cell, state="drawing", step=0, error="")
    if event.type is EventType.step:
        steps = _whole(data.get("steps")) or cell.steps
        return replace(cell, state="drawing", step=_whole(data.get("step")) or 0, steps=steps)
    if event.type is EventType.preview and isinstance(data.get("artifact"), str):
        step = _whole(data.get("step")) or cell.step
        return replace(cell, state="drawing", step=step, picture=data["artifact"], preview=True)
    if event.type is EventType.frame and isinstance(data.get("artifact"), str):
        version = _whole(data.get("version"))
        return replace(
            cell,
            state="done",
            picture=data["artifact"],
            preview=False,
            version=version,
            versions=max(cell.versions, version or 1),
            seed=_whole(data.get("seed")),
            scores={},
            error="",
        )
    if event.type is EventType.score:
        numbers = {k: float(v) for k, v in data.items() if isinstance(v, int | float)}
        return replace(cell, scores={**cell.scores, **numbers})
    if event.type is EventType.error:
        text = data.get("detail") or data.get("title") or "It could not be drawn."
        return replace(cell, state="failed", error=str(text))
    return cell


def _ended(board: Board, job: str, state: str) -> Board:
    """Whatever still waits when the job has ended was cancelled with it (or never drawn)."""
    left: CellState = "failed" if state == JobState.failed else "cancelled"
    cells = tuple(
        replace(c, state=left) if c.busy and c.job in (None, job) else c for c in board.cells
    )
    return replace(board, cells=cells, position=None)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
