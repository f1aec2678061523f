"""A turn reads what it touches, however much is remembered, and tells the same as a look at all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import BIG_FIVE, TraitObservation, Turn
from consistent_gen.memory.data.store import Scope, Store
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.storage.sqlite_store import SqliteStore
from consistent_gen.memory.talk import replies
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.personality import Personality, RunningFold, fold

DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
SAID = (
    "My name is Ana and I live in Bonn.", "I like tea and chess.", "I don't like tea anymore.",
    "I moved to Leeds.", "What do I like?", "My sister is called Ida.", "forget my sister", "yes",
    "I work as a baker.", "Where do I live?",
)  # fmt: skip


def test_changes_are_the_difference_of_two_snapshots(tmp_path: Path) -> None:
    with open_memory(tmp_path, "ana") as store:
        ana = Assistant(store, listener=RuleListener(), text_embedder=HashedNgrams())
        for number, text in enumerate(SAID):
            before = replies.snapshot(store)
            told = ana.say(text, at=DAY + timedelta(hours=3 * number)).changes
            assert told == replies.difference(before, replies.snapshot(store)), text


def rows_read(folder: Path, facts: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many rows the statement after the first reads over so many facts."""
    with closing(SqliteStore(folder, "ana")) as store:
        for start in range(0, facts, 50):
            made = [Add(kind="fact", value=f"has read book {n}") for n in range(start, start + 50)]
            store.apply(Batch(ops=tuple(made), author="user"))
            turns = [Turn(text=f"book {n}", valid_from=DAY) for n in range(start, start + 50)]
            seen = [TraitObservation(scores=dict.fromkeys(BIG_FIVE, 3), valid_from=DAY)] * 10
            store.record([*turns, *seen])
        ana = Assistant(store, listener=RuleListener(), text_embedder=HashedNgrams())
        ana.say("I like tea.", at=DAY + timedelta(days=1))
        read = 0
        rows = store.db.rows

        def counted(sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
            nonlocal read
            found: list[tuple[Any, ...]] = rows(sql, values)
            read += len(found)
            return found

        monkeypatch.setattr(store.db, "rows", counted)
        ana.say("I like chess.", at=DAY + timedelta(days=1, minutes=1))
        monkeypatch.undo()
    return read


def test_a_turn_reads_no_more_over_many_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (rows_read(tmp_path / str(n), n, monkeypatch) for n in (550, 1_100))
    assert many <= 1.1 * few


def observed(store: Store, days: Sequence[int], seed: int) -> tuple[str, ...]:
    draw = random.Random(seed)
    return store.record([
        TraitObservation(
            scores={trait: draw.randint(1, 5) for trait in BIG_FIVE},
            valid_from=DAY + timedelta(days=day),
        )
        for day in days
    ]).ids  # fmt: skip


def test_a_running_fold_is_the_fold_of_the_whole_list(tmp_path: Path) -> None:
    with open_memory(tmp_path, "ana") as store:
        running = RunningFold(
            store, "trait_obs", Personality(), lambda state, seen: state.after(seen.scores)
        )

        def agree() -> bool:
            whole = fold(o for o in store.list("trait_obs") if isinstance(o, TraitObservation))
            return running.now() == whole

        assert agree()
        ids = observed(store, (1, 2, 3), 0)
        assert agree() and agree()
        observed(store, (9, 10), 1)
        assert agree()
        observed(store, (5,), 2)  # happened before what was folded already
        assert agree()
        store.purge(Scope(ids=ids[1:2]))
        assert agree()


def test_what_has_no_vector_is_found_after_an_erasure(tmp_path: Path) -> None:
    with open_memory(tmp_path, "ana") as store:
        store.create_space("s", 2)
        ids = store.record([Turn(text="one"), Turn(text="two")]).ids
        store.put_vectors("s", [(id, np.ones(2, np.float32)) for id in ids])
        assert store.without_vector("s", ("turn",)) == ()
        store.purge(Scope(ids=ids[1:]))
        (again,) = store.record([Turn(text="three")]).ids  # takes the row that was freed
        assert [turn.id for turn in store.without_vector("s", ("turn",))] == [again]


def test_changes_since_a_write(tmp_path: Path) -> None:
    with open_memory(tmp_path, "ana") as store:
        store.record([Turn(text="one")])
        since = store.last_write
        assert store.changes(since).ids == () and not store.changes(since).erased
        (two,) = store.record([Turn(text="two")]).ids
        assert store.changes(since).ids == (two,)
        store.purge(Scope(ids=(two,)))
        assert store.changes(since).ids == () and store.changes(since).erased
