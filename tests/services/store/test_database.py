"""Transactions, migrations, and errors in our words."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from services.errors import BusyError, StorageError
from services.store import schema
from services.store.database import ConstraintError
from services.store.sqlite_database import ServerSqlite


@pytest.fixture
def db(folder: Path) -> ServerSqlite:
    db = ServerSqlite(folder / "test.sqlite")
    db.change("CREATE TABLE things (name TEXT PRIMARY KEY)")
    return db


def names(db: ServerSqlite) -> list[str]:
    return [row["name"] for row in db.rows("SELECT name FROM things ORDER BY name")]


def add(db: ServerSqlite, name: str) -> None:
    db.change("INSERT INTO things VALUES (?)", (name,))


def test_all_or_nothing(db: ServerSqlite) -> None:
    with pytest.raises(RuntimeError), db.transaction():
        add(db, "a")
        assert names(db) == ["a"]
        raise RuntimeError
    assert names(db) == []
    db.close()


def test_a_nested_transaction_can_fail_alone(db: ServerSqlite) -> None:
    called: list[str] = []
    with db.transaction():
        add(db, "a")
        with pytest.raises(ConstraintError), db.transaction():
            add(db, "b")
            db.after_commit(lambda: called.append("b"))
            add(db, "a")
        with db.transaction():
            add(db, "c")
            db.after_commit(lambda: called.append("c"))
        assert called == []
    assert names(db) == ["a", "c"] and called == ["c"]
    db.close()


def test_callbacks_run_after_the_commit_and_may_read(db: ServerSqlite) -> None:
    seen: list[list[str]] = []
    with db.transaction():
        add(db, "a")
        db.after_commit(lambda: seen.append(names(db)))
    with pytest.raises(RuntimeError), db.transaction():
        db.after_commit(lambda: seen.append([]))
        raise RuntimeError
    add(db, "b")
    assert seen == [["a"]]
    db.close()


def test_readers_do_not_wait_for_a_writer_and_see_what_is_committed(db: ServerSqlite) -> None:
    add(db, "a")
    with db.transaction():
        add(db, "b")
        seen: list[list[str]] = []
        reader = threading.Thread(target=lambda: seen.append(names(db)))
        reader.start()
        reader.join(timeout=30)
        assert seen == [["a"]]
    db.close()


def test_a_snapshot_is_one_moment(db: ServerSqlite) -> None:
    add(db, "a")
    with db.snapshot() as rows:
        before = rows("SELECT name FROM things", ())
        writer = threading.Thread(target=add, args=(db, "b"))
        writer.start()
        writer.join(timeout=30)
        assert len(rows("SELECT name FROM things", ())) == len(before) == 1
    assert names(db) == ["a", "b"]
    db.close()


def test_many_threads_write_and_nothing_is_lost(db: ServerSqlite) -> None:
    def work(worker: int) -> None:
        for number in range(25):
            with db.transaction(durable=number % 2 == 0):
                add(db, f"{worker}-{number}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(names(db)) == 200
    db.close()


def test_another_process_that_writes_is_waited_for_and_then_named(folder: Path) -> None:
    db = ServerSqlite(folder / "test.sqlite", busy_timeout_s=0.05)
    other = sqlite3.connect(folder / "test.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match="in use") as busy:
        db.change("CREATE TABLE t (a)")
    assert busy.value.retry_after == 1.0
    other.execute("ROLLBACK")
    db.change("CREATE TABLE t (a)")
    other.close()
    db.close()


def test_only_changes_of_others_are_foreign(db: ServerSqlite) -> None:
    before = db.foreign_version()
    add(db, "a")
    assert db.foreign_version() == before
    other = ServerSqlite(db.path)
    add(other, "b")
    assert db.foreign_version() != before
    other.close()
    db.close()


def test_files_are_for_us_alone_and_durable(db: ServerSqlite) -> None:
    assert stat.S_IMODE(db.path.stat().st_mode) == 0o600
    add(db, "a")
    assert db.rows("PRAGMA journal_mode")[0][0] == "wal"  # type: ignore[index]
    with db.transaction():
        assert db.rows("PRAGMA synchronous")[0][0] == 2, "FULL"  # type: ignore[index]
    with db.transaction(durable=False):
        assert db.rows("PRAGMA synchronous")[0][0] == 1, "NORMAL"  # type: ignore[index]
    with db.transaction():
        assert db.rows("PRAGMA synchronous")[0][0] == 2  # type: ignore[index]
    db.close()


def test_a_database_of_a_newer_version_is_left_alone(db: ServerSqlite) -> None:
    db.change("INSERT INTO migrations (name) VALUES ('9999_future')")
    db.close()
    content = db.path.read_bytes()
    with pytest.raises(StorageError, match="9999_future"):
        ServerSqlite(db.path)
    assert db.path.read_bytes() == content


def test_migrations_are_applied_one_after_the_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for length in range(1, len(schema.MIGRATIONS) + 1):
        with monkeypatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:length])
            db = ServerSqlite(folder / "grown.sqlite")
            db.close()
    fresh, grown = ServerSqlite(folder / "fresh.sqlite"), ServerSqlite(folder / "grown.sqlite")
    query = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    assert [tuple(row) for row in fresh.rows(query)] == [tuple(row) for row in grown.rows(query)]
    fresh.close()
    grown.close()


@pytest.mark.parametrize("damage", ["no database at all", ""])
def test_what_is_not_a_database_is_refused_and_kept(folder: Path, damage: str) -> None:
    path = folder / "test.sqlite"
    path.write_text(damage * 100)
    if not damage:
        ServerSqlite(path).close()
        return
    with pytest.raises(StorageError, match="damaged"):
        ServerSqlite(path)
    assert path.read_text() == damage * 100


def test_a_closed_database_says_so(db: ServerSqlite) -> None:
    db.close()
    with pytest.raises(StorageError, match="closed"):
        db.rows("SELECT 1")
