"""World time and record time against a day-by-day model; undo; history."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.errors import InputError
from consistent_gen.language.dates import spoken_dates
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Delete, Update
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import AsOf, Store, TimeWindow

DAYS = 8
START = datetime(2026, 1, 1, tzinfo=UTC)
PATHS = ("Identity.Home", "Work.Job")


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@dataclass
class Line:
    """What one path holds on each day; the last day stands for all that follow."""

    days: list[tuple[str, int] | None] = field(default_factory=lambda: [None] * (DAYS + 1))
    pieces: int = 0

    def write(self, value: str, at: int) -> None:
        last = self.days[DAYS]
        if last is not None and last[0] == value:
            return
        starts = [d for d in range(at + 1, DAYS + 1)
                  if self.days[d] is not None and self.days[d] != self.days[d - 1]]  # fmt: skip
        self.pieces += 1
        for d in range(at, min(starts, default=DAYS + 1)):
            self.days[d] = (value, self.pieces)

    def begins(self) -> int:
        return next(d for d in range(DAYS + 1) if self.days[d] == self.days[DAYS])

    def delete(self, at: int, *, correction: bool) -> None:
        if self.days[DAYS] is None or (not correction and at < self.begins()):
            return
        for d in range(self.begins() if correction else at, DAYS + 1):
            self.days[d] = None

    def correct(self, value: str) -> None:
        last = self.days[DAYS]
        if last is not None and last[0] != value:
            self.pieces += 1
            for d in range(self.begins(), DAYS + 1):
                self.days[d] = (value, self.pieces)

    def texts(self) -> list[str | None]:
        return [None if cell is None else cell[0] for cell in self.days]


steps = st.tuples(
    st.sampled_from(["write", "write", "delete", "retract", "correct"]),
    st.sampled_from(PATHS),
    st.sampled_from(["red", "green", "blue"]),
    st.integers(0, DAYS),
)


def perform(store: Store, step: tuple[str, str, str, int]) -> str:
    what, path, value, at = step
    op = {
        "write": Add(target=path, value=value, at=day(at)),
        "delete": Delete(target=path, at=day(at)),
        "retract": Delete(target=path, at=day(at), correction=True),
        "correct": Update(target=path, value=value, at=day(at), correction=True),
    }[what]
    return store.apply(Batch(ops=(op,), author="user")).batch


def model(lines: dict[str, Line], step: tuple[str, str, str, int]) -> None:
    what, path, value, at = step
    line = lines[path]
    if what == "write" or (what == "correct" and line.days[DAYS] is None):
        line.write(value, at)
    elif what == "correct":
        line.correct(value)
    else:
        line.delete(at, correction=what == "retract")


def state(store: Store, recorded: datetime | None = None) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {path: [None] * (DAYS + 1) for path in PATHS}
    for d in range(DAYS + 1):
        # Noon, and a year later for the open end.
        world = day(d + 0.5 if d < DAYS else 365)
        for leaf in store.list("core", as_of=AsOf(world=world, recorded=recorded)):
            assert found[leaf.label][d] is None, "two values at once"
            found[leaf.label][d] = leaf.text
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=8))
def test_as_of_agrees_with_the_model_at_every_pair_of_times(
    plan: list[tuple[str, str, str, int]],
) -> None:
    lines = {path: Line() for path in PATHS}
    now = [day(100)]
    with tempfile.TemporaryDirectory() as folder:
        store = open_memory(folder, "ann", clock=lambda: now[0])
        past = []
        for step in plan:
            now[0] += timedelta(hours=1)
            perform(store, step)
            model(lines, step)
            past.append((now[0], {path: line.texts() for path, line in lines.items()}))
        assert state(store) == {path: line.texts() for path, line in lines.items()}
        for recorded, expected in past:
            assert state(store, recorded) == expected
        assert store.verify().problems == ()
        store.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(steps, max_size=5), steps)
def test_undo_restores_and_undo_of_undo_repeats(
    plan: list[tuple[str, str, str, int]], last: tuple[str, str, str, int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_memory(folder, "ann", clock=lambda: day(100))
        for step in plan:
            perform(store, step)
        before = state(store)
        batch = perform(store, last)
        after = state(store)
        undone = store.undo(batch)
        assert state(store) == before
        store.undo(undone.batch)
        assert state(store) == after
        assert store.verify().problems == ()
        store.close()


def test_undo_is_refused_where_later_writes_build_on_it(lite: Store) -> None:
    first = lite.apply(Batch(ops=(Add(target=PATHS[0], value="a"),), author="user"))
    second = lite.apply(Batch(ops=(Add(target=PATHS[0], value="b"),), author="user"))
    with pytest.raises(InputError, match=second.batch):
        lite.undo(first.batch)
    lite.undo(second.batch)
    ended = lite.apply(Batch(ops=(Delete(target=PATHS[0]),), author="user"))
    lite.apply(Batch(ops=(Add(target=PATHS[0], value="c"),), author="user"))
    with pytest.raises(InputError, match="fills"):
        lite.undo(ended.batch)
    for unknown in ("b0", lite.record([Turn(text="x")]).batch):
        with pytest.raises(InputError):
            lite.undo(unknown)
    assert [leaf.text for leaf in lite.list("core")] == ["c"]


def test_history_tells_every_version_and_who_made_and_ended_it(lite: Store) -> None:
    first = lite.apply(Batch(ops=(Add(target=PATHS[0], value="a"),), author="user"))
    second = lite.apply(Batch(ops=(Add(target=PATHS[0], value="b"),), author="user"))
    versions = lite.history(first.ids[0])
    assert [v.version for v in versions] == list(range(1, len(versions) + 1))
    assert versions[0].created_by == first.batch and versions[0].retired_by == second.batch
    assert [v.text for v in versions if v.live][-1] == "b"
    assert lite.history("c-none") == ()


def test_a_clock_that_goes_back_still_orders_record_time(
    lite: Store, clock: Callable[..., datetime]
) -> None:
    stamps = []
    for hours in (0, -48, -24, -200):
        clock.advance(hours=hours)  # type: ignore[attr-defined]
        stamps.append(lite.record([Turn(text="x")]).recorded_at)
    assert stamps == sorted(set(stamps))
    assert len({t.id for t in lite.list("turn")}) == 4


def test_future_changes_wait_for_their_day(lite: Store, clock: Callable[..., datetime]) -> None:
    lite.apply(Batch(ops=(Add(target=PATHS[0], value="Oslo"),), author="user"))
    move = clock() + timedelta(days=30)
    lite.apply(Batch(ops=(Update(target=PATHS[0], value="Rome", at=move),), author="user"))
    assert [leaf.text for leaf in lite.list("core")] == ["Oslo"]
    clock.advance(days=31)  # type: ignore[attr-defined]
    assert [leaf.text for leaf in lite.list("core")] == ["Rome"]


def test_windows_filter_events_by_their_moment_and_states_by_overlap(lite: Store) -> None:
    turns = [Turn(text=f"tea {d}", valid_from=day(d)) for d in range(5)]
    lite.record(turns)
    window = TimeWindow(start=day(1), end=day(3))
    assert [t.text for t in lite.list("turn", window=window)] == ["tea 1", "tea 2"]
    lite.apply(Batch(ops=(Add(target=PATHS[0], value="Oslo", at=day(0)),), author="user"))
    lite.apply(Batch(ops=(Add(target=PATHS[0], value="Rome", at=day(2)),), author="user"))
    for start, end, texts in ((0, 1, ["Oslo"]), (1, 3, ["Oslo", "Rome"]), (2, 9, ["Rome"])):
        held = lite.list("core", window=TimeWindow(start=day(start), end=day(end)))
        assert [leaf.text for leaf in held] == texts
    with pytest.raises(InputError, match="swap"):
        lite.list("turn", window=TimeWindow(start=day(3), end=day(1)))
    with pytest.raises(InputError, match="time zone"):
        lite.list("turn", window=TimeWindow(start=datetime(2026, 1, 1)))


@pytest.mark.parametrize(
    ("text", "today", "meant"),
    [
        ("She asked me twice. I shall fly on the second of July.", (2026, 5, 26), "2026-07-02"),
        ("We have settled on Saturday the twenty-eighth of November.", (2026, 4, 18), "2026-11-28"),
        ("She signed the lease, and it starts on 20 June.", (2026, 5, 16), "2026-06-20"),
        ("He came on Sunday, March 1.", (2026, 3, 5), "2026-03-01"),
        ("We moved on 28 November.", (2026, 4, 18), "2025-11-28"),
        ("The fair was on Friday 12 June.", (2026, 6, 20), "2026-06-12"),
    ],
)
def test_a_day_without_a_year_is_the_one_that_its_sentence_and_weekday_mean(
    text: str, today: tuple[int, int, int], meant: str
) -> None:
    assert spoken_dates(text, date(*today))[-1].iso == meant
