"""The board: one cell for each scene, kept up to date by the events of the jobs that draw it.

`Board` is a value; `board_of` makes it from what the server has, `after` from an event. `Boards`
keeps the boards of all open stories, so that two jobs on one story show on one board.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
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
MEASURED_PART = 0.04  # of a run, before its pace says anything
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
    `job` is what draws it, or drew it last. `missing`: characters whom the picture does not show.
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
    missing: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether it waits or is being drawn."""
        return self.state in ("queued", "drawing")


@dataclass(frozen=True, kw_only=True)
class Board:
    """All cells of a story. `job` is the job whose events came last, None before any.

    What is being drawn is a run, of the cells `run`, until nothing is left to draw. `reached` in
    [0, 1] is how far it is and never falls; `left_s` is an estimate of the time that is left, from
    the steps since `measured` (seconds since 1970, how far it was then), before these the server's.
    """

    story: str = ""
    title: str = ""
    cells: tuple[BoardCell, ...] = ()
    job: str | None = None
    position: int | None = None
    run: frozenset[int] = frozenset()
    reached: float = 0.0
    measured: tuple[float, float] | None = None
    left_s: float | None = None

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
    position = None if cell.state == "drawing" else board.position
    return _advanced(board, replace(board, cells=cells, position=position), event.at.timestamp())


def _advanced(before: Board, now: Board, at: float) -> Board:
    """`now` with how far its run is; it goes on from the one before as long as that lasts."""
    busy = {cell.index for cell in now.cells if cell.busy}
    if not before.busy:
        before = replace(before, run=frozenset(), reached=0.0, measured=None, left_s=None)
    run = before.run | busy
    part = _part_of(now.cells, run)
    drawing = any(cell.state == "drawing" and cell.step for cell in now.cells)
    measured = before.measured or ((at, part) if drawing else None)
    left_s = before.left_s
    if measured is not None and part - measured[1] >= MEASURED_PART and at > measured[0]:
        left_s = (1.0 - part) * (at - measured[0]) / (part - measured[1])
    return replace(
        now, run=run, reached=max(before.reached, part), measured=measured, left_s=left_s
    )


def _part_of(cells: Sequence[BoardCell], run: Collection[int]) -> float:
    """How much of a run is drawn, in [0, 1]; what failed or was stopped takes no more time."""
    if not run:
        return 0.0
    return sum(
        min(1.0, cell.step / cell.steps if cell.steps else 0.0) if cell.busy else 1.0
        for cell in cells
        if cell.index in run
    ) / len(run)


def status_line(board: Board) -> str:
    """What is going on, in one sentence for people and screen readers."""
    if not board.cells:
        return "Nothing is drawn yet."
    total = len(board.cells)
    left = "" if board.left_s is None else f", {time_left(board.left_s)}"
    if any(cell.state == "drawing" for cell in board.cells):
        part = f", {int(100 * board.reached + 1e-6)} % of the way{left}"
        return f"Drawing: {board.done} of {total} scenes are done{part}."
    if board.busy:
        ahead = f"; {board.position} scenes are ahead" if board.position else ""
        return f"Waiting for a place at the easel{ahead}{left}."
    failed = sum(cell.state == "failed" for cell in board.cells)
    if failed:
        return f"{board.done} of {total} scenes are drawn, {failed} failed."
    if board.done == total:
        return f"All {total} scenes are drawn." if total > 1 else "The scene is drawn."
    stopped = any(cell.state == "cancelled" for cell in board.cells)
    words = "Stopped" if stopped else "So far"
    return f"{words}: {board.done} of {total} scenes are drawn."


def time_left(seconds: float) -> str:
    """A time that is left, in words as rough as it is known."""
    if seconds < 5:
        return "a few seconds left"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} seconds left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes left"
    return f"about {round(seconds / 3600)} hours left"


def missing_line(board: Board) -> str:
    """In which scenes somebody is missing, in one sentence; "" for none."""
    numbers = [str(cell.index + 1) for cell in board.cells if cell.missing]
    if not numbers:
        return ""
    return f"Somebody is missing in scene{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}."


class Boards:
    """The boards of open stories, by story id; the least used are forgotten. Thread-safe."""

    def __init__(self) -> None:
        self._boards: OrderedDict[str, Board] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, board: Board) -> Board:
        """Keep a board made from what the server has, and how far its run is."""
        with self._lock:
            known = self._boards.get(board.story, Board())
            if board.busy and known.busy:
                run = board.run | known.run
                part = max(board.reached, known.reached, _part_of(board.cells, run))
                left_s = board.left_s if known.measured is None else known.left_s
                board = replace(
                    board, run=run, reached=part, measured=known.measured, left_s=left_s
                )
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
    board = replace(board, cells=tuple(cells), job=job.id, position=job.queue_position)
    if job.state.finished:
        return board
    run = board.run | {frame.index for frame in job.frames if frame.index < len(cells)}
    left_s = max((s for s in (board.left_s, job.eta_s) if s is not None), default=None)
    return replace(board, run=run, reached=_part_of(cells, run), left_s=left_s)


def _cell_after(cell: BoardCell, event: Event) -> BoardCell:
    data = event.data
    # A frame that is begun anew by another worker is shown as far as it was.
    before = cell.step if cell.busy and cell.job in (None, event.job) else 0
    step = max(before, _whole(data.get("step")) or 0)
    if event.type is EventType.queued:
        return replace(cell, state="queued", step=before, error="")
    if event.type in (EventType.started, EventType.step):
        steps = _whole(data.get("steps")) or cell.steps
        return replace(cell, state="drawing", step=step, steps=steps, error="")
    if event.type is EventType.preview and isinstance(data.get("artifact"), str):
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
            missing=(),
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
