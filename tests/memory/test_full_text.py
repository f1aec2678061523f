"""The quick way through the full-text index finds what the long way finds."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import Store, TimeWindow
from consistent_gen.memory.storage import sqlite_store
from consistent_gen.memory.storage.database import SqliteDatabase
from consistent_gen.memory.storage.schema import SQLITE, migrate
from consistent_gen.memory.storage.sqlite_store import SqliteStore

WORDS = ["tea", "boat", "rain", "violin", "garden", "lamp", "river", "stone"]


@pytest.fixture
def filled(lite: Store, clock: Callable) -> Store:
    rng = random.Random(4)
    for number in range(300):
        clock.advance(hours=1)  # type: ignore[attr-defined]
        text = " ".join(rng.choices(WORDS, weights=range(1, 9), k=6))
        (turn,) = lite.record([Turn(text=f"{text} {number}", valid_from=clock())]).ids
        if number % 5 == 0:
            fact = Add(kind="fact", value=f"{text} fact {number}", evidence=(turn,))
            lite.apply(Batch(ops=(fact,), turns=(turn,)))
    return lite


@pytest.mark.parametrize("many", [1, 100, 10_000])
def test_each_kind_gets_its_best(
    filled: Store, clock: Callable, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """1: both kinds are many; 100: turns alone are; 10,000: none is."""
    monkeypatch.setattr(sqlite_store, "_MANY", many)
    narrow = TimeWindow(start=clock() - timedelta(hours=20))
    for query in ("tea", "stone river", "violin lamp nothing", "nothing"):
        for window in (None, narrow):
            for limit in (1, 7, 1_000):
                found = filled.full_text(
                    query, kinds=("turn", "fact"), window=window, limit=limit, each_kind=True
                )
                alone = [
                    filled.full_text(query, kinds=(kind,), window=window, limit=limit)
                    for kind in ("turn", "fact")
                ]
                expected = sorted(hit.score for hits in alone for hit in hits)
                assert sorted(hit.score for hit in found) == pytest.approx(expected)
                assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
                for kind, hits in zip(("turn", "fact"), alone, strict=True):
                    assert sum(h.kind == kind for h in found) == len(hits)


def test_an_older_memory_is_brought_up_to_date(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann") as store:
        folder = store.folder
    for file in folder.iterdir():
        file.unlink()
    old = SqliteDatabase(folder / "memory.db", busy_timeout_s=5)
    migrate(old, SQLITE[:4])
    old.close()
    with SqliteStore(tmp_path, "ann") as store:
        store.record([Turn(text="tea")])
        names = [name for (name,) in store.db.rows("SELECT name FROM migrations ORDER BY name")]
        assert names == [name for name, _ in SQLITE]
        columns = [row[2] for row in store.db.rows("PRAGMA index_info(records_by_label)")]
        assert columns == ["kind", "label", "retired_at", "valid_to"] and store.verify().ok
