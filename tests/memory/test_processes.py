"""Processes and threads that write at once: no lost update, no error from a lock."""

from __future__ import annotations

import faulthandler
import multiprocessing
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import StaleVersionError, Store
from consistent_gen.memory.storage.sqlite_store import SqliteStore
from tests.every_run import or_slow

COUNTER = "Work.Projects"
HANGING_S = 240


def writer(place: str, user: str, number: int, seconds: float, least: int, answer: Any) -> None:
    """Append turns and count up one leaf by read, compare and write until time and count are up."""
    # A writer that hangs shows where and ends with an error, instead of making the test hang.
    faulthandler.dump_traceback_later(seconds + HANGING_S, exit=True)
    try:
        store = open_memory(place, user)
        end, turns, increments = time.monotonic() + seconds, 0, 0
        while time.monotonic() < end or turns < least:
            store.record([Turn(text=f"writer {number} turn {turns}")])
            turns += 1
            increments += increment(store)
        store.close()
        answer.put((turns, increments, ""))
    except Exception as error:
        answer.put((0, 0, f"{type(error).__name__}: {error}"))
    finally:
        faulthandler.cancel_dump_traceback_later()


def increment(store: Store) -> int:
    version = store.version
    held = store.list("core", label=COUNTER)
    value = int(held[0].text) if held else 0
    batch = Batch(ops=(Add(target=COUNTER, value=str(value + 1)),), author="user")
    try:
        store.apply(batch, expect_version=version)
    except StaleVersionError:
        return 0
    return 1


def race(place: str, user: str, seconds: float, least: int) -> tuple[int, int]:
    open_memory(place, user).close()
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    processes = [
        context.Process(target=writer, args=(place, user, n, seconds, least, answer))
        for n in range(4)
    ]
    for process in processes:
        process.start()
    answers = []
    while len(answers) < len(processes):
        try:
            answers.append(answer.get(timeout=2))
        except queue.Empty:
            died = [p.exitcode for p in processes if p.exitcode not in (None, 0)]
            assert not died, f"a writer ended with exit codes {died}"
    for process in processes:
        process.join()
    assert [error for _, _, error in answers if error] == []
    turns, increments = sum(a[0] for a in answers), sum(a[1] for a in answers)
    with open_memory(place, user) as store:
        assert store.count("turn") == turns
        assert len({r.text for r in store.list("turn")}) == turns
        held = store.list("core", label=COUNTER)
        assert int(held[0].text if held else "0") == increments
        assert store.version == turns + increments
        assert store.verify().ok
    return turns, increments


@pytest.mark.parametrize(
    "place", or_slow(["sqlite", "encrypted", "postgres"], ["sqlite"]), indirect=True
)
def test_four_processes(place: str, tmp_path: Path) -> None:
    turns, increments = race(place, f"{tmp_path}:race", seconds=2, least=5)
    assert turns >= 20 and increments >= 1


@pytest.mark.slow
def test_four_processes_for_a_minute(tmp_path: Path) -> None:
    turns, increments = race(str(tmp_path), "race", seconds=60, least=5)
    print(f"four processes, 60 s: {turns} turns, {increments} counted up, none lost")
    assert turns >= 40 and increments >= 4


def test_threads_share_one_store(store: Store) -> None:
    def some(number: int) -> None:
        for n in range(10):
            store.record([Turn(text=f"thread {number} {n}")])
            assert store.full_text("thread", limit=5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(some, range(4)))
    assert store.count("turn") == 40 and store.version == 40 and store.verify().ok


def test_a_search_inside_a_write_meets_searches_outside(lite: Store) -> None:
    """Threads take the database and then the matrices, never the other way round."""
    assert isinstance(lite, SqliteStore)
    lite.create_space("s", 2)
    (turn,) = lite.record([Turn(text="x")]).ids
    lite.put_vector(turn, "s", np.array([1, 0], np.float32))

    def search(inside: bool) -> None:
        for _ in range(200):
            with lite.db.transaction() if inside else nullcontext():
                assert lite.nearest("s", np.array([1, 1], np.float32))

    threads = [Thread(target=search, args=(n % 2 == 0,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"


def test_a_write_inside_a_snapshot_is_a_mistake(lite: Store) -> None:
    assert isinstance(lite, SqliteStore)
    with pytest.raises(AssertionError, match="inside a snapshot"), lite.db.snapshot():
        lite.record([Turn(text="x")])
    assert lite.record([Turn(text="x")]).version == 1


def test_a_reader_sees_whole_writes_only(tmp_path: Path, opened: Callable[..., Store]) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    for n in range(5):
        one.record([Turn(text=f"{n}a"), Turn(text=f"{n}b")])
        assert two.count("turn") % 2 == 0 and two.version == one.version
