"""The thin seam between the memory's SQL and a database driver.

Statements are written once with ``?`` placeholders and run on both backends. Every value travels
as a parameter; no statement is ever built from a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from sqlite3 import Connection, DatabaseError, connect
from threading import RLock
from typing import Any, Protocol, TypeAlias

from consistent_gen.errors import ConsistentGenError, OutputError
from consistent_gen.memory.store import MemoryStoreError

Row: TypeAlias = tuple[Any, ...]
# Told the name of each step of a write as it is reached; tests stop the process there.
Trace: TypeAlias = Callable[[str], None]


def untraced(step: str) -> None:
    """The trace of normal operation: nothing."""


class Database(Protocol):
    """One connection bound to one user."""

    trace: Trace

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return all its rows (none for a statement that returns none)."""

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement and return the number of rows it touched."""

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row of values."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, alone among writers of this user; nested calls join the outer one."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Several reads of one moment; inside a transaction it is that transaction."""


class SqliteDatabase:
    """A `Database` over one SQLite file: WAL, every commit synced, freed pages overwritten.

    Threads of one process take turns; processes wait for each other up to ``busy_timeout_s``.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float, trace: Trace = untraced) -> None:
        self.trace = trace
        self._lock = RLock()
        self._depth = 0
        try:
            self._connection = _opened(path, busy_timeout_s)
        except DatabaseError as error:
            raise explained(error, path) from None
        self.path = path

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._lock, self._errors():
            return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._lock, self._errors():
            return self._connection.execute(sql, values).rowcount

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        with self._lock, self._errors():
            self._connection.executemany(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._scope("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._scope("BEGIN"):
            yield

    @contextmanager
    def _scope(self, begin: str) -> Iterator[None]:
        with self._lock:
            if self._depth:
                yield
                return
            self.rows(begin)
            self._depth = 1
            writing = begin != "BEGIN"
            try:
                yield
                if writing:
                    self.trace("before_commit")
                self.rows("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise
            finally:
                self._depth = 0
            if writing:
                self.trace("after_commit")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise explained(error, self.path) from None

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _opened(path: Path, busy_timeout_s: float) -> Connection:
    connection = connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "cell_size_check = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def explained(error: DatabaseError, path: Path) -> ConsistentGenError:
    """The driver's error in our words, with what to do; never the statement or its values."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return MemoryStoreError(
            f"{path.name} is in use by another process that did not finish in time; try again"
        )
    if "full" in text:
        return OutputError(f"no room left to write {path.name}; nothing was changed")
    if "readonly" in text or "read-only" in text:
        return OutputError(f"{path.name} cannot be written; check its permissions")
    if "unable to open" in text:
        return MemoryStoreError(f"{path.name} cannot be opened; check that its folder is ours")
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return MemoryStoreError(
            f"{path.name} is damaged ({text}); keep the file, restore an export into a new memory"
        )
    return MemoryStoreError(f"the database refused: {text}")
