"""SQLite with write-ahead log and full sync: connections, transactions, errors in our words.

Statements have ``?`` placeholders, every value travels as a parameter, and nothing here or in the
tables (``services.store.schema``) is known to SQLite alone, so another driver can take this file's
place.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, RLock, get_ident
from typing import Any, TypeAlias

from consistent_gen import sqlite
from consistent_gen.sqlite import Migrations
from services.errors import BusyError, ServiceError, StorageError, StorageFull

Row: TypeAlias = Mapping[str, Any]
# What only reads takes this much of a database: `Database.rows`.
Query: TypeAlias = Callable[[str, Sequence[Any]], list[Row]]
_IDLE_READERS = 8
_WAL_KEPT_BYTES = 16 << 20


class Database:
    """One file. Writers of all threads and processes take turns, readers never wait for them."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 10.0) -> None:
        """Open or make the file and bring its tables to the newest migration.

        Raises:
            StorageFull: it cannot be written.
            StorageError: it is damaged, or a newer version wrote it.
        """
        from services.store.schema import MIGRATIONS

        self.path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        self._lock = RLock()  # held by the thread that writes
        self._depth = 0
        self._writing_thread: int | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._pool_lock = Lock()
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        self._durable = True
        self._foreign_version = 0
        _make_private(self.path)
        with self._errors():
            self._writer = self._connect()
        try:
            self._migrate(MIGRATIONS)
        except BaseException:
            self.close()
            raise

    # Reading --------------------------------------------------------------------------------------
    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query; within a transaction of this thread it sees its changes."""
        with self._reader() as connection, self._errors():
            return connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query, None when there is none."""
        found = self.rows(sql, values)
        return found[0] if found else None

    @contextmanager
    def snapshot(self) -> Iterator[Callable[[str, Sequence[Any]], list[Row]]]:
        """Several reads of one moment, through the function that is given."""
        with self._reader() as connection:
            inside = connection.in_transaction

            def rows(sql: str, values: Sequence[Any] = ()) -> list[Row]:
                with self._errors():
                    return connection.execute(sql, values).fetchall()

            if not inside:
                rows("BEGIN")
            try:
                yield rows
            finally:
                if not inside and connection.in_transaction:
                    connection.rollback()

    def foreign_version(self) -> int:
        """A number that differs after another process has written; never waits for a writer."""
        if self._lock.acquire(blocking=False):
            try:
                # On the connection that writes, the pragma counts the commits of all others only.
                with self._errors():
                    version = self._writer.execute("PRAGMA data_version").fetchone()
                self._foreign_version = int(version[0])
            finally:
                self._lock.release()
        return self._foreign_version

    # Writing --------------------------------------------------------------------------------------
    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement, in a transaction of its own if need be; returns the rows it touched.

        Raises:
            sqlite3.IntegrityError: a constraint of a table refuses it.
        """
        with self.transaction(), self._errors():
            return self._writer.execute(sql, values).rowcount

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of ``values``, in one transaction."""
        with self.transaction(), self._errors():
            self._writer.executemany(sql, values)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All or nothing, alone among writers; a nested one can fail alone.

        Not ``durable``: a loss of power (not the end of the process) may undo it, and it costs no
        sync of the disk. The next durable one makes it durable too.

        Raises:
            BusyError: another process kept the database for too long.
            StorageFull: there is no room; nothing was changed.
        """
        with self._lock:
            if self._depth:
                with self._savepoint():
                    yield
                return
            self._begin(durable)
            try:
                yield
                self._run("COMMIT")
            except BaseException as error:
                self._undo()
                if isinstance(error, StorageFull):
                    self._fold_log()
                raise
            finally:
                self._depth, self._writing_thread = 0, None
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back, without any lock, once the outermost transaction of this thread is committed;
        not at all when it, or the nested one that this is called in, is undone.
        """
        assert self._writing_thread == get_ident(), "after_commit needs a transaction"
        self._callbacks.append(callback)

    def close(self) -> None:
        """Close all connections; the log is folded into the file."""
        with self._lock, self._pool_lock:
            self._closed = True
            for connection in (*self._readers, self._writer):
                connection.close()
            self._readers = []

    # Inside ---------------------------------------------------------------------------------------
    def _begin(self, durable: bool) -> None:
        if durable != self._durable:
            self._run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._run("BEGIN IMMEDIATE")
        self._depth, self._writing_thread = 1, get_ident()

    def _undo(self) -> None:
        self._callbacks = []
        if self._writer.in_transaction:
            with suppress(sqlite3.Error):
                self._writer.rollback()

    def _fold_log(self) -> None:
        # What the log holds is written into the file, so that the log's room can be used again.
        with suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        name, callbacks = f"nested_{self._depth}", len(self._callbacks)
        self._run(f"SAVEPOINT {name}")
        self._depth += 1
        try:
            yield
        except BaseException:
            del self._callbacks[callbacks:]
            # A full disk has undone the whole transaction already; then there is nothing to go to.
            if self._writer.in_transaction:
                self._run(f"ROLLBACK TO {name}")
                self._run(f"RELEASE {name}")
            raise
        else:
            self._run(f"RELEASE {name}")
        finally:
            self._depth -= 1

    def _run(self, sql: str) -> None:
        with self._errors():
            self._writer.execute(sql).fetchall()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        if self._writing_thread == get_ident():
            yield self._writer
            return
        with self._pool_lock:
            if self._closed:
                raise StorageError(f"{self.path.name} is closed")
            connection = self._readers.pop() if self._readers else None
        if connection is None:
            with self._errors():
                connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
        try:
            yield connection
        finally:
            with self._pool_lock:
                if self._closed or len(self._readers) >= _IDLE_READERS:
                    connection.close()
                else:
                    self._readers.append(connection)

    def _migrate(self, migrations: Migrations) -> None:
        names = [name for name, _ in migrations]
        if self.one("SELECT name FROM sqlite_master WHERE name = 'migrations'"):
            done = [row["name"] for row in self.rows("SELECT name FROM migrations")]
            if sorted(done) == sorted(names):
                return
        with self.transaction():
            self.change("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
            sqlite.migrate(
                migrations,
                [row["name"] for row in self.rows("SELECT name FROM migrations")],
                self.change,
                lambda name: self.change("INSERT INTO migrations (name) VALUES (?)", (name,)),
                lambda words: StorageError(f"{self.path.name} {words}"),
            )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite.connect(self.path, self._busy_timeout_s)
        connection.row_factory = sqlite3.Row
        return sqlite.prepare(connection, f"journal_size_limit = {_WAL_KEPT_BYTES}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise _explained(error, self.path) from None


def _explained(error: sqlite3.Error, path: Path) -> ServiceError:
    kind, message = sqlite.fault(error, path)
    if kind == "busy":
        return BusyError(message, retry_after=1.0)
    return (StorageError if kind in ("damaged", "refused") else StorageFull)(message)


def _make_private(path: Path) -> None:
    """Make the folder and the file readable by us alone: prompts stand in it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageFull(f"cannot write {path}: {error.strerror or error}") from None
