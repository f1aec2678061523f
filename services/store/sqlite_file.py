"""How the store opens an SQLite file, and what its errors mean to people."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from services.errors import BusyError, ServiceError, StorageError, StorageFull

_WAL_KEPT_BYTES = 16 << 20


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection for any thread, one at a time: write-ahead log, full sync, checked references.

    What is deleted is overwritten in the file, since prompts stand in it.
    """
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
            f"journal_size_limit = {_WAL_KEPT_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def explained(error: sqlite3.Error, path: Path) -> ServiceError:
    """The driver's error in our words, with what to do; never the statement or its values."""
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return BusyError(f"{path.name} is in use by another process; try again", retry_after=1.0)
    if code.startswith("SQLITE_FULL"):
        return StorageFull(f"no room left to write {path.name}; nothing was changed")
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StorageFull(
            f"{path.name} cannot be written; check the permissions of its folder and its disk"
        )
    if code.startswith("SQLITE_IOERR"):
        return StorageFull(f"the disk refuses to read or write {path.name}; nothing was changed")
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StorageError(f"{path.name} is damaged; keep the file and restore a copy")
    return StorageError(f"the database refused: {error}")


def make_private(path: Path) -> None:
    """Make the folder and the file readable by us alone: prompts stand in it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageFull(f"cannot write {path}: {error.strerror or error}") from None
