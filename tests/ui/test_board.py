"""The board follows the events of jobs, in any order and more than once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
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
from ui.board import (
    Board,
    BoardCell,
    Boards,
    after,
    board_of,
    current_version,
    missing_line,
    status_line,
    time_left,
)

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


def steps_of(*told: tuple[float, int, int]) -> list[Board]:
    """Boards after steps, each (seconds, frame, step of 10), of a job that draws three frames."""
    waiting = job("running", *(JobFrame(index=i, version=1, state="queued", steps=10, seed=1)
                               for i in range(3)))  # fmt: skip
    board = board_of(story(*(StoryFrame(index=i, prompt="p") for i in range(3))), (waiting,))
    boards = []
    for seconds, frame, step in told:
        one = event("step", frame, step=step, steps=10)
        board = after(board, one.model_copy(update={"at": NOW + timedelta(seconds=seconds)}))
        boards.append(board)
    return boards


def test_the_time_that_is_left_is_measured_and_told_in_words() -> None:
    boards = steps_of((100, 0, 1), (101, 1, 1), (102, 2, 1), (103, 0, 4), (110, 1, 10))
    assert "left" not in status_line(boards[0])
    # At 101 s a thirtieth of the way was made in a second.
    assert boards[2].left_s == pytest.approx(27.0)
    assert status_line(boards[2]).endswith("10 % of the way, about 25 seconds left.")
    assert boards[4].left_s == pytest.approx(10.7, abs=0.1)
    assert [time_left(s) for s in (2, 7, 89, 100, 7000)] == [
        "a few seconds left", "about 5 seconds left", "about 90 seconds left",
        "about 2 minutes left", "about 2 hours left",
    ]  # fmt: skip


def test_before_anything_is_measured_the_server_estimates() -> None:
    waiting = job("queued", JobFrame(index=0, version=1, state="queued", steps=9, seed=1))
    frames = story(StoryFrame(index=0, prompt="p"))
    board = board_of(frames, (waiting.model_copy(update={"eta_s": 42.0}),))
    assert status_line(board) == "Waiting for a place at the easel, about 40 seconds left."


def test_progress_never_goes_back() -> None:
    boards = steps_of((0, 0, 5), (1, 1, 8), (2, 2, 2))
    begun_anew = [
        event("queued", 1, position=0), event("started", 1, step=0, steps=10),
        event("step", 1, step=1, steps=10), event("frame", 0, artifact="a", version=1, seed=1),
        event("started", 0, job="other", step=0, steps=10),
    ]  # fmt: skip
    board = boards[-1]
    assert board.reached == pytest.approx(0.5)
    for one in begun_anew:
        now = after(board, one)
        assert now.reached >= board.reached
        board = now
    assert board.cells[1].step == 8
    kept = Boards()
    kept.put(board)
    fewer = replace(board, reached=0.1, measured=None)
    assert kept.put(fewer).reached >= board.reached
    # What is drawn after all was done begins at nothing.
    still = replace(board, cells=tuple(replace(c, state="done") for c in board.cells))
    assert after(still, event("started", 2, step=0, steps=10)).reached == 0.0


def test_somebody_who_is_missing_is_told_with_the_scene() -> None:
    cells = tuple(BoardCell(index=i, state="done") for i in range(3))
    gone = replace(cells[1], missing=("Mia",))
    board = Board(story="s", cells=(cells[0], gone, cells[2]))
    assert status_line(board) == "All 3 scenes are drawn."
    assert missing_line(board) == "Somebody is missing in scene 2."
    again = after(board, event("frame", 1, artifact="a", version=2, seed=1))
    assert again.cells[1].missing == ()
    assert missing_line(again) == ""


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
    reached = [played(*events[:n]) for n in range(len(events) + 1)]
    for before, now in pairwise(reached):
        assert now.reached >= before.reached or not before.busy
        assert 0.0 <= now.reached <= 1.0
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
