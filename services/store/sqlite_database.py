"""SQLite with write-ahead log and full sync: a store that is one file, for one gateway."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from consistent_gen import sqlite
from services.errors import BusyError, ServiceError, StorageError, StorageFull
from services.store.database import ConstraintError, Database

_WAL_KEPT_BYTES = 16 << 20


class ServerSqlite(Database):
    """One file. Writers of all threads and processes of this machine take turns."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 10.0, migrate: bool = True) -> None:
        """Open or make the file and bring its tables to the newest migration, if asked to.

        Raises:
            StorageFull: it cannot be written.
            StorageError: it is damaged, or a newer version wrote it.
        """
        self.path = Path(path)
        super().__init__(self.path.name)
        self._busy_timeout_s = busy_timeout_s
        self._durable = True
        self._foreign_version = 0
        _make_private(self.path)
        self._writer = self._connect(reading=False)
        try:
            if migrate:
                self.migrate()
        except BaseException:
            self.close()
            raise

    def foreign_version(self) -> int:
        """See `Database`: counts the commits of all other processes."""
        if self._lock.acquire(blocking=False):
            try:
                # On the connection that writes, the pragma counts the commits of all others only.
                with self._errors():
                    version = self._writer.execute("PRAGMA data_version").fetchone()
                self._foreign_version = int(version[0])
            finally:
                self._lock.release()
        return self._foreign_version

    def listen(self, hear: Callable[[frozenset[str]], None]) -> None:
        """See `Database`: here nobody tells anything, and `foreign_version` is looked at."""

    def claim(self) -> None:
        """See `Database`: the folder is locked (`services.store.lock`)."""

    def alone(self) -> None:
        """See `Database`: the folder is locked."""

    def _begin_writing(self, durable: bool) -> None:
        if durable != self._durable:
            self._run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._run("BEGIN IMMEDIATE")

    def _execute(self, connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> Any:
        return connection.execute(sql, values)

    def _execute_many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        self._writer.executemany(sql, values)

    def _in_transaction(self, connection: sqlite3.Connection) -> bool:
        return connection.in_transaction

    def _is_usable(self, connection: sqlite3.Connection) -> bool:
        return True

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            connection.rollback()

    def _make_room(self) -> None:
        # What the log holds is written into the file, so that the log's room can be used again.
        with suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _check_migration(self, applied: Sequence[str]) -> None:
        """The folder's lock keeps others out."""

    def _has_table(self, name: str) -> bool:
        return bool(self.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)))

    def _connect(self, *, reading: bool) -> sqlite3.Connection:
        with self._errors():
            connection = sqlite.connect(self.path, self._busy_timeout_s)
            connection.row_factory = sqlite3.Row
            sqlite.prepare(connection, f"journal_size_limit = {_WAL_KEPT_BYTES}")
            if reading:
                connection.execute("PRAGMA query_only = ON")
            return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise ConstraintError(str(error)) from None
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
