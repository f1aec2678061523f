"""The thin seam between the memory's SQL and a database driver.

Statements are written once with ``?`` placeholders and run on both backends. Every value travels
as a parameter; no statement is ever built from a value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from sqlite3 import DatabaseError, connect
from threading import RLock
from typing import Any, Literal, Protocol, TypeAlias, cast

from consistent_gen.errors import ConsistentGenError, OutputError
from consistent_gen.memory.store import MemoryStoreError

Row: TypeAlias = tuple[Any, ...]
# Pages are kept up to this much, so that a search of 50,000 records reads few of them again.
_CACHE_KIB = 65_536
# Told the name of each step of a write as it is reached; tests stop the process there.
Trace: TypeAlias = Callable[[str], None]


def untraced(step: str) -> None:
    """The trace of normal operation: nothing."""


class Connected(Protocol):
    """What a `SqliteDatabase` asks of a driver: these calls of `sqlite3.Connection`."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, values: Iterable[Sequence[Any]], /) -> Any: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


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
        """As `Database.rows`."""

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
    """A `Database` over one SQLite file: WAL, every commit synced, freed pages overwritten.

    Processes wait for each other up to ``busy_timeout_s``. ``connect`` opens the file; the
    default is the standard library's driver.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float,
        trace: Trace = untraced,
        connect: Callable[[Path, float], Connected] | None = None,
    ) -> None:
        super().__init__(trace)
        try:
            self._connection = _prepared((connect or _connected)(path, busy_timeout_s))
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
        """As `Database.transaction`. IMMEDIATE takes the write lock first: no upgrade can fail."""
        return self._writing("BEGIN IMMEDIATE")

    def snapshot(self) -> AbstractContextManager[None]:
        """As `Database.snapshot`."""
        return self._reading("BEGIN")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _connected(path: Path, busy_timeout_s: float) -> Connected:
    return connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)


def _prepared(connection: Connected) -> Connected:
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "cell_size_check = ON",
            f"cache_size = -{_CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def explained(error: DatabaseError, path: Path) -> ConsistentGenError:
    """The driver's error in our words, with what to do; never the statement or its values."""
    text = str(error)
    # "locking protocol": so many processes opened it at once that none got a turn in ten seconds.
    if "locked" in text or "busy" in text or "locking protocol" in text:
        return MemoryStoreError(
            f"{path.name} is in use by another process that did not finish in time; try again"
        )
    if "full" in text:
        return OutputError(f"no room left to write {path.name}; nothing was changed")
    if "readonly" in text or "read-only" in text:
        return OutputError(f"{path.name} cannot be written; check its permissions")
    if "unable to open" in text:
        return MemoryStoreError(f"{path.name} cannot be opened; check that its folder is ours")
    if "not a database" in text:
        return MemoryStoreError(
            f"{path.name} is damaged or encrypted with another key ({text}); give its own key, or "
            "open it without a key if it never had one; otherwise keep the file and restore an "
            "export into a new memory"
        )
    if "malformed" in text or "corrupt" in text:
        return MemoryStoreError(
            f"{path.name} is damaged ({text}); keep the file, restore an export into a new memory"
        )
    return MemoryStoreError(f"the database refused: {text}")
