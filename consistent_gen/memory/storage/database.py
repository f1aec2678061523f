"""The thin seam between the memory's SQL and a database driver.

Statements are written once with ``?`` placeholders and run on both backends. Every value travels
as a parameter; no statement is ever built from a value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from sqlite3 import DatabaseError
from threading import RLock
from typing import Any, Literal, Protocol, TypeAlias, cast

from consistent_gen import sqlite
from consistent_gen.errors import ConsistentGenError, OutputError
from consistent_gen.memory.data.store import MemoryStoreError
from consistent_gen.sqlite import SqlConnection, fault, prepare

Row: TypeAlias = tuple[Any, ...]
# Pages are kept up to this much, so that a search of 50,000 records reads few of them again.
_CACHE_KIB = 65_536
# Told the name of each step of a write as it is reached; tests stop the process there.
Trace: TypeAlias = Callable[[str], None]


def untraced(step: str) -> None:
    """The trace of normal operation: nothing."""


class UserDatabase(Protocol):
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


class Scopes(ABC):
    """Transactions and snapshots over one connection; threads of a process take turns.

    A nested scope joins the outer one. A write inside a snapshot would have to wait for writers
    while it holds an old view of the data, so it is a mistake of ours.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._lock = RLock()
        self._open: Literal["", "reading", "writing"] = ""

    @abstractmethod
    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """As `UserDatabase.rows`."""

    @abstractmethod
    def _roll_back(self) -> None:
        """Give up the open transaction, if the connection still has one."""

    def _writing(
        self, begin: str, *locks: tuple[str, Sequence[Any]]
    ) -> AbstractContextManager[None]:
        return self._scope("writing", begin, locks)

    def _reading(self, begin: str) -> AbstractContextManager[None]:
        return self._scope("reading", begin, ())

    @contextmanager
    def _scope(
        self,
        kind: Literal["reading", "writing"],
        begin: str,
        locks: Sequence[tuple[str, Sequence[Any]]],
    ) -> Iterator[None]:
        with self._lock:
            if self._open:
                assert kind == "reading" or self._open == "writing", "a write inside a snapshot"
                yield
                return
            self.rows(begin)
            self._open = kind
            try:
                for sql, values in locks:
                    self.rows(sql, values)
                yield
                if kind == "writing":
                    self.trace("before_commit")
                self.rows("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._open = ""
            if kind == "writing":
                self.trace("after_commit")


class SqliteDatabase(Scopes):
    """A `UserDatabase` over one SQLite file: WAL, every commit synced, freed pages overwritten.

    Processes wait for each other up to ``busy_timeout_s``. ``connect`` opens the file; the
    default is the standard library's driver.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float,
        trace: Trace = untraced,
        connect: Callable[[Path, float], SqlConnection] | None = None,
    ) -> None:
        super().__init__(trace)
        try:
            self._connection = prepare(
                (connect or sqlite.connect)(path, busy_timeout_s),
                "temp_store = MEMORY",
                "cell_size_check = ON",
                f"cache_size = -{_CACHE_KIB}",
            )
        except DatabaseError as error:
            raise explained(error, path) from None
        self.path = path

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        try:
            with self._lock:
                return cast(list[Row], self._connection.execute(sql, values).fetchall())
        except DatabaseError as error:
            raise explained(error, self.path) from None

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        try:
            with self._lock:
                return int(self._connection.execute(sql, values).rowcount)
        except DatabaseError as error:
            raise explained(error, self.path) from None

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        try:
            with self._lock:
                self._connection.executemany(sql, values)
        except DatabaseError as error:
            raise explained(error, self.path) from None

    def transaction(self) -> AbstractContextManager[None]:
        """As `UserDatabase.transaction`; IMMEDIATE takes the lock first, so no upgrade fails."""
        return self._writing("BEGIN IMMEDIATE")

    def snapshot(self) -> AbstractContextManager[None]:
        """As `UserDatabase.snapshot`."""
        return self._reading("BEGIN")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def explained(error: DatabaseError, path: Path) -> ConsistentGenError:
    """The driver's error in our words, with what to do; never the statement or its values."""
    kind, message = fault(error, path)
    if kind == "damaged":
        message += (
            " (an export) into a new memory; if it is encrypted, it was with another key: give its "
            "own, or open it without a key if it never had one"
        )
    return (OutputError if kind in ("full", "unwritable", "disk") else MemoryStoreError)(message)
