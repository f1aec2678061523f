"""The board follows the events of jobs, in any order and more than once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.client.types import (
    Event,
    EventType,
    FrameVersion,
    Job,
    JobFrame,
    Problem,
    StoryFrame,
    StoryIn,
    StoryOut,
)
from ui.board import Board, BoardCell, Boards, after, board_of, current_version, status_line

NOW = datetime(2026, 11, 23, tzinfo=UTC)
BLANK = Board(story="s", cells=tuple(BoardCell(index=i, prompt=f"p{i}") for i in range(3)))


def event(type: str, frame: int | None = None, job: str = "j", **data: Any) -> Event:
    return Event(id=1, type=EventType(type), job=job, frame=frame, at=NOW, data=data)


def version(number: int, seed: int = 5) -> FrameVersion:
    return FrameVersion(
        version=number, artifact=f"art_{number}", seed=seed, prompt="p", job="j", created_at=NOW,
        scores={"identity": 0.5},
    )  # fmt: skip


def story(*frames: StoryFrame) -> StoryOut:
    asked = StoryIn.model_validate({"title": "T", "frames": [{"prompt": f.prompt} for f in frames]})
    return StoryOut(id="s", title="T", revision=1, layout="grid", created_at=NOW, updated_at=NOW,
                    request=asked, frames=list(frames))  # fmt: skip


def job(state: str, *frames: JobFrame, id: str = "j") -> Job:
    return Job(id=id, story="s", kind="story", state=state, created_at=NOW, updated_at=NOW,
               frames=list(frames))  # fmt: skip


def played(*events: Event) -> Board:
    board = BLANK
    for one in events:
        board = after(board, one)
    return board


def test_a_frame_goes_from_waiting_to_drawn() -> None:
    board = played(event("queued", position=6))
    assert status_line(board).startswith("Nothing") is False
    board = after(after(board, event("queued", 0)), event("started", 0))
    board = after(board, event("step", 0, step=3, steps=10))
    assert (board.cells[0].state, board.cells[0].step, board.busy) == ("drawing", 3, True)
    assert "30 %" in status_line(board)
    board = after(board, event("preview", 0, step=5, artifact="art_p"))
    assert (board.cells[0].picture, board.cells[0].preview) == ("art_p", True)
    board = after(board, event("frame", 0, artifact="art_f", version=1, seed=42))
    cell = after(board, event("score", 0, identity=0.9)).cells[0]
    assert (cell.state, cell.picture, cell.preview, cell.seed) == ("done", "art_f", False, 42)
    assert cell.scores == {"identity": 0.9}
    assert board.cells[1:] == BLANK.cells[1:]


def test_done_stops_what_waits_of_that_job_and_of_no_other() -> None:
    board = played(
        event("started", 0, job="a"), event("queued", 1, job="a"), event("started", 2, job="b"),
        event("done", job="a", state="cancelled"),
    )  # fmt: skip
    assert [cell.state for cell in board.cells] == ["cancelled", "cancelled", "drawing"]


def test_an_error_shows_its_words() -> None:
    board = played(event("started", 1), event("error", 1, title="Bad", detail="no memory"))
    assert (board.cells[1].state, board.cells[1].error) == ("failed", "no memory")
    assert "1 failed" in status_line(after(board, event("done", state="partial")))


ANY_EVENT = st.builds(
    lambda type, frame, data: event(type, frame, **data),
    st.sampled_from([t.value for t in EventType]),
    st.none() | st.integers(-2, 5),
    st.dictionaries(
        st.sampled_from(["step", "steps", "artifact", "version", "seed", "state", "position"]),
        st.none() | st.integers(-5, 99) | st.text(max_size=5) | st.floats(0, 1),
    ),
)


@settings(max_examples=50)
@given(st.lists(ANY_EVENT, max_size=30))
def test_no_event_breaks_the_board(events: list[Event]) -> None:
    board = played(*events)
    assert [cell.index for cell in board.cells] == [0, 1, 2]
    assert status_line(board)


@settings(max_examples=50)
@given(st.lists(ANY_EVENT, max_size=12))
def test_a_stream_that_is_taken_up_again_ends_alike(events: list[Event]) -> None:
    ending = event("frame", 0, artifact="art_f", version=1, seed=1)
    once = played(*events, ending).cells[0]
    twice = played(*events, ending, *events, ending).cells[0]
    assert (once.state, once.picture, once.seed) == (twice.state, twice.picture, twice.seed)


def test_a_story_shows_the_chosen_version_or_the_newest() -> None:
    frame = StoryFrame(index=0, prompt="p", versions=[version(1), version(2)])
    assert current_version(frame) == version(2)
    chosen = frame.model_copy(update={"current": 1})
    cell = board_of(story(chosen)).cells[0]
    assert (cell.version, cell.versions, cell.picture) == (1, 2, "art_1")
    assert current_version(StoryFrame(index=0, prompt="p")) is None


def test_a_running_job_shows_on_the_board_after_a_reload() -> None:
    problem = Problem(title="x", status=500, detail="worker lost", code="worker_lost")
    frames = [StoryFrame(index=i, prompt="p") for i in range(3)]
    running = job(
        "running",
        JobFrame(index=0, version=1, state="running", step=4, steps=9, seed=1),
        JobFrame(index=1, version=1, state="failed", steps=9, seed=1, error=problem),
        JobFrame(index=2, version=1, state="queued", steps=9, seed=1),
    )
    board = board_of(story(*frames), (running,))
    assert [cell.state for cell in board.cells] == ["drawing", "failed", "queued"]
    assert (board.cells[0].step, board.cells[1].error) == (4, "worker lost")
    assert {cell.job for cell in board.cells} == {"j"}


def test_a_failure_of_old_does_not_hide_a_drawing() -> None:
    frame = StoryFrame(index=0, prompt="p", versions=[version(2)])
    old = job("cancelled", JobFrame(index=0, version=1, state="cancelled", steps=9, seed=1))
    assert board_of(story(frame), (old,)).cells[0].state == "done"


def test_boards_forget_the_least_used_first() -> None:
    boards = Boards()
    for number in range(300):
        boards.put(Board(story=str(number), title="kept"))
    assert boards.get("299").title == "kept"
    assert boards.get("0").title == ""
    boards.put(Board(story="s", cells=BLANK.cells))
    assert boards.happened("s", event("started", 1)).cells[1].state == "drawing"
    assert boards.get("s").cells[1].state == "drawing"
